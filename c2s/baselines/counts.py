"""What every annotation baseline shares: raw counts in, labels checked, test genes brought to those of training."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from c2s.cells.genes import listed
from c2s.cells.normalise import looks_like_counts
from c2s.cells.reading import expression
from c2s.errors import DataError, ModelError

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

Codes = NDArray[np.intp]
Probabilities = NDArray[np.float64]


class CountsAnnotator(ABC):
    """An annotator of raw counts; a subclass says what is learnt from them.

    Attributes
    ----------
    name : str
        Of the row in a table.
    classes_ : ndarray of str
        Labels seen in training, sorted.
    genes_ : list of str
        Genes of the training cells, which test cells are brought to.
    """

    name: str = ""
    min_classes: ClassVar[int] = 2

    classes_: NDArray[np.str_]
    genes_: list[str]

    def fit(self, adata: AnnData, labels: Any, *, seed: int) -> Self:
        """Learn from cells and return the annotator itself.

        Parameters
        ----------
        adata : AnnData, raw counts in ``X``
        labels : array-like of str, shape (n_cells,)
        seed : int
            Of all that is drawn at random; equal seeds give equal annotators.

        Raises
        ------
        DataError
            No counts, a label too many or too few, a missing label, or a single class.
        """
        matrix, genes = _counts(adata)
        values = np.asarray(labels, dtype=object)
        if values.shape != (matrix.shape[0],):
            msg = f"{matrix.shape[0]} cells but labels of shape {values.shape}; pass one label a cell"
            raise DataError(msg)
        if pd.isna(pd.Series(values)).any():
            msg = f"{int(pd.isna(pd.Series(values)).sum())} labels are missing; leave those cells out"
            raise DataError(msg)
        classes, codes = np.unique(values.astype(str), return_inverse=True)
        if len(classes) < self.min_classes:
            msg = f"{self.name} needs at least {self.min_classes} classes; found {', '.join(classes)}"
            raise DataError(msg)
        self.classes_, self.genes_ = classes, genes
        self._learn(matrix, codes, seed)
        return self

    def predict_proba(self, adata: AnnData) -> pd.DataFrame:
        """Return probabilities, float64, a row a cell and a column a class; a cell's row depends on no other cell.

        Raises
        ------
        ModelError
            Called before ``fit``.
        DataError
            No counts, or no gene of training among the genes of the cells. Some missing ones are logged and taken as 0.
        """
        if not hasattr(self, "classes_"):
            msg = f"{self.name} has learned nothing yet; call fit first"
            raise ModelError(msg)
        matrix, genes = _counts(adata)
        found = self._probabilities(_aligned(matrix, genes, self.genes_))
        return pd.DataFrame(found, index=adata.obs_names, columns=self.classes_)

    @abstractmethod
    def _learn(self, matrix: sp.csr_matrix, codes: Codes, seed: int) -> None: ...

    @abstractmethod
    def _probabilities(self, matrix: sp.csr_matrix) -> Probabilities: ...


def _counts(adata: AnnData) -> tuple[sp.csr_matrix, list[str]]:
    matrix, genes = expression(adata)
    if not looks_like_counts(matrix):
        msg = "adata.X holds values that are no whole numbers; annotation baselines take raw counts in X"
        raise DataError(msg)
    return matrix, genes


def _aligned(matrix: sp.csr_matrix, genes: list[str], wanted: list[str]) -> sp.csr_matrix:
    """Return the columns ``wanted``, 0 where ``genes`` lacks one, canonical CSR."""
    if genes == wanted:
        return matrix
    place = {gene: column for column, gene in enumerate(wanted)}
    columns = np.array([place.get(gene, -1) for gene in genes], dtype=np.int64)
    kept = columns >= 0
    if not kept.any():
        msg = f"the cells share no gene with the {len(wanted):,} of training; theirs are {listed(genes, 3)}, those of "
        msg += f"training {listed(wanted, 3)}: bring both to one kind of names"
        raise DataError(msg)
    missing = len(wanted) - int(kept.sum())
    if missing or not kept.all():
        message = "%d of %d training genes are missing in the cells and taken as 0; %d genes of the cells are not used"
        logger.info(message, missing, len(wanted), int((~kept).sum()))
    chosen = matrix[:, np.flatnonzero(kept)].tocsr()
    shape = (matrix.shape[0], len(wanted))
    aligned = sp.csr_matrix((chosen.data, columns[kept][chosen.indices], chosen.indptr), shape=shape)
    aligned.sort_indices()
    return aligned
