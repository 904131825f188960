"""Flat arrays of sentences: whole numbers checked, rows gathered, ranks looked up."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from c2s.errors import DataError


def whole_numbers(values: Any, dtype: type[np.int32 | np.int64], name: str) -> np.ndarray:
    """Return whole numbers as ``dtype``; others, and those too large for it, are a DataError."""
    array = np.asarray(values)
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    limits = np.iinfo(dtype)
    if array.size and (array.dtype.kind not in "iu" or array.max() > limits.max or array.min() < limits.min):
        msg = f"{name} must be whole numbers from {limits.min} to {limits.max}, found {array.dtype} such as {array.flat[0]!r}"
        raise DataError(msg)
    return np.ascontiguousarray(array, dtype=dtype)


@numba.njit(nogil=True, cache=True)
def ranks_of(ids: np.ndarray, offsets: np.ndarray, slot: np.ndarray, k: int, absent: int) -> np.ndarray:
    """Return the rank of each gene that has a column ``slot`` of ``k``, int32 (n, k), first is 1; ``absent`` where it has none."""
    n = len(offsets) - 1
    ranks = np.full((n, k), absent, dtype=np.int32)
    for i in range(n):
        start = offsets[i]
        for position in range(min(offsets[i + 1] - start, absent - 1)):
            column = slot[ids[start + position]]
            if column >= 0:
                ranks[i, column] = position + 1
    return ranks


@numba.njit(nogil=True, cache=True)
def gathered(ids: np.ndarray, starts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the first ``offsets[i + 1] - offsets[i]`` ids from each of ``starts``, one after another."""
    out = np.empty(offsets[-1], dtype=np.int32)
    for i in range(len(starts)):
        for j in range(offsets[i + 1] - offsets[i]):
            out[offsets[i] + j] = ids[starts[i] + j]
    return out
