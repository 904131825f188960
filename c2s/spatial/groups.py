"""Groups of cells for decisions: half lie together, half do not, and no cell tells by itself which half it is in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from c2s.errors import ConfigError, DataError
from c2s.spatial.neighbourhoods import Neighbourhoods, sample_numbers

TRIES = 200  # of finding companions for one group

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of cells and the truth about each: what ``same_neighbourhood`` and ``same_niche`` take.

    Attributes
    ----------
    rows : tuple of ndarray of int64
        Cells of each group, the one it was made around first.
    together : ndarray of bool, shape (n_groups,)
        Whether they lie together; true for every other group.
    """

    rows: tuple[Rows, ...]
    together: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)


def held_out_neighbours(
    neighbourhoods: Neighbourhoods, *, n_shown: int = 1, among: ArrayLike | None = None, seed: int = 0
) -> tuple[tuple[Rows, ...], Rows]:
    """Return the cells shown and the neighbour asked for, around each cell that has enough: what ``neighbour_generation`` takes.

    Parameters
    ----------
    n_shown : int
        The cell and ``n_shown - 1`` of its neighbours are shown; one more neighbour is asked for. All are drawn by ``seed``.
    among : array-like of bool, shape (n,), or of int, optional
        Cells that may be used, such as those of a split; all if None.

    Returns
    -------
    shown : tuple of ndarray of int64, each of ``n_shown``
        The cell first.
    neighbours : ndarray of int64
        A neighbour of that cell which is not shown.

    Raises
    ------
    ConfigError
        ``n_shown`` below 1.
    DataError
        No cell has neighbours enough among those allowed.
    """
    if n_shown < 1:
        msg = f"n_shown={n_shown}; expected at least 1"
        raise ConfigError(msg)
    allowed = _allowed(among, len(neighbourhoods))
    rng = np.random.default_rng(seed)
    shown, asked = [], []
    for cell in np.flatnonzero(allowed):
        near = neighbourhoods.row(int(cell))
        near = near[allowed[near]]
        if len(near) >= n_shown:
            target, *others = rng.choice(near, n_shown, replace=False)
            shown.append(np.array([cell, *others], dtype=np.int64))
            asked.append(target)
    if not shown:
        msg = f"there are no cells with {n_shown} neighbours among the cells allowed; pass a smaller n_shown= or wider neighbourhoods"
        raise DataError(msg)
    return tuple(shown), np.array(asked, dtype=np.int64)


def neighbourhood_groups(
    neighbourhoods: Neighbourhoods,
    *,
    n_groups: int,
    n_cells: int = 4,
    among: ArrayLike | None = None,
    seed: int = 0,
) -> Groups:
    """Return groups of a cell and some of its neighbours, and as many of cells no two of which are neighbours.

    Each cell that has a group of neighbours around it also has one of the other kind, of the same sample. The companions there are
    neighbours of other cells, drawn as those of the first kind are. So both kinds hold each cell about equally often, and only
    looking at cells side by side tells them apart.

    Parameters
    ----------
    n_groups : int
        Even. Cells are drawn anew where there are fewer.
    n_cells : int
        Cells of a group, at least 2.
    among : array-like of bool, shape (n,), or of int, optional
        Cells that may be used, such as those of a split; all if None.
    seed : int

    Raises
    ------
    ConfigError
        ``n_groups`` is odd or below 2, or ``n_cells`` below 2.
    DataError
        No cell has neighbours enough among those allowed, or there are too few cells apart from one another.
    """
    allowed = _allowed(among, len(neighbourhoods))
    near = [row[allowed[row]] for row in neighbourhoods.rows(range(len(neighbourhoods)))]
    centres = np.flatnonzero(allowed & np.array([len(row) >= n_cells - 1 for row in near]))
    neighbours = neighbourhoods.adjacency()
    neighbours = (neighbours + neighbours.T).tolil().rows  # k neighbours need not be mutual
    beside = [frozenset(row) for row in neighbours]

    def apart(rows: Rows) -> bool:
        return all(int(b) not in beside[a] for i, a in enumerate(rows) for b in rows[i + 1 :])

    return _balanced(
        centres, lambda centre: near[centre], apart, neighbourhoods.samples, n_groups=n_groups, n_cells=n_cells, seed=seed,
        lack=f"cells with {n_cells - 1} neighbours",
    )  # fmt: skip


def niche_groups(
    niches: ArrayLike,
    *,
    n_groups: int,
    n_cells: int = 4,
    sample: ArrayLike | None = None,
    among: ArrayLike | None = None,
    seed: int = 0,
) -> Groups:
    """Return groups of cells of one niche of one sample, and as many whose cells are not all of one niche.

    Cells and companions are drawn as in :func:`neighbourhood_groups`, which says the rest, but every niche of a sample equally often in
    both kinds: else a frequent niche would be rarer in groups of several, and a cell of it would tell its group. Samples with
    one niche are not used.

    Parameters
    ----------
    niches : array-like of str, shape (n,)
        The niche of each cell; cells without one are not used.
    sample : array-like, shape (n,), optional
        Section or patient of each cell: a group's cells are of one.
    """
    values = pd.Series(np.asarray(niches, dtype=object))
    samples = sample_numbers(sample, len(values))
    allowed = _allowed(among, len(values)) & values.notna().to_numpy()
    codes = pd.factorize(values)[0]
    members = {
        key: rows[allowed[rows]]
        for key, rows in pd.Series(range(len(values))).groupby([codes, samples]).indices.items()
    }
    large = [key for key, rows in members.items() if key[0] >= 0 and len(rows) >= n_cells]
    of_sample = Counter(number for _, number in large)
    large = [key for key in large if of_sample[key[1]] > 1]
    centres = np.sort(np.concatenate([members[key] for key in large])) if large else np.array([], dtype=np.int64)
    weights = np.array([1 / len(members[codes[cell], samples[cell]]) for cell in centres])

    def companions(centre: int) -> Rows:
        rows = members[codes[centre], samples[centre]]
        return rows[rows != centre]

    return _balanced(
        centres, companions, lambda rows: len(set(codes[rows])) > 1, samples, n_groups=n_groups, n_cells=n_cells, seed=seed,
        lack=f"two niches of {n_cells} cells in one sample", weights=weights,
    )  # fmt: skip


def _allowed(among: ArrayLike | None, n: int) -> NDArray[np.bool_]:
    if among is None:
        return np.ones(n, dtype=bool)
    chosen = np.asarray(among)
    if chosen.dtype == bool and chosen.shape == (n,):
        return chosen
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or (len(chosen) and not 0 <= chosen.min() <= chosen.max() < n):
        msg = (
            f"among is {chosen.dtype} of shape {chosen.shape}; expected rows from 0 to {n - 1}, or a mask of {n} cells"
        )
        raise DataError(msg)
    mask = np.zeros(n, dtype=bool)
    mask[chosen] = True
    return mask


def _balanced(
    centres: Rows,
    companions: Callable[[int], Rows],
    apart: Callable[[Rows], bool],
    samples: NDArray[np.int64],
    *,
    n_groups: int,
    n_cells: int,
    seed: int,
    lack: str,
    weights: NDArray[np.float64] | None = None,
) -> Groups:
    """Return the groups; ``weights`` say how often each of ``centres`` is drawn, all about equally often without."""
    if n_groups < 2 or n_groups % 2 or n_cells < 2:
        msg = f"n_groups={n_groups}, n_cells={n_cells}; expected an even number of groups, of at least 2 cells"
        raise ConfigError(msg)
    if not len(centres):
        msg = f"there are no {lack} among the cells allowed; pass a smaller n_cells= or wider neighbourhoods"
        raise DataError(msg)
    rng = np.random.default_rng(seed)
    half = n_groups // 2
    if weights is None:
        chosen = np.concatenate([rng.permutation(centres) for _ in range(-(-half // len(centres)))])[:half]
    else:
        chosen = rng.choice(centres, half, p=weights / weights.sum())
    of_sample: dict[int, tuple[Rows, NDArray[np.float64] | None]] = {}
    for number in np.unique(samples[centres]):
        here = samples[centres] == number
        of_sample[number] = (centres[here], None if weights is None else weights[here] / weights[here].sum())
    rows: list[Rows] = []
    for centre in chosen:
        rows.append(np.append(centre, rng.choice(companions(int(centre)), n_cells - 1, replace=False)))
        rows.append(_apart(int(centre), *of_sample[samples[centre]], companions, apart, n_cells, rng))
    return Groups(tuple(rows), np.tile([True, False], half))


def _apart(
    centre: int,
    centres: Rows,
    shares: NDArray[np.float64] | None,
    companions: Callable[[int], Rows],
    apart: Callable[[Rows], bool],
    n_cells: int,
    rng: np.random.Generator,
) -> Rows:
    """Return ``centre`` and distinct companions of other cells of ``centres`` that do not lie together with it."""
    for _ in range(TRIES):
        others = [rng.choice(companions(int(other))) for other in rng.choice(centres, n_cells - 1, p=shares)]
        rows = np.array([centre, *others], dtype=np.int64)
        if len(set(rows.tolist())) == n_cells and apart(rows):
            return rows
    msg = (
        f"found no {n_cells} cells apart from one another with cell {centre} among them in {TRIES} draws; "
        "pass a smaller n_cells=, narrower neighbourhoods, or more cells"
    )
    raise DataError(msg)
