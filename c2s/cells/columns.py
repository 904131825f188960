"""A matrix stored column by column (CSC), turned into row blocks on disk in bounded memory.

One pass over the row numbers counts the entries of each bucket of 8,192 rows. A second pass reads entries in the order of
the file, sorts what is in memory by bucket and appends it there. A bucket is small enough to be sorted into rows when it is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import scipy.sparse as sp

from c2s.artefacts import read_json, write_json
from c2s.errors import ArtefactError

BUCKET = 8192  # rows; their numbers within a bucket are stored in 16 bits
AT_ONCE = 1 << 23  # entries in memory at a time
RECORD = "turned.json"  # written last: its folder is whole


@dataclass(frozen=True, eq=False)
class Columns:
    """A CSC group with ``data``, ``indices`` (rows) and ``indptr``, whose rows cannot be read before :func:`turn`.

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

    @property
    def dtype(self) -> np.dtype:
        """Type of the values as they will be stored by row; half precision becomes float32."""
        dtype = np.dtype(self.group["data"].dtype)
        return np.dtype(np.float32) if dtype == np.float16 else dtype

    @property
    def turned_bytes(self) -> int:
        """Bytes that :func:`turn` writes."""
        return self.n_entries * (2 + 4 + self.dtype.itemsize)

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Refuse: a block of rows is scattered over the whole file."""
        msg = f"rows {start:,} to {stop:,} of a matrix stored column by column; turn it first"
        raise ArtefactError(msg)


@dataclass(frozen=True, eq=False)
class TurnedRows:
    """Rows that :func:`turn` wrote.

    Attributes
    ----------
    shape : (int, int)
    n_entries : int
    starts : ndarray, int64
        First entry of each bucket, and the end of the last.
    """

    folder: Path
    shape: tuple[int, int]
    starts: np.ndarray
    dtype: np.dtype
    bucket: int

    @property
    def n_entries(self) -> int:
        """Stored values."""
        return int(self.starts[-1])

    @classmethod
    def open(cls, folder: Path) -> TurnedRows:
        """Return the rows in ``folder``.

        Raises
        ------
        ArtefactError
            They are not there, or not whole.
        """
        record = read_json(folder / RECORD)
        starts = np.asarray(record["starts"], dtype=np.int64)
        return cls(folder, tuple(record["shape"]), starts, np.dtype(record["dtype"]), record["bucket"])

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Return rows ``start`` to ``stop``, columns ascending in each."""
        pieces = []
        for number in range(start // self.bucket, -(-stop // self.bucket)):
            first = number * self.bucket
            block = self._bucket(number, min(self.bucket, self.shape[0] - first))
            pieces.append(block[max(start - first, 0) : stop - first])
        return pieces[0] if len(pieces) == 1 else sp.vstack(pieces, format="csr")

    def _bucket(self, number: int, n_rows: int) -> sp.csr_matrix:
        first, count = int(self.starts[number]), int(self.starts[number + 1] - self.starts[number])
        rows, columns, values = (
            np.fromfile(self.folder / name, dtype, count, offset=first * dtype.itemsize)
            for name, dtype in _files(self.dtype)
        )
        order, ends = _places(rows, n_rows)
        return sp.csr_matrix((values[order], columns[order], ends), shape=(n_rows, self.shape[1]))


def turn(columns: Columns, folder: Path, *, done: Callable[[int], object] = lambda _: None) -> TurnedRows:
    """Write the matrix into ``folder`` as row blocks, unless an earlier call finished that, and return them.

    Parameters
    ----------
    done
        Is told how many entries each step has moved.

    Raises
    ------
    ArtefactError
        The matrix is damaged: its row numbers or column starts are out of range.
    """
    if (folder / RECORD).is_file():
        return TurnedRows.open(folder)
    indptr = np.asarray(columns.group["indptr"][:], dtype=np.int64)
    if (
        len(indptr) != columns.shape[1] + 1
        or indptr[0] != 0
        or indptr[-1] != columns.n_entries
        or np.any(np.diff(indptr) < 0)
    ):
        msg = f"the column starts of a matrix of {columns.shape[1]:,} columns and {columns.n_entries:,} values do not fit it: the file is damaged"
        raise ArtefactError(msg)
    counts = np.zeros(-(-columns.shape[0] // BUCKET), dtype=np.int64)
    for span in _spans(columns.n_entries):
        rows = columns.group["indices"][span]
        if rows.min() < 0 or rows.max() >= columns.shape[0]:
            msg = f"row numbers run from {rows.min():,} to {rows.max():,} in a matrix of {columns.shape[0]:,} rows: the file is damaged"
            raise ArtefactError(msg)
        counts += np.bincount(rows // BUCKET, minlength=len(counts))
    starts = np.concatenate([[0], np.cumsum(counts)])
    folder.mkdir(exist_ok=True)
    _move(columns, indptr, starts, folder, done)
    record = {"shape": columns.shape, "starts": starts, "dtype": columns.dtype.str, "bucket": BUCKET}
    write_json(folder / RECORD, record)
    return TurnedRows.open(folder)


def _move(
    columns: Columns, indptr: np.ndarray, starts: np.ndarray, folder: Path, done: Callable[[int], object]
) -> None:
    """Append every entry to its bucket, in the order of the file: columns stay ascending."""
    cursor, n_buckets = starts[:-1].copy(), len(starts) - 1
    every = np.arange(columns.shape[1], dtype=np.int32)
    handles = [
        os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666) for name, _ in _files(columns.dtype)
    ]
    try:
        for span in _spans(columns.n_entries):
            rows = columns.group["indices"][span]
            values = columns.group["data"][span].astype(columns.dtype, copy=False)
            number = np.repeat(every, np.diff(np.clip(indptr, span.start, span.stop)))
            bucket, within = np.divmod(rows, BUCKET)
            order, ends = _places(bucket, n_buckets)
            pieces = (within[order].astype(np.uint16), number[order], values[order])
            for place in np.flatnonzero(np.diff(ends)):
                for handle, piece in zip(handles, pieces, strict=True):
                    _write(handle, piece[ends[place] : ends[place + 1]], int(cursor[place]) * piece.itemsize)
            cursor += np.diff(ends)
            done(span.stop - span.start)
    finally:
        for handle in handles:
            os.close(handle)


def _write(handle: int, values: np.ndarray, offset: int) -> None:
    left = values.data.cast("B")
    while left:
        written = os.pwrite(handle, left, offset)
        left, offset = left[written:], offset + written


def _files(dtype: np.dtype) -> tuple[tuple[str, np.dtype], ...]:
    return ("rows.bin", np.dtype(np.uint16)), ("columns.bin", np.dtype(np.int32)), ("values.bin", dtype)


def _spans(n: int) -> Iterator[slice]:
    yield from (slice(first, min(first + AT_ONCE, n)) for first in range(0, n, AT_ONCE))


@numba.njit(nogil=True, cache=True)
def _places(groups: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the stable order that sorts by group, and where each group starts in it: a counting sort."""
    ends = np.zeros(n_groups + 1, dtype=np.int64)
    for group in groups:
        ends[group + 1] += 1
    for group in range(n_groups):
        ends[group + 1] += ends[group]
    cursor = ends[:-1].copy()
    order = np.empty(len(groups), dtype=np.int64)
    for place in range(len(groups)):
        group = groups[place]
        order[cursor[group]] = place
        cursor[group] += 1
    return order, ends
