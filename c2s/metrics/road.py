"""What real and generated cells pass before they are compared, so that both have lost the same; and vectors by which they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from c2s.artefacts import read_json, whole_record
from c2s.cells.genes import GeneVocabulary
from c2s.errors import DataError, ModelError
from c2s.models.settings import SETTINGS_FILE
from c2s.sentences.background import Background
from c2s.sentences.corpus import UNKNOWN, CellSentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode
from c2s.sentences.record import is_corpus, read_corpus_record

if TYPE_CHECKING:
    from anndata import AnnData

Vectors = NDArray[np.float32]
Embedder = Callable[[Any], Vectors]  # cells in, (n, d) float32 out; ``name`` says what it is, where it has one


@dataclass(frozen=True)
class SentenceRoad:
    """Cells as a model's sentences tell them: encoded, cut and decoded.

    Attributes
    ----------
    decoder : RankDecoder
    vocabulary : GeneVocabulary
        Of the model.
    background : Background, optional
        That breaks ties as in the model's training.
    n_genes : int, optional
        Genes of a sentence; None keeps all.
    """

    decoder: RankDecoder
    vocabulary: GeneVocabulary
    background: Background | None = None
    n_genes: int | None = None

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Self:
        """Return the road of the model or run in ``folder``, or of a corpus or decoder; no weights are read.

        A model cuts sentences as it writes them: after the genes of its answers (perturbation, ``target="sentence"``) or of its cells
        (generation); one that answers by changes writes whole sentences. A corpus is cut as it was encoded, a decoder alone cuts nothing.

        Raises
        ------
        ArtefactError
            The folder holds no decoder, or a file is missing, truncated or of another version.
        """
        path = Path(folder)
        if (path / "model" / SETTINGS_FILE).is_file():
            path = path / "model"
        decoder = RankDecoder.read(path)
        if (path / SETTINGS_FILE).is_file():
            with whole_record(path / SETTINGS_FILE):
                record = read_json(path / SETTINGS_FILE)
                return cls(
                    decoder,
                    GeneVocabulary.from_dict(record["vocabulary"]),
                    Background.from_dict(record["background"]),
                    _written(record["settings"]["tasks"]),
                )
        n_genes = read_corpus_record(path)["encoding"]["n_genes"] if is_corpus(path) else None
        return cls(decoder, decoder.vocabulary, decoder.background, n_genes)

    def __call__(self, cells: AnnData | CellSentences) -> AnnData:
        """Return the cells as log1p CP10k; sentences are cut and decoded, cells encoded before.

        Of every sentence only its genes and their order are read (:func:`as_written`).

        Raises
        ------
        DataError
            The cells cannot be encoded (:func:`c2s.encode`).
        """
        if not isinstance(cells, CellSentences):
            cells = encode(
                cells, vocabulary=self.vocabulary, background=self.background,
                ties="vocabulary" if self.background is None else "background",
            )  # fmt: skip
        return self.decoder.decode(as_written(cells, self.n_genes))


def as_written(sentences: CellSentences, n_genes: int | None = None) -> CellSentences:
    """Return sentences cut to ``n_genes`` and as if a model had written them: how many genes the cell expressed is not known.

    A decoder reads more from sentences of real cells, in which the number of expressed genes and the way ties were broken say where counts
    change; a cell that a model wrote has neither, and comparing the two would tell the roads apart and not the cells.
    """
    cut = sentences if n_genes is None else sentences.truncate(n_genes)
    return replace(
        cut, n_expressed=np.full(len(cut), UNKNOWN, dtype=np.int32), encoding=cut.encoding.with_(source_hash=None)
    )


@dataclass(frozen=True)
class PCAEmbedder:
    """Principal components of training cells, frozen: an embedder that no test cell has shaped. Make one by :meth:`fit`.

    Attributes
    ----------
    genes : tuple of str
        Genes by which cells are placed; those a cell's table lacks count as 0.
    mean : ndarray, shape (n_genes,)
    components : ndarray, shape (d, n_genes)
    of : str
        What cells those are, for its name.
    """

    genes: tuple[str, ...]
    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    of: str = "training cells"

    @property
    def name(self) -> str:
        """What it is, in a result's ``space``."""
        return f"PCA({len(self.components)}) of {self.of}"

    @classmethod
    def fit(cls, adata: AnnData, *, n_components: int = 50, n_top_genes: int | None = 2000, seed: int = 0) -> Self:
        """Return the embedder fitted to training cells, log1p CP10k in ``X``.

        Parameters
        ----------
        n_components : int
        n_top_genes : int, optional
            Most variable genes (variance of the values); None takes all.
        seed : int
            Of the randomised solver.

        Raises
        ------
        DataError
            Fewer cells or genes than components.
        """
        from sklearn.decomposition import PCA

        variance = _variances(adata.X)
        chosen = np.sort(np.argsort(-variance, kind="stable")[:n_top_genes])
        if min(adata.n_obs - 1, len(chosen)) < n_components:
            msg = f"{n_components} components of {adata.n_obs} cells and {len(chosen)} genes; ask for fewer"
            raise DataError(msg)
        found = PCA(n_components, svd_solver="randomized", random_state=seed).fit(dense(adata.X[:, chosen]))
        genes = tuple(adata.var_names[chosen].astype(str))
        return cls(genes, found.mean_, found.components_)

    def __call__(self, cells: AnnData) -> Vectors:
        """Return the coordinates of cells, shape (n, d), float32.

        Raises
        ------
        ModelError
            The cells share fewer than half of its genes.
        """
        place = cells.var_names.get_indexer(self.genes)
        known = place >= 0
        if known.mean() < 0.5:
            msg = f"the cells have {int(known.sum()):,} of the {len(self.genes):,} genes that {self.name} was fitted to; at least half are needed"
            raise ModelError(msg)
        values = np.zeros((cells.n_obs, len(self.genes)))
        values[:, known] = dense(cells.X[:, place[known]])
        return ((values - self.mean) @ self.components.T).astype(np.float32)


def name_of(embedder: Embedder) -> str:
    """Return what an embedder calls itself."""
    return str(getattr(embedder, "name", None) or getattr(embedder, "__name__", None) or type(embedder).__name__)


def dense(matrix: Any) -> NDArray[np.float64]:
    """Return a matrix as a float64 array."""
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float64)


def _written(tasks: Mapping[str, Mapping[str, Any]]) -> int | None:
    """Return how many genes a model with these tasks writes of a cell; None where it writes all."""
    if "perturbation_response" in tasks:
        task = tasks["perturbation_response"]
        return int(task["n_answer"]) if task["target"] == "sentence" else None
    return int(tasks["cell_generation"]["n_genes"]) if "cell_generation" in tasks else None


def _variances(matrix: Any) -> NDArray[np.float64]:
    from sklearn.utils.sparsefuncs import mean_variance_axis

    if hasattr(matrix, "toarray"):
        return np.asarray(mean_variance_axis(matrix.tocsr(), axis=0)[1], dtype=np.float64)
    return np.asarray(matrix, dtype=np.float64).var(axis=0)
