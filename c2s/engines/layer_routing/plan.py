"""A plan: for each layer of a decoder whether it is skipped, executed or repeated, decided once a sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from c2s.errors import ConfigError

SKIP, EXECUTE, REPEAT = 0, 1, 2  # an action is how often the layer is run
N_ACTIONS = 3


@dataclass(frozen=True, order=True)
class LayerPlan:
    """How often each layer is run: 0 skip, 1 execute, 2 repeat. Printed as digits, ``11012``.

    Parameters
    ----------
    actions : tuple of int
        One a layer, from the first to the last.

    Raises
    ------
    ConfigError
        There is no layer, or an action is not 0, 1 or 2.
    """

    actions: tuple[int, ...]

    def __init__(self, actions: Iterable[int]) -> None:
        found = tuple(actions)
        if not found:
            msg = "a plan has no layers; give one action (0 skip, 1 execute, 2 repeat) a layer"
            raise ConfigError(msg)
        if wrong := [each for each in found if each not in (SKIP, EXECUTE, REPEAT)]:
            msg = f"a plan holds {wrong[0]!r}; an action is 0 (skip), 1 (execute) or 2 (repeat)"
            raise ConfigError(msg)
        object.__setattr__(self, "actions", tuple(map(int, found)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the plan printed as ``text``; a ConfigError where it holds anything but the digits 0, 1 and 2."""
        if not text or set(text) - set("012"):
            msg = f"{text!r} is no plan; a plan is one of the digits 0 (skip), 1 (execute), 2 (repeat) for each layer, such as 11012"
            raise ConfigError(msg)
        return cls(map(int, text))

    @classmethod
    def execute_all(cls, n_layers: int) -> Self:
        """Return the plan of the model as it is."""
        return cls((EXECUTE,) * n_layers)

    @property
    def depth(self) -> int:
        """Return how many layers are run, a repeated one twice."""
        return sum(self.actions)

    def with_action(self, layer: int, action: int) -> Self:
        """Return the plan with another action for one layer."""
        return type(self)((*self.actions[:layer], action, *self.actions[layer + 1 :]))

    def edits(self) -> frozenset[tuple[int, int]]:
        """Return the (layer, action) pairs in which the plan differs from the model as it is."""
        return frozenset((layer, action) for layer, action in enumerate(self.actions) if action != EXECUTE)

    def __str__(self) -> str:
        return "".join(map(str, self.actions))

    def __len__(self) -> int:
        return len(self.actions)

    def __iter__(self) -> Iterator[int]:
        return iter(self.actions)

    def __getitem__(self, layer: int) -> int:
        return self.actions[layer]
