"""Annotation baselines by name, and the face they share with each other: raw counts and labels in, probabilities out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self

from c2s.baselines.celltypist_rows import CellTypist
from c2s.baselines.geneformer_arch import GeneformerArchitecture
from c2s.baselines.linear import Majority, PcaNeighbours, TopGenesLogistic, VariableGenesLogistic
from c2s.baselines.scgpt_arch import ScgptArchitecture
from c2s.baselines.scgpt_folder import ScgptFolder

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class Annotator(Protocol):
    """What names cell types.

    Attributes
    ----------
    name : str
        Of its row in a table: what it is and what it was trained on.
    """

    name: str

    def fit(self, adata: AnnData, labels: Any, *, seed: int) -> Self:
        """Learn from raw counts in ``X`` and one label a cell, and return the annotator itself."""
        ...

    def predict_proba(self, adata: AnnData) -> pd.DataFrame:
        """Return probabilities, a row a cell (index ``obs_names``) and a column a class, of raw counts in ``X``."""
        ...


#: Row → what makes its annotator. The two ``scgpt_folder`` rows need ``folder=``; ``celltypist`` needs its extra.
ANNOTATORS: dict[str, Callable[..., Annotator]] = {
    "majority": Majority,
    "logistic_variable_genes": VariableGenesLogistic,
    "logistic_top_genes": TopGenesLogistic,
    "logistic_top_genes_rank": partial(TopGenesLogistic, weights="rank"),
    "knn_pca": PcaNeighbours,
    "celltypist": CellTypist,
    "scgpt_architecture": ScgptArchitecture,
    "geneformer_architecture": GeneformerArchitecture,
    "scgpt_folder_frozen_probe": partial(ScgptFolder, mode="frozen_probe"),
    "scgpt_folder_fine_tuned": partial(ScgptFolder, mode="fine_tuned"),
}
