"""Sentences to expression: a fitted map from a gene's rank to log1p CP10k, never negative."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import anndata as ad
import numba
import numpy as np
import scipy.sparse as sp

from c2s.artefacts import read_record, whole_folder, whole_record, write_json
from c2s.cells.genes import GeneVocabulary, OnCollision
from c2s.cells.normalise import to_log1p_cp10k
from c2s.cells.reading import expression
from c2s.cells.scale import Scale
from c2s.errors import ArtefactError, ConfigError, DataError, ModelError
from c2s.sentences.background import Background
from c2s.sentences.corpus import CellSentences, Encoding, Ties
from c2s.sentences.encode import encode
from c2s.sentences.ranking import over_rows
from c2s.sentences.surface import Surface

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
MAX_FIT_ENTRIES = 4_000_000  # expressed genes of training cells; beyond it, cells are drawn by the seed
LOG_RANK_END = 999  # ranks the line of the literature is fitted to: log10(1 + rank) < 3
_CHUNK = 20_000  # sentences decoded at a time by ``values``

DecoderModel = Literal["gene", "log_rank"]


@dataclass(frozen=True, eq=False)
class RankDecoder:
    """A fitted map from rank to log1p CP10k. Make one by :meth:`fit` or :meth:`read`.

    Parameters
    ----------
    model
        * ``"gene"``: surface over relative rank and number of genes, a line for each gene, falling along the sentence
          (:mod:`c2s.sentences.surface`).
        * ``"log_rank"``: ``intercept + slope · log10(1 + rank)`` with 0-based rank, as in the Cell2Sentence papers.
    vocabulary, encoding, background
        Of the training sentences.
    normalised_from
        What the training matrix held (:func:`c2s.cells.scale.scale_of`), before it was brought to log1p CP10k.
    median_n_expressed
        Stands in for a sentence whose number of expressed genes is unknown (-1).
    n_cells
        Cells fitted.
    intercept, slope : float
        Of ``"log_rank"``, log1p CP10k and per decade of rank.
    clip
        Cut ``"log_rank"`` off at 0; its line turns negative at high ranks.
    surface
        Of ``"gene"``.
    """

    model: DecoderModel
    vocabulary: GeneVocabulary
    encoding: Encoding
    background: Background | None
    normalised_from: Scale
    median_n_expressed: int
    n_cells: int
    intercept: float
    slope: float
    clip: bool = True
    surface: Surface | None = None

    @classmethod
    def fit(
        cls,
        adata: ad.AnnData,
        *,
        layer: str | None = None,
        background: Background | None = None,
        model: DecoderModel = "gene",
        ties: Ties = "background",
        clip: bool = True,
        seed: int = 0,
        on_collision: OnCollision = "error",
        aliases: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the decoder fitted to the cells of ``adata``; pass training cells only.

        Parameters
        ----------
        model, clip
            See the class.
        seed
            Of ``ties="hash"``, and of the draw of cells where there are more than four million values.
        layer, background, ties, on_collision, aliases
            As for :func:`c2s.encode`: use those of the sentences to be decoded.

        Raises
        ------
        DataError
            The matrix cannot be ranked, expresses a single gene a cell, or cannot be brought to log1p CP10k.
        ConfigError
            There is no such model.
        """
        if model not in get_args(DecoderModel):
            msg = f"model={model!r}; choose {', '.join(map(repr, get_args(DecoderModel)))}"
            raise ConfigError(msg)
        if ties == "background" and background is None:
            background = Background.fit(adata, layer=layer, on_collision=on_collision, aliases=aliases)
        adata = _draw_cells(adata, layer, on_collision, aliases, seed)
        sentences = encode(
            adata, layer=layer, ties=ties, background=background, seed=seed, on_collision=on_collision, aliases=aliases
        )
        matrix, _ = expression(adata, layer=layer, on_collision=on_collision, aliases=aliases)
        normalised, scale = to_log1p_cp10k(matrix)
        sizes = sentences.n_expressed[sentences.n_expressed > 0]
        lengths = sentences.lengths
        ranks = np.arange(len(sentences.ids)) - np.repeat(sentences.offsets[:-1], lengths)
        values = _along(normalised, sentences)
        intercept, slope = _log_rank_line(ranks, values)
        surface = None
        if model == "gene":
            repeated = np.repeat(sentences.n_expressed, lengths)
            surface = Surface.fit(sentences.ids, ranks, repeated, values, n_genes=len(sentences.vocabulary))
        return cls(
            model=model,
            vocabulary=sentences.vocabulary,
            encoding=sentences.encoding,
            background=background,
            normalised_from=scale,
            median_n_expressed=int(np.median(sizes)),
            n_cells=len(sentences),
            intercept=intercept,
            slope=slope,
            clip=clip,
            surface=surface,
        )

    def decode(self, sentences: CellSentences) -> ad.AnnData:
        """Return the decoded cells: ``X`` CSR float32 log1p CP10k, ``obs`` of the sentences, ``var`` their vocabulary.

        Genes absent from a sentence are 0. ``obs["n_expressed"]`` holds the sentences' number of expressed genes.

        Raises
        ------
        ModelError
            The decoder knows under half of the sentences' vocabulary.
        """
        data = self._flat(sentences, self._gene_map(sentences.vocabulary))
        matrix = sp.csr_matrix(
            (data, sentences.ids.copy(), sentences.offsets.copy()), (len(sentences), len(sentences.vocabulary))
        )
        matrix.sort_indices()
        matrix.eliminate_zeros()
        cells = ad.AnnData(X=matrix, obs=sentences.obs.copy())
        cells.var_names = list(sentences.vocabulary.symbols)
        if "n_expressed" not in cells.obs:
            cells.obs["n_expressed"] = sentences.n_expressed
        cells.uns["c2s_decoder"] = {"model": self.model, "unit": "log1p CP10k", "vocabulary": self.vocabulary.hash}
        return cells

    def values(self, sentences: CellSentences, gene_ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the decoded expression of some genes only, 0 where absent.

        Parameters
        ----------
        gene_ids : int (k,)
            Ids in the vocabulary of ``sentences``.

        Returns
        -------
        values : ndarray, shape (n, k), float32, log1p CP10k
        """
        genes = np.asarray(gene_ids, dtype=np.int64).ravel()
        if genes.size and (genes.min() < 0 or genes.max() >= len(sentences.vocabulary)):
            msg = f"gene ids run from {genes.min()} to {genes.max()}; the vocabulary has {len(sentences.vocabulary):,} genes"
            raise DataError(msg)
        unique, inverse = np.unique(genes, return_inverse=True)
        slot = np.full(len(sentences.vocabulary), -1, dtype=np.int32)
        slot[unique] = np.arange(len(unique), dtype=np.int32)
        mapping = self._gene_map(sentences.vocabulary)
        found = np.zeros((len(sentences), len(unique)), dtype=np.float32)
        for start in range(0, len(sentences), _CHUNK):
            part = sentences[start : start + _CHUNK]
            _pick(
                self._flat(part, mapping, quiet=start > 0), part.ids, part.offsets, slot, found[start : start + _CHUNK]
            )
        return np.ascontiguousarray(found[:, inverse])

    def _flat(self, sentences: CellSentences, mapping: np.ndarray | None, *, quiet: bool = False) -> np.ndarray:
        """Return the decoded value of every id, float32 (total,)."""
        out = np.empty(len(sentences.ids), dtype=np.float32)
        offsets = sentences.offsets
        if self.surface is None:
            ranks = np.arange(len(out)) - np.repeat(offsets[:-1], sentences.lengths)
            out[:] = self.intercept + self.slope * np.log10(1.0 + ranks)
            return np.maximum(out, 0.0, out=out) if self.clip else out
        sizes = sentences.n_expressed
        unknown = int(np.count_nonzero(sizes < 0))
        if unknown:
            if not quiet:
                logger.info(
                    "%d of %d sentences have an unknown number of expressed genes; the training median %d is used",
                    unknown, len(sizes), self.median_n_expressed,
                )  # fmt: skip
            sizes = np.where(sizes < 0, self.median_n_expressed, sizes).astype(np.int32)
        ids = sentences.ids if mapping is None else mapping[sentences.ids]
        surface = self.surface
        over_rows(
            lambda start, stop: surface.decode(ids, offsets[start : stop + 1], sizes[start:stop], out), len(sizes)
        )
        return out

    def _gene_map(self, vocabulary: GeneVocabulary) -> np.ndarray | None:
        """Return the decoder's id of each of the vocabulary's genes (-1 unknown), or None if they are the same."""
        if vocabulary.symbols == self.vocabulary.symbols:
            return None
        index = {symbol: position for position, symbol in enumerate(self.vocabulary.symbols)}
        mapping = np.array([index.get(symbol, -1) for symbol in vocabulary.symbols], dtype=np.int32)
        shared = int(np.count_nonzero(mapping >= 0))
        if shared < 0.5 * len(vocabulary):
            msg = (
                f"the decoder knows {shared:,} of the {len(vocabulary):,} genes of these sentences (at least half are needed); "
                "fit it on cells with the same kind of gene names"
            )
            raise ModelError(msg)
        return mapping

    def write(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write ``decoder.json`` and, for ``"gene"``, ``genes.npy``, whole or not at all. Return the folder.

        Raises
        ------
        ArtefactError
            The folder is not empty and ``overwrite`` is false, or c2s did not write it
            (:func:`c2s.artefacts.check_folder`).
        """
        record = {
            "format": "c2s-decoder",
            "version": FORMAT_VERSION,
            "unit": "log1p CP10k",
            **{name: getattr(self, name) for name in _PLAIN},
            "surface": None if self.surface is None else self.surface.to_dict(),
            "encoding": self.encoding.model_dump(mode="json"),
            "vocabulary": self.vocabulary.to_dict(),
            "background": None if self.background is None else self.background.to_dict(),
        }
        with whole_folder(folder, overwrite=overwrite) as scratch:
            if self.surface is not None:
                lines = np.stack([self.surface.gene_offset, self.surface.gene_slope])
                np.save(scratch / "genes.npy", lines, allow_pickle=False)
            write_json(scratch / "decoder.json", record)
        return Path(folder)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Self:
        """Return the decoder in ``folder``, or in the ``decoder`` folder of a corpus.

        Raises
        ------
        ArtefactError
            It is not a decoder, it is of a later version, or a file is missing or truncated.
        """
        source = Path(folder)
        if not (source / "decoder.json").is_file() and (source / "decoder" / "decoder.json").is_file():
            source = source / "decoder"
        if not (source / "decoder.json").is_file():
            msg = f"{source} holds no decoder.json; make one by c2s encode --fit-decoder, or RankDecoder.fit(adata).write(folder)"
            raise ArtefactError(msg)
        record = read_record(source / "decoder.json", kind="c2s-decoder", version=FORMAT_VERSION)
        with whole_record(source / "decoder.json"):
            vocabulary = GeneVocabulary.from_dict(record["vocabulary"])
            surface = None
            if record["surface"] is not None:
                surface = Surface.from_dict(record["surface"], _read_lines(source / "genes.npy", len(vocabulary)))
            numbers = {name: float(record[name]) for name in ("intercept", "slope")}
            return cls(
                **{name: record[name] for name in _PLAIN} | numbers,
                vocabulary=vocabulary,
                encoding=Encoding(**record["encoding"]),
                background=None if record["background"] is None else Background.from_dict(record["background"]),
                surface=surface,
            )


_PLAIN = ("model", "normalised_from", "median_n_expressed", "n_cells", "intercept", "slope", "clip")


def _read_lines(path: Path, n_genes: int) -> np.ndarray:
    """Return the gene lines of a surface, shape (2, n_genes)."""
    try:
        lines: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        msg = f"cannot read {path}: {error}; write the decoder again"
        raise ArtefactError(msg) from error
    if lines.shape != (2, n_genes) or lines.dtype.kind != "f" or not np.isfinite(lines).all():
        msg = (
            f"{path} holds {lines.dtype} {lines.shape}; expected (2, {n_genes}) finite numbers: write the decoder again"
        )
        raise ArtefactError(msg)
    return lines


def _draw_cells(
    adata: ad.AnnData, layer: str | None, on_collision: OnCollision, aliases: Mapping[str, str] | None, seed: int
) -> ad.AnnData:
    """Return ``adata``, or as many of its cells, drawn by the seed, as have four million values."""
    matrix, _ = expression(adata, layer=layer, on_collision=on_collision, aliases=aliases)
    if matrix.nnz <= MAX_FIT_ENTRIES:
        return adata
    order = np.random.default_rng(seed).permutation(matrix.shape[0])
    kept = max(1, int(np.searchsorted(np.cumsum(np.diff(matrix.indptr)[order]), MAX_FIT_ENTRIES)))
    logger.info("the decoder is fitted to %d of %d cells (four million values)", kept, len(order))
    return adata[np.sort(order[:kept])]


def _along(matrix: sp.csr_matrix, sentences: CellSentences) -> np.ndarray:
    """Return the matrix's value at every id of its own sentences, float64 (total,)."""
    cells = np.repeat(np.arange(len(sentences)), sentences.lengths)
    return np.asarray(matrix[cells, sentences.ids], dtype=np.float64).ravel()


def _log_rank_line(ranks: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return intercept and slope of ordinary least squares on log10(1 + rank), for ranks below 999."""
    near = ranks < LOG_RANK_END
    x, y = np.log10(1.0 + ranks[near]), values[near]
    spread = float(np.mean((x - x.mean()) ** 2))
    if spread == 0:
        msg = "every training cell expresses a single gene: no line can be fitted through one rank"
        raise DataError(msg)
    slope = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread
    return float(y.mean() - slope * x.mean()), slope


@numba.njit(nogil=True, cache=True)
def _pick(flat: np.ndarray, ids: np.ndarray, offsets: np.ndarray, slot: np.ndarray, out: np.ndarray) -> None:
    for row in range(len(offsets) - 1):
        for position in range(offsets[row], offsets[row + 1]):
            column = slot[ids[position]]
            if column >= 0:
                out[row, column] = flat[position]
