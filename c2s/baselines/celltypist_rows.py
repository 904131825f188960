"""CellTypist, trained on the cells given: an optional package behind the face of the other annotation baselines.

Domínguez Conde et al., Science 376, eabl5197 (2022).
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from c2s.baselines.counts import Codes, CountsAnnotator, Probabilities
from c2s.cells.normalise import counts_to_log1p_cp10k
from c2s.errors import MissingDependencyError

if TYPE_CHECKING:
    from anndata import AnnData


class CellTypist(CountsAnnotator):
    """CellTypist's own training, by stochastic gradient descent (its other solver needs an older scikit-learn).

    CellTypist gives each class the probability of being it against all others; here a cell's are divided by their sum,
    and the label is the one of highest score, as with CellTypist, where rounding makes several probabilities 1.
    Cells without counts in the genes of training get equal probabilities.

    Parameters
    ----------
    feature_selection : bool
        Whether to train twice, the second time on the ``top_genes`` of each class: the recipe of its authors.
    top_genes : int
        Genes a class keeps.

    Raises
    ------
    MissingDependencyError
        CellTypist is not installed.
    """

    name = "CellTypist"

    def __init__(self, *, feature_selection: bool = True, top_genes: int = 300) -> None:
        self._package = _celltypist()
        self.feature_selection, self.top_genes = feature_selection, top_genes

    def _learn(self, matrix: sp.csr_matrix, codes: Codes, seed: int) -> None:
        filled = matrix.getnnz(axis=1) > 0
        labels = self.classes_[codes][filled]
        n_expressed = int((matrix.getnnz(axis=0) > 0).sum())
        settings: dict[str, Any] = {"use_SGD": True, "n_jobs": 1, "check_expression": False, "random_state": seed}
        if self.feature_selection and n_expressed > self.top_genes:
            settings |= {"feature_selection": True, "top_genes": self.top_genes}
        self._model = self._package.train(self._cells(matrix[filled]), labels=labels, **settings)

    def _probabilities(self, matrix: sp.csr_matrix) -> Probabilities:
        filled = matrix.getnnz(axis=1) > 0
        found = np.full((matrix.shape[0], len(self.classes_)), 1 / len(self.classes_))
        if filled.any():
            answer = self._package.annotate(self._cells(matrix[filled]), model=self._model, majority_voting=False)
            scores = answer.decision_matrix[list(self.classes_)].to_numpy(dtype=np.float64)
            values = answer.probability_matrix[list(self.classes_)].to_numpy(dtype=np.float64)
            values = values + 1e-9 * (
                1 + scores.argsort(axis=1).argsort(axis=1)
            )  # several may be 1.0: the score decides
            found[filled] = values / values.sum(axis=1, keepdims=True)
        return found

    def _cells(self, matrix: sp.csr_matrix) -> AnnData:
        import anndata as ad

        cells = ad.AnnData(counts_to_log1p_cp10k(matrix))
        cells.var_names = self.genes_
        return cells


def _celltypist() -> Any:
    try:
        package = importlib.import_module("celltypist")
    except ImportError as error:
        msg = f'CellTypist could not be imported ({error}); run: pip install "c2s[celltypist]"'
        raise MissingDependencyError(msg) from error
    logging.getLogger("celltypist").setLevel(logging.WARNING)
    return package
