"""Settings of a decode: which places are open to be written, which rows are computed again, and when all of them are."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from c2s.config import Config
from c2s.errors import ConfigError

# what each way of refreshing reads; a field that it does not read is left at its default
_READ_BY = {
    "interval": ("interval",),
    "gamma": ("elastic",),
    "signal": ("elastic",),
    "tracked": ("elastic",),
    "decide": ("elastic",),
    "refresh_far": ("elastic", "interval", "block"),
    "query_committed": ("elastic", "interval", "block", "never"),
    "live": ("interval", "block", "never"),
}


class DecodeSettings(Config):
    """How an answer is filled, and what is taken from the cache meanwhile.

    Attributes
    ----------
    window : int
        Open places (the first of them) that may be written in a step, or places of a block (β).
    commit : float
        A place is written where the token's probability is above it (ε). The most confident place always is, so that N places
        take at most N steps.
    max_commits : int or None
        Most places written in a step; 1 is the plain sampler.
    scheme : str
        ``window`` slides with the places that remain, ``blocks`` waits for a block's stragglers.
    live : str
        Rows computed in every step: the open places of the window, all of the ``block``, all from the block on (``suffix``), or
        all open places (``masks``).
    refresh : str
        When the rest is computed again: ``always`` (exact), ``elastic`` (from the layer behind the one where attention
        drifted), every ``interval`` steps, at each ``block``'s start, or ``never``.
    interval : int
        Steps.
    gamma : float
        Attention has drifted where its cosine to the step before is below this. -1 never is, and above 1 all is.
    signal : str
        Whose attention: the ``row`` of the tracked token (mean of heads), its rows ``head`` by head, or the ``column`` of what
        the window gives it.
    tracked : int
        Tokens watched a layer: those that the window attends to most.
    decide : str
        ``now``, in the layer itself; or ``late``, in the next step, which spares a GPU a wait a layer.
    query_committed : bool
        Tokens written in the last step are computed once more; without it (an ablation) they keep the keys of a mask.
    refresh_far : bool
        A refresh takes in masks beyond the window.
    temperature : float
        0 takes the most likely token. Confidence does not depend on it.
    guidance : float
        Classifier-free: logits move this many times their distance from those without the prompt; 0 is off.
    """

    window: int = Field(16, ge=1)
    commit: float = Field(0.9, ge=0, le=1)
    max_commits: int | None = Field(None, ge=1)
    scheme: Literal["window", "blocks"] = "window"
    live: Literal["window", "block", "suffix", "masks"] = "window"
    refresh: Literal["always", "elastic", "interval", "block", "never"] = "elastic"
    interval: int = Field(8, ge=1)
    gamma: float = Field(0.9, ge=-1, le=2)
    signal: Literal["row", "column", "head"] = "row"
    tracked: int = Field(1, ge=1)
    decide: Literal["now", "late"] = "now"
    query_committed: bool = True
    refresh_far: bool = True
    temperature: float = Field(0.0, ge=0)
    guidance: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, readers in _READ_BY.items():
            value, default = getattr(self, name), type(self).model_fields[name].default
            if self.refresh not in readers and value != default:
                msg = (
                    f"{name}={value!r} is not read with refresh={self.refresh!r}, only with "
                    f"{', '.join(map(repr, readers))}; leave it at {default!r}, or change refresh"
                )
                raise ValueError(msg)
        if self.scheme != "blocks" and (self.live in ("block", "suffix") or self.refresh == "block"):
            name = "refresh" if self.refresh == "block" else "live"
            msg = f"{name}={getattr(self, name)!r} needs blocks; give scheme='blocks'"
            raise ValueError(msg)
        return self


PRESETS: dict[str, dict[str, Any]] = {
    # arXiv 2510.14973: a sliding window of 16, one tracked token, commits and drift at 0.9
    "paper": {"window": 16, "commit": 0.9, "refresh": "elastic", "gamma": 0.9, "tracked": 1, "signal": "row"},
}


def preset(name: str) -> DecodeSettings:
    """Return settings by name: ``paper``, those of Elastic-Cache (Nguyen-Tri et al., arXiv 2510.14973).

    How often a gamma of 0.9 refreshes differs from model to model; see :func:`~c2s.engines.elastic_cache.calibration.calibrate`.

    Raises
    ------
    ConfigError
        There is no such preset.
    """
    if name not in PRESETS:
        msg = f"there is no preset {name!r}; there are {', '.join(PRESETS)}"
        raise ConfigError(msg)
    return DecodeSettings(**PRESETS[name])
