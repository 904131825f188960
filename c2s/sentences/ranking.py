"""The ranking kernels: CSR rows in, gene ids by falling value out. Counting order for counts, radix order of the bits for floats.

Rows are independent, so chunks of them run on threads with the GIL released: safe under fork and inside other threads,
which numba's own parallel layers are not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

LAST = 255  # counts at or above this share one bucket, sorted by comparison afterwards


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
    place_of_column = np.where(columns >= 0, place[columns], -1).astype(np.int32)
    gene_at = np.empty(len(place), dtype=np.int32)
    gene_at[place] = np.arange(len(place), dtype=np.int32)
    offsets, n_expressed = _offsets(indices, indptr, columns, n_genes)
    ids = np.empty(offsets[-1], dtype=np.int32)
    if whole is None:
        whole = data.dtype.kind == "i"
    kernel = _by_counting if whole else _by_bits
    fixed = (data, indices, indptr, place_of_column, gene_at, offsets, ids)
    over_rows(lambda start, stop: kernel(*fixed, start, stop), len(n_expressed))
    return ids, offsets, n_expressed


def rank_by_hash(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    columns: np.ndarray,
    gene_hashes: np.ndarray,
    cell_hashes: np.ndarray,
    n_genes: int | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ids, offsets and n_expressed where a hash of cell and gene breaks ties.

    ``gene_hashes`` (n_ids,) and ``cell_hashes`` (n_cells,) are uint64; the rest is as in :func:`rank_by_order`.
    """
    offsets, n_expressed = _offsets(indices, indptr, columns, n_genes)
    ids = np.empty(offsets[-1], dtype=np.int32)
    fixed = (data.astype(np.float32, copy=False), indices, indptr, columns, gene_hashes, cell_hashes, offsets, ids)
    over_rows(lambda start, stop: _by_hash(*fixed, start, stop), len(n_expressed))
    return ids, offsets, n_expressed


def over_rows(work: Callable[[int, int], Any], n: int) -> None:
    """Call ``work(start, stop)`` over chunks of ``n`` rows, on as many threads as there are CPUs for numba."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(usable, int(numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    size = max(64, -(-n // (8 * threads)))
    spans = [(start, min(start + size, n)) for start in range(0, n, size)]
    if threads < 2 or len(spans) < 2:
        for start, stop in spans:
            work(start, stop)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, start, stop) for start, stop in spans]:
            done.result()


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


@intrinsic
def _trailing_zeros(_context: Any, bits: Any) -> Any:
    """Return the number of trailing zero bits of a uint64 that is not 0."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return bits(bits), generate


@numba.njit(nogil=True, cache=True)
def _by_counting(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    place_of_column: np.ndarray,
    gene_at: np.ndarray,
    offsets: np.ndarray,
    ids: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Scatter a row into a bitmap by place; reading the bitmap in order gives each count's genes in tie order."""
    n_words = (len(gene_at) + 63) >> 6
    bitmap = np.zeros(n_words, dtype=np.uint64)
    value_at = np.empty(len(gene_at), dtype=np.int32)
    bucket = np.zeros(LAST + 2, dtype=np.int64)
    big_gene = np.empty(len(gene_at), dtype=np.int32)
    big_value = np.empty(len(gene_at), dtype=np.int64)
    one = np.uint64(1)
    for row in range(first, last):
        start = offsets[row]
        limit = offsets[row + 1] - start
        top = 0
        for entry in range(indptr[row], indptr[row + 1]):
            place = place_of_column[indices[entry]]
            if place >= 0:
                value = int(data[entry])
                value_at[place] = value
                bitmap[place >> 6] |= one << np.uint64(place & 63)
                count = min(value, LAST)
                bucket[count] += 1
                top = max(top, count)
        n_big = bucket[LAST]
        position = 0
        for count in range(top, 0, -1):
            size = bucket[count]
            bucket[count] = position
            position += size
        for word in range(n_words):
            bits = bitmap[word]
            if bits:
                bitmap[word] = np.uint64(0)
                base = word << 6
                while bits:
                    place = base + np.int64(_trailing_zeros(bits))  # type: ignore[call-arg]
                    bits &= bits - one
                    count = min(value_at[place], LAST)
                    position = bucket[count]
                    bucket[count] = position + 1
                    if count == LAST:
                        big_gene[position] = gene_at[place]
                        big_value[position] = -value_at[place]
                    elif position < limit:
                        ids[start + position] = gene_at[place]
        for count in range(top + 1):
            bucket[count] = 0
        if n_big:
            order = np.argsort(big_value[:n_big], kind="mergesort")  # stable: equals stay in tie order
            for position in range(min(n_big, limit)):
                ids[start + position] = big_gene[order[position]]


@numba.njit(nogil=True, cache=True)
def _by_bits(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    place_of_column: np.ndarray,
    gene_at: np.ndarray,
    offsets: np.ndarray,
    ids: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Radix-sort a row's float bits, inverted, from tie order. Positive floats order as their bits do, and passes are stable."""
    n_words = (len(gene_at) + 63) >> 6
    bitmap = np.zeros(n_words, dtype=np.uint64)
    key_at = np.empty(len(gene_at), dtype=np.uint32)
    keys, other_keys = np.empty(len(gene_at), dtype=np.uint32), np.empty(len(gene_at), dtype=np.uint32)
    genes, other_genes = np.empty(len(gene_at), dtype=np.int32), np.empty(len(gene_at), dtype=np.int32)
    sizes = np.zeros((3, 2048), dtype=np.int64)
    bits_of = data.view(np.uint32)
    one, digit = np.uint64(1), np.uint32(2047)
    for row in range(first, last):
        for entry in range(indptr[row], indptr[row + 1]):
            place = place_of_column[indices[entry]]
            if place >= 0:
                key_at[place] = ~bits_of[entry]
                bitmap[place >> 6] |= one << np.uint64(place & 63)
        n = 0
        sizes[:] = 0
        for word in range(n_words):
            bits = bitmap[word]
            if bits:
                bitmap[word] = np.uint64(0)
                base = word << 6
                while bits:
                    place = base + np.int64(_trailing_zeros(bits))  # type: ignore[call-arg]
                    bits &= bits - one
                    key = key_at[place]
                    keys[n] = key
                    genes[n] = gene_at[place]
                    n += 1
                    sizes[0, key & digit] += 1
                    sizes[1, (key >> np.uint32(11)) & digit] += 1
                    sizes[2, (key >> np.uint32(22)) & digit] += 1
        for step in range(3):
            shift = np.uint32(11 * step)
            position = 0
            for value in range(2048):
                size = sizes[step, value]
                sizes[step, value] = position
                position += size
            for entry in range(n):
                bucket = (keys[entry] >> shift) & digit
                position = sizes[step, bucket]
                sizes[step, bucket] = position + 1
                other_keys[position] = keys[entry]
                other_genes[position] = genes[entry]
            keys, other_keys = other_keys, keys
            genes, other_genes = other_genes, genes
        start = offsets[row]
        for position in range(offsets[row + 1] - start):
            ids[start + position] = genes[position]


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
    """Sort by value, then by the upper 32 bits of a mixed hash of cell and gene, then (2^-32) by column."""
    keys = np.empty(len(columns), dtype=np.uint64)
    genes = np.empty(len(columns), dtype=np.int32)
    bits = data.view(np.uint32)
    for row in range(first, last):
        n = 0
        for entry in range(indptr[row], indptr[row + 1]):
            gene = columns[indices[entry]]
            if gene >= 0:
                mixed = gene_hashes[gene] ^ (cell_hashes[row] * np.uint64(0x9E3779B97F4A7C15))
                mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                mixed ^= mixed >> np.uint64(31)
                keys[n] = (np.uint64(~bits[entry]) << np.uint64(32)) | (mixed >> np.uint64(32))
                genes[n] = gene
                n += 1
        order = np.argsort(keys[:n], kind="mergesort")
        start = offsets[row]
        for position in range(offsets[row + 1] - start):
            ids[start + position] = genes[order[position]]
