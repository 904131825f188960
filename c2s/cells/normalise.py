"""Counts to log1p CP10k: each cell scaled to 10,000 counts, then log(1 + x), natural. The unit of every decoded value."""

from __future__ import annotations

import logging

import numba
import numpy as np
import scipy.sparse as sp

from c2s.cells.scale import ADDITIVE, NAMES, Scale, are_whole, has_one_total, linear_values, scale_of
from c2s.errors import DataError

logger = logging.getLogger(__name__)

TARGET_SUM = 1e4  # counts per cell before the logarithm


def looks_like_counts(matrix: sp.csr_matrix) -> bool:
    """Return whether every stored value is a whole number, at least 0."""
    data = matrix.data
    if data.size == 0 or data.dtype.kind in "bu":
        return True
    if data.dtype.kind == "i":
        return bool(data.min() >= 0)
    return bool(_whole(data))


@numba.njit(nogil=True, cache=True)
def _whole(data: np.ndarray) -> bool:
    """Return whether floats are whole numbers of at least 0 below 2^63; stops at the first 65,536 among which one is not."""
    for start in range(0, len(data), 65_536):
        part = data[start : start + 65_536]
        odd = np.uint32(0)
        for entry in range(len(part)):
            value = part[entry]
            odd += np.uint32(not (value >= 0 and value - np.floor(value) == 0))  # false for NaN and infinity
        if odd:
            return False
    return True


def counts_to_log1p_cp10k(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return log(1 + 1e4 · x / total of the cell), CSR float32; a cell of zeros stays zero.

    Parameters
    ----------
    matrix : CSR, shape (n_cells, n_genes)
        Counts, or linear values such as corrected counts.

    Raises
    ------
    DataError
        The values are negative, logarithms, or scaled (:func:`c2s.cells.scale.scale_of`).
    """
    if matrix.nnz and float(matrix.data.min()) < 0:
        msg = f"cannot normalise negative values (smallest {float(matrix.data.min()):.4g}); pass counts"
        raise DataError(msg)
    scale = scale_of(matrix)
    if scale not in ADDITIVE:
        msg = f"cannot normalise {NAMES[scale]} (largest value {float(matrix.data.max()):.4g}); pass counts"
        raise DataError(msg)
    return _normalised(matrix, matrix.data)


def to_log1p_cp10k(matrix: sp.csr_matrix) -> tuple[sp.csr_matrix, Scale]:
    """Return ``matrix`` as log1p CP10k, CSR float32, and what it was.

    Logarithms to another base and square roots are undone first. Cells of one total, whatever it is, and logarithms of
    counts are then scaled to 1e4; where neither holds, as in a choice of genes, the total is taken to have been 1e4.

    Raises
    ------
    DataError
        The values are negative or look scaled gene by gene, or are counts in some cells and not in others.
    """
    scale = scale_of(matrix)
    if scale in ("scaled", "mixed"):
        msg = f"the matrix holds {NAMES[scale]}; log1p CP10k cannot be made of them: pass counts, or natural logarithms"
        raise DataError(msg)
    if scale in ADDITIVE:
        return _normalised(matrix, matrix.data), scale
    if scale == "log":
        logger.warning("the matrix holds %s; they are taken for natural log1p CP10k", NAMES[scale])
        return matrix.astype(np.float32), scale
    values = linear_values(matrix.data, scale)
    totals = _totals(matrix, values)
    if are_whole(values) or (
        has_one_total(totals) and not np.isclose(np.median(totals[totals > 0]), TARGET_SUM, rtol=1e-3)
    ):
        return _normalised(matrix, values), scale
    return _like(matrix, matrix.data if scale == "log1p" else np.log1p(values)), scale


def _normalised(matrix: sp.csr_matrix, values: np.ndarray) -> sp.csr_matrix:
    """Return log1p CP10k of linear ``values`` that stand where those of ``matrix`` do."""
    totals = _totals(matrix, values)
    scale = np.divide(TARGET_SUM, totals, out=np.zeros_like(totals), where=totals > 0)
    return _like(matrix, np.log1p(values * np.repeat(scale, np.diff(matrix.indptr))))


def _totals(matrix: sp.csr_matrix, values: np.ndarray) -> np.ndarray:
    """Return the sum of each cell, float64."""
    like = sp.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape)
    return np.asarray(like.sum(axis=1, dtype=np.float64)).ravel()


def _like(matrix: sp.csr_matrix, values: np.ndarray) -> sp.csr_matrix:
    return sp.csr_matrix((values.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)
