"""Samples of several cells: groups of cells cut into sets of equal size, by seed, each cell at most once."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from c2s.cells.genes import listed
from c2s.cells.reading import complete_column
from c2s.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Samples:
    """Sets of cells that are shown together.

    Attributes
    ----------
    rows : tuple of ndarray of int64
        Rows of the cells of each sample.
    groups : tuple of str
        The group each sample was drawn from.
    skipped : mapping of str to int
        Groups with too few cells, and how many they have.
    """

    rows: tuple[np.ndarray, ...]
    groups: tuple[str, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)


def draw_samples(
    obs: pd.DataFrame, *, sample_key: str | Sequence[str], n_cells: int, seed: int = 0, per_group: int | None = None
) -> Samples:
    """Return samples of ``n_cells`` cells of one group each.

    A group's cells are shuffled by ``seed`` and the group's name, and cut into samples; what is left over is not used.
    Groups therefore do not depend on one another, nor on the order of the others' cells.

    Parameters
    ----------
    obs : DataFrame
    sample_key : str or sequence of str
        Column, or columns, that say which cells belong together.
    n_cells : int
        Cells of a sample.
    per_group : int, optional
        Most samples of a group; None takes all there are.

    Raises
    ------
    DataError
        A column is missing or has gaps, or no group has ``n_cells`` cells.
    ConfigError
        ``n_cells`` or ``per_group`` is below 1.
    """
    if n_cells < 1 or (per_group is not None and per_group < 1):
        msg = f"n_cells={n_cells}, per_group={per_group}; expected at least 1"
        raise ConfigError(msg)
    keys = [sample_key] if isinstance(sample_key, str) else list(sample_key)
    table = pd.DataFrame({key: complete_column(obs, key, "sample_key") for key in keys})
    rows: list[np.ndarray] = []
    groups: list[str] = []
    skipped: dict[str, int] = {}
    for values, members in sorted(table.groupby(keys, sort=True, observed=True).indices.items()):
        group = " / ".join(map(str, values)) if isinstance(values, tuple) else str(values)
        if len(members) < n_cells:
            skipped[group] = len(members)
            continue
        order = np.random.default_rng([seed, zlib.crc32(group.encode())]).permutation(members)
        n = min(len(members) // n_cells, per_group or len(members))
        rows += [np.sort(order[i * n_cells : (i + 1) * n_cells]).astype(np.int64) for i in range(n)]
        groups += [group] * n
    if not rows:
        msg = f"no group of {', '.join(keys)} has {n_cells} cells; the largest has {max(skipped.values(), default=0)}. Pass a smaller n_cells="
        raise DataError(msg)
    if skipped:
        logger.warning(
            "%d groups have fewer than %d cells and are left out: %s", len(skipped), n_cells, listed(skipped)
        )
    return Samples(tuple(rows), tuple(groups), skipped)
