"""What one sample adds to how alike two clouds of cells are: the energy distance's credit, and the means it is held against.

All functions take vectors of cells, ``samples`` of shape (n, d) and ``real`` of shape (m, d), and return one number a sample, more is better.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from c2s.errors import DataError

Array = NDArray[np.float64]
MIN_SAMPLES = 3  # of a group: without one of them there must be two left to be apart


def energy_rewards(samples: ArrayLike, real: ArrayLike) -> Array:
    """Return, for each sample of a group, how near the group is to the real cells, and what the sample itself adds to that.

    With D the unbiased energy distance ``2 E|X - Y| - E|X - X'| - E|Y - Y'|`` between group and real cells, ``D₋ᵢ`` the same without sample i, and
    s the mean distance between two real cells::

        reward_i = (-D + (n - 1) / 2 · (D₋ᵢ - D)) / s

    The second term adds up to 0 over the group, so the mean reward is -D / s. A reward of each sample's own distance to real cells would be
    greatest where all samples are the one most central cell; here a sample is paid for being apart from its mates as much as real cells are.

    Parameters
    ----------
    samples : array-like, shape (n, d) or (n, k, d)
        A cell a sample; or, where a sample is a change and not a cell, the same k control cells after each change. Only cells of different
        controls are then held against one another: two cells of one control share its noise, which two real cells do not.
    real : array-like, shape (m, d)

    Returns
    -------
    ndarray, shape (n,), float64
        Rewards, 0 on average where both are draws of one distribution.

    Raises
    ------
    DataError
        Fewer than 3 samples or 2 real cells, other lengths of vectors, values that are not finite, or real cells that are all alike.
    """
    given = np.asarray(samples, dtype=np.float64)
    cells = given if given.ndim == 3 else given[:, None]
    n, k = cells.shape[:2] if cells.ndim == 3 else (0, 0)
    x, y = _checked(cells.reshape(n * k, -1) if cells.ndim == 3 else given, real, MIN_SAMPLES)
    if n < MIN_SAMPLES:
        msg = f"{n} samples; at least {MIN_SAMPLES} are needed"
        raise DataError(msg)
    to_real = _distances(x, y).mean(axis=1).reshape(n, k).mean(axis=1)
    between = _distances(x, x).reshape(n, k, n, k).sum(axis=(1, 3))
    if k > 1:
        between -= np.stack([_distances(cells[:, j], cells[:, j]) for j in range(k)]).sum(axis=0)
        between /= k * (k - 1)
        np.fill_diagonal(between, 0.0)  # of a change with itself: it is no mate of its own
    within = between.sum(axis=1)
    spread = _distances(y, y).sum() / (len(y) * (len(y) - 1))
    if not spread:
        msg = f"the {len(y)} real cells are all alike, so that no distance between cells can be read from them"
        raise DataError(msg)
    distance = 2 * to_real.mean() - within.sum() / (n * (n - 1)) - spread
    own = (to_real.mean() - to_real) + (within - within.mean()) / (
        n - 2
    )  # (n - 1) / 2 times the difference, which is what is left of it
    return (own - distance) / spread


def squared_errors(samples: ArrayLike, real: ArrayLike) -> Array:
    """Return the negative mean squared difference of each sample from the real cell of the same row, as C2S-Scale rewards it.

    It is greatest, on average, where every sample is the mean of the real cells: it buys collapse, and is here to be compared with.
    """
    x, y = _checked(samples, real, 1)
    if len(x) != len(y):
        msg = f"{len(x)} samples and {len(y)} real cells; one real cell a sample is needed"
        raise DataError(msg)
    return -((x - y) ** 2).mean(axis=1)


def kendall_taus(samples: ArrayLike, real: ArrayLike) -> Array:
    """Return Kendall's τ-b between the genes' values in each sample and in the real cell of the same row; 0 where one of them has no order.

    Mean-seeking as well: the order most like that of a single cell drawn at random is the usual one.
    """
    from scipy.stats import kendalltau

    x, y = _checked(samples, real, 1)
    if len(x) != len(y):
        msg = f"{len(x)} samples and {len(y)} real cells; one real cell a sample is needed"
        raise DataError(msg)
    ordered = [bool(np.ptp(one) and np.ptp(other)) for one, other in zip(x, y)]
    return np.array([kendalltau(one, other).statistic if known else 0.0 for one, other, known in zip(x, y, ordered)])


def _distances(one: Array, other: Array) -> Array:
    from scipy.spatial.distance import cdist

    return cdist(one, other)


def _checked(samples: ArrayLike, real: ArrayLike, least: int) -> tuple[Array, Array]:
    x, y = (np.asarray(each, dtype=np.float64) for each in (samples, real))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not x.shape[1]:
        msg = f"samples have shape {x.shape} and real cells {y.shape}; expected (n, d) and (m, d)"
        raise DataError(msg)
    if len(x) < least or len(y) < min(2, least):
        msg = f"{len(x)} samples and {len(y)} real cells; at least {least} and {min(2, least)} are needed"
        raise DataError(msg)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        msg = "vectors hold values that are not finite"
        raise DataError(msg)
    return x, y
