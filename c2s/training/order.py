"""The order in which examples are shown: decided by seed and epoch alone, and held in eight bytes an example."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

AT_ONCE = 1 << 16  # places turned into Python integers together
MOST_BATCHES = 50  # sorted by length together


class Shuffled(Sampler[int]):
    """Every example once, in an order of its own in each epoch: that of accelerate's ``SeedableRandomSampler``.

    Parameters
    ----------
    n : int
        Examples.
    seed : int
    """

    def __init__(self, n: int, *, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def __len__(self) -> int:
        return self.n

    def set_epoch(self, epoch: int) -> None:
        """Turn to the order of ``epoch``; the trainer calls this before each pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        for block in _permutation(self.n, self.seed + self.epoch).split(AT_ONCE):
            yield from block.tolist()


class AlikeLengths(Sampler[int]):
    """Batches of similar length: the order of transformers' ``LengthGroupedSampler``, one block after another.

    Examples are shuffled, cut into blocks of at most 50 batches, and sorted within each, longest first; the very longest
    comes first of all, so that memory runs out at once or never.

    Parameters
    ----------
    lengths : ndarray of int, shape (n,)
    batch_size, seed : int
    """

    def __init__(self, lengths: np.ndarray, *, batch_size: int, seed: int) -> None:
        self.lengths, self.seed, self.epoch = lengths, seed, 0
        self.block = batch_size * max(1, min(len(lengths) // (batch_size * 4), MOST_BATCHES))

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Turn to the order of ``epoch``; the trainer calls this before each pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = _permutation(len(self), self.seed * 1_000_003 + self.epoch).numpy()
        starts = np.arange(0, len(order), self.block)
        longest = int(np.maximum.reduceat(self.lengths[order], starts).argmax())
        swapped = {0: self._sorted(order, longest)[0], longest: self._sorted(order, 0)[0]}
        for number in range(len(starts)):
            places = self._sorted(order, number).tolist()
            yield int(swapped.get(number, places[0]))
            yield from places[1:]

    def _sorted(self, order: np.ndarray, number: int) -> np.ndarray:
        places = order[number * self.block : (number + 1) * self.block]
        return places[np.argsort(-self.lengths[places], kind="stable")]


def _permutation(n: int, seed: int) -> torch.Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
