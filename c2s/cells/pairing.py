"""Pairing: for each perturbed cell, the control cells most like it, or those that optimal transport brings it from.

Both see the cells as vectors (principal components, an embedding) and are of use where cells differ in more than their covariates: cell cycle, depth,
a state that the perturbation leaves alone. Where the vectors themselves move with the perturbation, the nearest controls are those that look treated
already; transport has to use every control alike and is misled less.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from c2s.cells.matching import control_pools
from c2s.errors import ConfigError, DataError

Rows = NDArray[np.int64]
MAX_CELLS = 2000  # of either side in one plan: 32 MB
MISPLACED = 0.01  # share of the weight


def nearest_controls(
    vectors: ArrayLike,
    obs: pd.DataFrame,
    *,
    perturbed: np.ndarray,
    control: np.ndarray,
    by: Sequence[str],
    k: int,
) -> Rows:
    """Return the ``k`` nearest control cells of each perturbed cell within its stratum, nearest first.

    Parameters
    ----------
    vectors : array-like, shape (n, d)
        What distances (Euclidean) are taken of.
    obs : DataFrame, n rows
        Cell metadata.
    perturbed, control : ndarray of int
        Row numbers of the cells to match and of the controls. A cell is never its own match.
    by : sequence of str
        Columns whose values must agree (donor, cell type, context).
    k : int
        Controls per cell; a stratum with fewer gives them again, from the nearest on.

    Returns
    -------
    ndarray, shape (len(perturbed), k), int64
        Row numbers into ``obs``.

    Raises
    ------
    ConfigError
        ``k`` is below 1.
    DataError
        A column is missing, a perturbed cell's stratum has no control (the strata are listed), the vectors are not one a cell, or not finite.
    """
    from sklearn.neighbors import NearestNeighbors

    points = _checked(vectors, obs, k)
    codes, pools = control_pools(obs, perturbed=perturbed, control=control, by=by)
    matches = np.empty((len(perturbed), k), dtype=np.int64)
    for code, pool in pools.items():
        rows = np.flatnonzero(codes[perturbed] == code)
        cells = perturbed[rows]
        search = NearestNeighbors(n_neighbors=min(k + 1, len(pool))).fit(points[pool])
        near = pool[search.kneighbors(points[cells], return_distance=False)]
        for row, cell, found in zip(rows, cells, near):
            others = found[found != cell][:k]
            matches[row] = np.resize(others, k)
    return matches


def transport_controls(
    vectors: ArrayLike,
    obs: pd.DataFrame,
    *,
    perturbed: np.ndarray,
    control: np.ndarray,
    by: Sequence[str],
    k: int,
    rng: np.random.Generator,
    regularisation: float = 0.05,
    max_cells: int = MAX_CELLS,
) -> Rows:
    """Return ``k`` control cells per perturbed cell, drawn from its row of an optimal transport plan within its stratum.

    Each call draws anew. A plan is between all perturbed cells of a stratum, whatever they were given: match one perturbation at a time where
    perturbations differ in which cells survive.

    Parameters
    ----------
    vectors, obs, perturbed, control, by, k
        As :func:`nearest_controls`.
    rng : Generator
        Source of randomness.
    regularisation : float
        Weight of the entropy, in units of the mean cost (:func:`transport_plan`).
    max_cells : int
        Larger strata are cut: perturbed cells at random into groups of this many, each against as many controls drawn at random.

    Returns
    -------
    ndarray, shape (len(perturbed), k), int64
        Row numbers into ``obs``; a control may come more than once.

    Raises
    ------
    ConfigError
        ``k``, ``regularisation`` or ``max_cells`` is too small.
    DataError
        As :func:`nearest_controls`, or transport did not converge.
    """
    points = _checked(vectors, obs, k)
    if max_cells < 2:
        msg = f"max_cells={max_cells}; expected at least 2"
        raise ConfigError(msg)
    codes, pools = control_pools(obs, perturbed=perturbed, control=control, by=by)
    matches = np.empty((len(perturbed), k), dtype=np.int64)
    for code, pool in pools.items():
        rows = rng.permutation(np.flatnonzero(codes[perturbed] == code))
        for group in np.array_split(rows, -(-len(rows) // max_cells)):
            among = rng.permutation(pool)[:max_cells]
            cells = perturbed[group]
            plan = transport_plan(points[cells], points[among], regularisation=regularisation)
            plan[cells[:, None] == among] = 0
            plan = np.where(plan.sum(axis=1, keepdims=True) > 0, plan, cells[:, None] != among)
            heights = plan.cumsum(axis=1)
            drawn = rng.random((len(group), k)) * heights[:, -1:]
            places = [np.searchsorted(height, draw, side="right") for height, draw in zip(heights, drawn)]
            matches[group] = among[np.array(places)]
    return matches


def transport_plan(first: ArrayLike, second: ArrayLike, *, regularisation: float = 0.05) -> NDArray[np.float64]:
    """Return the entropic optimal transport plan between two clouds of uniform weight, shape (n, m), sum 1 (Cuturi, NeurIPS 2013).

    Parameters
    ----------
    first, second : array-like, shape (n, d) and (m, d)
        The cost is the squared Euclidean distance of the clouds moved onto one mean. That changes no plan, because what all cells have in common
        costs the same whoever is matched to whom, and it makes the unit of ``regularisation`` the clouds' own spread.
    regularisation : float
        Weight of the entropy, in units of the mean cost: near 0 cells are matched one to one, at 1 nearly all to all.

    Raises
    ------
    ConfigError
        ``regularisation`` is not above 0.
    DataError
        Transport did not converge: more than a hundredth of the weight is not where it should be. A larger ``regularisation`` does.
    """
    import ot

    if not 0 < regularisation < np.inf:
        msg = f"regularisation={regularisation}; expected a number above 0"
        raise ConfigError(msg)
    one, other = (np.asarray(side, dtype=np.float64) for side in (first, second))
    cost = ot.dist(one - one.mean(axis=0), other - other.mean(axis=0))
    cost = cost / (cost.mean() or 1.0)
    n, m = cost.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether it converged is asked below, in a unit that means something
        plan: NDArray[np.float64] = ot.sinkhorn(
            np.full(n, 1 / n), np.full(m, 1 / m), cost, regularisation, numItermax=2000, stopThr=1e-4 / np.sqrt(max(n, m)),
            method="sinkhorn_log" if cost.max() > 500 * regularisation else "sinkhorn",
        )  # fmt: skip
    misplaced = (np.abs(plan.sum(axis=1) - 1 / n).sum() + np.abs(plan.sum(axis=0) - 1 / m).sum()) / 2
    if not misplaced <= MISPLACED:
        msg = (
            f"transport between {n:,} and {m:,} cells did not converge ({misplaced:.1%} of the weight is misplaced); pass a larger "
            f"regularisation= (it is {regularisation})"
        )
        raise DataError(msg)
    return plan


def _checked(vectors: ArrayLike, obs: pd.DataFrame, k: int) -> NDArray[np.float64]:
    """Return the vectors as float64, finite, one a cell."""
    if k < 1:
        msg = f"k={k}; expected at least 1 control a cell"
        raise ConfigError(msg)
    points = np.asarray(vectors, dtype=np.float64)
    if points.ndim != 2 or len(points) != len(obs) or not points.shape[1]:
        msg = f"vectors have shape {points.shape}; expected one of d numbers for each of {len(obs):,} cells"
        raise DataError(msg)
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        msg = f"{int(bad.sum()):,} of {len(points):,} cells have NaN or infinite vectors, the first is {obs.index[int(bad.argmax())]}; leave them out"
        raise DataError(msg)
    return points
