"""The Fréchet distance of two samples of vectors, with its bias taken out or its covariances shrunk, and an interval.

The plug-in distance of two finite samples of one distribution is above 0: covariances of few cells are wrong, and every error adds. Its
bias falls with 1/n, so values at several sample sizes are carried on to 1/n = 0 (Chong and Forsyth, CVPR 2020).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from c2s.errors import ConfigError, DataError
from c2s.stats import Interval

Array = NDArray[np.float64]
Covariance = Literal["plain", "shrunk"]

MIN_CELLS = 50  # of each sample, below which no distance is given
CELLS_A_DIMENSION = 10  # with plain covariances
FRACTIONS = (0.5, 0.5, 0.6, 0.6, 0.7, 0.7, 0.8, 0.9, 1.0)  # of both samples; smaller ones are drawn more often
N_RESAMPLES = 199


def gaussian_frechet(
    mean: ArrayLike, covariance: ArrayLike, other_mean: ArrayLike, other_covariance: ArrayLike
) -> float:
    """Return the squared Fréchet (2-Wasserstein) distance of two Gaussians, ``|m - m'|² + tr(S + S' - 2 (S S')^½)``.

    Parameters
    ----------
    mean, other_mean : array-like, shape (d,)
    covariance, other_covariance : array-like, shape (d, d)
        Symmetric, positive semi-definite; they may be of any rank.

    Notes
    -----
    With S = A Aᵀ and S' = B Bᵀ, tr((S S')^½) is the sum of the singular values of Aᵀ B: no square root of a product that is not symmetric
    is taken, and singular covariances need no jitter (Dowson and Landau, J. Multivariate Anal. 12, 1982).
    """
    first, second = np.asarray(covariance, dtype=np.float64), np.asarray(other_covariance, dtype=np.float64)
    shift = np.asarray(mean, dtype=np.float64) - np.asarray(other_mean, dtype=np.float64)
    shared = np.linalg.svd(_factor(first).T @ _factor(second), compute_uv=False).sum()
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * shared)


def frechet_distance(
    real: ArrayLike,
    generated: ArrayLike,
    *,
    covariance: Covariance = "plain",
    n_resamples: int = N_RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the squared Fréchet distance of two samples with an interval over cells, from resamples.

    Parameters
    ----------
    real, generated : array-like, shapes (n, d) and (m, d)
        Finite vectors; at least 50 of each, and with plain covariances ten for every dimension.
    covariance : {"plain", "shrunk"}
        ``plain``: values at the whole samples and at parts of them, extrapolated to samples without end; below 0 where the samples
        are closer than the noise of that. ``shrunk``: covariances of Ledoit and Wolf (2004), for few cells or many dimensions, and no
        extrapolation, which would count on a bias that shrinkage changes; it stays above 0 for equal distributions.
    n_resamples : int
        0 gives no interval (NaN); otherwise at least 4.
    level : float
    seed : int
        Of parts and resamples.

    Returns
    -------
    Interval
        ``se`` is that of the resamples.

    Notes
    -----
    Both samples are cut to the same fraction f, so that the bias b/(f n) + c/(f m) is one line in 1/f, fitted with the weights f.

    Two samples lie farther apart than their distributions, at the plug-in distance, and an estimate spreads the more the farther it is:
    resampled as they are, samples of one distribution would get intervals about 1.5 times too wide. So half of the resamples are
    drawn with the generated sample carried onto the moments of the real one by the linear map of least cost, where the distance is
    0, and half as they are. The square of a quantile of what the estimate misses is taken to be a line in the distance between the two,
    and the interval holds the distances at which the estimate would not be among the outermost (1 - level) of its values.
    With ``shrunk`` the spread of the resamples about their middle is turned round.

    Raises
    ------
    DataError
        Shapes do not fit, values are not finite, or there are too few cells.
    ConfigError
        ``covariance`` is not known, or ``n_resamples`` is too small.
    """
    one, other = np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    if covariance not in ("plain", "shrunk"):
        msg = f"covariance={covariance!r}; it is 'plain' or 'shrunk'"
        raise ConfigError(msg)
    if n_resamples and n_resamples < 4:
        msg = f"n_resamples={n_resamples}; 0 gives no interval, and at least 4 give one"
        raise ConfigError(msg)
    _refuse(one, other, covariance)
    rng = np.random.default_rng(seed)

    def estimate(first: Array, second: Array) -> float:
        if covariance == "shrunk":
            return sample_frechet(first, second, covariance)
        return _extrapolated(first, second, rng)

    def missed(first: Array, second: Array, n: int) -> Array:
        drawn = np.array([estimate(_redrawn(first, rng), _redrawn(second, rng)) for _ in range(n)])
        # shrinkage has a bias of its own, which resamples do not show
        return drawn - (np.mean(drawn) if covariance == "shrunk" else sample_frechet(first, second))

    value = estimate(one, other)
    if not n_resamples:
        return Interval(value, np.nan, np.nan, level, np.nan)
    ends = [(1 - level) / 2, (1 + level) / 2]
    if covariance == "shrunk":
        spread = missed(one, other, n_resamples)
        below, above = np.quantile(spread, ends)
        return Interval(value, value - float(above), value - float(below), level, float(np.std(spread, ddof=1)))
    near = missed(one, _carried(other, one), n_resamples // 2)
    far, plug_in = missed(one, other, -(-n_resamples // 2)), sample_frechet(one, other)

    def end(q: float, side: int) -> float:
        at_0, at_plug_in = (float(np.quantile(each, q, method="weibull")) for each in (near, far))
        return _end(value, at_0, at_plug_in, plug_in, side)

    low, high = end(ends[1], -1), end(ends[0], 1)
    share = max(value, 0.0) / plug_in if plug_in > 0 else 0.0
    variance = (1 - share) * float(np.var(near, ddof=1)) + share * float(np.var(far, ddof=1))
    return Interval(value, low, high, level, float(np.sqrt(max(variance, 0.0))))


def most_dimensions(n: int) -> int:
    """Return how many dimensions plain covariances of samples of ``n`` cells are given."""
    return n // CELLS_A_DIMENSION


def _extrapolated(one: Array, other: Array, rng: np.random.Generator) -> float:
    """Return the intercept of the plug-in distances over 1/f."""
    fractions = np.array(FRACTIONS)
    values = [sample_frechet(_part(one, f, rng), _part(other, f, rng), "plain") for f in fractions]
    slope, intercept = np.polyfit(1 / fractions - 1, values, 1, w=fractions)
    return float(intercept - slope)  # at 1/f = 0


def sample_frechet(one: Array, other: Array, covariance: Covariance = "plain") -> float:
    """Return the distance of the Gaussians that two samples suggest, of shapes (n, d) and (m, d): the plug-in, too large for few cells."""
    from sklearn.covariance import ledoit_wolf

    if covariance == "shrunk":
        return gaussian_frechet(one.mean(0), ledoit_wolf(one)[0], other.mean(0), ledoit_wolf(other)[0])
    return gaussian_frechet(one.mean(0), _covariance(one), other.mean(0), _covariance(other))


def _end(value: float, near: float, far: float, plug_in: float, side: int) -> float:
    """Return the distance whose estimate misses it by ``value`` less itself at this quantile, which is ``near`` at 0, ``far`` at ``plug_in``.

    The square of the quantile is ``near² + slope · distance``; below 0 it is that of 0.
    """
    slope = max(far**2 - near**2, 0.0) / plug_in if plug_in > 0 else 0.0
    middle = value + slope / 2
    found = middle + side * np.sqrt(max(middle**2 - value**2 + near**2, 0.0))
    return float(found if found > 0 else value + side * abs(near))


def _carried(sample: Array, onto: Array) -> Array:
    """Return the sample with the mean and covariance of ``onto``, by the linear map of least cost between two Gaussians."""
    root, inverse = _roots(_covariance(sample))
    turn = inverse @ _roots(root @ _covariance(onto) @ root)[0] @ inverse
    return np.asarray(onto.mean(0) + (sample - sample.mean(0)) @ turn, dtype=np.float64)


def _roots(covariance: Array) -> tuple[Array, Array]:
    """Return the symmetric square root and its inverse, both 0 in directions without variance."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-12 * max(float(values[-1]), 0.0)
    roots = np.sqrt(np.where(kept, values, 0.0))
    inverses = np.divide(1.0, roots, out=np.zeros_like(roots), where=roots > 0)
    return (vectors * roots) @ vectors.T, (vectors * inverses) @ vectors.T


def _covariance(sample: Array) -> Array:
    centred = sample - sample.mean(0)
    return centred.T @ centred / (len(sample) - 1)


def _factor(covariance: Array) -> Array:
    """Return A with A Aᵀ the covariance: Cholesky's, or the root of the eigenvalues where it is singular; what rounding makes negative is 0."""
    try:
        return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(vectors * np.sqrt(np.clip(values, 0.0, None)), dtype=np.float64)


def _part(sample: Array, fraction: float, rng: np.random.Generator) -> Array:
    n = len(sample)
    return sample if fraction == 1.0 else sample[rng.permutation(n)[: round(fraction * n)]]


def _redrawn(sample: Array, rng: np.random.Generator) -> Array:
    return sample[rng.integers(0, len(sample), size=len(sample))]


def _refuse(one: Array, other: Array, covariance: Covariance) -> None:
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or not one.shape[1]:
        msg = f"vectors have shapes {one.shape} and {other.shape}; expected (cells, dimensions) with as many dimensions"
        raise DataError(msg)
    for name, sample in (("real", one), ("generated", other)):
        if not np.isfinite(sample).all():
            msg = f"{int((~np.isfinite(sample)).any(1).sum())} {name} vectors hold values that are not finite; look at the embedder"
            raise DataError(msg)
    fewest, d = min(len(one), len(other)), one.shape[1]
    if fewest < MIN_CELLS:
        msg = f"{fewest} cells; at least {MIN_CELLS} of each side are needed"
        raise DataError(msg)
    if covariance == "plain" and d > most_dimensions(fewest):
        msg = f"{d} dimensions of {fewest} cells; plain covariances take {most_dimensions(fewest)} at most: project the vectors, or covariance='shrunk'"
        raise DataError(msg)
