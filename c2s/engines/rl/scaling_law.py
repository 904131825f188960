"""Reward against compute as a sigmoid, with what it can and cannot say about the ceiling (Khatri et al., arXiv 2510.13786).

``R(C) = R0 + (A - R0) / (1 + (C_mid / C)^B)``: A is the ceiling, C_mid the compute of half the gain, B how steeply it
comes. For given C_mid and B the curve is linear in R0 and A, so a grid over the two others, solved for all curves at once
and refined by damped Gauss-Newton steps, takes a fraction of a second. Data that cannot identify A give NaN with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from c2s.errors import DataError
from c2s.stats import Interval, Seed, difference_interval

Array = NDArray[np.float64]

MIN_POINTS = 8  # four parameters, and as many points again to judge the noise by
MIN_REACH = 3.0  # the last compute in units of C_mid: below, A is an extrapolation of the first half of the sigmoid
STEEPNESS = (0.2, 10.0)  # B that is searched
RUN_TO_RUN = 0.02  # by which the A of equal runs differ in the paper


@dataclass(frozen=True)
class ScalingLaw:
    """A fitted curve. Where ``refusal`` is not None every number is NaN.

    Attributes
    ----------
    start, asymptote, midpoint, steepness : Interval
        R0, A, C_mid and B with percentile intervals of the bootstrap.
    noise : float
        Standard deviation of a point around the curve.
    autocorrelation : float
        Of neighbouring residuals; about 0 if points are independent.
    n_points : int
        Finite points that were fitted.
    refusal : str or None
        Why the data cannot identify A.
    resamples : ndarray, shape (n_resamples, 4), float64
        R0, A, ln C_mid and ln B of each resampled curve.
    """

    start: Interval
    asymptote: Interval
    midpoint: Interval
    steepness: Interval
    noise: float
    autocorrelation: float
    n_points: int
    refusal: str | None
    resamples: Array

    def predict(self, compute: ArrayLike, *, level: float = 0.9, seed: Seed = 0) -> Interval:
        """Return the rewards that will be measured at ``compute``, with the band that holds each of them.

        The band holds what is not known of the curve and the noise of one measurement.

        Parameters
        ----------
        compute : array-like, shape (n,), at least 0
        level : float
            Coverage of the band at each point.
        """
        at = _compute(compute)
        if self.refusal is not None:
            unknown = np.full(at.shape, np.nan)
            return Interval(unknown, unknown, unknown, level, unknown)
        best = np.array(
            [self.start.value, self.asymptote.value, np.log(self.midpoint.value), np.log(self.steepness.value)]
        )
        curves = _curve(self.resamples, at)
        measured = curves + self.noise * np.random.default_rng(seed).standard_normal(curves.shape)
        low, high = np.quantile(measured, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return Interval(_curve(best[None], at)[0], low, high, level, measured.std(axis=0))


def fit_scaling_law(
    compute: ArrayLike,
    reward: ArrayLike,
    *,
    ceiling: float = 1.0,
    level: float = 0.9,
    n_resamples: int = 400,
    block: int = 1,
    seed: Seed = 0,
) -> ScalingLaw:
    """Return the least-squares sigmoid through a curve, with bootstrap intervals, or the reason why there is none.

    The bootstrap draws residuals, widened by ``sqrt(n / (n - 4))`` for what the four parameters took and by the ratio of
    Student's t to the normal, and fits each resampled curve anew. Points that share their luck with their neighbours
    (``autocorrelation``) need a ``block``, or the intervals are too short. They know of one run only, not of what another
    seed would have given.

    Parameters
    ----------
    compute : array-like, shape (n,), at least 0, any unit
        0 is the policy before training.
    reward : array-like, shape (n,)
        Such as mean@16 on held-out prompts; NaN points are left out.
    ceiling : float
        Greatest reward there is; A is not sought above it.
    level : float
        Coverage of the intervals.
    block : int
        Residuals of so many points in a row are drawn together; 1 takes them to be independent.

    Raises
    ------
    DataError
        The two differ in length, compute is negative or not finite, or a block is longer than half the curve.
    """
    c, r = _compute(compute), np.asarray(reward, dtype=np.float64)
    if c.shape != r.shape or c.ndim != 1:
        msg = f"compute has shape {c.shape} and reward {r.shape}; give one reward for each value of compute"
        raise DataError(msg)
    order = np.argsort(c, kind="stable")
    order = order[np.isfinite(r[order])]
    c, r, n = c[order], r[order], len(order)
    if len(np.unique(c)) < MIN_POINTS:
        return _refused(n, level, f"{len(np.unique(c))} values of compute; a curve needs {MIN_POINTS}")
    if np.ptp(r) <= 1e-12 * max(1.0, float(np.abs(r).max())):
        return _refused(n, level, f"the reward is {r[0]:.3g} throughout: nothing rises")
    if not 1 <= block <= n // 2:
        msg = f"block is {block}; with {n} points it lies between 1 and {n // 2}"
        raise DataError(msg)
    best = _fit(c, r[None], ceiling)
    fitted = _curve(best, c)[0]
    residuals = r - fitted
    rss, flat = float(residuals @ residuals), float(((r - r.mean()) ** 2).sum())
    noise = float(np.sqrt(rss / (n - 4)))
    start, top, midpoint = best[0, 0], best[0, 1], float(np.exp(best[0, 2]))
    f_ratio = (flat - rss) / 3 / max(rss / (n - 4), 1e-300)
    if top <= start or f_ratio < 4.0:
        return _refused(n, level, f"no rise above the noise of {noise:.2g}: from {start:.3g} to {top:.3g}")
    if c.max() < MIN_REACH * midpoint:
        reach = c.max() / midpoint
        return _refused(
            n,
            level,
            f"compute ends at {reach:.2g} C_mid (C_mid about {midpoint:.3g}); A shows from {MIN_REACH:g} C_mid on",
        )
    if top >= ceiling - 1e-9 and r.max() < ceiling - 2 * noise:
        return _refused(n, level, f"A ran into the ceiling of {ceiling:g}, which no point comes near")
    drawn = fitted + _residuals(residuals, block, level, n_resamples, np.random.default_rng(seed))
    resamples = _fit(c, drawn, ceiling)
    values = np.concatenate([best, resamples])
    values[:, 2:] = np.exp(values[:, 2:])
    found = [_interval(values[0, k], values[1:, k], level) for k in range(4)]
    centred = residuals - residuals.mean()
    autocorrelation = float(centred[1:] @ centred[:-1] / max(float(centred @ centred), 1e-300))
    return ScalingLaw(found[0], found[1], found[2], found[3], noise, autocorrelation, n, None, resamples)


class Comparison(NamedTuple):
    """Which of two recipes scales better.

    Attributes
    ----------
    better : {"first", "second", "neither", "unknown"}
        "unknown" where a fit was refused.
    decided_by : {"A", "B"} or None
    asymptote, steepness : Interval
        Of the first less the second.
    reason : str
        In words.
    """

    better: Literal["first", "second", "neither", "unknown"]
    decided_by: Literal["A", "B"] | None
    asymptote: Interval
    steepness: Interval
    reason: str


def compare(first: ScalingLaw, second: ScalingLaw, *, margin: float = RUN_TO_RUN) -> Comparison:
    """Return which recipe has the higher ceiling or, where the ceilings cannot be told apart, the steeper rise.

    Ceilings differ if the interval of ``A1 - A2`` leaves out 0 and the difference is larger than ``margin``; then only
    they count: what is quicker to a lower ceiling is overtaken. Otherwise B decides, if its interval leaves out 0.

    Parameters
    ----------
    margin : float
        By how much the A of two runs of one recipe may differ; the intervals know of one run each.
    """
    if refusals := [f"{name}: {law.refusal}" for name, law in (("first", first), ("second", second)) if law.refusal]:
        unknown = Interval(np.nan, np.nan, np.nan, first.asymptote.level, np.nan)
        return Comparison("unknown", None, unknown, unknown, "; ".join(refusals))
    a, b = _difference(first.asymptote, second.asymptote), _difference(first.steepness, second.steepness)
    for name, difference, least in (("A", a, margin), ("B", b, 0.0)):
        if difference.low * difference.high > 0 and abs(difference.value) > least:
            better: Literal["first", "second"] = "first" if difference.value > 0 else "second"
            reason = f"{name} differs by {difference.value:.3g} [{difference.low:.3g}, {difference.high:.3g}]"
            return Comparison(better, "A" if name == "A" else "B", a, b, reason)
    return Comparison("neither", None, a, b, f"A within {margin:g} or its interval, B within its interval")


def _difference(first: Interval, second: Interval) -> Interval:
    """Return the difference, the resamples of the second shuffled: equal seeds must not pair them."""
    assert second.samples is not None
    shuffled = np.random.default_rng(0).permutation(second.samples)
    return difference_interval(first, replace(second, samples=shuffled))


def _residuals(residuals: Array, block: int, level: float, n_resamples: int, rng: np.random.Generator) -> Array:
    """Return noise for each resampled curve, (n_resamples, n): runs of ``block`` residuals, as wide as Student's t asks."""
    n = len(residuals)
    tail = (1 + level) / 2
    width = np.sqrt(n / (n - 4)) * special.stdtrit(n - 4, tail) / special.ndtri(tail)
    starts = rng.integers(0, n, size=(n_resamples, -(-n // block)))
    places = (starts[:, :, None] + np.arange(block)).reshape(n_resamples, -1)[:, :n] % n
    return width * (residuals - residuals.mean())[places]


def _compute(compute: ArrayLike) -> Array:
    c = np.asarray(compute, dtype=np.float64)
    if not (np.isfinite(c) & (c >= 0)).all():
        msg = "compute must be finite and at least 0"
        raise DataError(msg)
    return c


def _refused(n: int, level: float, reason: str) -> ScalingLaw:
    unknown = Interval(np.nan, np.nan, np.nan, level, np.nan)
    return ScalingLaw(unknown, unknown, unknown, unknown, np.nan, np.nan, n, reason, np.empty((0, 4)))


def _interval(value: float, samples: Array, level: float) -> Interval:
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        float(value), float(low), float(high), level, float(samples.std()), samples=samples.astype(np.float32)
    )


def _share(log_midpoint: Array, log_steepness: Array, compute: Array) -> Array:
    """Return ``1 / (1 + (C_mid / C)^B)``, shape (..., n); 0 at compute 0."""
    with np.errstate(divide="ignore"):
        log_c = np.log(compute)
    z = np.exp(log_steepness)[..., None] * (log_c - log_midpoint[..., None])
    return 1 / (1 + np.exp(-np.clip(z, -500, 500)))


def _curve(parameters: Array, compute: Array) -> Array:
    """Return rewards, shape (n_curves, n), of parameters (n_curves, 4)."""
    start, top = parameters[:, :1], parameters[:, 1:2]
    return start + (top - start) * _share(parameters[:, 2], parameters[:, 3], compute)


def _fit(compute: Array, rewards: Array, ceiling: float) -> Array:
    """Return R0, A, ln C_mid, ln B of least squares for each row of ``rewards`` (n_curves, n)."""
    positive = compute[compute > 0]
    low = np.array([-np.inf, -np.inf, np.log(positive.min() / 10), np.log(STEEPNESS[0])])
    high = np.array([ceiling, ceiling, np.log(positive.max() * 10), np.log(STEEPNESS[1])])
    midpoints, steepnesses = np.linspace(low[2], high[2], 48), np.linspace(low[3], high[3], 24)
    grid = np.stack(np.meshgrid(midpoints, steepnesses, indexing="ij"), -1).reshape(-1, 2)
    shares = _share(grid[:, 0], grid[:, 1], compute)  # (n_grid, n)
    starts, tops, rss = _solve(shares, rewards, ceiling)
    chosen = rss.argmin(axis=1)
    rows = np.arange(len(rewards))
    parameters = np.column_stack([starts[rows, chosen], tops[rows, chosen], grid[chosen]])
    return _refine(compute, rewards, parameters, low, high)


def _solve(shares: Array, rewards: Array, ceiling: float) -> tuple[Array, Array, Array]:
    """Return R0, A and the residual sum of squares, each (n_curves, n_grid), with A at most the ceiling."""
    mean_s = shares.mean(1)
    spread = np.maximum(((shares - mean_s[:, None]) ** 2).sum(1), 1e-12)
    mean_r, cross = rewards.mean(1)[:, None], rewards @ (shares - mean_s[:, None]).T
    slope = cross / spread
    start = mean_r - slope * mean_s
    top = start + slope
    rss = ((rewards - mean_r) ** 2).sum(1)[:, None] - cross * slope
    rest = 1 - shares  # with A at the ceiling: r - ceiling = (R0 - ceiling) * (1 - share)
    weight = np.maximum((rest**2).sum(1), 1e-12)
    gap = ((rewards - ceiling) @ rest.T) / weight
    bound_rss = ((rewards - ceiling) ** 2).sum(1)[:, None] - gap**2 * weight
    above = top > ceiling
    return np.where(above, ceiling + gap, start), np.where(above, ceiling, top), np.where(above, bound_rss, rss)


def _refine(compute: Array, rewards: Array, parameters: Array, low: Array, high: Array, steps: int = 30) -> Array:
    """Return the parameters after damped Gauss-Newton steps within their bounds; a step that does not help is shortened."""
    damping = np.full(len(rewards), 1e-3)
    with np.errstate(divide="ignore"):
        log_c = np.log(np.maximum(compute, 1e-300))
    residual = rewards - _curve(parameters, compute)
    rss = (residual**2).sum(1)
    for _ in range(steps):
        share = _share(parameters[:, 2], parameters[:, 3], compute)
        gain = (parameters[:, 1] - parameters[:, 0])[:, None] * share * (1 - share)
        steepness = np.exp(parameters[:, 3])[:, None]
        jacobian = np.stack([1 - share, share, -gain * steepness, gain * steepness * (log_c - parameters[:, 2:3])], -1)
        normal = np.einsum("kni,knj->kij", jacobian, jacobian)
        diagonal = np.einsum("kii->ki", normal)
        normal = normal + (damping[:, None] * (diagonal + 1e-9))[:, :, None] * np.eye(4)
        gradient = np.einsum("kni,kn->ki", jacobian, residual)
        proposal = np.clip(parameters + np.linalg.solve(normal, gradient[..., None])[..., 0], low, high)
        proposed = rewards - _curve(proposal, compute)
        proposed_rss = (proposed**2).sum(1)
        better = proposed_rss < rss
        parameters = np.where(better[:, None], proposal, parameters)
        residual = np.where(better[:, None], proposed, residual)
        rss = np.where(better, proposed_rss, rss)
        damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-9, 1e6)
    return parameters
