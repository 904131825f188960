"""Intervals and p-values for means, differences and proportions; arrays in, arrays out, rows vectorised.

A mean of units gets Student's t; a mean of too few units is resampled within unit (:func:`bootstrap_interval`). Both
give an :class:`Interval`, and :func:`one_sided_p` and :func:`tost_p` read either. Seeds are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = Any  # a float, or a float64 array with one value per row
Seed = int | list[int] | np.random.Generator


@dataclass(frozen=True)
class Interval:
    """An estimate with a two-sided interval; its lower end is also the one-sided bound at ``(1 - level) / 2``.

    Attributes
    ----------
    value, low, high : float or ndarray, shape (n_rows,)
        The estimate and the ends of the interval.
    level : float
        Coverage aimed at, such as 0.95.
    se : float or ndarray
        Standard error of ``value``.
    df : float or ndarray
        Degrees of freedom of the t interval; NaN for a bootstrap.
    samples : ndarray, shape (..., n_resamples), float32, or None
        The resampled estimates of a bootstrap.
    """

    value: Floats
    low: Floats
    high: Floats
    level: float
    se: Floats
    df: Floats = np.nan
    samples: NDArray[np.float32] | None = field(default=None, repr=False)


def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Return the mean over the last axis with Student's t interval; one value alone has a NaN interval.

    Parameters
    ----------
    values : array-like, shape (..., n)
        Independent units along the last axis; for a paired difference, the differences.
    level : float
        Coverage of the two-sided interval.
    """
    array = np.asarray(values, dtype=np.float64)
    n = array.shape[-1]
    value = array.mean(axis=-1)
    se = array.std(axis=-1, ddof=1) / np.sqrt(n) if n > 1 else np.full_like(value, np.nan)[()]
    return _t_interval(value, se, float(n - 1), level)


def difference_interval(first: Interval, second: Interval) -> Interval:
    """Return ``first - second`` for two independent estimates of equal level.

    Two bootstraps give the percentiles of the differences of their resamples (draw them with different seeds).
    Otherwise Welch's t: ``se^2 = se1^2 + se2^2`` and the Welch-Satterthwaite degrees of freedom
    ``(se1^2 + se2^2)^2 / (se1^4 / df1 + se2^4 / df2)``.
    """
    value = first.value - second.value
    se = np.hypot(first.se, second.se)
    if first.samples is not None and second.samples is not None:
        return _percentile_interval(value, se, first.samples - second.samples, first.level)
    with np.errstate(invalid="ignore", divide="ignore"):
        df = np.asarray(se**4 / (first.se**4 / first.df + second.se**4 / second.df))
    df = np.where((df > 0) & np.isfinite(df), df, first.df + second.df)[()]  # both without spread: any df will do
    return _t_interval(value, se, df, first.level)


def bootstrap_interval(
    values: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 1999,
    seed: Seed = 0,
    within: tuple[float, float] | None = None,
) -> Interval:
    """Return the mean of the stratum means with a percentile bootstrap interval; all rows share the same resamples.

    Values are drawn with replacement within their stratum. A stratum of one value cannot show its spread, so such
    strata are resampled together (with the next smallest stratum, if there is only one), each value keeping its weight
    in the estimate. The standard error is the exact one of this scheme, with the usual n / (n - 1) correction, and the
    resamples are spread by its root around the estimate, without which few values give too short an interval.

    Parameters
    ----------
    values : array-like, shape (..., n)
        Independent values along the last axis; at least two, or the interval is NaN.
    strata : array-like, shape (n,), optional
        Stratum of each value, such as its donor. None: one stratum, the plain mean.
    level : float
        Coverage of the two-sided interval.
    n_resamples : int
        Number of resamples; the smallest p-value they can give is ``1 / (1 + n_resamples)``.
    seed : int, list of int or Generator
        Source of the resamples.
    within : (float, float), optional
        Least and greatest value there can be, at which the interval ends.
    """
    array = np.asarray(values, dtype=np.float64)
    n = array.shape[-1]
    groups, weights = _resampling_groups(np.zeros(n) if strata is None else np.asarray(strata))
    value = array @ weights
    rng = np.random.default_rng(seed)
    draws = np.zeros((n, n_resamples))
    variance = np.zeros(array.shape[:-1])
    for group in range(groups.max() + 1):
        members = np.flatnonzero(groups == group)
        size, total = len(members), weights[members].sum()
        share = weights[members] / total
        drawn = rng.multinomial(size, share, size=n_resamples).T / size - share[:, None]
        draws[members] = total * (share[:, None] + np.sqrt(size / max(size - 1, 1)) * drawn)
        centred = array[..., members] - (array[..., members] @ share)[..., None]
        # a group of one value is a sample of one: its spread is unknown
        variance = variance + (total**2 / (size - 1) * (centred**2 @ share) if size > 1 else np.nan)
    samples = (array @ draws).astype(np.float32)
    if n < 2:
        samples = np.full_like(samples, np.nan)
    if within is not None:
        samples = np.clip(samples, *within)
    return _percentile_interval(value, np.sqrt(variance), samples, level)


def proportion_interval(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Return the share ``successes / trials`` with the exact interval of Clopper & Pearson (1934)."""
    tail = (1 - level) / 2
    share = successes / trials
    low = special.betaincinv(successes, trials - successes + 1, tail) if successes > 0 else 0.0
    high = special.betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return Interval(share, float(low), float(high), level, float(np.sqrt(share * (1 - share) / trials)))


def one_sided_p(estimate: Interval, *, above: float = 0.0) -> Floats:
    """Return the p-value of "the true value is at most ``above``".

    Student's t, or for a bootstrap ``(1 + #{resamples <= above}) / (1 + n_resamples)``. NaN where there is no spread to
    judge by. An estimate without any spread has p = 0 above the bound, 1 below it and 0.5 on it.
    """
    return _tail_p(estimate, above, sign=1)


def tost_p(estimate: Interval, *, margin: float) -> Floats:
    """Return the p-value of "the true value is outside ±``margin``": the larger of two one-sided (Schuirmann 1987)."""
    return np.maximum(_tail_p(estimate, -margin, sign=1), _tail_p(estimate, margin, sign=-1))


def sign_flip_p(contributions: ArrayLike, *, n_flips: int = 1999, seed: Seed = 0) -> Floats:
    """Return the one-sided p-value of a sum above 0 when every contribution could as well have had the other sign.

    Parameters
    ----------
    contributions : array-like, shape (..., n)
        What each cell adds to the statistic; the statistic is their sum.
    n_flips : int
        Random sign vectors, shared by all rows; p = ``(1 + #{flipped >= observed}) / (1 + n_flips)``.
    """
    array = np.asarray(contributions, dtype=np.float64)
    signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), size=(array.shape[-1], n_flips))
    observed = array.sum(axis=-1)
    tolerance = 1e-12 * np.abs(array).sum(axis=-1)
    reached = (array @ signs >= (observed - tolerance)[..., None]).sum(axis=-1)
    return (1 + reached) / (1 + n_flips)


def empirical_p(statistic: ArrayLike, null: ArrayLike) -> Floats:
    """Return ``(1 + #{null >= statistic}) / (1 + n_null)``, NaN where the statistic is NaN (Phipson & Smyth 2010)."""
    values = np.asarray(statistic, dtype=np.float64)
    ordered = np.sort(np.asarray(null, dtype=np.float64))
    below = np.searchsorted(ordered, values, side="left")
    return np.where(np.isnan(values), np.nan, (1 + len(ordered) - below) / (1 + len(ordered)))[()]


def studentise(value: ArrayLike, se: ArrayLike, *, floor_quantile: float = 0.1) -> NDArray[np.float64]:
    """Return ``value / (se + floor)``, so that a tiny standard error alone makes no large statistic (SAM, Tusher 2001).

    Parameters
    ----------
    value, se : array-like, shape (n_rows,)
        Estimates and their standard errors; the floor is the ``floor_quantile`` of all finite standard errors.
    floor_quantile : float
        0 divides by the smallest standard error on top of each row's own.

    Returns
    -------
    ndarray, shape (n_rows,)
        NaN where the standard error is NaN; 0 for 0 / 0.
    """
    errors = np.asarray(se, dtype=np.float64)
    finite = errors[np.isfinite(errors)]
    floor = np.quantile(finite, floor_quantile) if len(finite) else np.nan
    return _ratio(np.asarray(value, dtype=np.float64), errors + floor)


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return q-values of Benjamini & Hochberg (1995), in the order given; NaN p-values are no tests and stay NaN."""
    p = np.asarray(p_values, dtype=np.float64)
    q = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def _t_interval(value: Floats, se: Floats, df: Floats, level: float) -> Interval:
    half = special.stdtrit(df, (1 + level) / 2) * se
    return Interval(value, value - half, value + half, level, se, df)


def _percentile_interval(value: Floats, se: Floats, samples: NDArray[np.float32], level: float) -> Interval:
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return Interval(value, low, high, level, se, samples=samples)


def _tail_p(estimate: Interval, bound: float, *, sign: int) -> Floats:
    """Return the p-value of "sign * true value <= sign * bound"."""
    if estimate.samples is not None:
        reached = (sign * estimate.samples <= sign * bound).sum(axis=-1)
        p = (1 + reached) / (1 + estimate.samples.shape[-1])
        return np.where(np.isnan(estimate.samples[..., 0]), np.nan, p)[()]
    return special.stdtr(estimate.df, -sign * _ratio(np.asarray(estimate.value) - bound, np.asarray(estimate.se)))


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quotient with 0 / 0 = 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((numerator == 0) & (denominator == 0), 0.0, numerator / denominator)


def _resampling_groups(strata: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return each value's group to be resampled with, and its weight in the mean of the stratum means."""
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    weights = 1.0 / (sizes[stratum] * len(sizes))
    merged = sizes == 1
    if merged.sum() == 1 and len(sizes) > 1:
        merged[np.argsort(sizes, kind="stable")[1]] = True
    group_of_stratum = np.where(merged, len(sizes), np.arange(len(sizes)))
    _, groups = np.unique(group_of_stratum[stratum], return_inverse=True)
    return groups, weights
