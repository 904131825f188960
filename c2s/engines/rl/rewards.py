"""What a reward is, what it is called, and that it gives what it should: one number an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from c2s.errors import DataError

Reward = Callable[..., Sequence[float | None]]


def reward_name(reward: Reward) -> str:
    """Return what a reward is called in records."""
    return str(getattr(reward, "__name__", type(reward).__name__))


def values_of(reward: Reward, found: Any, n: int) -> list[float | None]:
    """Return what a reward gave as one number an answer, None where it has no value.

    Raises
    ------
    DataError
        It gave something else; the reward is named.
    """
    shape = np.shape(found) if isinstance(found, Sequence | np.ndarray) and not isinstance(found, str) else None
    if shape is None or shape != (n,):
        what = (
            f"{len(found)} values"
            if shape is not None and len(shape) == 1
            else f"a {type(found).__name__}" + (f" of shape {shape}" if shape else "")
        )
        msg = f"{reward_name(reward)} gave {what} for {n} answers; expected a list of one number each, None where there is none"
        raise DataError(msg)
    values = [None if value is None else value for value in found]
    wrong = [
        value for value in values if value is not None and not isinstance(value, int | float | np.number | np.bool_)
    ]
    if wrong:
        msg = f"{reward_name(reward)} gave {wrong[0]!r}, a {type(wrong[0]).__name__}; expected numbers"
        raise DataError(msg)
    return [None if value is None else float(value) for value in values]


def checked(reward: Reward) -> Reward:
    """Return the reward under its name, with what it gives checked (:func:`values_of`)."""

    def call(**told: Any) -> list[float | None]:
        return values_of(reward, reward(**told), len(told["completions"]))

    call.__name__ = reward_name(reward)
    return call
