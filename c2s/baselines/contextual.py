"""Models of the mean change fitted to training conditions: the bilinear one of Ahlmann-Eltze et al., and those on target genes.

Each answers in the contexts of training; elsewhere its shift is the mean of its shifts in all of these.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from c2s.baselines.descriptors import Descriptors
from c2s.baselines.response_table import Array, Context, TrainingCells
from c2s.baselines.shifts import ShiftBaseline
from c2s.baselines.targets import TargetNeighbours, TargetRidge
from c2s.cells.library import Perturbation
from c2s.errors import ConfigError


class ContextualShift(ShiftBaseline):
    """A shift that is modelled in each training context; a subclass says how."""

    def _shift(self, perturbation: Perturbation, context: Context) -> Array:
        known = self._table.contexts
        return self._within(perturbation, [context] if context in known else known).mean(axis=0)

    @abstractmethod
    def _within(self, perturbation: Perturbation, contexts: list[Context]) -> Array:
        """Return shifts in training contexts, shape (n_contexts, n_genes)."""


class BilinearPCA(ContextualShift):
    """``shift = G W p + b``, with genes and perturbations in few dimensions (Ahlmann-Eltze et al., Nature Methods 2025).

    In each context, of the changes Y of its n training perturbations, shape (n_genes, n): ``b`` is their mean, ``G`` the
    first K principal axes of ``Y - b``, and ``W = (G'G + λ)⁻¹ G' (Y - b) P' (PP' + λ)⁻¹``. Where they read a perturbation's
    column ``p`` off the expression of the gene that is perturbed, which a drug or a cytokine does not have, here it is which
    parts and targets it has, as ones and zeros, on the first K right singular vectors of those of training (not centred, so
    that a perturbation of which nothing is known is answered by b). Singles that share nothing have singular values that are
    equal; which of them make up the first K is then arbitrary.

    Parameters
    ----------
    n_components : int
        K; fewer where there are fewer perturbations.
    ridge : float
        λ.
    """

    name = "bilinear PCA (Ahlmann-Eltze et al.)"
    reads = "parts"

    def __init__(self, *, n_components: int = 10, ridge: float = 0.1) -> None:
        if n_components < 1 or ridge <= 0:
            msg = f"n_components must be at least 1 and ridge above 0; got {n_components} and {ridge}"
            raise ConfigError(msg)
        self.n_components, self.ridge = n_components, ridge

    def _learn(self, training: TrainingCells, seed: int) -> None:
        super()._learn(training, seed)
        self._descriptors = Descriptors(training.perturbations.values(), control=training.control)
        self._models = {context: self._solved(training, context) for context in self._table.contexts}

    def _within(self, perturbation: Perturbation, contexts: list[Context]) -> Array:
        hot = self._descriptors.hot([perturbation])[0]
        return np.stack([base + hot @ linear for base, linear in (self._models[context] for context in contexts)])

    def _solved(self, training: TrainingCells, context: Context) -> tuple[Array, Array]:
        """Return b, (n_genes,), and ``G W`` after the reduction of descriptors, transposed, (n_descriptors, n_genes)."""
        rows = [row for row, pair in enumerate(self._table.pairs) if pair[1] == context]
        hot = self._descriptors.hot([training.perturbations[self._table.pairs[row][0]] for row in rows])
        changes = self._table.changes[rows]
        base = changes.mean(axis=0)
        genes = np.linalg.svd(changes - base, full_matrices=False)[2][: self.n_components].T
        reduced = np.linalg.svd(hot.astype(np.float64), full_matrices=False)[2][: self.n_components].T
        given = (hot @ reduced).T
        left = np.linalg.solve(genes.T @ genes + self.ridge * np.eye(genes.shape[1]), genes.T @ (changes - base).T)
        weights = np.linalg.solve(given @ given.T + self.ridge * np.eye(len(given)), given @ left.T).T
        return base, reduced @ (genes @ weights).T


class _TargetShift(ContextualShift):
    """A model of changes by target genes, fitted to all training conditions."""

    reads = "targets"

    def _learn(self, training: TrainingCells, seed: int) -> None:
        super()._learn(training, seed)
        given = [training.perturbations[name] for name, _ in self._table.pairs]
        contexts = [repr(context) for _, context in self._table.pairs]
        self._model = self._made().fit(given, contexts, self._table.changes)

    def _within(self, perturbation: Perturbation, contexts: list[Context]) -> Array:
        return self._model.predict([perturbation] * len(contexts), [repr(context) for context in contexts])

    @abstractmethod
    def _made(self) -> TargetRidge | TargetNeighbours: ...


class DescriptorRidge(_TargetShift):
    """Control cells moved by :class:`~c2s.baselines.targets.TargetRidge`: ridge regression on targets and targets x context.

    Parameters
    ----------
    alpha : float, optional
        Penalty; None chooses it by cross-validation over perturbations.
    """

    name = "ridge on target genes"

    def __init__(self, *, alpha: float | None = None) -> None:
        TargetRidge(alpha=alpha)  # refuses a penalty that is none
        self.alpha = alpha

    def _made(self) -> TargetRidge:
        return TargetRidge(alpha=self.alpha)


class DescriptorNeighbours(_TargetShift):
    """Control cells moved by :class:`~c2s.baselines.targets.TargetNeighbours`: the k perturbations whose targets are most alike.

    Parameters
    ----------
    k : int
        Number of neighbours.
    """

    name = "neighbours by target genes"

    def __init__(self, *, k: int = 5) -> None:
        TargetNeighbours(k=k)  # refuses less than one
        self.k = k

    def _made(self) -> TargetNeighbours:
        return TargetNeighbours(k=self.k)
