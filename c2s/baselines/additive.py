"""The additive model of combinations: what is given together does what its parts do alone, one on top of the other."""

from __future__ import annotations

import numpy as np

from c2s.baselines.response_table import Array, Context, TrainingCells
from c2s.baselines.shifts import ShiftBaseline
from c2s.cells.library import Perturbation
from c2s.errors import ConfigError


class SumOfSingles(ShiftBaseline):
    """Control cells plus the sum of the mean changes of the single perturbations in the context.

    A part seen alone, but not in this context, has its mean over the contexts it was seen alone in. One never seen alone is
    estimated from the training combinations that hold it: what they do beyond their other parts, by ridge regression on
    which of such parts they hold, within the context if it has one of them and else over all contexts. A part seen nowhere
    adds 0, and so does the control. A combination seen in training is the sum of its parts, too.

    Parameters
    ----------
    ridge : float
        Squared penalty on the change of a part never seen alone; of one that n combinations hold, which no other such part
        shares, the estimate is their sum divided by ``n + ridge``.
    """

    name = "control cells + sum of single shifts"
    reads = "parts"

    def __init__(self, *, ridge: float = 0.1) -> None:
        if ridge <= 0:
            msg = f"ridge must be above 0; got {ridge}"
            raise ConfigError(msg)
        self.ridge = ridge

    def _learn(self, training: TrainingCells, seed: int) -> None:
        super()._learn(training, seed)
        alone = {name for name, each in training.perturbations.items() if not each.parts}
        self._alone = alone | {training.control}
        combinations = [each for each in training.perturbations.values() if each.parts]
        self._pooled = self._estimated(combinations, self._table.contexts)
        self._within = {context: self._estimated(combinations, [context]) for context in self._table.contexts}

    def _shift(self, perturbation: Perturbation, context: Context) -> Array:
        return np.sum([self._of_part(name, context) for name in perturbation.single], axis=0)

    def _of_part(self, name: str, context: Context) -> Array:
        nothing = np.zeros_like(self._table.mean())
        if name in self._alone:
            own = self._table.own(name, context)
            return nothing if own is None else own
        return self._within.get(context, {}).get(name, self._pooled.get(name, nothing))

    def _estimated(self, combinations: list[Perturbation], contexts: list[Context]) -> dict[str, Array]:
        """Return the change of each part never seen alone that a combination in the contexts holds."""
        measured = dict(zip(self._table.pairs, self._table.changes))
        held, beyond = [], []
        for context in contexts:
            for each in combinations:
                unknown = {name for name in each.parts if name not in self._alone}
                if unknown and (each.name, context) in measured:
                    known = [self._of_part(name, context) for name in each.parts if name in self._alone]
                    held.append(unknown)
                    beyond.append(measured[each.name, context] - np.sum(known, axis=0))
        names = sorted(set().union(*held))
        if not names:
            return {}
        hot = np.array([[name in each for name in names] for each in held], dtype=np.float64)
        solved = np.linalg.solve(hot.T @ hot + self.ridge * np.eye(len(names)), hot.T @ np.stack(beyond))
        return dict(zip(names, solved))
