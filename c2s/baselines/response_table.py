"""Training cells by condition, and the mean change of each, with what answers where a condition was not measured.

A context is the tuple of a cell's values of the context keys; with no keys all cells are of one context, ``()``. Of a
condition, a perturbation in a context, the change is the mean of its cells less the mean of the controls of the context,
log1p of counts per 1e4.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from c2s.cells.genes import listed
from c2s.cells.reading import complete_column
from c2s.errors import DataError
from c2s.metrics.conditions import MIN_CELLS, mean_profile

if TYPE_CHECKING:
    import pandas as pd

    from c2s.cells.library import Perturbation

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Context = tuple[str, ...]
Pair = tuple[str, Context]  # name of a perturbation, context


def contexts_of(obs: pd.DataFrame, keys: Sequence[str], *, argument: str = "context_keys") -> list[Context]:
    """Return each cell's values of the columns ``keys``; a DataError where one is missing or has gaps."""
    columns = [complete_column(obs, key, argument) for key in keys]
    return list(zip(*columns)) if columns else [()] * len(obs)


@dataclass(frozen=True, eq=False)
class TrainingCells:
    """Cells to learn from.

    Attributes
    ----------
    matrix : csr_matrix, shape (n_cells, n_genes), float32, log1p CP10k
        Of all cells.
    genes : list of str
    control : str
        Name of what controls were given.
    controls : dict of context -> rows
        Control cells of each context.
    treated : dict of (perturbation, context) -> rows
        Conditions with two cells and two controls at least, sorted.
    perturbations : dict of name -> Perturbation
        Of the conditions.
    """

    matrix: sp.csr_matrix
    genes: list[str]
    control: str
    controls: Mapping[Context, Rows]
    treated: Mapping[Pair, Rows]
    perturbations: Mapping[str, Perturbation]

    @classmethod
    def of(
        cls, matrix: sp.csr_matrix, genes: list[str], names: NDArray[np.object_], contexts: Sequence[Context], control: str,
        described: Mapping[str, Perturbation],
    ) -> Self:  # fmt: skip
        """Return training cells by condition; conditions with too few cells or controls are left out and logged.

        Raises
        ------
        DataError
            No cell is a control, or no condition has two cells and two controls.
        """
        found: dict[Pair, list[int]] = {}
        for row, pair in enumerate(zip(names, contexts)):
            found.setdefault(pair, []).append(row)
        if not any(name == control for name, _ in found):
            msg = f"no training cell is a control {control!r}; found {listed(sorted(set(names)))}. Pass control="
            raise DataError(msg)
        rows = {pair: np.array(found[pair], dtype=np.intp) for pair in sorted(found)}
        controls = {context: each for (name, context), each in rows.items() if name == control}
        given = [pair for pair in rows if pair[0] != control]
        none = np.empty(0, dtype=np.intp)
        treated = {p: rows[p] for p in given if min(len(rows[p]), len(controls.get(p[1], none))) >= MIN_CELLS}
        if not treated:
            msg = f"none of {len(given)} training conditions has {MIN_CELLS} cells and {MIN_CELLS} controls of its context; "
            msg += "give training cells with controls in each context, or fewer context_keys"
            raise DataError(msg)
        if left := [" in ".join((name, *context)) for name, context in given if (name, context) not in treated]:
            message = "%d of %d training conditions have fewer than %d cells or controls and are left out: %s"
            logger.info(message, len(left), len(given), MIN_CELLS, listed(left))
        return cls(matrix, genes, control, controls, treated, {name: described[name] for name, _ in treated})


class ResponseTable:
    """The mean change of every training condition, each of the same weight however many cells it has.

    Parameters
    ----------
    pairs : sequence of (perturbation, context), length n
    changes : ndarray, shape (n, n_genes), float64, log1p of counts per 1e4

    Attributes
    ----------
    pairs : list of (perturbation, context)
    changes : ndarray, shape (n, n_genes)
    contexts : list of context
        Those with a change, sorted.
    """

    def __init__(self, pairs: Sequence[Pair], changes: Array) -> None:
        self.pairs, self.changes = list(pairs), changes
        self.contexts = sorted({context for _, context in pairs})
        self._row = {pair: row for row, pair in enumerate(pairs)}
        self._mean = changes.mean(axis=0)
        self._of_context = {c: changes[[pair[1] == c for pair in pairs]].mean(axis=0) for c in self.contexts}
        self._of_name = {n: changes[[pair[0] == n for pair in pairs]].mean(axis=0) for n in {n for n, _ in pairs}}

    @classmethod
    def of(cls, training: TrainingCells) -> Self:
        """Return the table of training cells."""
        base = {context: mean_profile(training.matrix[rows]) for context, rows in training.controls.items()}
        changes = [mean_profile(training.matrix[rows]) - base[pair[1]] for pair, rows in training.treated.items()]
        return cls(list(training.treated), np.stack(changes))

    def mean(self, context: Context | None = None) -> Array:
        """Return the mean change in a context; over all conditions for None or a context without one."""
        return self._mean if context is None else self._of_context.get(context, self._mean)

    def own(self, name: str, context: Context) -> Array | None:
        """Return the change of a perturbation in the context, else its mean over the contexts it was seen in, else None."""
        row = self._row.get((name, context))
        return self._of_name.get(name) if row is None else self.changes[row]

    def answer(self, name: str, context: Context) -> Array:
        """Return :meth:`own`, or the mean over all conditions for a perturbation that was not seen."""
        own = self.own(name, context)
        return self._mean if own is None else own
