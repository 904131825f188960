"""How rare each gene is: fitted once, it breaks ties in every sentence, and travels with the corpus and the model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numba
import numpy as np
import pandas as pd

from c2s.artefacts import hash_of, read_json, whole_record, write_json
from c2s.cells.genes import GeneVocabulary, OnCollision
from c2s.cells.reading import expression
from c2s.errors import ArtefactError, DataError
from c2s.sentences.ranking import over_rows

if TYPE_CHECKING:
    import scipy.sparse as sp
    from anndata import AnnData


@dataclass(frozen=True, eq=False)
class Background:
    """Share of cells that express each gene, in the cells it was fitted on.

    Parameters
    ----------
    vocabulary : GeneVocabulary
    detection : ndarray, shape (n_genes,), float64, in [0, 1]
        Share of cells with a value above 0.
    n_cells : int
        How many cells it was fitted on.
    """

    vocabulary: GeneVocabulary
    detection: np.ndarray
    n_cells: int

    def __post_init__(self) -> None:
        detection = np.asarray(self.detection, dtype=np.float64)
        if detection.shape != (len(self.vocabulary),):
            msg = f"detection has shape {detection.shape} for {len(self.vocabulary):,} genes"
            raise DataError(msg)
        if not np.all((detection >= 0) & (detection <= 1)):
            msg = "detection is a share of cells; found values outside 0 to 1"
            raise DataError(msg)
        object.__setattr__(self, "detection", detection)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Background) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    @cached_property
    def hash(self) -> str:
        """16 hex digits that name the genes, their detection and the number of cells."""
        return hash_of(self.vocabulary.hash, self.detection, self.n_cells)

    @classmethod
    def fit(
        cls,
        adata: AnnData,
        *,
        layer: str | None = None,
        on_collision: OnCollision = "error",
        aliases: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the background of the cells in ``adata``; pass training cells only.

        Raises
        ------
        DataError
            The matrix cannot be ranked; see :func:`c2s.cells.reading.expression`.
        """
        matrix, genes = expression(adata, layer=layer, on_collision=on_collision, aliases=aliases)
        return cls.of_matrix(matrix, GeneVocabulary.from_symbols(genes))

    @classmethod
    def of_matrix(cls, matrix: sp.csr_matrix, vocabulary: GeneVocabulary) -> Self:
        """Return the background of a canonical CSR matrix whose columns are ``vocabulary``."""
        parts: list[np.ndarray] = []
        over_rows(lambda start, stop: parts.append(_counts(matrix.indices[start:stop], len(vocabulary))), matrix.nnz)
        cells = sum(parts, start=np.zeros(len(vocabulary), dtype=np.int64))
        return cls(vocabulary, cells / matrix.shape[0], matrix.shape[0])

    def tie_ranks(self, vocabulary: GeneVocabulary) -> np.ndarray:
        """Return each gene's place among equals, int32, shape (len(vocabulary),): 0 comes first.

        Unknown genes come first, by a hash of their symbol; then the rarer gene; then the gene that comes earlier in
        the background's own vocabulary. The order of two genes does not depend on which other genes are present.
        """
        if vocabulary.symbols == self.vocabulary.symbols:
            return self._own_tie_ranks
        known = np.array([symbol in self.vocabulary for symbol in vocabulary.symbols], dtype=bool)
        positions = self.vocabulary.ids(vocabulary.symbols, missing="drop")
        detection = np.full(len(vocabulary), -1.0)
        detection[known] = self.detection[positions]
        second = hash_of_names(vocabulary.symbols)
        second[known] = positions.astype(np.uint64)
        return _places(np.lexsort((second, detection)))

    @cached_property
    def _own_tie_ranks(self) -> np.ndarray:
        ranks = _places(np.argsort(self.detection, kind="stable"))
        ranks.flags.writeable = False
        return ranks

    def to_dict(self) -> dict[str, Any]:
        """Return a mapping for :func:`c2s.artefacts.write_json`; :meth:`from_dict` reads it back exactly."""
        return {"vocabulary": self.vocabulary.to_dict(), "detection": self.detection, "n_cells": self.n_cells}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Return the background that :meth:`to_dict` described."""
        vocabulary = GeneVocabulary.from_dict(record["vocabulary"])
        return cls(vocabulary, np.asarray(record["detection"], dtype=np.float64), int(record["n_cells"]))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the background as one JSON file, atomically."""
        write_json(path, self.to_dict())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Return the background in a JSON file, or of the corpus in a folder (its ``corpus.json``).

        Raises
        ------
        ArtefactError
            There is no such file, or it holds no background.
        """
        source = Path(path)
        if source.is_dir():
            source = source / "corpus.json"
        record = read_json(source)
        if isinstance(record, dict) and "background" in record:
            record = record["background"]
        if not isinstance(record, dict) or "detection" not in record:
            msg = f"{source} holds no background; make one by Background.fit(adata).write(path) or c2s encode --ties background"
            raise ArtefactError(msg)
        with whole_record(source):
            return cls.from_dict(record)


def _places(order: np.ndarray) -> np.ndarray:
    places = np.empty(len(order), dtype=np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    return places


def hash_of_names(names: Iterable[str], *, seed: int = 0) -> np.ndarray:
    """Return a 64-bit hash of each name, uint64, the same on every machine and in every order."""
    values = np.asarray(names if isinstance(names, np.ndarray) else list(names), dtype=object)
    hashes: np.ndarray = pd.util.hash_array(values, hash_key=f"{seed % 10**16:016d}", categorize=False)
    return hashes


@numba.njit(nogil=True, cache=True)
def _counts(ids: np.ndarray, n: int) -> np.ndarray:
    counts = np.zeros(n, dtype=np.int64)
    for gene in ids:
        counts[gene] += 1
    return counts
