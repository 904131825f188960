"""Matching: for each perturbed cell, control cells of the same donor, type and context, and cells treated alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from c2s.errors import DataError


def match_controls(
    obs: pd.DataFrame,
    *,
    perturbed: np.ndarray,
    control: np.ndarray,
    by: Sequence[str],
    k: int,
    rng: np.random.Generator,
    apart: np.ndarray | None = None,
) -> np.ndarray:
    """Return ``k`` matched control cells per perturbed cell, drawn at random within strata.

    Parameters
    ----------
    obs : DataFrame, n rows
        Cell metadata.
    perturbed, control : ndarray of int
        Row numbers of the cells to match and of the controls to draw from. A cell is never its own match, so vehicle
        cells can be matched to other vehicle cells.
    by : sequence of str
        Columns whose values must agree (donor, cell type, context).
    k : int
        Controls per cell, without replacement while the stratum lasts.
    rng : Generator
        Source of randomness.
    apart : ndarray of int, shape (len(perturbed), p), optional
        Rows that may not be drawn for each cell: the pool it is averaged with, which may hold controls.

    Returns
    -------
    ndarray, shape (len(perturbed), k), int64
        Row numbers into ``obs``.

    Raises
    ------
    DataError
        A column is missing, or a perturbed cell's stratum has no control (the strata are listed).
    """
    codes, pools = control_pools(obs, perturbed=perturbed, control=control, by=by)
    matches = np.empty((len(perturbed), k), dtype=np.int64)
    is_control = np.zeros(len(obs), dtype=bool)
    is_control[control] = True
    for row, cell in enumerate(perturbed):
        pool = pools[codes[cell]]
        if is_control[cell]:
            pool = pool[pool != cell] if apart is None else np.setdiff1d(pool, apart[row])
        matches[row] = rng.choice(pool, size=k, replace=len(pool) < k)
    return matches


def pool_alike(
    obs: pd.DataFrame,
    *,
    cells: np.ndarray,
    among: np.ndarray,
    by: Sequence[str],
    k: int,
    rng: np.random.Generator,
    halved: np.ndarray | None = None,
) -> np.ndarray:
    """Return each cell with ``k - 1`` others of its stratum, drawn at random; a lone cell stands ``k`` times.

    Parameters
    ----------
    obs : DataFrame, n rows
    cells, among : ndarray of int
        Row numbers of the cells to pool, and of those that may join them.
    by : sequence of str
        Columns whose values must agree; the perturbation is one of them.
    k : int
        Cells a pool.
    rng : Generator
    halved : ndarray of bool, shape (len(cells),), optional
        Cells whose pool takes at most half of the stratum, because the other half is what it is compared with.

    Returns
    -------
    ndarray, shape (len(cells), k), int64
        Row numbers; the cell itself comes first.
    """
    codes = strata_of(obs, by)
    members = {code: among[codes[among] == code] for code in np.unique(codes[cells])}
    pools = np.repeat(np.asarray(cells, dtype=np.int64)[:, None], k, axis=1)
    for row, cell in enumerate(cells):
        others = members[codes[cell]]
        others = others[others != cell]
        if halved is not None and halved[row]:
            others = rng.choice(others, size=min(k, (len(others) + 1) // 2) - 1, replace=False)
        if len(others) and k > 1:
            pools[row, 1:] = rng.choice(others, size=k - 1, replace=len(others) < k - 1)
    return pools


def control_pools(
    obs: pd.DataFrame, *, perturbed: np.ndarray, control: np.ndarray, by: Sequence[str]
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return the number of each cell's stratum, shape (n,), and the controls of each stratum with a perturbed cell.

    Raises
    ------
    DataError
        A column is missing, or a perturbed cell's stratum has no control but the cell itself (the strata are listed).
    """
    codes = strata_of(obs, by)
    pools = {int(code): control[codes[control] == code] for code in np.unique(codes[perturbed])}
    empty = [code for code, pool in pools.items() if len(pool) < (2 if np.isin(pool, perturbed).any() else 1)]
    if empty:
        firsts = obs[list(by)].iloc[[int(np.flatnonzero(codes == code)[0]) for code in empty]]
        names = sorted(" | ".join(map(str, values)) for values in firsts.itertuples(index=False, name=None)) or [
            "all cells"
        ]
        shown = "; ".join(names[:8]) + (" …" if len(names) > 8 else "")
        msg = f"{len(names)} strata of ({', '.join(by)}) have no control cell to match: {shown}. Match by fewer columns"
        raise DataError(msg)
    return codes, pools


def strata_of(obs: pd.DataFrame, by: Sequence[str]) -> np.ndarray:
    """Return the number of each cell's stratum, int64, shape (n,).

    Raises
    ------
    DataError
        A column is missing.
    """
    missing = [column for column in by if column not in obs]
    if missing:
        msg = f"obs has no column {', '.join(map(repr, missing))}; found {', '.join(map(str, obs.columns))}"
        raise DataError(msg)
    if not by:
        return np.zeros(len(obs), dtype=np.int64)
    return pd.MultiIndex.from_frame(obs[list(by)].astype(str)).factorize()[0]
