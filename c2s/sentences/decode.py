"""Sentences to expression: a fitted map from a gene's rank to log1p CP10k, never negative."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, get_args

import anndata as ad
import numba
import numpy as np
import pandas as pd
import scipy.sparse as sp
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from c2s.artefacts import read_record, require_access, whole_folder, whole_record, write_json
from c2s.cells.genes import GeneVocabulary, OnCollision
from c2s.cells.normalise import to_log1p_cp10k
from c2s.cells.reading import expression
from c2s.cells.scale import Scale
from c2s.errors import ArtefactError, ConfigError, DataError, ModelError
from c2s.sentences.background import Background
from c2s.sentences.corpus import CellSentences
from c2s.sentences.curves import Curves, DecoderModel, Entries
from c2s.sentences.encode import encode
from c2s.sentences.ends import order_falls
from c2s.sentences.ladder import Ladder
from c2s.sentences.obs_types import writable
from c2s.sentences.ranking import over_rows, sort_rows
from c2s.sentences.record import Encoding, Ties
from c2s.sentences.surface import Surface, give_way
from c2s.sentences.uncertainty import ErrorSpread

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
MAX_FIT_ENTRIES = 4_000_000  # expressed genes of training cells; beyond it, cells are drawn by the seed
MIN_COVERED = 0.8  # of the decoder's genes that sentences should know
HELD_OUT = 4  # one training cell in so many is held out of a second fit, to learn how far values err
_CHUNK = 20_000  # sentences decoded at a time by ``values``


@dataclass(frozen=True, eq=False)
class RankDecoder:
    """A fitted map from rank to log1p CP10k. Make one by :meth:`fit` or :meth:`read`.

    Parameters
    ----------
    model
        * ``"gene_aware"``: whole sentences of a decoder fitted to counts are read as blocks of equal counts
          (:mod:`c2s.sentences.ladder`); others by a surface over relative rank and number of genes with a line for each
          gene (:mod:`c2s.sentences.surface`).
        * ``"depth_aware"``: the surface without the lines.
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
        Of ``"gene_aware"`` and ``"depth_aware"``.
    ladder
        Of ``"gene_aware"``, where the training matrix held counts.
    spread, ladder_spread : ErrorSpread or None
        How far values err, without and with the ladder. None in a decoder that was put together rather than fitted.
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
    ladder: Ladder | None = None
    spread: ErrorSpread | None = None
    ladder_spread: ErrorSpread | None = None

    @classmethod
    def fit(
        cls,
        adata: ad.AnnData,
        *,
        layer: str | None = None,
        background: Background | None = None,
        model: DecoderModel = "gene_aware",
        ties: Ties = "background",
        clip: bool = True,
        seed: int = 0,
        on_collision: OnCollision = "error",
        aliases: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the decoder fitted to the cells of ``adata``; pass training cells only, with the genes of the sentences to be decoded.

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
        entries = Entries(sentences, _along(normalised, sentences))
        if scale == "counts":
            totals = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
            entries = replace(entries, counts=_along(matrix, sentences), totals=totals)
        curves = Curves.fit(model, entries)
        sizes = sentences.n_expressed[sentences.n_expressed > 0]
        fitted = cls(
            model=model,
            vocabulary=sentences.vocabulary,
            encoding=sentences.encoding,
            background=background,
            normalised_from=scale,
            median_n_expressed=int(np.median(sizes)),
            n_cells=len(sentences),
            clip=clip,
            **vars(curves),
        )
        return fitted._with_spreads(entries)

    def _with_spreads(self, entries: Entries) -> Self:
        """Return the decoder with the errors of its like, fitted to three cells of four, on every fourth cell."""
        expressed = np.cumsum(entries.sentences.lengths > 0)
        held = (expressed % HELD_OUT == 0) & (entries.sentences.lengths > 1)
        if expressed[-1] < 2 * HELD_OUT or not held.any():
            return self
        curves = Curves.fit(self.model, entries.take(~held))
        judged = entries.take(held)

        def spread_of(decoder: RankDecoder) -> ErrorSpread:
            decoded = decoder._flat(judged.sentences, None)
            return ErrorSpread.fit(judged.sentences.ids, decoded, judged.values - decoded, n_genes=len(self.vocabulary))

        with_ladder = replace(self, **vars(curves))
        spread = spread_of(replace(with_ladder, ladder=None))
        return replace(self, spread=spread, ladder_spread=None if curves.ladder is None else spread_of(with_ladder))

    def decode(self, sentences: CellSentences, *, uncertainty: bool = False) -> ad.AnnData:
        """Return the decoded cells: ``X`` CSR float32 log1p CP10k, ``obs`` of the sentences, ``var`` their vocabulary.

        Genes absent from a sentence are 0. ``obs["n_expressed"]`` holds the sentences' number of expressed genes.

        Parameters
        ----------
        uncertainty
            Add the layer ``"sd"``, CSR float32 with the entries of ``X``: the standard deviation of the value's error in
            training cells held out, log1p CP10k, by value and gene.

        Raises
        ------
        ModelError
            The decoder knows under half of the sentences' vocabulary, or its errors were not measured.
        """
        mapping = self._gene_map(sentences.vocabulary)
        values = self._flat(sentences, mapping)
        indices, data = sort_rows(sentences.ids, values, sentences.offsets)
        shape = (len(sentences), len(sentences.vocabulary))
        matrix = sp.csr_matrix((data, indices, sentences.offsets.copy()), shape)
        var = pd.DataFrame(index=pd.Index(sentences.vocabulary.symbols, dtype=object))
        cells = ad.AnnData(X=matrix, obs=writable(sentences.obs), var=var)
        if uncertainty:
            spreads = sort_rows(sentences.ids, self._deviations(sentences, mapping, values), sentences.offsets)[1]
            spreads[data == 0] = 0.0
            cells.layers["sd"] = sp.csr_matrix((spreads, indices.copy(), sentences.offsets.copy()), shape)
        if data.size and data.min() == 0:
            for part in (cells.X, *cells.layers.values()):
                part.eliminate_zeros()
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
            ranks = np.arange(sentences.lengths.max(initial=0))
            line = (self.intercept + self.slope * np.log10(1.0 + ranks)).astype(np.float32)
            line = np.maximum(line, 0.0) if self.clip else line
            over_rows(lambda start, stop: _repeat(line, offsets[start : stop + 1], out), len(sentences))
            return out
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
        surface, ladder = self.surface, self.ladder
        whole = self._whole(sentences)
        cut = np.flatnonzero(~whole)
        over_rows(lambda start, stop: surface.decode(ids, offsets, sizes, cut[start:stop], out), len(cut))
        if ladder is not None:
            rows, falls = np.flatnonzero(whole), self._falls(sentences)
            over_rows(lambda start, stop: ladder.decode(ids, offsets, rows[start:stop], falls, out), len(rows))
            if falls is None:  # nothing in the sentence confirms where its blocks end
                smooth = np.empty_like(out)
                over_rows(lambda start, stop: surface.decode(ids, offsets, sizes, rows[start:stop], smooth), len(rows))
                over_rows(lambda start, stop: give_way(out, smooth, offsets, rows[start:stop]), len(rows))
        return out

    def _whole(self, sentences: CellSentences) -> np.ndarray:
        """Return which sentences the ladder reads, bool (n,): those that hold every gene their cell expresses."""
        if self.ladder is None:
            return np.zeros(len(sentences), dtype=bool)
        whole: np.ndarray = sentences.n_expressed == sentences.lengths
        return whole

    def _falls(self, sentences: CellSentences) -> np.ndarray | None:
        """Return where the tie order falls, if these sentences were read from cells and a background broke their ties."""
        encoding, background = sentences.encoding, sentences.background
        read = encoding.ties == "background" and encoding.source_hash is not None and background is not None
        if self.ladder is None or self.ladder.ordered is None or background is None or not read:
            return None
        return order_falls(sentences.ids, background.tie_ranks(sentences.vocabulary))

    def _deviations(self, sentences: CellSentences, mapping: np.ndarray | None, values: np.ndarray) -> np.ndarray:
        """Return the standard deviation of the error of every id, float32 (total,)."""
        if self.spread is None:
            msg = "this decoder's errors were not measured; fit one to at least eight cells: RankDecoder.fit(adata)"
            raise ModelError(msg)
        ids = sentences.ids if mapping is None else mapping[sentences.ids]
        found = self.spread.deviations(ids, values)
        if self.ladder_spread is not None:
            whole = np.repeat(self._whole(sentences), sentences.lengths)
            found[whole] = self.ladder_spread.deviations(ids[whole], values[whole])
        return found

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
        if shared < MIN_COVERED * len(self.vocabulary):
            logger.warning(
                "the sentences know %d of the %d genes the decoder was fitted to: its values are too high or too low for "
                "them. Fit one to the same genes: RankDecoder.fit(adata[:, list(vocabulary.symbols)])",
                shared, len(self.vocabulary),
            )  # fmt: skip
        return mapping

    def write(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write ``decoder.json`` and, where there are any, arrays by gene in ``genes.safetensors``, whole or not at all.

        Return the folder.

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
            **{name: None if part is None else part.to_dict() for name, part in self._parts().items()},
            "encoding": self.encoding.model_dump(mode="json"),
            "vocabulary": self.vocabulary.to_dict(),
            "background": None if self.background is None else self.background.to_dict(),
        }
        with whole_folder(folder, overwrite=overwrite) as scratch:
            save_file(self._gene_arrays(), scratch / "genes.safetensors")
            write_json(scratch / "decoder.json", record)
        return Path(folder)

    def _parts(self) -> dict[str, Surface | Ladder | ErrorSpread | None]:
        return {name: getattr(self, name) for name in _PARTS}

    def _gene_arrays(self) -> dict[str, np.ndarray]:
        """Return what each part holds for every gene."""
        arrays = {}
        if self.surface is not None:
            arrays["surface"] = np.stack([self.surface.gene_offset, self.surface.gene_slope])
        if self.ladder is not None:
            arrays["ladder"] = self.ladder.log_odds
        for name, spread in (("spread", self.spread), ("ladder_spread", self.ladder_spread)):
            if spread is not None:
                arrays[name] = spread.ratio
        return arrays

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Self:
        """Return the decoder in ``folder``, or in the ``decoder`` folder of a corpus.

        Raises
        ------
        ArtefactError
            It is not a decoder, it is of another version, or a file is missing or truncated.
        """
        source = Path(folder)
        require_access(source)
        if not (source / "decoder.json").is_file() and (source / "decoder" / "decoder.json").is_file():
            source = source / "decoder"
        if not (source / "decoder.json").is_file():
            msg = f"{source} holds no decoder.json; make one by c2s encode --fit-decoder, or RankDecoder.fit(adata).write(folder)"
            raise ArtefactError(msg)
        record = read_record(source / "decoder.json", kind="c2s-decoder", version=FORMAT_VERSION)
        if record.get("version", 0) < FORMAT_VERSION:
            msg = (
                f"{source}/decoder.json is version {record.get('version')} (model {record.get('model')!r}), which this c2s no "
                "longer reads; fit it again: c2s encode --fit-decoder, or c2s train"
            )
            raise ArtefactError(msg)
        with whole_record(source / "decoder.json"):
            vocabulary = GeneVocabulary.from_dict(record["vocabulary"])
            numbers = {name: float(record[name]) for name in ("intercept", "slope")}
            return cls(
                **{name: record[name] for name in _PLAIN} | numbers,
                vocabulary=vocabulary,
                encoding=Encoding(**record["encoding"]),
                background=None if record["background"] is None else Background.from_dict(record["background"]),
                **_read_parts(source / "genes.safetensors", record, len(vocabulary)),
            )


_PLAIN = ("model", "normalised_from", "median_n_expressed", "n_cells", "intercept", "slope", "clip")
_PARTS: dict[str, Any] = {"surface": Surface, "ladder": Ladder, "spread": ErrorSpread, "ladder_spread": ErrorSpread}


def _read_parts(path: Path, record: dict[str, Any], n_genes: int) -> dict[str, Any]:
    """Return the fitted parts of a decoder, None for those it has not."""
    try:
        arrays = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        msg = f"cannot read {path}: {error}; write the decoder again"
        raise ArtefactError(msg) from error
    for name, array in arrays.items():
        size = array.shape[1 if name == "surface" else 0] if array.ndim else 0
        if size != n_genes or array.dtype.kind != "f" or not np.isfinite(array).all():
            msg = f"{path} holds {name} {array.dtype} {array.shape}; {n_genes:,} genes need as many finite numbers: write the decoder again"
            raise ArtefactError(msg)
    return {
        name: None if record[name] is None else kind.from_dict(record[name], arrays[name])
        for name, kind in _PARTS.items()
    }


def _draw_cells(
    adata: ad.AnnData, layer: str | None, on_collision: OnCollision, aliases: Mapping[str, str] | None, seed: int
) -> ad.AnnData:
    """Return ``adata``, or as many of its cells, drawn by the seed, as have four million values."""
    matrix, _ = expression(adata, layer=layer, on_collision=on_collision, aliases=aliases)
    if matrix.nnz <= MAX_FIT_ENTRIES:
        return adata
    order = np.random.default_rng(seed % 10**16).permutation(matrix.shape[0])  # any whole number is a seed
    kept = max(1, int(np.searchsorted(np.cumsum(np.diff(matrix.indptr)[order]), MAX_FIT_ENTRIES)))
    logger.info("the decoder is fitted to %d of %d cells (four million values)", kept, len(order))
    return adata[np.sort(order[:kept])]


def _along(matrix: sp.csr_matrix, sentences: CellSentences) -> np.ndarray:
    """Return the matrix's value at every id of its own sentences, float64 (total,)."""
    cells = np.repeat(np.arange(len(sentences)), sentences.lengths)
    return np.asarray(matrix[cells, sentences.ids], dtype=np.float64).ravel()


@numba.njit(nogil=True, cache=True)
def _repeat(line: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> None:
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        out[start:stop] = line[: stop - start]


@numba.njit(nogil=True, cache=True)
def _pick(flat: np.ndarray, ids: np.ndarray, offsets: np.ndarray, slot: np.ndarray, out: np.ndarray) -> None:
    for row in range(len(offsets) - 1):
        for position in range(offsets[row], offsets[row + 1]):
            column = slot[ids[position]]
            if column >= 0:
                out[row, column] = flat[position]
