"""Row blocks of one matrix on disk, stored row by row (CSR) or dense. Nothing is held between two reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

DENSE_AT_ONCE = 1 << 24  # values of a dense matrix in memory at a time


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Rows of a CSR group with ``data``, ``indices`` and ``indptr``.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    n_entries : int
        Stored values.
    """

    group: Any
    shape: tuple[int, int]
    n_entries: int

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Return rows ``start`` to ``stop``.

        Raises
        ------
        ValueError
            The three arrays do not fit each other.
        """
        indptr = self.group["indptr"][start : stop + 1]
        falls = np.any(indptr[1:] < indptr[:-1])
        if falls or indptr[-1] > self.n_entries or (start == 0 and indptr[0] != 0):
            msg = f"the index points outside its {self.n_entries:,} values"
            raise ValueError(msg)
        span = slice(int(indptr[0]), int(indptr[-1]))
        parts = (self.group["data"][span], self.group["indices"][span], indptr - indptr[0])
        return sp.csr_matrix(parts, shape=(stop - start, self.shape[1]))


@dataclass(frozen=True, eq=False)
class DenseRows:
    """Rows of a two-dimensional array; ``n_entries`` is None, because only reading it tells how many values are not 0."""

    array: Any
    shape: tuple[int, int]
    n_entries: None = None

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Return rows ``start`` to ``stop`` as CSR; at most 2^24 values, or one row of chunks, are dense at a time."""
        tall = (getattr(self.array, "chunks", None) or (1,))[0]
        size = max(DENSE_AT_ONCE // max(self.shape[1], 1) // tall, 1) * tall
        pieces = [_sparse(self.array[first : min(first + size, stop)]) for first in range(start, stop, size)]
        return pieces[0] if len(pieces) == 1 else sp.vstack(pieces, format="csr")


def _sparse(values: np.ndarray) -> sp.csr_matrix:
    return sp.csr_matrix(
        values.astype(np.float32) if values.dtype == np.float16 else values
    )  # scipy has no half precision
