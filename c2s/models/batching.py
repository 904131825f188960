"""Batches of token sequences: of about one length, so that little is computed for padding, and padded."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TypeVar

import torch
from torch import Tensor

from c2s.errors import ConfigError

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

    Raises
    ------
    ConfigError
        ``rows`` is below 1; raised when the first batch is asked for.
    """
    if rows < 1:
        msg = f"batch_size={rows}; a batch holds at least 1"
        raise ConfigError(msg)
    stream = enumerate(sequences)
    while window := sorted(itertools.islice(stream, WINDOW), key=lambda item: -len(item[1])):
        start = 0
        while start < len(window):
            size = max(1, min(rows, tokens // max(1, len(window[start][1]))))
            batch = window[start : start + size]
            yield [place for place, _ in batch], [sequence for _, sequence in batch]
            start += size


def right_padded(sequences: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and mask, (n, longest), padding on the right."""
    return _padded(sequences, pad, device, left=False)


def left_padded(sequences: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and mask, (n, longest), padding on the left."""
    return _padded(sequences, pad, device, left=True)


def _padded(sequences: Sequence[Sequence[int]], pad: int, device: torch.device, *, left: bool) -> tuple[Tensor, Tensor]:
    longest = max(len(sequence) for sequence in sequences)
    rows = [[pad] * (longest - len(s)) + list(s) if left else list(s) + [pad] * (longest - len(s)) for s in sequences]
    real = [
        [False] * (longest - len(s)) + [True] * len(s) if left else [True] * len(s) + [False] * (longest - len(s))
        for s in sequences
    ]
    return torch.tensor(rows, dtype=torch.long, device=device), torch.tensor(real, dtype=torch.bool, device=device)
