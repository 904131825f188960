"""Annotation without a network: the commonest class, logistic regressions on genes or on cell sentences, neighbours.

Penalties are chosen by cross-validated log loss within the training cells, every class in every fold where it has cells
enough. Features are fitted to training cells only.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import scipy.sparse as sp

from c2s.baselines.counts import Codes, CountsAnnotator, Probabilities
from c2s.cells.genes import GeneVocabulary
from c2s.cells.normalise import counts_to_log1p_cp10k
from c2s.errors import ConfigError
from c2s.sentences.background import Background
from c2s.sentences.encode import rank_matrix

PENALTIES = (0.001, 0.01, 0.1, 1.0)  # C of scikit-learn: 1 / penalty
FOLDS = 3
Weights = Literal["binary", "rank"]


class Majority(CountsAnnotator):
    """The shares of the classes in training, for every cell."""

    name = "majority"
    min_classes = 1

    def _learn(self, matrix: sp.csr_matrix, codes: Codes, seed: int) -> None:
        self._shares = np.bincount(codes) / len(codes)

    def _probabilities(self, matrix: sp.csr_matrix) -> Probabilities:
        return np.tile(self._shares, (matrix.shape[0], 1))


class _Logistic(CountsAnnotator):
    """Multinomial logistic regression with a squared penalty on features that a subclass makes.

    Attributes
    ----------
    penalty_ : float
        The C chosen.
    """

    def __init__(self, *, penalties: Sequence[float] = PENALTIES, max_iter: int = 300) -> None:
        if not penalties or min(penalties) <= 0:
            msg = f"penalties (C of scikit-learn) must be above 0; got {list(penalties)}"
            raise ConfigError(msg)
        self.penalties = tuple(penalties)
        self.max_iter = max_iter

    def _learn(self, matrix: sp.csr_matrix, codes: Codes, seed: int) -> None:
        self._prepare(matrix)
        features = self._features(matrix)
        self.penalty_ = self._choose(features, codes, seed)
        self._model = self._fitted(features, codes, self.penalty_)

    def _probabilities(self, matrix: sp.csr_matrix) -> Probabilities:
        return np.asarray(self._model.predict_proba(self._features(matrix)), dtype=np.float64)

    def _fitted(self, features: Any, codes: Codes, penalty: float) -> Any:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # cut off at max_iter: one more way to shrink
            return LogisticRegression(C=penalty, max_iter=self.max_iter, tol=1e-3).fit(features, codes)

    def _choose(self, features: Any, codes: Codes, seed: int) -> float:
        from sklearn.model_selection import StratifiedKFold

        if len(self.penalties) == 1 or np.bincount(codes).max() < FOLDS:
            return self.penalties[len(self.penalties) // 2]
        loss = np.zeros(len(self.penalties))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class of fewer cells than folds
            folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(codes, codes))
        for train, test in folds:
            if len(np.unique(codes[train])) < 2:
                continue
            for i, penalty in enumerate(self.penalties):
                model = self._fitted(features[train], codes[train], penalty)
                found = np.full((len(test), codes.max() + 1), 1e-12)
                found[:, model.classes_] = model.predict_proba(features[test])
                loss[i] -= np.log(np.maximum(found[np.arange(len(test)), codes[test]], 1e-12)).sum()
        return self.penalties[int(loss.argmin())]

    @abstractmethod
    def _prepare(self, matrix: sp.csr_matrix) -> None: ...

    @abstractmethod
    def _features(self, matrix: sp.csr_matrix) -> Any: ...


class VariableGenesLogistic(_Logistic):
    """Logistic regression on log1p CP10k of the most variable genes, each divided by its training standard deviation.

    Parameters
    ----------
    n_genes : int
        Genes kept, by scanpy's dispersion (flavour ``seurat``).
    penalties, max_iter
        C of scikit-learn to choose from; iterations of L-BFGS.
    """

    name = "logistic regression, variable genes"

    def __init__(self, *, n_genes: int = 2000, penalties: Sequence[float] = PENALTIES, max_iter: int = 300) -> None:
        super().__init__(penalties=penalties, max_iter=max_iter)
        self.n_genes = n_genes

    def _prepare(self, matrix: sp.csr_matrix) -> None:
        values = counts_to_log1p_cp10k(matrix)
        self._chosen = variable_genes(values, self.n_genes)
        dense = values[:, self._chosen].toarray()
        self._centre, spread = dense.mean(axis=0), dense.std(axis=0)
        self._spread = np.where(spread > 0, spread, 1.0)

    def _features(self, matrix: sp.csr_matrix) -> np.ndarray:
        values = counts_to_log1p_cp10k(matrix)[:, self._chosen].toarray()
        return np.minimum((values - self._centre) / self._spread, 10.0)


class TopGenesLogistic(_Logistic):
    """Logistic regression on the bag of the genes of a cell sentence: what a language model reads, without its order.

    Parameters
    ----------
    n_genes : int
        Length of the sentence; ties by the background of the training cells.
    weights : {"binary", "rank"}
        1 for each gene of the sentence, or ``1 - rank / n_genes``, which keeps the order.
    penalties, max_iter
        C of scikit-learn to choose from; iterations of L-BFGS.
    """

    def __init__(
        self,
        *,
        n_genes: int = 200,
        weights: Weights = "binary",
        penalties: Sequence[float] = PENALTIES,
        max_iter: int = 300,
    ) -> None:
        super().__init__(penalties=penalties, max_iter=max_iter)
        if n_genes < 1 or weights not in get_args(Weights):
            msg = f"n_genes must be at least 1 and weights 'binary' or 'rank'; got {n_genes} and {weights!r}"
            raise ConfigError(msg)
        self.n_genes, self.weights = n_genes, weights
        self.name = f"logistic regression, {weights} top {n_genes} genes"

    def _prepare(self, matrix: sp.csr_matrix) -> None:
        self._background = Background.of_matrix(matrix, GeneVocabulary.from_symbols(self.genes_))

    def _features(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        background = self._background
        ids, offsets, _ = rank_matrix(
            matrix, background.vocabulary, [], ties="background", background=background, n_genes=self.n_genes
        )
        values = np.ones(len(ids))
        if self.weights == "rank":
            values -= (np.arange(len(ids)) - np.repeat(offsets[:-1], np.diff(offsets))) / self.n_genes
        return sp.csr_matrix((values, ids, offsets), shape=matrix.shape)


class PcaNeighbours(CountsAnnotator):
    """Shares of the classes among the k nearest training cells, Euclidean in PCA of log1p CP10k of the variable genes.

    Parameters
    ----------
    k : int
        Neighbours.
    n_components : int
        Principal components, fewer where there are fewer cells or genes.
    n_genes : int
        Variable genes.
    """

    name = "kNN on PCA"

    def __init__(self, *, k: int = 15, n_components: int = 50, n_genes: int = 2000) -> None:
        if min(k, n_components, n_genes) < 1:
            msg = f"k, n_components and n_genes must be at least 1; got {k}, {n_components}, {n_genes}"
            raise ConfigError(msg)
        self.k, self.n_components, self.n_genes = k, n_components, n_genes

    def _learn(self, matrix: sp.csr_matrix, codes: Codes, seed: int) -> None:
        from sklearn.decomposition import PCA
        from sklearn.neighbors import KNeighborsClassifier

        values = counts_to_log1p_cp10k(matrix)
        self._chosen = variable_genes(values, self.n_genes)
        dense = values[:, self._chosen].toarray()
        components = min(self.n_components, min(dense.shape) - 1) or 1
        self._pca = PCA(components, random_state=seed, svd_solver="randomized").fit(dense)
        self._model = KNeighborsClassifier(min(self.k, len(codes))).fit(self._pca.transform(dense), codes)

    def _probabilities(self, matrix: sp.csr_matrix) -> Probabilities:
        values = counts_to_log1p_cp10k(matrix)[:, self._chosen].toarray()
        return np.asarray(self._model.predict_proba(self._pca.transform(values)), dtype=np.float64)


def variable_genes(values: sp.csr_matrix, n_genes: int) -> np.ndarray:
    """Return columns of the ``n_genes`` most variable genes of log1p values, sorted; all expressed ones if there are no more."""
    expressed = np.flatnonzero(values.getnnz(axis=0))
    if len(expressed) <= n_genes:
        return expressed
    import anndata as ad
    import scanpy as sc

    cells = ad.AnnData(values[:, expressed].copy())
    table = sc.pp.highly_variable_genes(cells, n_top_genes=n_genes, flavor="seurat", inplace=False)
    return expressed[table["highly_variable"].to_numpy()]
