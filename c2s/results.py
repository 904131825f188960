"""The result row: one measured number with what it was measured on, or NaN with the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from c2s.errors import ConfigError


@dataclass(frozen=True)
class Cost:
    """What a number cost: wall-clock seconds, tokens read and written, and the device; None where it was not measured."""

    seconds: float | None = None
    tokens: int | None = None
    device: str | None = None


@dataclass(frozen=True)
class Result:
    """One measured number.

    Attributes
    ----------
    metric : str
        What was measured, with all that tells it from its namesakes: ``"expected calibration error, 10 bins"``.
    value : float
        The number; NaN only with a ``reason``.
    low, high : float or None
        Ends of the interval, 95 % unless ``metric`` says otherwise; both or neither.
    n : int or None
        Independent units it rests on.
    space : str or None
        What was compared: ``"labels"``, ``"log1p CP10k"``, ``"PCA(50)"``.
    genes : int or None
        How many genes took part.
    reference : str or None
        What a change is measured against, such as ``"real controls"``.
    seed : int or None
        Seed of what was drawn at random.
    cost : Cost or None
    reason : str or None
        Why there is no value, or no interval.

    Raises
    ------
    ConfigError
        NaN without a reason, one end of an interval without the other, or an interval upside down.
    """

    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    space: str | None = None
    genes: int | None = None
    reference: str | None = None
    seed: int | None = None
    cost: Cost | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.value) and not self.reason:
            msg = f"{self.metric} is NaN; give the reason"
            raise ConfigError(msg)
        if (self.low is None) != (self.high is None):
            msg = (
                f"{self.metric} has one end of an interval only: low={self.low}, high={self.high}; give both or neither"
            )
            raise ConfigError(msg)
        if self.low is not None and self.high is not None and self.low > self.high:
            msg = f"{self.metric} has an interval from {self.low} to {self.high}; swap its ends"
            raise ConfigError(msg)
