"""The ceiling and the floor of a table of responses: one half of the real cells for the other, and cells whose labels are shuffled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from c2s.baselines.response_table import contexts_of
from c2s.cells.genes import listed
from c2s.cells.reading import complete_column, require_cells
from c2s.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.baselines.response_table import Context, Rows

logger = logging.getLogger(__name__)


def split_half(cells: AnnData, *, by: Sequence[str], seed: int) -> tuple[AnnData, AnnData]:
    """Return two halves of the cells, split within each group: as good a prediction of the one as its replicate can be.

    Parameters
    ----------
    cells : AnnData
    by : sequence of str
        Columns of ``obs`` that make a group, such as the context keys and the perturbation key.
    seed : int

    Returns
    -------
    first, second : AnnData
        Copies, cells in their order. Of an odd group the first half has one cell more, of a group with one cell the first
        half has it, which is logged.

    Raises
    ------
    DataError
        A column is missing or has gaps, or there are fewer than two cells in every group.
    """
    require_cells(cells)
    rng = np.random.default_rng(seed)
    second = np.zeros(cells.n_obs, dtype=bool)
    lone = []
    for group, rows in _grouped(contexts_of(cells.obs, by, argument="by")).items():
        second[rng.permutation(rows)[(len(rows) + 1) // 2 :]] = True
        if len(rows) == 1:
            lone.append(", ".join(group))
    if not second.any():
        msg = f"none of the {cells.n_obs:,} cells has another one of the same {', '.join(by)}; split by fewer columns"
        raise DataError(msg)
    if lone:
        logger.info("%d groups have one cell, which is in the first half only: %s", len(lone), listed(lone))
    return cells[~second].copy(), cells[second].copy()


def shuffled_labels(
    cells: AnnData, *, perturbation_key: str, control: str, within: Sequence[str], seed: int
) -> AnnData:
    """Return a copy of the cells with the perturbations of treated cells permuted: what a model learns without knowing which is which.

    Parameters
    ----------
    cells : AnnData
    perturbation_key, control : str
        Cells of ``control`` keep their label.
    within : sequence of str
        Columns of ``obs`` within whose groups labels are permuted, such as the context keys.
    seed : int

    Raises
    ------
    DataError
        A column is missing or has gaps, or no cell is treated.
    """
    require_cells(cells)
    names = complete_column(cells.obs, perturbation_key, "perturbation_key")
    treated = np.flatnonzero(names != control)
    if not len(treated):
        msg = f"all {cells.n_obs:,} cells are controls {control!r}; there is no label to shuffle"
        raise DataError(msg)
    groups = contexts_of(cells.obs, within, argument="within")
    source = np.arange(cells.n_obs)
    rng = np.random.default_rng(seed)
    for places in _grouped([groups[row] for row in treated]).values():
        rows = treated[places]
        source[rows] = rng.permutation(rows)
    shuffled = cells.copy()
    shuffled.obs[perturbation_key] = cells.obs[perturbation_key].iloc[source].array
    return shuffled


def _grouped(groups: Sequence[Context]) -> dict[Context, Rows]:
    """Return the rows of each group, groups sorted."""
    found: dict[Context, list[int]] = {}
    for row, group in enumerate(groups):
        found.setdefault(group, []).append(row)
    return {group: np.array(found[group], dtype=np.intp) for group in sorted(found)}
