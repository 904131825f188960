"""Which kinds of token an answer that is filled in any order may hold where.

A canvas has T places, some written, some open. It can be completed if stops can be put at places ``s_1 < … < s_k`` such that segment ``i`` holds
between ``min_i`` and ``max_i`` items, every written item lies before ``s_k``, and behind it is nothing but padding. What keeps it so is found by two
passes: where stop ``i`` can stand given what is before it, and given what is behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
OPEN, ITEM, PAD = -1, -2, -3  # kinds of place; a written stop is the number of its segment


@dataclass(frozen=True)
class Admissible:
    """What each place of a canvas may hold (or holds), so that it can still be completed.

    Attributes
    ----------
    item, pad : ndarray of bool, shape (T,)
    stops : ndarray of bool, shape (k, T)
        Stop of each segment.
    """

    item: Flags
    pad: Flags
    stops: Flags


def admissible(kinds: NDArray[np.int64], bounds: Sequence[tuple[int, int]], n_items: int) -> Admissible:
    """Return what keeps a canvas completable; nothing anywhere where it is not.

    Parameters
    ----------
    kinds : ndarray of int, shape (T,)
        :data:`OPEN`, :data:`ITEM`, :data:`PAD`, or the number of the segment whose stop is written.
    bounds : sequence of (int, int), length k
        Least and most items of each segment.
    n_items : int
        Distinct items that there are.
    """
    n, k = len(kinds), len(bounds)
    stop_here = np.stack([(kinds == OPEN) | (kinds == i) for i in range(k)])
    no_item = (kinds == PAD) | (kinds >= 0)
    places = np.arange(n)
    # the nearest place, before and behind each, that can be no item; -1 stands for the start
    before = np.concatenate([[-1], np.maximum.accumulate(np.where(no_item, places, -1))[:-1]])[:n]
    behind = np.full(n + 1, n)
    behind[:n] = np.minimum.accumulate(np.where(no_item, places, n)[::-1])[::-1]
    last = np.flatnonzero(~np.isin(kinds, (OPEN, PAD)))  # written items and stops, which the last stop is not before
    first_pad = np.flatnonzero(kinds == PAD)
    may_end = (places >= (last[-1] if len(last) else 0)) & (places < n_items + k)
    if len(first_pad):
        may_end &= places < first_pad[0]

    forward = np.zeros((k + 1, n + 1), dtype=bool)  # [i, p + 1]: stop i can be at p, as far as what is before it goes
    forward[0, 0] = True
    for i, (low, high) in enumerate(bounds):
        count = np.concatenate([[0], np.cumsum(forward[i])])
        least, most = np.maximum(np.maximum(places - 1 - high, before), -1), places - 1 - low
        found = count[np.maximum(most + 2, 0)] - count[np.minimum(least + 1, np.maximum(most + 2, 0))] > 0
        forward[i + 1, 1:] = stop_here[i] & found & (most >= least)
    backward = np.zeros((k + 1, n + 1), dtype=bool)
    farthest = np.full((k + 1, n + 1), -1)  # [i, q + 1]: the last place that stop i + 1 can be at, if stop i is at q
    backward[k, 1:] = may_end
    starts = np.arange(-1, n)
    next_no_item = behind[starts + 1]
    for i in range(k - 1, -1, -1):
        low, high = bounds[i]
        ends = backward[i + 1, 1:] & stop_here[i]
        latest = np.concatenate([[-1], np.maximum.accumulate(np.where(ends, places, -1))])  # up to and without p
        reach = np.minimum(np.minimum(starts + 1 + high, next_no_item), n - 1)
        farthest[i] = latest[reach + 1]
        backward[i] = farthest[i] >= starts + 1 + low
    both = forward & backward
    change = np.zeros(n + 1, dtype=np.int64)
    for i in range(k):
        q = np.flatnonzero(both[i])
        np.add.at(change, starts[q] + 1, 1)
        np.add.at(change, farthest[i, q], -1)
    ends = both[k, 1:]
    return Admissible(
        (np.cumsum(change[:n]) > 0) & ~no_item,
        (np.concatenate([[0], np.cumsum(ends)[:-1]])[:n] > 0) & ((kinds == OPEN) | (kinds == PAD)),
        both[1:, 1:],
    )
