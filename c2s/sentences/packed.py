"""Sorting short rows fast: an entry becomes one whole number, and rows of similar length are sorted together.

The number holds a value, inverted, in its high bits and its gene's place among equals in the low ones, so that sorting
numbers sorts genes; 32 bits do for counts, 64 for other values. Rows are packed into small rectangles and sorted there by
NumPy, whose sort of whole numbers uses the widest vectors the machine has (a partial selection where short sentences are
asked for). Memory beyond input and output is one rectangle a thread: 32 rows of the longest row's length.
"""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np

WINDOW = 256  # neighbouring rows among which those of similar length are sought
PACKED = 32  # rows sorted together; a rectangle of 1,000 genes stays in the second-level cache


def windows(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield ``(first, last)`` of neighbouring rows few enough to stay in the cache."""
    for first in range(start, stop, WINDOW):
        yield first, min(first + WINDOW, stop)


def alike(lengths: np.ndarray, first: int, last: int) -> Iterator[np.ndarray]:
    """Yield the rows of a window, a few of similar length at a time, the longest of them last."""
    order = first + np.argsort(lengths[first:last], kind="stable")
    for packed in range(0, len(order), PACKED):
        yield order[packed : packed + PACKED]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def pack(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    place_of_column: np.ndarray,
    every: bool,
    n_genes: int,
    shift: int,
    rows: np.ndarray,
    keys: np.ndarray,
    sizes: np.ndarray,
) -> int:
    """Write the keys of ``rows`` side by side and return the longest row; the rest of each row is larger than any key.

    ``every`` says that no column is dropped. Then, of rows longer than ``n_genes`` only values that can be among so many
    are written. ``keys`` has a column more than the longest row has entries; ``sizes`` is written over.
    """
    kind = keys.dtype.type
    step, top = kind(shift), kind((1 << (8 * keys.itemsize - shift)) - 1)
    for i in range(len(rows)):
        start, stop = indptr[rows[i]], indptr[rows[i] + 1]
        values, genes, out = data[start:stop], indices[start:stop], keys[i]
        least = _least_needed(values, n_genes) if every and len(values) > n_genes else 1
        n = 0
        if every and least == 1:
            n = len(values)
            for entry in range(n):
                out[entry] = ((top - kind(values[entry])) << step) | kind(place_of_column[np.uint32(genes[entry])])
        elif every:
            n = _that_reach(values, values.dtype.type(least), out)
            for found in range(n):
                entry = int(out[found])
                out[found] = ((top - kind(values[entry])) << step) | kind(place_of_column[np.uint32(genes[entry])])
        else:
            for entry in range(len(values)):
                place = place_of_column[np.uint32(genes[entry])]
                if place >= 0:
                    out[n] = ((top - kind(values[entry])) << step) | kind(place)
                    n += 1
        sizes[i] = n
    longest = sizes[: len(rows)].max()
    for i in range(len(rows)):
        keys[i, sizes[i] : longest] = ~kind(0)
    return longest


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _least_needed(values: np.ndarray, n: int) -> int:
    """Return the largest whole number up to 32 that at least ``n`` values reach, at least 1."""
    for least in range(2, 33):
        count, bound = np.uint32(0), values.dtype.type(least)  # narrow types make a loop of vector instructions
        for entry in range(len(values)):
            count += np.uint32(values[entry] >= bound)
        if count < n:
            return least - 1
    return 32


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _that_reach(values: np.ndarray, bound: float, out: np.ndarray) -> int:
    """Write into ``out`` the positions of values of at least ``bound``, and return how many there are.

    Every position is written where the next would stand and stays if it counts: no branch to mispredict. Four at a time,
    since each step waits for the number of those before it.
    """
    kept, fours = np.uint64(0), len(values) & ~3
    for entry in range(0, fours, 4):
        one = np.uint64(values[entry] >= bound)
        two = one + np.uint64(values[entry + 1] >= bound)
        three = two + np.uint64(values[entry + 2] >= bound)
        out[kept], out[kept + one], out[kept + two], out[kept + three] = entry, entry + 1, entry + 2, entry + 3
        kept += three + np.uint64(values[entry + 3] >= bound)
    for entry in range(fours, len(values)):
        out[kept] = entry
        kept += np.uint64(values[entry] >= bound)
    return int(kept)


@numba.njit(nogil=True, cache=True, inline="always")
def mixed(gene: np.uint64, cell: np.uint64) -> np.uint64:
    """Return 32 bits, in a uint64, that mix the hashes of a gene and a cell (the finaliser of SplitMix64)."""
    bits = gene ^ (cell * np.uint64(0x9E3779B97F4A7C15))
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (bits ^ (bits >> np.uint64(31))) >> np.uint64(32)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def pack_hashed(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    columns: np.ndarray,
    gene_hashes: np.ndarray,
    cell_hashes: np.ndarray,
    rows: np.ndarray,
    keys: np.ndarray,
    sizes: np.ndarray,
) -> int:
    """Write keys of 16 bits of count, 32 of hash and 16 of gene, like :func:`pack`; return the longest row."""
    for i in range(len(rows)):
        n, cell = 0, cell_hashes[rows[i]]
        for entry in range(indptr[rows[i]], indptr[rows[i] + 1]):
            gene = columns[indices[entry]]
            if gene >= 0:
                value = np.uint64(0xFFFF) - np.uint64(data[entry])
                keys[i, n] = (
                    (value << np.uint64(48)) | (mixed(gene_hashes[gene], cell) << np.uint64(16)) | np.uint64(gene)
                )
                n += 1
        sizes[i] = n
    longest = sizes[: len(rows)].max()
    for i in range(len(rows)):
        keys[i, sizes[i] : longest] = ~np.uint64(0)
    return longest


@numba.njit(nogil=True, cache=True, error_model="numpy")
def unpack(
    keys: np.ndarray, shift: int, gene_at: np.ndarray, rows: np.ndarray, offsets: np.ndarray, ids: np.ndarray
) -> None:
    """Write the genes of sorted keys into the rows of ``ids``."""
    for i in range(len(rows)):
        out, row = ids[offsets[rows[i]] : offsets[rows[i] + 1]], keys[i]
        for position in range(len(out)):
            out[position] = gene_at[row[position] & keys.dtype.type((1 << shift) - 1)]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def pair(ids: np.ndarray, bits: np.ndarray, offsets: np.ndarray, rows: np.ndarray, keys: np.ndarray) -> None:
    """Write ids and the bits of their values into one number each; the rest of each row is larger than any."""
    for i in range(len(rows)):
        start, stop = offsets[rows[i]], offsets[rows[i] + 1]
        for entry in range(stop - start):
            keys[i, entry] = (np.uint64(ids[start + entry]) << np.uint64(32)) | np.uint64(bits[start + entry])
        for entry in range(stop - start, keys.shape[1]):
            keys[i, entry] = ~np.uint64(0)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def part(keys: np.ndarray, offsets: np.ndarray, rows: np.ndarray, ids: np.ndarray, bits: np.ndarray) -> None:
    """Write the two halves of sorted pairs where their rows lie."""
    for i in range(len(rows)):
        start, stop = offsets[rows[i]], offsets[rows[i] + 1]
        for entry in range(stop - start):
            ids[start + entry] = keys[i, entry] >> np.uint64(32)
            bits[start + entry] = keys[i, entry] & np.uint64(0xFFFFFFFF)
