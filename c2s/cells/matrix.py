"""One checked, canonical CSR matrix out of whatever holds numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from c2s.errors import DataError


def checked_matrix(values: Any, *, label: str, hint: str = "") -> sp.csr_matrix:
    """Return numbers in memory as canonical CSR: sorted unique columns, no stored zeros, int32/int64/float32, all above 0.

    Parameters
    ----------
    values : sparse matrix or ndarray, shape (n_cells, n_genes)
        Never changed.
    label, hint : str
        What the matrix is called in messages, and what they add.

    Raises
    ------
    DataError
        No cells or genes, no numbers, NaN, infinite or negative values.
    """
    if 0 in values.shape:
        msg = f"{label} is empty: {values.shape[0]:,} cells × {values.shape[1]:,} genes"
        raise DataError(msg)
    matrix = _canonical(values, label)
    _refuse_bad_values(matrix, label, hint)
    return matrix


def _canonical(values: Any, label: str) -> sp.csr_matrix:
    if isinstance(values, np.ndarray) and values.ndim != 2:
        msg = f"{label} has {values.ndim} dimensions; expected cells × genes"
        raise DataError(msg)
    kind = values.dtype.kind
    if kind not in "buif":
        msg = f"{label} holds {values.dtype} values; expected numbers. Convert it, e.g. by .astype('float32')"
        raise DataError(msg)
    if sp.issparse(values) and values.format in ("csr", "csc"):
        _refuse_damaged(values, label)
    own = not (sp.issparse(values) and values.format == "csr")
    if values.dtype == np.float16:  # scipy has no half precision
        values = values.astype(np.float32)
    matrix = sp.csr_matrix(values)
    if kind == "u" and matrix.nnz and matrix.data.max() >= 2**63:
        matrix = matrix.astype(np.float32)
        kind = "f"
    if not matrix.has_canonical_format:
        wide = np.int64 if kind != "f" else matrix.dtype  # int8 entries may not be added up in eight bits
        matrix = matrix.astype(wide, copy=not own)
        matrix.sum_duplicates()
        own = True
    if kind == "f":
        matrix = _single(matrix, label)
    else:
        largest = int(matrix.data.max()) if matrix.nnz else 0
        matrix = matrix.astype(np.int32 if largest < 2**31 else np.int64, copy=False)
    if matrix.nnz and matrix.data.min() <= 0 and np.count_nonzero(matrix.data) < matrix.nnz:
        matrix = matrix if own else matrix.copy()
        matrix.eliminate_zeros()
    return matrix


def _single(matrix: sp.csr_matrix, label: str) -> sp.csr_matrix:
    """Return the matrix as float32."""
    if matrix.dtype == np.float32:
        return matrix
    with np.errstate(over="ignore"):
        single = matrix.astype(np.float32)
    if single.nnz and np.isinf(single.data.max()) and np.isfinite(matrix.data.max()):
        msg = f"{label} holds values up to {matrix.data.max():.4g}, beyond single precision (3.4e38); rescale them"
        raise DataError(msg)
    return single


def _refuse_damaged(matrix: Any, label: str) -> None:
    """Refuse compressed rows or columns that point outside their arrays, which would be read without asking."""
    ends, entries = matrix.indptr, matrix.indices
    rows, columns = matrix.shape if matrix.format == "csr" else matrix.shape[::-1]
    broken = not whole_index(ends, rows, min(len(entries), len(matrix.data)))
    if not broken and ends[-1]:
        used = np.ascontiguousarray(entries[: ends[-1]])
        broken = int(used.view(f"u{used.itemsize}").max()) >= columns  # a negative index is a huge one without its sign
    if broken:
        msg = f"{label} is damaged: its sparse index points outside the matrix of {matrix.shape[0]:,} × {matrix.shape[1]:,}. Write it again"
        raise DataError(msg)


def whole_index(ends: np.ndarray, rows: int, n_entries: int) -> bool:
    """Return whether the row ends of a compressed matrix start at 0, never fall and stay within its entries."""
    return len(ends) == rows + 1 and ends[0] == 0 and ends[-1] <= n_entries and not np.any(ends[1:] < ends[:-1])


def _refuse_bad_values(matrix: sp.csr_matrix, label: str, hint: str) -> None:
    if matrix.nnz == 0:
        return
    smallest = float(matrix.data.min())
    if not (np.isfinite(smallest) and np.isfinite(matrix.data.max())):  # the minimum of values with a NaN is NaN
        bad = int(np.count_nonzero(~np.isfinite(matrix.data)))
        msg = f"{label} holds {bad:,} NaN or infinite values; remove those cells or genes{hint}"
        raise DataError(msg)
    if smallest < 0:
        msg = (
            f"{label} holds negative values (smallest {smallest:.4g}), as scaled or centred data do; ranks need counts "
            f"or a monotone transform of them{hint}"
        )
        raise DataError(msg)
