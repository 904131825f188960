"""Who decides plans: the protocol, what a decider is shown, and plans that are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.slots import FrozenPlans
from c2s.errors import ConfigError, ModelError


class Decider(Protocol):
    """Who says what a layer does with each row of a batch."""

    def decide(self, layer: int, hidden: Tensor, reading: Reading) -> Tensor:
        """Return the actions of a layer, shape (B,), given the hidden states that enter it, shape (B, T, d)."""


@dataclass
class Reading:
    """One forward pass: whose rows it has, and what was decided for them.

    Attributes
    ----------
    mask : Tensor or None
        Attention mask that the model was given: (B, T) with 1 where there is a token, or whatever else it was.
    actions : Tensor, shape (B, n_layers), int8, CPU
        −1 where a layer was not reached yet.
    decided : bool
        The plans were frozen before this pass.
    request_rows : int or None
        Rows that ``generate`` was asked for, before it made several sequences of each; None outside of it.
    cache : DynamicCache or None
    frozen : FrozenPlans or None
        The plans as they lie in the cache.
    """

    mask: Any
    actions: Tensor
    decided: bool
    request_rows: int | None = None
    cache: Any = None
    frozen: FrozenPlans | None = None

    def tokens(self, hidden: Tensor) -> Tensor:
        """Return where there are tokens and no padding, shape (B, T), bool.

        Raises
        ------
        ModelError
            The model was given a mask that does not say it.
        """
        if self.mask is None:
            return torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        if not isinstance(self.mask, Tensor) or self.mask.shape != hidden.shape[:2]:
            found = tuple(self.mask.shape) if isinstance(self.mask, Tensor) else type(self.mask).__name__
            msg = f"the attention mask is {found}; plans that depend on the prompt need one of shape {tuple(hidden.shape[:2])} that marks padding with 0"
            raise ModelError(msg)
        return self.mask.to(device=hidden.device, dtype=torch.bool)


class FixedPlans:
    """One plan for all rows, or one a row; several sequences that ``generate`` makes of a row have that row's plan."""

    def __init__(self, plans: Sequence[LayerPlan]) -> None:
        self.actions = torch.tensor([plan.actions for plan in plans], dtype=torch.int8)

    def decide(self, layer: int, hidden: Tensor, reading: Reading) -> Tensor:
        """Return the actions of a layer; a ConfigError where there are not as many plans as rows."""
        batch, found = hidden.shape[0], self.actions[:, layer]
        asked = batch if reading.request_rows is None else reading.request_rows
        if len(found) not in (1, asked):
            msg = f"there are {len(found)} plans and {asked} rows; give one plan for all, or one a row"
            raise ConfigError(msg)
        return found.repeat_interleave(batch // len(found))

    def has(self, actions: Tensor) -> bool:
        """Return whether the rows of ``actions``, shape (B, n_layers), are all among these plans."""
        return bool((actions[:, None] == self.actions).all(-1).any(-1).all())
