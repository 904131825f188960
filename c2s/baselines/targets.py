"""What a response model must beat: the context's mean, ridge on targets x context, and neighbours by shared targets.

All three predict the mean change of every gene, log1p of counts per 1e4, after a perturbation in a context.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from c2s.errors import ConfigError, DataError, ModelError

if TYPE_CHECKING:
    from c2s.cells.library import Perturbation

Matrix = NDArray[np.float64]
ALPHAS = tuple(float(alpha) for alpha in 10.0 ** np.arange(-2, 4.1, 0.5))


class _ResponseBaseline(ABC):
    """The shared face: one row per (perturbation, context) pair in, changes of all genes out."""

    def fit(self, perturbations: Sequence[Perturbation], contexts: Sequence[str], responses: ArrayLike) -> Self:
        """Learn from measured responses and return the baseline itself.

        Parameters
        ----------
        perturbations, contexts : sequence, length n
            What was given, and in which context; the same perturbation may come in several contexts.
        responses : array-like, shape (n, n_genes)
            Mean change against matched controls, log1p of counts per 1e4.

        Raises
        ------
        DataError
            Lengths that differ, no row, or values that are not finite.
        """
        values = np.asarray(responses, dtype=np.float64)
        if values.ndim != 2 or not len(values) == len(perturbations) == len(contexts) or not len(values):
            msg = f"expected one row of responses per pair, found responses of shape {values.shape} for "
            msg += f"{len(perturbations)} perturbations and {len(contexts)} contexts"
            raise DataError(msg)
        if not np.isfinite(values).all():
            msg = f"responses hold {np.count_nonzero(~np.isfinite(values))} values that are not finite"
            raise DataError(msg)
        self._known = sorted(set(contexts))
        index = self._context_index(contexts)
        self._mean = np.stack([values[index == c].mean(axis=0) for c in range(len(self._known))])
        self._learn(list(perturbations), index, values)
        return self

    def predict(self, perturbations: Sequence[Perturbation], contexts: Sequence[str]) -> Matrix:
        """Return the predicted change of every gene, shape (n, n_genes), float64, log1p of counts per 1e4.

        Raises
        ------
        ModelError
            Called before ``fit``.
        DataError
            A context that was not in training (the message lists those that were), or lengths that differ.
        """
        if not hasattr(self, "_mean"):
            msg = f"{type(self).__name__} has learned nothing yet; call fit first"
            raise ModelError(msg)
        if len(perturbations) != len(contexts):
            msg = f"{len(perturbations)} perturbations but {len(contexts)} contexts; give one context per perturbation"
            raise DataError(msg)
        return self._respond(list(perturbations), self._context_index(contexts))

    def _context_index(self, contexts: Sequence[str]) -> NDArray[np.intp]:
        unknown = sorted(set(contexts) - set(self._known))
        if unknown:
            msg = f"no training response in context {', '.join(unknown)}; trained on {', '.join(self._known)}"
            raise DataError(msg)
        return np.array([self._known.index(context) for context in contexts], dtype=np.intp)

    @abstractmethod
    def _learn(self, perturbations: list[Perturbation], context: NDArray[np.intp], values: Matrix) -> None: ...

    @abstractmethod
    def _respond(self, perturbations: list[Perturbation], context: NDArray[np.intp]) -> Matrix: ...


class MeanResponse(_ResponseBaseline):
    """The mean training response of the context, whatever the perturbation: the trivial row."""

    def _learn(self, perturbations: list[Perturbation], context: NDArray[np.intp], values: Matrix) -> None:
        pass

    def _respond(self, perturbations: list[Perturbation], context: NDArray[np.intp]) -> Matrix:
        return self._mean[context]


class TargetRidge(_ResponseBaseline):
    """Ridge regression on target genes, contexts and their products.

    ``response = intercept[context] + sum over targets t of (main[t] + interaction[t, context])``, with a squared
    penalty ``alpha`` on ``main`` and ``interaction`` and none on the intercepts (everything is centred within context
    first). A perturbation without a known target gets the intercept.

    Parameters
    ----------
    alpha : float, optional
        Penalty. None picks the best of ``alphas`` by cross-validation over perturbations (5 folds, or one per
        perturbation if there are fewer), so that a perturbation is never in both parts; with a single perturbation, 1.
    alphas : sequence of float
        Penalties tried, by squared error over all genes.

    Attributes
    ----------
    alpha_ : float
        The penalty used.
    """

    def __init__(self, *, alpha: float | None = None, alphas: Sequence[float] = ALPHAS) -> None:
        if (alpha is not None and alpha <= 0) or not alphas or min(alphas) <= 0:
            msg = f"penalties must be above 0; got alpha={alpha}, alphas={list(alphas)}"
            raise ConfigError(msg)
        self.alpha = alpha
        self.alphas = tuple(alphas)

    def _learn(self, perturbations: list[Perturbation], context: NDArray[np.intp], values: Matrix) -> None:
        self._targets = {t: i for i, t in enumerate(sorted({t for p in perturbations for t in p.targets}))}
        features = self._features(perturbations, context)
        names = [perturbation.name for perturbation in perturbations]
        self.alpha_ = self.alpha if self.alpha is not None else self._choose(features, context, values, names)
        self._coefficients, self._intercepts = self._solve(features, context, values, [self.alpha_])[0]

    def _respond(self, perturbations: list[Perturbation], context: NDArray[np.intp]) -> Matrix:
        return self._features(perturbations, context) @ self._coefficients + self._intercepts[context]

    def _features(self, perturbations: list[Perturbation], context: NDArray[np.intp]) -> Matrix:
        """Return targets, then targets x each context, shape (n, n_targets * (1 + n_contexts))."""
        hot = np.zeros((len(perturbations), len(self._targets)))
        for row, perturbation in enumerate(perturbations):
            hot[row, [self._targets[t] for t in perturbation.targets if t in self._targets]] = 1.0
        return np.hstack([hot, *(hot * (context == c)[:, None] for c in range(len(self._known)))])

    def _solve(
        self, features: Matrix, context: NDArray[np.intp], values: Matrix, alphas: Sequence[float]
    ) -> list[tuple[Matrix, Matrix]]:
        """Return coefficients and context intercepts for every penalty, from one decomposition."""
        x_mean, y_mean = self._context_means(features, context), self._context_means(values, context)
        left, singular, right = np.linalg.svd(features - x_mean[context], full_matrices=False)
        projected = left.T @ (values - y_mean[context])
        solved = []
        for alpha in alphas:
            coefficients = right.T @ ((singular / (singular**2 + alpha))[:, None] * projected)
            solved.append((coefficients, y_mean - x_mean @ coefficients))
        return solved

    def _context_means(self, matrix: Matrix, context: NDArray[np.intp]) -> Matrix:
        """Return the mean row of each context; a context without rows gets the mean over all."""
        chosen = [context == c for c in range(len(self._known))]
        return np.stack([matrix[c if c.any() else slice(None)].mean(axis=0) for c in chosen])

    def _choose(self, features: Matrix, context: NDArray[np.intp], values: Matrix, names: list[str]) -> float:
        from sklearn.model_selection import GroupKFold  # slow to import

        n_folds = min(5, len(set(names)))
        if n_folds < 2:
            return 1.0
        loss = np.zeros(len(self.alphas))
        for train, test in GroupKFold(n_folds).split(features, groups=names):
            solved = self._solve(features[train], context[train], values[train], self.alphas)
            for i, (coefficients, intercepts) in enumerate(solved):
                predicted = features[test] @ coefficients + intercepts[context[test]]
                loss[i] += ((predicted - values[test]) ** 2).sum()
        return self.alphas[int(loss.argmin())]


class TargetNeighbours(_ResponseBaseline):
    """Mean response, weighted by similarity, of the k perturbations whose targets are most alike, in the same context.

    Similarity is the Jaccard index of the target sets. Only perturbations that share a target count; all that tie with
    the k-th are included, so row order is of no consequence; where none shares a target the context's mean answers.

    Parameters
    ----------
    k : int
        Number of neighbours.
    """

    def __init__(self, *, k: int = 5) -> None:
        if k < 1:
            msg = f"k must be at least 1; got {k}"
            raise ConfigError(msg)
        self.k = k

    def _learn(self, perturbations: list[Perturbation], context: NDArray[np.intp], values: Matrix) -> None:
        self._sets = [frozenset(perturbation.targets) for perturbation in perturbations]
        self._context, self._values = context, values

    def _respond(self, perturbations: list[Perturbation], context: NDArray[np.intp]) -> Matrix:
        predicted = self._mean[context]
        for row, perturbation in enumerate(perturbations):
            targets = frozenset(perturbation.targets)
            similarity = np.array([_jaccard(targets, known) for known in self._sets])
            similarity[self._context != context[row]] = 0.0
            nearest = np.sort(similarity)[::-1][: self.k][-1]
            weights = np.where(similarity >= nearest, similarity, 0.0)
            if weights.any():
                predicted[row] = weights @ self._values / weights.sum()
        return predicted


def _jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared) if shared else 0.0
