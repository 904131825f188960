"""Control cells moved by a mean change: no change, the mean of training perturbations, the mean of this very one.

A predicted cell is ``max(0, control cell + shift)``. Where many cells are at 0 and the shift is below it, the mean of the
predicted cells falls by less than the shift.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from c2s.baselines.response_table import Array, Context, ResponseTable, TrainingCells
from c2s.baselines.responses import ResponseBaseline, in_blocks
from c2s.cells.library import Perturbation


class ShiftBaseline(ResponseBaseline):
    """Control cells plus a change of each gene that depends on perturbation and context; a subclass says which."""

    def shift(self, perturbation: Perturbation, context: Sequence[str] = ()) -> Array:
        """Return the predicted mean change of every gene, shape (n_genes,), log1p of counts per 1e4.

        Parameters
        ----------
        perturbation : Perturbation
        context : sequence of str
            Values of the context keys of ``fit``.

        Raises
        ------
        ModelError
            Called before ``fit``.
        """
        self._require_fitted()
        return self._shift(perturbation, tuple(context))

    def _learn(self, training: TrainingCells, seed: int) -> None:
        self._table = ResponseTable.of(training)

    def _respond(
        self, matrix: sp.csr_matrix, contexts: list[Context], perturbations: list[Perturbation], seed: int
    ) -> sp.csr_matrix:
        known = sorted(set(contexts))
        shifts = np.array([[self._shift(each, context) for each in perturbations] for context in known], np.float32)
        place = {context: i for i, context in enumerate(known)}
        code = np.array([place[context] for context in contexts])
        return in_blocks(matrix, len(perturbations), lambda cells, rows: cells[:, None] + shifts[code[rows]])

    @abstractmethod
    def _shift(self, perturbation: Perturbation, context: Context) -> Array: ...


class NoChange(ShiftBaseline):
    """The control cells as they are."""

    name = "no change"

    def _shift(self, perturbation: Perturbation, context: Context) -> Array:
        return np.zeros_like(self._table.mean())


class TrainMean(ShiftBaseline):
    """The mean change over all training conditions, whatever the perturbation and the context."""

    name = "mean of training perturbations"

    def _shift(self, perturbation: Perturbation, context: Context) -> Array:
        return self._table.mean()


class ContextMean(ShiftBaseline):
    """The mean change over the training perturbations of the context; over all conditions in a context without any."""

    name = "mean of the context's training perturbations"

    def _shift(self, perturbation: Perturbation, context: Context) -> Array:
        return self._table.mean(context)


class PerturbationMean(ShiftBaseline):
    """The mean change of this very perturbation, "mean shift": that of the context if it was seen there.

    Else the mean over the contexts in which it was seen; of a perturbation that was not seen, the mean over all conditions.
    """

    name = "mean shift of the perturbation"

    def _shift(self, perturbation: Perturbation, context: Context) -> Array:
        return self._table.answer(perturbation.name, context)
