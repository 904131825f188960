"""One checked, canonical CSR matrix out of whatever holds numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from c2s.errors import DataError

_INFINITE = 0x7F800000  # the bits of a float32 infinity


def checked_matrix(
    values: Any,
    *,
    label: str,
    hint: str = "",
    genes: Sequence[str] | None = None,
    cells: Sequence[str] | range | None = None,
) -> sp.csr_matrix:
    """Return numbers in memory as canonical CSR: sorted unique columns, no stored zeros, int32/int64/float32, all above 0.

    Parameters
    ----------
    values : sparse matrix or ndarray, shape (n_cells, n_genes)
        Never changed.
    label, hint : str
        What the matrix is called in messages, and what they add.
    genes, cells : sequence, optional
        What columns and rows are called in messages, else by their numbers from 0.

    Raises
    ------
    DataError
        No cells or genes, no numbers, NaN, infinite or negative values.
    """
    if 0 in values.shape:
        msg = f"{label} is empty: {values.shape[0]:,} cells × {values.shape[1]:,} genes"
        raise DataError(msg)
    matrix, own = _canonical(values, label)
    if _all_above_zero(matrix.data):
        return matrix
    _refuse_bad_values(matrix, label, hint, genes or range(matrix.shape[1]), cells or range(matrix.shape[0]))
    matrix = matrix if own else matrix.copy()
    matrix.eliminate_zeros()
    return matrix


def _canonical(values: Any, label: str) -> tuple[sp.csr_matrix, bool]:
    """Return values as sorted CSR without duplicates, int32, int64 or float32, and whether it is nobody else's."""
    if isinstance(values, np.ndarray):
        require_two_dimensions(values.shape, label)
    require_numbers(values.dtype, label)
    kind = values.dtype.kind
    if values.dtype == np.float16:  # scipy has no half precision
        values = values.astype(np.float32)
    if sp.issparse(values) and values.format in ("csr", "csc"):
        _refuse_damaged_ends(values, label)
    own = not (sp.issparse(values) and values.format == "csr")
    matrix = sp.csr_matrix(values) if own or not isinstance(values, sp.csr_matrix) else values
    if kind == "u" and matrix.data.max(initial=0) >= 2**63:
        matrix, own, kind = matrix.astype(np.float32), True, "f"
    if not matrix.has_canonical_format:
        wide = np.int64 if kind != "f" else matrix.dtype  # int8 entries may not be added up in eight bits
        matrix = matrix.astype(wide, copy=not own)
        matrix.sum_duplicates()
        own = True
    _refuse_damaged_columns(matrix, label)
    if kind == "f":
        own = own or matrix.dtype != np.float32
        return _single(matrix, label), own
    target: np.dtype[Any] = np.dtype(np.int32)
    if matrix.dtype != target:
        if matrix.data.max(initial=0) >= 2**31:
            target = np.dtype(np.int64)
        own = own or matrix.dtype != target
        matrix = matrix.astype(target, copy=False)
    return matrix, own


def require_numbers(dtype: Any, label: str) -> None:
    """Raise a DataError where a matrix of this dtype holds no real numbers; return None if it does."""
    if getattr(dtype, "kind", "O") not in "buif":
        msg = f"{label} holds {dtype} values; expected numbers. Convert it, e.g. by .astype('float32')"
        raise DataError(msg)


def require_two_dimensions(shape: tuple[int, ...], label: str) -> None:
    """Raise a DataError where a matrix has another number of dimensions than two; return None if it has two."""
    if len(shape) != 2:
        msg = f"{label} has {len(shape)} dimensions; expected cells × genes"
        raise DataError(msg)


def _all_above_zero(data: np.ndarray) -> bool:
    """Return whether int32, int64 or float32 values are all above 0 and finite: the bits of such floats are such integers."""
    if data.dtype.kind == "i":
        return bool(data.min(initial=1) > 0)
    bits = data.view(np.int32)
    return bool(bits.min(initial=1) > 0 and bits.max(initial=1) < _INFINITE)


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


def _refuse_damaged_ends(matrix: Any, label: str) -> None:
    """Refuse compressed rows or columns that lie outside their arrays, which would be read without asking."""
    lines = matrix.shape[0] if matrix.format == "csr" else matrix.shape[1]
    if not whole_index(matrix.indptr, lines, min(len(matrix.indices), len(matrix.data))):
        _refuse_damaged(matrix, label)
    if (
        matrix.format == "csc"
        and matrix.nnz
        and not 0 <= matrix.indices.min() <= matrix.indices.max() < matrix.shape[0]
    ):
        _refuse_damaged(matrix, label)


def _refuse_damaged_columns(matrix: sp.csr_matrix, label: str) -> None:
    """Refuse columns outside a matrix in canonical form: only the first and last of each row need to be looked at."""
    filled = matrix.indptr[:-1] < matrix.indptr[1:]
    first, last = matrix.indices[matrix.indptr[:-1][filled]], matrix.indices[matrix.indptr[1:][filled] - 1]
    if first.min(initial=0) < 0 or last.max(initial=0) >= matrix.shape[1]:
        _refuse_damaged(matrix, label)


def _refuse_damaged(matrix: Any, label: str) -> None:
    rows, columns = matrix.shape
    msg = f"{label} is damaged: its sparse index points outside the matrix of {rows:,} × {columns:,}. Write it again"
    raise DataError(msg)


def whole_index(ends: np.ndarray, rows: int, n_entries: int) -> bool:
    """Return whether the row ends of a compressed matrix start at 0, never fall and stay within its entries."""
    return len(ends) == rows + 1 and ends[0] == 0 and ends[-1] <= n_entries and not np.any(ends[1:] < ends[:-1])


def _refuse_bad_values(
    matrix: sp.csr_matrix, label: str, hint: str, genes: Sequence[str] | range, cells: Sequence[str] | range
) -> None:
    bad = int(np.count_nonzero(~np.isfinite(matrix.data)))
    if bad:
        first = int(np.flatnonzero(~np.isfinite(matrix.data))[0])
        row, column = int(np.searchsorted(matrix.indptr, first, side="right")) - 1, int(matrix.indices[first])
        msg = (
            f"{label} holds {bad:,} NaN or infinite values, the first in cell {cells[row]} and gene {genes[column]}; "
            f"remove those cells or genes{hint}"
        )
        raise DataError(msg)
    if matrix.data.min() < 0:
        msg = (
            f"{label} holds negative values (smallest {float(matrix.data.min()):.4g}), as scaled or centred data do; "
            f"ranks need counts or a monotone transform of them{hint}"
        )
        raise DataError(msg)
