"""Counts to log1p CP10k: each cell scaled to 10,000 counts, then log(1 + x), natural. The unit of every decoded value."""

from __future__ import annotations

from typing import Literal

import numba
import numpy as np
import scipy.sparse as sp

from c2s.errors import DataError

TARGET_SUM = 1e4  # counts per cell before the logarithm
LOG_CEILING = 30.0  # log1p CP10k cannot exceed log(1e4 + 1) = 9.2; 30 leaves room for other totals and for log2

Scale = Literal["counts", "linear", "log1p"]


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
            odd += np.uint32((value < 0) | (np.int64(value) != value))  # NaN and infinity equal no whole number
        if odd:
            return False
    return True


def scale_of(matrix: sp.csr_matrix) -> Scale:
    """Return what the values are: whole ``"counts"``, ``"log1p"`` (fractions below 30) or ``"linear"`` (other fractions)."""
    if looks_like_counts(matrix):
        return "counts"
    return "log1p" if float(matrix.data.max()) < LOG_CEILING else "linear"


def counts_to_log1p_cp10k(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return log(1 + 1e4 · x / total of the cell), CSR float32; a cell of zeros stays zero.

    Parameters
    ----------
    matrix : CSR, shape (n_cells, n_genes)
        Counts, or linear values such as corrected counts.

    Raises
    ------
    DataError
        The values are negative or already logarithms (fractions, all below 30).
    """
    if matrix.nnz and float(matrix.data.min()) < 0:
        msg = f"cannot normalise negative values (smallest {float(matrix.data.min()):.4g}); pass counts"
        raise DataError(msg)
    if scale_of(matrix) == "log1p":
        msg = f"the values are fractions with a largest of {float(matrix.data.max()):.4g}: already log1p; pass counts"
        raise DataError(msg)
    totals = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
    scale = np.divide(TARGET_SUM, totals, out=np.zeros_like(totals), where=totals > 0)
    data = np.log1p(matrix.data * np.repeat(scale, np.diff(matrix.indptr))).astype(np.float32)
    return sp.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def to_log1p_cp10k(matrix: sp.csr_matrix) -> tuple[sp.csr_matrix, Scale]:
    """Return ``matrix`` as log1p CP10k, float32, and what it was: log1p values are taken as they are."""
    scale = scale_of(matrix)
    if scale == "log1p":
        return matrix.astype(np.float32), scale
    return counts_to_log1p_cp10k(matrix), scale
