"""The estimand of a screen: mean effect in each context and their difference, over units of replication."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from c2s.errors import DataError
from c2s.stats import Interval, bootstrap_interval, difference_interval, mean_interval

MIN_UNITS = 5  # fewer units than this cannot speak for others: cells are resampled within them instead


@dataclass(frozen=True)
class Contrast:
    """Effects in two contexts, one value per row of the screen.

    Attributes
    ----------
    first, second : Interval, shape (n_rows,)
        Mean over units of the unit means in each context.
    split : Interval, shape (n_rows,)
        First minus second; over the shared units alone where it is paired.
    replication : str
        In plain words, what the intervals replicate.
    """

    first: Interval
    second: Interval
    split: Interval
    replication: str


def contrast(
    values: ArrayLike,
    cells: pd.DataFrame,
    contexts: tuple[str, str],
    *,
    level: float = 0.9,
    n_resamples: int = 1999,
    seed: int = 0,
) -> Contrast:
    """Return effects per context and their split, with intervals, for every row.

    A context with at least :data:`MIN_UNITS` units gets a t interval over unit means, another one a bootstrap of cells
    within unit. The split is paired over the units that both contexts share if at least ``MIN_UNITS`` are shared, else
    Welch's difference if both contexts have enough units, else a bootstrap of cells in both.

    Parameters
    ----------
    values : array-like, shape (n_rows, n_cells)
        Effect of each row on each cell.
    cells : DataFrame
        One row per cell with columns ``context`` and ``unit`` (donor or sample x model).
    contexts : tuple of str
        First and second context.
    level : float
        Coverage of the two-sided intervals; 0.9 makes each end a one-sided bound at 0.05.
    n_resamples, seed : int
        Of the bootstrap, where there is one.

    Raises
    ------
    DataError
        A context without cells.
    """
    layout = _Layout.of(cells, contexts)
    array = np.asarray(values, dtype=np.float64)

    def resample(side: int) -> Interval:
        chosen = layout.in_context[side]
        strata = layout.unit[chosen]
        seeds = [seed, side]  # the contexts hold different cells, so their resamples are independent
        return bootstrap_interval(array[:, chosen], strata=strata, level=level, n_resamples=n_resamples, seed=seeds)

    means = [array @ layout.unit_weights(side, layout.units[side]) for side in (0, 1)]
    effects = [mean_interval(means[s], level=level) if layout.enough[s] else resample(s) for s in (0, 1)]
    if layout.paired:
        paired = [array @ layout.unit_weights(side, layout.shared) for side in (0, 1)]
        split = mean_interval(paired[0] - paired[1], level=level)
    elif all(layout.enough):
        split = difference_interval(*effects)
    else:
        split = difference_interval(*(resample(s) if layout.enough[s] else effects[s] for s in (0, 1)))
    return Contrast(effects[0], effects[1], split, layout.replication(contexts))


def split_weights(cells: pd.DataFrame, contexts: tuple[str, str]) -> NDArray[np.float64]:
    """Return the weight of each cell in the split: ``values @ weights`` is ``contrast(...).split.value``.

    Returns
    -------
    ndarray, shape (n_cells,), float64
        Positive in the first context, negative in the second, each side summing to ±1.
    """
    layout = _Layout.of(cells, contexts)
    units = [layout.shared, layout.shared] if layout.paired else layout.units
    weights = [layout.unit_weights(side, units[side]).mean(axis=1) for side in (0, 1)]
    return weights[0] - weights[1]


def context_weights(cells: pd.DataFrame, contexts: tuple[str, str]) -> NDArray[np.float64]:
    """Return the matrix, shape (n_cells, 2), that takes cells to the mean of unit means in each context."""
    layout = _Layout.of(cells, contexts)
    return np.stack([layout.unit_weights(side, layout.units[side]).mean(axis=1) for side in (0, 1)], axis=1)


@dataclass(frozen=True)
class _Layout:
    """Which cell stands in which context and unit, and what follows for the intervals."""

    unit: NDArray[np.object_]
    in_context: list[NDArray[np.bool_]]
    units: list[NDArray[np.object_]]
    shared: NDArray[np.object_]

    @classmethod
    def of(cls, cells: pd.DataFrame, contexts: tuple[str, str]) -> _Layout:
        unit = cells["unit"].astype(str).to_numpy(dtype=object)
        labels = cells["context"].astype(str).to_numpy(dtype=object)
        in_context = [labels == name for name in contexts]
        for name, chosen in zip(contexts, in_context, strict=True):
            if not chosen.any():
                msg = f"no screened cell is in context {name!r}; found {', '.join(sorted(set(labels))) or 'no cells'}"
                raise DataError(msg)
        units = [np.unique(unit[chosen]) for chosen in in_context]
        return cls(unit, in_context, units, np.intersect1d(units[0], units[1]))

    @property
    def enough(self) -> list[bool]:
        return [len(units) >= MIN_UNITS for units in self.units]

    @property
    def paired(self) -> bool:
        return len(self.shared) >= MIN_UNITS

    def unit_weights(self, side: int, units: NDArray[np.object_]) -> NDArray[np.float64]:
        """Return the matrix, shape (n_cells, n_units), that takes cells to the means of ``units`` in one context."""
        members = (self.unit[:, None] == units[None, :]) & self.in_context[side][:, None]
        return members / members.sum(axis=0)

    def replication(self, contexts: tuple[str, str]) -> str:
        sizes = [f"{len(units)} in {name}" for name, units in zip(contexts, self.units, strict=True)]
        cells = [f"{chosen.sum():,} in {name}" for name, chosen in zip(contexts, self.in_context, strict=True)]
        text = f"Units of replication (donor or sample x model): {' and '.join(sizes)}. "
        if all(self.enough):
            text += "Intervals are Student's t over unit means; they speak for new units. "
        else:
            few = [name for name, enough in zip(contexts, self.enough, strict=True) if not enough]
            text += (
                f"Fewer than {MIN_UNITS} units in {' and '.join(few)}: there, intervals resample cells within unit "
                f"(cells: {' and '.join(cells)}), so they speak for these units only, not for new donors. "
            )
        if self.paired:
            text += f"The split is paired over the {len(self.shared)} units present in both contexts."
        elif all(self.enough):
            text += f"The split is not paired ({len(self.shared)} units present in both contexts): Welch's t."
        else:
            text += "The split resamples cells in both contexts."
        return text
