"""Batches of token sequences of about one length, so that little is computed for padding."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

WINDOW = 4096  # sequences sorted together: what is held of a stream of them
TOKENS = {"cpu": 4096, "cuda": 1 << 16}  # of a batch; what is larger falls out of a CPU's cache

_Tokens = TypeVar("_Tokens", bound=Sized)


def by_length(sequences: Iterable[_Tokens], *, tokens: int, rows: int) -> Iterator[tuple[list[int], list[_Tokens]]]:
    """Yield batches of sequences, longest first within each window of 4,096, with their places in the stream.

    Parameters
    ----------
    sequences : iterable
        Token ids, or anything as long as they are.
    tokens : int
        Most tokens of a batch, padding included; a longer sequence is a batch of its own.
    rows : int
        Most sequences of a batch.
    """
    stream = enumerate(sequences)
    while window := sorted(itertools.islice(stream, WINDOW), key=lambda item: -len(item[1])):
        start = 0
        while start < len(window):
            size = max(1, min(rows, tokens // max(1, len(window[start][1]))))
            batch = window[start : start + size]
            yield [place for place, _ in batch], [sequence for _, sequence in batch]
            start += size
