"""What a fitted scaling law must beat: forecasts of a reward curve that know of no ceiling, and the skill over them."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from c2s.errors import DataError

Array = NDArray[np.float64]


def last_value(compute: ArrayLike, reward: ArrayLike, at: ArrayLike, *, n_last: int = 1) -> Array:
    """Return the mean reward of the ``n_last`` points of most compute, for every value of ``at``."""
    c, r = _finite(compute, reward, n_last)
    return np.full(np.shape(at), r[np.argsort(c, kind="stable")[-n_last:]].mean())


def log_linear(compute: ArrayLike, reward: ArrayLike, at: ArrayLike) -> Array:
    """Return ``a + b ln C`` of least squares at ``at``, shape (n,); points at compute 0 are left out."""
    c, r = _positive(compute, reward, 2)
    slope, intercept = np.polyfit(np.log(c), r, 1)
    return intercept + slope * np.log(np.asarray(at, dtype=np.float64))


def power_law(compute: ArrayLike, reward: ArrayLike, at: ArrayLike, *, ceiling: float = 1.0) -> Array:
    """Return ``A - D / C^B`` of least squares at ``at``, with A at most ``ceiling``; points at compute 0 are left out.

    For each B of a grid from 0.02 to 5 the curve is linear in A and D. Its A is known to be absurd for reward curves
    (1.0 where a sigmoid says 0.645; Khatri et al., arXiv 2510.13786).
    """
    c, r = _positive(compute, reward, 3)
    unit = c.max()
    powers = np.geomspace(0.02, 5.0, 400)
    shapes = (c / unit) ** -powers[:, None]  # (n_powers, n)
    centred = shapes - shapes.mean(1, keepdims=True)
    slopes = (centred @ r) / np.maximum((centred**2).sum(1), 1e-300)
    tops = r.mean() - slopes * shapes.mean(1)
    bounded = ((r - ceiling) @ shapes.T) / (shapes**2).sum(1)
    slopes, tops = np.where(tops > ceiling, bounded, slopes), np.minimum(tops, ceiling)
    rss = ((r - tops[:, None] - slopes[:, None] * shapes) ** 2).sum(1)
    best = rss.argmin()
    return tops[best] + slopes[best] * (np.asarray(at, dtype=np.float64) / unit) ** -powers[best]


FORECASTS: MappingProxyType[str, Callable[[ArrayLike, ArrayLike, ArrayLike], Array]] = MappingProxyType(
    {"last_value": last_value, "log_linear": log_linear, "power_law": power_law}
)


def skill(truth: ArrayLike, forecast: ArrayLike, baseline: ArrayLike) -> float:
    """Return ``1 - MSE(forecast) / MSE(baseline)``: 1 is perfect, 0 no better than the baseline, below 0 worse.

    NaN if the baseline is perfect, or if a forecast is NaN anywhere (a refused fit has no skill to speak of).
    """
    y = np.asarray(truth, dtype=np.float64)
    error = float(((np.asarray(forecast, dtype=np.float64) - y) ** 2).mean())
    reference = float(((np.asarray(baseline, dtype=np.float64) - y) ** 2).mean())
    return 1 - error / reference if reference > 0 else float("nan")


def _finite(compute: ArrayLike, reward: ArrayLike, least: int) -> tuple[Array, Array]:
    c, r = np.asarray(compute, dtype=np.float64), np.asarray(reward, dtype=np.float64)
    if c.shape != r.shape or c.ndim != 1:
        msg = f"compute has shape {c.shape} and reward {r.shape}; give one reward for each value of compute"
        raise DataError(msg)
    known = np.isfinite(r)
    if known.sum() < least:
        msg = f"{known.sum()} points with a reward; this forecast needs {least}"
        raise DataError(msg)
    return c[known], r[known]


def _positive(compute: ArrayLike, reward: ArrayLike, least: int) -> tuple[Array, Array]:
    c, r = _finite(compute, reward, 0)
    c, r = c[c > 0], r[c > 0]
    if len(np.unique(c)) < least:
        msg = f"{len(np.unique(c))} values of compute above 0; this forecast needs {least}"
        raise DataError(msg)
    return c, r
