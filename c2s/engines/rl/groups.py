"""Sums, means and spreads over the answers to one prompt. Ids may be any integers, in any order, of any group size."""

from __future__ import annotations

import torch
from torch import Tensor

from c2s.errors import DataError


class Groups:
    """Answers by prompt.

    Parameters
    ----------
    ids : Tensor, shape (B,), int64
        Prompt of each answer.
    counted : Tensor, shape (B,), bool, optional
        Answers that take part; the others are in no sum.

    Raises
    ------
    DataError
        The two differ in length.
    """

    def __init__(self, ids: Tensor, counted: Tensor | None = None) -> None:
        self.counted = torch.ones_like(ids, dtype=torch.bool) if counted is None else counted.bool()
        if ids.dim() != 1 or self.counted.shape != ids.shape:
            msg = f"groups have shape {tuple(ids.shape)} and what is counted {tuple(self.counted.shape)}; give one of each an answer"
            raise DataError(msg)
        unique, self.index = torch.unique(ids, return_inverse=True)
        self.n = len(unique)
        self.sizes = self.sum(torch.ones(len(ids), dtype=torch.float64, device=ids.device))

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of each group, (B,) → (n_groups,); values that are not counted may be NaN."""
        counted = torch.where(self.counted, values, torch.zeros_like(values))
        return torch.zeros(self.n, dtype=values.dtype, device=values.device).index_add_(0, self.index, counted)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of each group, (B,) → (n_groups,); 0 for a group of none."""
        return self.sum(values) / self.sizes.clamp(min=1).to(values.dtype)

    def low(self, values: Tensor) -> Tensor:
        """Return the least of each group, (B,) → (n_groups,); infinite for a group of none."""
        return self._extreme(values, "amin", torch.inf)

    def high(self, values: Tensor) -> Tensor:
        """Return the greatest of each group, (B,) → (n_groups,); minus infinite for a group of none."""
        return self._extreme(values, "amax", -torch.inf)

    def std(self, values: Tensor, *, correction: int = 0) -> Tensor:
        """Return the standard deviation of each group, (B,) → (n_groups,); 0 for a group of one or none."""
        centred = values - self.mean(values)[self.index]
        freedom = (self.sizes - correction).clamp(min=1).to(values.dtype)
        return (self.sum(centred**2) / freedom).sqrt()

    def flat(self, values: Tensor, *, tolerance: float = 1e-6) -> Tensor:
        """Return which groups have values all alike, (B,) → (n_groups,) bool; groups of one or none are.

        Alike means that the greatest and the least differ by at most ``tolerance`` times the greatest magnitude in the
        group: rounding, whatever the unit. A standard deviation compared with 0 misses rounding, and a mean strictly
        between 0 and 1 sees no flat group of continuous values.
        """
        magnitude = self.high(values.abs()).clamp(min=0)
        spread = self.high(values) - self.low(values)
        return (self.sizes <= 1) | (spread <= tolerance * magnitude)

    def _extreme(self, values: Tensor, which: str, empty: float) -> Tensor:
        counted = torch.where(self.counted, values, torch.full_like(values, empty))
        start = torch.full((self.n,), empty, dtype=values.dtype, device=values.device)
        return start.scatter_reduce_(0, self.index, counted, which)
