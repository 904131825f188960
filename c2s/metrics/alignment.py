"""How well two embeddings of the same samples lie on one another: FOSCTTM."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from c2s.errors import ConfigError, DataError

Floats = NDArray[np.float64]


def foscttm(
    first: ArrayLike, second: ArrayLike, *, metric: Literal["cosine", "euclidean"] = "cosine", block_size: int = 1024
) -> float:
    """Return the fraction of samples closer than the true match, averaged over samples and both directions.

    Row i of one embedding belongs to row i of the other, as a pseudobulk and the mean of its cells do. 0 is perfect, 0.5 chance.

    Parameters
    ----------
    first, second : array_like, shape (n, d)
    metric : {"cosine", "euclidean"}
    block_size : int
        Rows whose distances are held at a time: memory grows with ``block_size * n``.

    Raises
    ------
    ConfigError
        The metric is unknown, or ``block_size`` is below 1.
    DataError
        Shapes differ, there are fewer than two rows, a value is not finite, or a row of zeros has no cosine.

    Notes
    -----
    FOSCTTM_i = (#{j: d(x_i, y_j) < d(x_i, y_i)} + ½ #{j ≠ i: d(x_i, y_j) = d(x_i, y_i)}) / (n - 1). Half of each tie counts, so that
    an embedding that maps everything to one point is at chance, 0.5, and not perfect. Liu et al., WABI 2019.
    """
    per_sample = foscttm_per_sample(first, second, metric=metric, block_size=block_size)
    return float(per_sample.mean())


def foscttm_per_sample(
    first: ArrayLike, second: ArrayLike, *, metric: Literal["cosine", "euclidean"] = "cosine", block_size: int = 1024
) -> Floats:
    """Return the fraction of each sample, float64, shape (n, 2): from ``first`` to ``second``, and back. See :func:`foscttm`."""
    if metric not in ("cosine", "euclidean"):
        msg = f"metric={metric!r}; the metrics are cosine and euclidean"
        raise ConfigError(msg)
    if block_size < 1:
        msg = f"block_size={block_size}; it must be at least 1"
        raise ConfigError(msg)
    one, other = _checked(first, "first"), _checked(second, "second")
    if one.shape != other.shape:
        msg = f"first has shape {one.shape}, second {other.shape}; row i of one must belong to row i of the other, in one space"
        raise DataError(msg)
    if len(one) < 2:
        msg = f"{len(one)} samples; at least 2 are needed for another to be closer"
        raise DataError(msg)
    if metric == "cosine":
        one, other = _unit(one, "first"), _unit(other, "second")
    return np.stack([_closer(one, other, block_size), _closer(other, one, block_size)], axis=1)


def _closer(one: Floats, other: Floats, block_size: int) -> Floats:
    """Return the share of rows of ``other`` nearer to each row of ``one`` than its match. For unit rows, distance ranks as cosine does."""
    n = len(one)
    found = np.empty(n)
    squares = (other**2).sum(axis=1)
    for start in range(0, n, block_size):
        rows = slice(start, start + block_size)
        gap = squares - 2 * one[rows] @ other.T  # squared distance, less what is the same for every column
        own = np.arange(start, start + len(gap))
        own_gap = gap[np.arange(len(gap)), own][:, None]
        tolerance = 1e-12 * (np.abs(own_gap) + squares.max() + (one[rows] ** 2).sum(axis=1)[:, None])
        tied = np.abs(gap - own_gap) <= tolerance
        nearer = (gap < own_gap) & ~tied
        found[rows] = (nearer.sum(axis=1) + 0.5 * (tied.sum(axis=1) - 1)) / (n - 1)
    return found


def _checked(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        msg = f"{name} has shape {array.shape}; expected (samples, dimensions)"
        raise DataError(msg)
    if not np.isfinite(array).all():
        msg = f"{name} holds values that are not finite in {int((~np.isfinite(array)).any(axis=1).sum()):,} rows; drop or fill them"
        raise DataError(msg)
    return array


def _unit(values: Floats, name: str) -> Floats:
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    if not norms.all():
        msg = f"{name} has {int((norms == 0).sum()):,} rows of zeros, which have no cosine; pass metric='euclidean' or drop them"
        raise DataError(msg)
    return values / norms
