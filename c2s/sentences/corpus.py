"""Cell sentences in memory and on disk: flat gene ids with offsets, the cells' metadata, and how they were encoded."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from c2s.artefacts import hash_of, whole_folder, whole_record, write_json
from c2s.cells.genes import GeneVocabulary, listed
from c2s.cells.reading import refuse_repeated_cells
from c2s.errors import ConfigError, DataError, MissingDependencyError
from c2s.sentences.background import Background
from c2s.sentences.flat import gathered, ranks_of, whole_numbers
from c2s.sentences.mapped import is_large, mapped_flat
from c2s.sentences.obs_types import kinds_of
from c2s.sentences.parquet import read_flat, read_obs, sentence_table, write_parts
from c2s.sentences.ranking import first_repeat
from c2s.sentences.record import Encoding, corpus_record, read_corpus_record

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

UNKNOWN = -1  # n_expressed of a sentence whose cell is not known, as for generated ones


@dataclass(frozen=True, eq=False)
class CellSentences:
    """Genes of each cell by falling expression, as ids into one vocabulary.

    The ids may be a read-only view of a file (:func:`read_sentences` with ``memory_map=True``). Then a slice is a view of it,
    rows chosen otherwise and :meth:`truncate` copy what they keep and no more, and :meth:`ranks` reads it from end to end.

    Parameters
    ----------
    ids : ndarray, shape (total,), int32
        All sentences one after another.
    offsets : ndarray, shape (n + 1,), int64
        Sentence i is ``ids[offsets[i]:offsets[i + 1]]``.
    n_expressed : ndarray, shape (n,), int32
        Genes of the vocabulary that the cell expressed, before the sentence was cut; -1 where unknown.
    vocabulary : GeneVocabulary
    obs : DataFrame, n rows, unique str index
    encoding : Encoding
    background : Background or None
        What broke the ties.

    Raises
    ------
    DataError
        The parts do not fit each other.
    """

    ids: np.ndarray
    offsets: np.ndarray
    n_expressed: np.ndarray
    vocabulary: GeneVocabulary
    obs: pd.DataFrame
    encoding: Encoding
    background: Background | None = None

    def __post_init__(self) -> None:
        self._check_shapes()
        if self.ids.view(np.uint32).max(initial=0) >= len(self.vocabulary):  # one pass: ids below 0 are large numbers
            msg = f"ids run from {self.ids.min()} to {self.ids.max()} in a vocabulary of {len(self.vocabulary):,} genes"
            raise DataError(msg)
        refuse_repeated_cells(self.obs.index)
        refuse_repeated_genes(self.ids, self.offsets, self.vocabulary, self.obs.index)
        short = np.flatnonzero(
            (self.n_expressed < UNKNOWN) | ((self.n_expressed >= 0) & (self.n_expressed < self.lengths))
        )
        if len(short):
            msg = (
                f"sentence {short[0]} has {self.lengths[short[0]]:,} genes and n_expressed {self.n_expressed[short[0]]}; "
                "it is at least the length, or -1 where it is not known"
            )
            raise DataError(msg)

    def _check_shapes(self) -> None:
        for name, dtype in (("ids", np.int32), ("offsets", np.int64), ("n_expressed", np.int32)):
            object.__setattr__(self, name, whole_numbers(getattr(self, name), dtype, name))
        n = len(self.offsets) - 1
        if n < 0 or self.offsets[0] != 0 or self.offsets[-1] != len(self.ids) or np.any(np.diff(self.offsets) < 0):
            msg = f"offsets must rise from 0 to the number of ids ({len(self.ids):,})"
            raise DataError(msg)
        if len(self.n_expressed) != n or len(self.obs) != n:
            msg = f"{n:,} sentences, but {len(self.n_expressed):,} n_expressed and {len(self.obs):,} rows of obs"
            raise DataError(msg)
        if n and self.obs.index.inferred_type != "string":
            object.__setattr__(self, "obs", self.obs.set_axis(self.obs.index.astype(str), axis=0))

    @classmethod
    def of_checked(cls, **parts: Any) -> Self:
        """Return sentences whose ids lie in the vocabulary, once in each, and whose cell names are unique: what :func:`encode` makes."""
        sentences = object.__new__(cls)
        for field in fields(cls):
            object.__setattr__(sentences, field.name, parts[field.name])
        sentences._check_shapes()
        return sentences

    def _with(self, **changes: Any) -> Self:
        """Return sentences of the same genes: all ids are among those of ``self``, and cell names are unique."""
        return self.of_checked(**{field.name: getattr(self, field.name) for field in fields(self)} | changes)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        lengths = self.lengths
        span = f"{lengths.min()}–{lengths.max()} genes" if len(self) else "none"
        return (
            f"CellSentences: {len(self):,} sentences of {span}, {len(self.vocabulary):,} {self.vocabulary.species} genes, "
            f"ties={self.encoding.ties!r}, obs: {listed(self.obs.columns) or '-'}"
        )

    @cached_property
    def lengths(self) -> np.ndarray:
        """Genes in each sentence, int64, shape (n,)."""
        return np.diff(self.offsets)

    def row(self, i: int) -> np.ndarray:
        """Return the ids of sentence ``i``, int32, a view, best-expressed gene first."""
        if not -len(self) <= i < len(self):
            msg = f"sentence {i} of {len(self):,}"
            raise IndexError(msg)
        i %= len(self)
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def genes(self, i: int) -> list[str]:
        """Return the symbols of sentence ``i``."""
        symbols = self.vocabulary.symbols
        return [symbols[gene] for gene in self.row(i)]

    def text(self, i: int, delimiter: str = " ") -> str:
        """Return sentence ``i`` as text; a cell of zeros gives an empty string.

        Raises
        ------
        DataError
            A symbol of the sentence holds the delimiter, so that the text could not be split again.
        """
        genes = self.genes(i)
        text = delimiter.join(genes)
        if genes and text.count(delimiter) != len(genes) - 1:
            msg = f"genes {listed(g for g in genes if delimiter in g)} hold the delimiter {delimiter!r}; pass another delimiter"
            raise DataError(msg)
        return text

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray | pd.Series) -> CellSentences:
        """Return the chosen sentences. A row chosen twice gets a suffix to its name in ``obs``."""
        if isinstance(rows, int | np.integer):
            msg = f"sentences[{rows}] is one sentence: use .row({rows}), .genes({rows}), .text({rows}) or [{rows}:{int(rows) + 1}]"
            raise TypeError(msg)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._span(start, max(start, stop))
            index = np.arange(len(self))[rows]  # any step, also one that no int64 holds
        else:
            index = self._index(np.asarray(rows))
        offsets = np.concatenate(([0], np.cumsum(self.lengths[index])))
        obs = self.obs.iloc[index]
        return self._with(
            ids=gathered(self.ids, self.offsets[:-1][index], offsets),
            offsets=offsets,
            n_expressed=self.n_expressed[index],
            obs=obs if len(np.unique(index)) == len(index) else _unique_rows(obs),
        )

    def _span(self, start: int, stop: int) -> CellSentences:
        offsets = self.offsets[start : stop + 1]
        return self._with(
            ids=self.ids[offsets[0] : offsets[-1]],
            offsets=offsets - offsets[0],
            n_expressed=self.n_expressed[start:stop],
            obs=self.obs.iloc[start:stop],
        )

    def _index(self, rows: np.ndarray) -> np.ndarray:
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                msg = f"a mask of {rows.shape} for {len(self):,} sentences"
                raise IndexError(msg)
            return np.flatnonzero(rows)
        if rows.size == 0:
            return np.empty(0, dtype=np.int64)
        if rows.dtype.kind not in "iu":
            msg = f"index sentences by a slice, whole numbers or a mask, not {rows.dtype}"
            raise TypeError(msg)
        if rows.min() < -len(self) or rows.max() >= len(self):
            msg = f"rows {rows.min()} to {rows.max()} of {len(self):,} sentences"
            raise IndexError(msg)
        return rows.astype(np.int64) % len(self)

    def truncate(self, n: int) -> CellSentences:
        """Return the sentences cut after their first ``n`` genes; ``n_expressed`` stays."""
        if n < 1:
            msg = f"truncate to {n} genes; n must be at least 1"
            raise ConfigError(msg)
        kept = n if self.encoding.n_genes is None else min(n, self.encoding.n_genes)
        encoding = self.encoding.with_(n_genes=kept)
        if not len(self) or self.lengths.max() <= n:
            return self._with(encoding=encoding)
        offsets = np.concatenate(([0], np.cumsum(np.minimum(self.lengths, n))))
        return self._with(ids=gathered(self.ids, self.offsets[:-1], offsets), offsets=offsets, encoding=encoding)

    def with_obs(self, obs: pd.DataFrame) -> CellSentences:
        """Return the same sentences with other metadata: one row a sentence, in order."""
        refuse_repeated_cells(obs.index)
        return self._with(obs=obs)

    def ranks(self, gene_ids: Sequence[int] | np.ndarray, *, absent: int) -> np.ndarray:
        """Return the 1-based rank of each gene in each sentence.

        Parameters
        ----------
        gene_ids : int, shape (k,)
            Ids in the vocabulary.
        absent : int
            What a gene gets that is not among the first ``absent - 1`` genes of the sentence.

        Returns
        -------
        ranks : ndarray, shape (n, k), int32
        """
        genes = np.asarray(gene_ids, dtype=np.int64).ravel()
        if genes.size and (genes.min() < 0 or genes.max() >= len(self.vocabulary)):
            msg = f"gene ids run from {genes.min()} to {genes.max()}; the vocabulary has {len(self.vocabulary):,} genes"
            raise DataError(msg)
        if absent < 1:
            msg = f"absent={absent}; it is a rank, at least 1"
            raise ConfigError(msg)
        unique, inverse = np.unique(genes, return_inverse=True)
        slot = np.full(len(self.vocabulary), -1, dtype=np.int32)
        slot[unique] = np.arange(len(unique), dtype=np.int32)
        found = ranks_of(self.ids, self.offsets, slot, len(unique), absent)
        return found if np.array_equal(unique, genes) else np.ascontiguousarray(found[:, inverse])

    def write(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the corpus, whole or not at all: ``part-*.parquet`` and ``corpus.json``. Return the folder.

        Raises
        ------
        ArtefactError
            The folder is not empty and ``overwrite`` is false, or c2s did not write it
            (:func:`c2s.artefacts.check_folder`).
        DataError
            A column of ``obs`` cannot be stored; what the folder held is still there.
        """
        with whole_folder(folder, overwrite=overwrite) as scratch:
            renamed = write_parts(scratch, self)
            kinds = kinds_of(self.obs)
            record = corpus_record(
                len(self), len(self.ids), renamed, kinds, self.vocabulary, self.encoding, self.background
            )
            write_json(scratch / "corpus.json", record)
        return Path(folder)

    def to_dataset(self) -> datasets.Dataset:
        """Return a Hugging Face dataset with columns ``cell``, ``ids``, ``n_expressed`` and those of ``obs``."""
        try:
            import datasets
        except ImportError as error:
            msg = "to_dataset needs the package datasets: pip install datasets"
            raise MissingDependencyError(msg) from error
        return datasets.Dataset(sentence_table(self))

    @classmethod
    def from_lists(
        cls,
        lists: Sequence[Sequence[int] | Sequence[str] | np.ndarray],
        vocabulary: GeneVocabulary,
        *,
        obs: pd.DataFrame | None = None,
        n_expressed: np.ndarray | None = None,
        encoding: Encoding | None = None,
        background: Background | None = None,
    ) -> Self:
        """Return sentences from lists of gene ids or symbols, best-expressed gene first.

        Without ``n_expressed`` it is -1 (unknown); without ``obs`` the cells are called ``"0"``, ``"1"``, ….
        """
        rows = [_ids_of(row, vocabulary) for row in lists]
        offsets = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int64)
        return cls(
            ids=np.concatenate(rows) if rows else np.empty(0, dtype=np.int32),
            offsets=offsets,
            n_expressed=np.full(len(rows), UNKNOWN) if n_expressed is None else n_expressed,
            vocabulary=vocabulary,
            obs=pd.DataFrame(index=pd.RangeIndex(len(rows)).astype(str)) if obs is None else obs,
            encoding=encoding or Encoding(),
            background=background,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[CellSentences]) -> CellSentences:
        """Return the sentences of all parts, in order; repeated cell names get a suffix.

        Raises
        ------
        DataError
            There are no parts, or they differ in vocabulary, background, ties or normalisation.
        """
        if not parts:
            msg = "nothing to concatenate"
            raise DataError(msg)
        first = parts[0]
        for part in parts[1:]:
            for name, one, other in (
                ("vocabulary", first.vocabulary.hash, part.vocabulary.hash),
                ("background", _hash(first.background), _hash(part.background)),
                ("ties", _ties(first.encoding), _ties(part.encoding)),
                ("normalisation", first.encoding.normalisation, part.encoding.normalisation),
            ):
                if one != other:
                    msg = f"cannot concatenate sentences of different {name} ({one} and {other}); encode them alike"
                    raise DataError(msg)
        starts = np.cumsum([0, *(len(part.ids) for part in parts)])
        settings = [part.encoding.model_dump() for part in parts]
        differing: dict[str, Any] = {n: None for n in ("layer", "values") if len({each[n] for each in settings}) > 1}
        limits = [part.encoding.n_genes for part in parts]
        sources = [part.encoding.source_hash for part in parts]
        if len(set(sources)) > 1:  # None stands for sentences that no cell was read for
            differing["source_hash"] = None if None in sources else hash_of(*sources)
        differing["n_genes"] = None if None in limits else max(n for n in limits if n is not None)
        return CellSentences(
            ids=np.concatenate([part.ids for part in parts]),
            offsets=np.concatenate([[0], *(part.offsets[1:] + start for part, start in zip(parts, starts[:-1]))]),
            n_expressed=np.concatenate([part.n_expressed for part in parts]),
            vocabulary=first.vocabulary,
            obs=_unique_rows(pd.concat([part.obs for part in parts])),
            encoding=first.encoding.with_(**differing),
            background=first.background,
        )


def read_sentences(
    folder: str | os.PathLike[str],
    *,
    memory_map: bool | None = False,
    cache: str | os.PathLike[str] | None = None,
) -> CellSentences:
    """Return the corpus that :meth:`CellSentences.write` left in ``folder``.

    Parameters
    ----------
    memory_map : bool or None
        Leave the ids on disk: for corpora larger than memory. The first time, they are written uncompressed beside the
        shards (4 bytes a gene), and later found there (:func:`c2s.sentences.mapped.mapped_flat`). Offsets, ``n_expressed``
        and ``obs`` are in memory; cell names and text columns of ``obs`` are Arrow strings there. None maps corpora whose
        ids take more than a quarter of memory.
    cache : path, optional
        Folder that gets the mapped file, where ``folder`` cannot be written.

    Raises
    ------
    ArtefactError
        It is not a corpus, it is of a later version, parts of it are missing or truncated, or the mapped file cannot be
        written.
    DataError
        Ids lie outside the vocabulary, or cell names or a sentence's genes occur twice.
    """
    source = Path(folder)
    record = read_corpus_record(source)
    with whole_record(source / "corpus.json"):
        columns, n, n_ids = record["obs_columns"], int(record["n"]), int(record["n_ids"])
        kinds = record.get("obs_kinds", {})  # corpora of the first weeks have none
        vocabulary, encoding = GeneVocabulary.from_dict(record["vocabulary"]), Encoding(**record["encoding"])
        background = None if record["background"] is None else Background.from_dict(record["background"])
    mapped = is_large(n_ids) if memory_map is None else memory_map
    n_expressed, obs = read_obs(source, columns, kinds=kinds, vocabulary=vocabulary.hash, compact=mapped)
    if mapped:
        ids, offsets = mapped_flat(source, record, obs.index, n_genes=len(vocabulary), cache=cache)
    else:
        ids, offsets = read_flat(source, n=n, n_ids=n_ids)
    make = CellSentences.of_checked if mapped else CellSentences
    with whole_record(source):
        return make(
            ids=ids, offsets=offsets, n_expressed=n_expressed, vocabulary=vocabulary, obs=obs, encoding=encoding,
            background=background,
        )  # fmt: skip


def refuse_repeated_genes(ids: np.ndarray, offsets: np.ndarray, vocabulary: GeneVocabulary, cells: pd.Index) -> None:
    """Raise a DataError that names cell and gene where a sentence holds a gene twice; return None if none does."""
    place = first_repeat(ids, offsets, len(vocabulary))
    if place >= 0:
        cell = cells[int(np.searchsorted(offsets, place, side="right")) - 1]
        msg = (
            f"the sentence of cell {cell} holds {vocabulary.symbols[ids[place]]} twice; a gene has one rank. Keep the first, "
            "or read generated text by c2s.sentences.text.read_texts"
        )
        raise DataError(msg)


def _ids_of(row: Sequence[int] | Sequence[str] | np.ndarray, vocabulary: GeneVocabulary) -> np.ndarray:
    if len(row) and isinstance(row[0], str):
        return vocabulary.ids(map(str, row))
    return whole_numbers(row, np.int32, "ids")


def _ties(encoding: Encoding) -> str:
    """Return what broke the ties, and the seed where it is read."""
    return f"hash, seed {encoding.seed}" if encoding.ties == "hash" else encoding.ties


def _hash(background: Background | None) -> str | None:
    return None if background is None else background.hash


def _unique_rows(obs: pd.DataFrame) -> pd.DataFrame:
    if obs.index.is_unique:
        return obs
    from anndata.utils import make_index_unique

    logger.info("repeated cells: %d of %d names get a suffix", int(obs.index.duplicated().sum()), len(obs))
    return obs.set_axis(make_index_unique(obs.index.astype(str)), axis=0)
