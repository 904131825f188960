"""Ranking: CSR rows in, gene ids by falling value out, and rows sorted by id, through the packed keys of ``packed.py``.

Rows are independent, so chunks of them run on threads with the GIL released: safe under fork and inside other threads,
which numba's own parallel layers are not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numba
import numpy as np

from c2s.sentences.packed import PACKED, alike, mixed, pack, pack_hashed, pair, part, unpack, windows


def rank_by_order(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    columns: np.ndarray,
    place: np.ndarray,
    n_genes: int | None,
    *,
    whole: bool | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ids, offsets and n_expressed where one order of genes breaks the ties of every cell.

    Parameters
    ----------
    data : shape (nnz,), int32 or float32, above 0
    indices, indptr
        Of the CSR matrix; columns unique in each row.
    columns : shape (n_columns,), int32
        Gene id of each column, -1 to drop it.
    place : shape (n_ids,), int32
        Each gene's place among equals, a permutation; 0 comes first.
    n_genes
        Longest row kept, or None.
    whole
        Values are whole numbers below 2^31, whatever their type; None means the type says so.

    Returns
    -------
    ids : int32 (total,)
    offsets : int64 (n + 1,)
    n_expressed : int32 (n,), genes before the cut
    """
    every = bool(columns.min() >= 0)
    place_of_column = place[columns] if every else np.where(columns >= 0, place[columns], -1)
    place_of_column = place_of_column.astype(np.int32, copy=False)
    gene_at = np.empty(len(place), dtype=np.int32)
    gene_at[place] = np.arange(len(place), dtype=np.int32)
    offsets, n_expressed = _offsets(indices, indptr, columns, n_genes)
    ids = np.empty(offsets[-1], dtype=np.int32)
    bits = max(1, int(len(place) - 1).bit_length())
    whole = data.dtype.kind == "i" if whole is None else whole
    limit = n_genes or len(place)
    rows_of = (indices, indptr, place_of_column, every)

    def choose(first: int, last: int) -> _Packing:
        if whole and data[indptr[first] : indptr[last]].max(initial=0) < 2 ** (32 - bits) - 1:
            return "uint32", bits, partial(pack, data, *rows_of, limit, bits)
        return "uint64", 32, partial(pack, data.view(np.uint32), *rows_of, len(place), 32)  # bits order as numbers do

    _rank(choose, n_expressed, limit, gene_at, offsets, ids)
    return ids, offsets, n_expressed


def rank_by_hash(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    columns: np.ndarray,
    gene_hashes: np.ndarray,
    cell_hashes: np.ndarray,
    n_genes: int | None,
    *,
    whole: bool | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ids, offsets and n_expressed where a hash of cell and gene breaks ties, and the id where hashes are equal.

    ``gene_hashes`` (n_ids,) and ``cell_hashes`` (n_cells,) are uint64; the rest is as in :func:`rank_by_order`.
    """
    offsets, n_expressed = _offsets(indices, indptr, columns, n_genes)
    ids = np.empty(offsets[-1], dtype=np.int32)
    whole = data.dtype.kind == "i" if whole is None else whole
    hashed = (indices, indptr, columns, gene_hashes, cell_hashes)
    if whole and len(gene_hashes) <= 1 << 16 and data.max(initial=0) < (1 << 16) - 1:
        gene_at = np.arange(len(gene_hashes), dtype=np.int32)
        fill = partial(pack_hashed, data, *hashed)
        _rank(lambda first, last: ("uint64", 16, fill), n_expressed, n_genes or len(gene_at), gene_at, offsets, ids)
    else:
        values = (
            data if data.dtype == np.int32 else data.astype(np.float32, copy=False)
        )  # the bits of both order as numbers do
        over_rows(lambda start, stop: _by_hash(values, *hashed, offsets, ids, start, stop), len(n_expressed))
    return ids, offsets, n_expressed


_Packing = tuple[str, int, Callable[[np.ndarray, np.ndarray, np.ndarray], int]]


def _rank(
    choose: Callable[[int, int], _Packing],
    n_expressed: np.ndarray,
    limit: int,
    gene_at: np.ndarray,
    offsets: np.ndarray,
    ids: np.ndarray,
) -> None:
    """Write the genes of each row, at most ``limit``, into ``ids``.

    ``choose`` names, for a window of rows, the type of keys, the bits that hold the gene, and what packs rows.
    """

    def work(start: int, stop: int) -> None:
        sizes = np.empty(PACKED, dtype=np.int64)
        for first, last in windows(start, stop):
            dtype, shift, fill = choose(first, last)
            for rows in alike(n_expressed, first, last):
                keys = np.empty((len(rows), n_expressed[rows[-1]] + 1), dtype=dtype)
                longest = fill(rows, keys, sizes)
                keys = keys[:, :longest]
                if longest > 2 * limit:  # below that, sorting all is as fast as selecting and sorting
                    keys.partition(limit - 1, axis=1)
                    keys = keys[:, :limit]
                keys.sort(axis=1)
                unpack(keys, shift, gene_at, rows, offsets, ids)

    over_rows(work, len(n_expressed))


def sort_rows(ids: np.ndarray, values: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and values with each row by rising id: the indices and data of a canonical CSR matrix.

    Parameters
    ----------
    ids : int32 (total,), at least 0, unique in each row
    values : float32 (total,)
    offsets : int64 (n + 1,)
    """
    indices, data = np.empty_like(ids), np.empty_like(values)
    lengths = np.diff(offsets)
    bits, bits_out = values.view(np.uint32), data.view(np.uint32)

    def work(start: int, stop: int) -> None:
        for rows in chain.from_iterable(alike(lengths, *window) for window in windows(start, stop)):
            keys = np.empty((len(rows), lengths[rows[-1]]), dtype=np.uint64)
            pair(ids, bits, offsets, rows, keys)
            keys.sort(axis=1)
            part(keys, offsets, rows, indices, bits_out)

    over_rows(work, len(lengths))
    return indices, data


@numba.njit(nogil=True, cache=True)
def first_repeat(ids: np.ndarray, offsets: np.ndarray, n_ids: int) -> int:
    """Return the place in ``ids`` of the first that its row holds twice, -1 if there is none; ids lie in 0 to ``n_ids`` - 1."""
    row_of = np.full(n_ids, -1, dtype=np.int64)
    for row in range(len(offsets) - 1):
        for place in range(offsets[row], offsets[row + 1]):
            if row_of[ids[place]] == row:
                return place
            row_of[ids[place]] = row
    return -1


def over_rows(work: Callable[[int, int], Any], n: int) -> None:
    """Call ``work(start, stop)`` over chunks of ``n`` rows, on as many threads as there are CPUs for numba."""
    threads = usable_threads()
    size = max(64, -(-n // (8 * threads)))
    spans = [(start, min(start + size, n)) for start in range(0, n, size)]
    if threads < 2 or len(spans) < 2:
        for start, stop in spans:
            work(start, stop)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, start, stop) for start, stop in spans]:
            done.result()


def kernels_are_compiled() -> bool:
    """Return whether an earlier process left the machine code that ranking needs, so that nothing is compiled now."""
    return any(Path(pack.stats.cache_path or "").glob("packed.pack-*.nbi"))


_ALONE = ContextVar("on one thread", default=False)


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Keep what the block calls to the calling thread: a task of a cluster is given one thread, and a timing is of one."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def usable_threads() -> int:
    """Return the number of CPUs this process may use, or of numba's threads if that is less; 1 in :func:`on_one_thread`."""
    if _ALONE.get():
        return 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, int(numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def _offsets(
    indices: np.ndarray, indptr: np.ndarray, columns: np.ndarray, n_genes: int | None
) -> tuple[np.ndarray, np.ndarray]:
    if columns.min() < 0:
        kept = np.concatenate(([0], np.cumsum(columns[indices] >= 0)))
        n_expressed = np.diff(kept[indptr]).astype(np.int32)
    else:
        n_expressed = np.diff(indptr).astype(np.int32)
    lengths = n_expressed if n_genes is None else np.minimum(n_expressed, n_genes)
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))), n_expressed


@numba.njit(nogil=True, cache=True)
def _by_hash(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    columns: np.ndarray,
    gene_hashes: np.ndarray,
    cell_hashes: np.ndarray,
    offsets: np.ndarray,
    ids: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Sort each row by a key of the value's bits and hash, the genes going along: for what does not fit a packed key."""
    keys = np.empty(len(columns), dtype=np.uint64)
    genes = np.empty(len(columns), dtype=np.int32)
    bits = data.view(np.uint32)
    for row in range(first, last):
        n = 0
        for entry in range(indptr[row], indptr[row + 1]):
            gene = columns[indices[entry]]
            if gene >= 0:
                keys[n] = (np.uint64(~bits[entry]) << np.uint64(32)) | mixed(gene_hashes[gene], cell_hashes[row])
                genes[n] = gene
                n += 1
        by_id = np.argsort(genes[:n])
        order = by_id[np.argsort(keys[:n][by_id], kind="mergesort")]
        start = offsets[row]
        for position in range(offsets[row + 1] - start):
            ids[start + position] = genes[order[position]]
