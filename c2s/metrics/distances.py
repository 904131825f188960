"""How far apart two clouds of cells are, and whether one has collapsed; vectors in, one number out, smaller is nearer.

All take finite vectors, ``real`` of shape (n, d) and ``generated`` of shape (m, d), at least two of each, and raise ``DataError``
otherwise. Estimators are unbiased where the name says so: such a distance may fall below 0 for samples of one distribution.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from c2s.errors import DataError

Array = NDArray[np.float64]

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # in units of the median distance between real cells; each twice the one before
N_PROJECTIONS = 256


def mmd(real: ArrayLike, generated: ArrayLike) -> float:
    """Return the unbiased squared maximum mean discrepancy (Gretton et al., JMLR 13, 2012), the mean over five Gaussian kernels.

    Notes
    -----
    k(x, y) = exp(-|x - y|² / (2 σ²)) with σ = {1/4, 1/2, 1, 2, 4} times the median distance between two real cells, so that no
    generated cell has a say in what is near.
    """
    within, other, between = _distances(real, generated)
    median = float(np.median(within[np.triu_indices(len(within), 1)]))
    if not median:
        msg = "half of the real cells are the same vector, so that no bandwidth can be read from them"
        raise DataError(msg)
    kernels = [np.exp(each**2 / (-2 * (BANDWIDTHS[-1] * median) ** 2)) for each in (within, other, between)]
    total = 0.0
    for _ in BANDWIDTHS:  # a bandwidth of half the width is the fourth power of the kernel
        total += _off_diagonal_mean(kernels[0]) + _off_diagonal_mean(kernels[1]) - 2 * float(kernels[2].mean())
        for kernel in kernels:
            np.square(kernel, out=kernel)
            np.square(kernel, out=kernel)
    return total / len(BANDWIDTHS)


def energy_distance(real: ArrayLike, generated: ArrayLike) -> float:
    """Return the unbiased energy distance ``2 E|X - Y| - E|X - X'| - E|Y - Y'|``, Euclidean and not squared (Székely and Rizzo, 2013)."""
    within, other, between = _distances(real, generated)
    return 2 * float(between.mean()) - _off_diagonal_mean(within) - _off_diagonal_mean(other)


def sinkhorn_divergence(real: ArrayLike, generated: ArrayLike, *, blur: float = 0.5) -> float:
    """Return the debiased entropic transport cost ``S(X, Y) - S(X, X)/2 - S(Y, Y)/2``, cost squared Euclidean (Feydy et al., 2019).

    Parameters
    ----------
    blur : float
        Entropy's weight, in units of the median cost between two real cells. With little of it a cell of n is matched to itself in
        S(X, X), which no cell is in S(X, Y), and in many dimensions that is all one sees; from about 1 / log n on it is not.

    Returns
    -------
    float
        S is the regularised value, entropy included: the divergence is 0 for equal clouds and positive otherwise.

    Raises
    ------
    DataError
        Transport did not converge: a larger ``blur`` does.
    """
    one, other = _checked(real, generated)
    costs = [pairwise_distances(a, b, metric="sqeuclidean") for a, b in ((one, other), (one, one), (other, other))]
    scale = float(np.median(costs[1][np.triu_indices(len(one), 1)]))
    if not scale:
        msg = "half of the real cells are the same vector, so that no blur can be read from them"
        raise DataError(msg)
    crossed, first, second = (_entropic_cost(cost, blur * scale) for cost in costs)
    return crossed - (first + second) / 2


def sliced_wasserstein(
    real: ArrayLike, generated: ArrayLike, *, n_projections: int = N_PROJECTIONS, seed: int = 0
) -> float:
    """Return the sliced 2-Wasserstein distance: the root of the mean square over random directions of the distance of the projections."""
    import ot

    one, other = _checked(real, generated)
    return float(ot.sliced_wasserstein_distance(one, other, n_projections=n_projections, p=2, seed=seed))


def gene_wasserstein(real: ArrayLike, generated: ArrayLike) -> float:
    """Return the mean over dimensions (genes) of the 1-Wasserstein distance of their values; it sees no covariance."""
    import ot

    one, other = _checked(real, generated)
    if len(one) == len(other):
        return float(np.abs(np.sort(one, axis=0) - np.sort(other, axis=0)).mean())
    return float(np.mean(ot.wasserstein_1d(one, other, p=1)))


def two_sample_accuracy(real: ArrayLike, generated: ArrayLike, *, n_neighbors: int = 15, seed: int = 0) -> float:
    """Return how often a cell's neighbours tell whether it is real: 0.5 is best, 1 is worst (Lopez-Paz and Oquab, 2017).

    As many cells of each side are compared, the larger side's drawn by ``seed``; each is left out when its neighbours vote (of an odd
    number of them), so that clouds that cannot be told apart give slightly below 0.5.
    """
    one, other = _checked(real, generated)
    n, rng = min(len(one), len(other)), np.random.default_rng(seed)
    both = np.concatenate([side[np.sort(rng.permutation(len(side))[:n])] for side in (one, other)])
    is_real = np.arange(2 * n) < n
    k = _odd(min(n_neighbors, 2 * n - 1))
    near = NearestNeighbors(n_neighbors=k).fit(both).kneighbors(return_distance=False)
    return float(((is_real[near].mean(1) > 0.5) == is_real).mean())


def coverage(real: ArrayLike, generated: ArrayLike, *, n_neighbors: int = 5) -> float:
    """Return the share of real cells with a generated cell nearer than their ``n_neighbors``-th real neighbour: 1 is best.

    (Naeem et al., ICML 2020.) Two samples of one distribution, equal in size, give about 1 - 2^-n_neighbors; fewer generated cells give less.
    """
    one, other = _checked(real, generated)
    k = min(n_neighbors, len(one) - 1)
    radius = NearestNeighbors(n_neighbors=k).fit(one).kneighbors()[0][:, -1]
    nearest = NearestNeighbors(n_neighbors=1).fit(other).kneighbors(one)[0][:, 0]
    return float((nearest <= radius).mean())


def variance_ratio(real: ArrayLike, generated: ArrayLike) -> float:
    """Return the total variance of the generated cells over that of the real ones: below 1 is collapse towards a mean."""
    one, other = _checked(real, generated)
    total = float(one.var(0, ddof=1).sum())
    if not total:
        msg = "the real cells are all the same vector, so that there is no variance to compare with"
        raise DataError(msg)
    return float(other.var(0, ddof=1).sum()) / total


def _distances(real: ArrayLike, generated: ArrayLike) -> tuple[Array, Array, Array]:
    one, other = _checked(real, generated)
    return pairwise_distances(one), pairwise_distances(other), pairwise_distances(one, other)


def _off_diagonal_mean(square: Array) -> float:
    n = len(square)
    return float((square.sum() - np.trace(square)) / (n * (n - 1)))


def _entropic_cost(cost: Array, epsilon: float) -> float:
    """Return the dual value ⟨f, a⟩ + ⟨g, b⟩ of transport with entropy relative to the product of uniform weights."""
    import ot

    n, m = cost.shape
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            _, log = ot.sinkhorn(
                np.full(n, 1 / n), np.full(m, 1 / m), cost, epsilon, method="sinkhorn_log" if cost.max() > 500 * epsilon else "sinkhorn",
                numItermax=5000, stopThr=1e-7, log=True,
            )  # fmt: skip
        except UserWarning as error:
            msg = f"entropic transport did not converge ({error}); give a larger blur"
            raise DataError(msg) from error
    first, second = (log["log_u"], log["log_v"]) if "log_u" in log else (np.log(log["u"]), np.log(log["v"]))
    return float(epsilon * (np.mean(first) + np.log(n) + np.mean(second) + np.log(m)))


def _odd(k: int) -> int:
    return k if k % 2 else k - 1


def _checked(real: ArrayLike, generated: ArrayLike) -> tuple[Array, Array]:
    one, other = np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or not one.shape[1]:
        msg = f"cells have shapes {one.shape} and {other.shape}; expected (cells, dimensions) with as many dimensions"
        raise DataError(msg)
    if min(len(one), len(other)) < 2:
        msg = f"{len(one)} real and {len(other)} generated cells; expected at least two of each"
        raise DataError(msg)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        msg = "cells hold values that are not finite; drop or fill them"
        raise DataError(msg)
    return one, other
