"""Cells to sentences: each cell's expressed genes by falling expression, ties broken without regard to row position."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from c2s.artefacts import hash_of
from c2s.cells.gene_table import unversioned
from c2s.cells.genes import GeneVocabulary, OnCollision, guess_species, listed, names_of, require_vocabulary, twins
from c2s.cells.normalise import looks_like_counts
from c2s.cells.reading import expression, refuse_repeated_cells, require_cells
from c2s.cells.scale import NAMES, Scale, scale_of
from c2s.errors import ConfigError, DataError
from c2s.sentences.background import Background, hash_of_names
from c2s.sentences.corpus import CellSentences
from c2s.sentences.ranking import rank_by_hash, rank_by_order
from c2s.sentences.record import Encoding, Ties

if TYPE_CHECKING:
    import scipy.sparse as sp
    from anndata import AnnData

logger = logging.getLogger(__name__)

MIN_SHARED = 0.5  # of the data's expressed genes that a given vocabulary must hold
BLOCK = 8192  # cells whose rows are read, ranked and fingerprinted together
_BARCODE = re.compile(r"[ACGTN]{12,}(?![A-Z])")
_SAMPLED = 1024  # matrix entries of a block in the source fingerprint


def encode(
    adata: AnnData,
    *,
    n_genes: int | None = None,
    layer: str | None = None,
    ties: Ties = "background",
    background: Background | None = None,
    vocabulary: GeneVocabulary | None = None,
    seed: int = 0,
    on_collision: OnCollision = "error",
    aliases: Mapping[str, str] | None = None,
    species: str | None = None,
) -> CellSentences:
    """Return each cell's expressed genes by falling expression.

    Counts and any monotone transform of them within a cell give the same sentences. A sentence depends on its cell, the
    background and the vocabulary, never on the other cells or their order.

    Parameters
    ----------
    n_genes
        Longest sentence; None keeps every expressed gene. ``n_expressed`` keeps the number before the cut.
    layer
        None ranks ``adata.X``, ``"raw"`` ranks ``adata.raw.X``, any other name ranks that layer.
    ties
        Order of genes with equal expression in a cell.

        * ``"background"``: the gene detected in fewer cells first, then the one earlier in the background's vocabulary.
        * ``"hash"``: by a hash of seed, cell name and gene symbol.
        * ``"vocabulary"``: the gene earlier in the vocabulary first.
    background
        Fitted on training cells, for ``ties="background"``; None fits it on these cells. It is kept in the result.
    vocabulary
        Ids refer to it; genes are matched by symbol and those it lacks are dropped. None takes the genes of ``adata``.
    seed
        Of ``ties="hash"``.
    on_collision, aliases, species
        See :meth:`c2s.cells.genes.GeneVocabulary.from_adata`.

    Returns
    -------
    CellSentences
        One sentence a cell, in the order of ``adata.obs``, whose columns it keeps. A cell of zeros is empty.

    Raises
    ------
    DataError
        Negative, NaN or no values, duplicated genes or cells, two species, or a vocabulary with under half the genes.
    ConfigError
        Settings that do not exist or contradict each other.
    """
    check_settings(n_genes, ties, background, vocabulary, seed)
    require_cells(adata)
    obs = adata.obs.copy()
    if obs.index.inferred_type != "string" or obs.index.hasnans:
        obs.index = pd.Index(names_of(obs.index, "cells"), dtype=object)
    barcodes = obs.index.to_numpy(dtype=object)
    refuse_repeated_cells(obs.index)
    matrix, genes = expression(adata, layer=layer, on_collision=on_collision, aliases=aliases)
    if background is not None and species is None and background.vocabulary.symbols == tuple(genes):
        own = background.vocabulary
    else:
        own = own_vocabulary(genes, species=species)
    target, id_of_column = (own, None) if vocabulary is None else match_genes(own, vocabulary, matrix)
    background = background_for(ties, background, target, own, matrix)
    ids, offsets, n_expressed = rank_matrix(
        matrix,
        target,
        barcodes,
        ties=ties,
        background=background,
        id_of_column=id_of_column,
        n_genes=n_genes,
        seed=seed,
    )
    encoding = Encoding(
        ties=ties,
        n_genes=n_genes,
        layer=layer,
        values=name_scale(matrix),
        seed=seed,
        background_hash=None if background is None else background.hash,
        source_hash=source_hash(
            own, barcodes, [fingerprint(matrix, i, i + BLOCK) for i in range(0, len(barcodes), BLOCK)]
        ),
    )
    return CellSentences.of_checked(
        ids=ids, offsets=offsets, n_expressed=n_expressed, vocabulary=target, obs=obs, encoding=encoding,
        background=background,
    )  # fmt: skip


def check_settings(
    n_genes: int | None,
    ties: Ties,
    background: Background | None,
    vocabulary: GeneVocabulary | None,
    seed: int,
) -> None:
    """Raise a ConfigError where settings of an encoding do not exist, are of another type or contradict each other."""
    for name, value in (("n_genes", n_genes), ("seed", seed)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer)):
            msg = f"{name}={value!r} is a {type(value).__name__}; pass a whole number"
            raise ConfigError(msg)
    if background is not None and not isinstance(background, Background):
        msg = f"background is a {type(background).__name__}; pass c2s.Background.read(path), or Background.fit(training_cells)"
        raise ConfigError(msg)
    if vocabulary is not None:
        require_vocabulary(vocabulary)
    if n_genes is not None and n_genes < 1:
        msg = f"n_genes={n_genes}; pass at least 1, or None to keep every expressed gene"
        raise ConfigError(msg)
    if ties not in get_args(Ties):
        msg = f"ties={ties!r}; choose {', '.join(map(repr, get_args(Ties)))}"
        raise ConfigError(msg)
    if background is not None and ties != "background":
        msg = f"a background was passed, but ties={ties!r} does not read it; pass ties='background' or no background"
        raise ConfigError(msg)


def own_vocabulary(genes: list[str], *, species: str | None = None) -> GeneVocabulary:
    """Return the vocabulary of the cells' own genes, and warn of names that differ by the case of letters only.

    Raises
    ------
    DataError
        Most names are cell barcodes: the matrix is transposed.
    """
    barcodes = [gene for gene in genes if _BARCODE.match(gene)]
    if len(barcodes) > len(genes) / 2:
        msg = (
            f"{len(barcodes):,} of {len(genes):,} genes are called like cells ({listed(barcodes, 2)}): the matrix holds genes × "
            "cells; pass cells × genes, adata.T"
        )
        raise DataError(msg)
    pairs = twins(genes)
    if pairs:
        logger.info("%d gene names differ by case only and stay different genes: %s", len(pairs), listed(pairs, 6))
    return GeneVocabulary.from_symbols(genes, species=species)


def background_for(
    ties: Ties, background: Background | None, target: GeneVocabulary, own: GeneVocabulary, matrix: sp.csr_matrix
) -> Background | None:
    """Return the background given, or the one of these cells where the ties need one.

    Raises
    ------
    DataError
        The background given knows under half of the genes of the sentences.
    """
    if background is None:
        return Background.of_matrix(matrix, own) if ties == "background" else None
    if background.vocabulary.symbols != target.symbols:
        known = sum(symbol in background.vocabulary for symbol in target.symbols)
        if known < MIN_SHARED * len(target):
            msg = (
                f"the background knows {known:,} of the {len(target):,} genes (at least half are needed); pass the one of "
                "cells with the same kind of gene names, and with it their vocabulary"
            )
            raise DataError(msg)
    return background


def name_scale(matrix: sp.csr_matrix) -> Scale:
    """Return what the values are, and warn where their order within a cell is not that of expression."""
    scale = scale_of(matrix)
    if scale in ("scaled", "mixed"):
        reason = {
            "scaled": "the order within a cell then tells genes that are high for themselves; pass counts or logarithms",
            "mixed": "bring all cells to one scale before anything is fitted to them",
        }[scale]
        logger.warning("the matrix holds %s: %s", NAMES[scale], reason)
    return scale


def rank_matrix(
    matrix: sp.csr_matrix,
    vocabulary: GeneVocabulary,
    barcodes: Sequence[str] | np.ndarray,
    *,
    ties: Ties,
    background: Background | None = None,
    id_of_column: np.ndarray | None = None,
    n_genes: int | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ids int32 (total,), offsets int64 (n + 1,) and n_expressed int32 (n,) of a canonical CSR matrix.

    ``id_of_column`` maps the matrix's columns to ids of ``vocabulary`` (-1 drops a column); None means they are equal.
    The other arguments are those of :func:`encode`; ``background`` must be given for ``ties="background"``.
    """
    columns = np.arange(len(vocabulary), dtype=np.int32) if id_of_column is None else id_of_column
    data = matrix.data
    if data.dtype == np.int64:  # counts beyond 2^31: their order is all that is asked for
        data = np.unique(data, return_inverse=True)[1].astype(np.int32) + 1
    whole = matrix.dtype.kind == "i" or looks_like_counts(matrix)
    if ties == "hash":
        cells = hash_of_names(barcodes, seed=seed)
        keys = hash_of_names(vocabulary.symbols, seed=seed)
        return rank_by_hash(data, matrix.indices, matrix.indptr, columns, keys, cells, n_genes, whole=whole)
    if ties == "background":
        if background is None:
            msg = "ties='background' needs a background"
            raise ConfigError(msg)
        place = background.tie_ranks(vocabulary)
    else:
        place = np.arange(len(vocabulary), dtype=np.int32)
    return rank_by_order(data, matrix.indices, matrix.indptr, columns, place, n_genes, whole=whole)


def match_genes(
    own: GeneVocabulary, vocabulary: GeneVocabulary, matrix: sp.csr_matrix
) -> tuple[GeneVocabulary, np.ndarray | None]:
    """Return the given vocabulary and the id in it of each column (-1: not there), None where they are equal.

    Raises
    ------
    DataError
        The genes are of another species, or the vocabulary holds under half of those that ``matrix`` expresses.
    """
    if own.symbols == vocabulary.symbols:
        return vocabulary, None
    guess = guess_species(own.symbols)
    if {guess, vocabulary.species} == {"human", "mouse"}:
        msg = f"the cells look {guess}, the vocabulary is {vocabulary.species}; map the genes to one species first"
        raise DataError(msg)
    index = {symbol: position for position, symbol in enumerate(vocabulary.symbols)}
    columns = np.array([index.get(symbol, -1) for symbol in own.symbols], dtype=np.int32)
    expressed = np.zeros(len(own), dtype=bool)
    expressed[matrix.indices] = True
    kept = int(np.count_nonzero(expressed & (columns >= 0)))
    absent = [own.symbols[column] for column in np.flatnonzero(expressed & (columns < 0))]
    if kept < MIN_SHARED * int(expressed.sum()):
        msg = (
            f"the vocabulary holds {kept:,} of the {int(expressed.sum()):,} genes these cells express (at least half are "
            f"needed); it lacks {listed(absent, 5)}. {_advice(absent, vocabulary)}"
        )
        raise DataError(msg)
    if absent:
        logger.info("%d expressed genes are not in the vocabulary and are dropped: %s", len(absent), listed(absent, 5))
    return vocabulary, columns


def _advice(absent: list[str], vocabulary: GeneVocabulary) -> str:
    """Return what would bring the names ``absent`` from a vocabulary into it."""
    bare = {unversioned(symbol) for symbol in vocabulary.symbols}
    if sum(unversioned(gene) in bare for gene in absent) > MIN_SHARED * len(absent):
        return "They meet without the versions of the Ensembl ids: take those off both"
    if absent[0].startswith("ENS") != vocabulary.symbols[0].startswith("ENS"):
        return "One side has Ensembl ids, the other symbols: map them by c2s genes map"
    return "Pass cells with the same kind of gene names, or another vocabulary"


def fingerprint(matrix: sp.csr_matrix, start: int, stop: int) -> str:
    """Return a hash of row lengths and 1,024 evenly spaced entries of some rows: it names the data, it proves nothing."""
    bounds = matrix.indptr[start : stop + 1]
    entries = slice(bounds[0], bounds[-1], max(1, int(bounds[-1] - bounds[0]) // _SAMPLED))
    values = matrix.data[entries].astype(np.float64)
    return hash_of(np.diff(bounds).astype(np.int64), matrix.indices[entries].astype(np.int64), values)


def source_hash(vocabulary: GeneVocabulary, barcodes: Sequence[str] | np.ndarray, fingerprints: list[str]) -> str:
    """Return a hash of genes, cells and the fingerprints of their blocks, the same however the cells were read."""
    return hash_of(vocabulary.hash, hash_of_names(barcodes), fingerprints)
