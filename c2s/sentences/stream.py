"""Files of any size to a corpus: row blocks in, Parquet shards out, resumed after a kill to the very same bytes."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from c2s.artefacts import check_folder, hash_of, spare_inputs, whole_folder, write_json
from c2s.cells.blocks import MatrixBlocks, read_metadata, stamps
from c2s.cells.genes import GeneVocabulary, OnCollision
from c2s.cells.reading import refuse_repeated_cells
from c2s.cells.scale import Scale
from c2s.errors import ArtefactError, DataError
from c2s.locks import locked
from c2s.sentences import cluster
from c2s.sentences.background import Background
from c2s.sentences.curves import DecoderModel
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import (
    BLOCK,
    background_for,
    check_settings,
    match_genes,
    name_scale,
    own_vocabulary,
    source_hash,
)
from c2s.sentences.obs_types import kinds_of
from c2s.sentences.parquet import obs_table
from c2s.sentences.progress import progress_bar
from c2s.sentences.record import Encoding, Ties, corpus_record
from c2s.sentences.shards import (
    CELLS_FILE,
    Plan,
    Shard,
    found_shards,
    require_whole,
    versions,
    write_cells,
    write_shard,
)
from c2s.sentences.unfinished import name_leftovers, require_room, working_folder

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

SHARD_BLOCKS = 16  # blocks a shard, each a row group: what a kill can lose
SAMPLE_BLOCKS, SAMPLE_SIZE = 32, 512  # blocks of cells that the background and the decoder are fitted to
BYTES_PER_ID = 4  # on disk at most; zstd makes it about half


@dataclass(frozen=True)
class Written:
    """What a streamed encoding left.

    Attributes
    ----------
    n_cells, n_ids : int
    vocabulary : GeneVocabulary
    decoder : RankDecoder or None
    values : str
        What the matrix held (:func:`c2s.cells.scale.scale_of`).
    resumed : int
        Cells found done from an earlier run.
    n_empty : int
        Cells without a gene in their sentence.
    n_dropped_genes : int
        Genes of the file that the vocabulary given does not hold.
    """

    n_cells: int
    n_ids: int
    vocabulary: GeneVocabulary
    decoder: RankDecoder | None
    values: Scale
    resumed: int
    n_empty: int
    n_dropped_genes: int


def encode_file(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    n_genes: int | None = None,
    layer: str | None = None,
    ties: Ties = "background",
    background: Background | None = None,
    vocabulary: GeneVocabulary | None = None,
    seed: int = 0,
    on_collision: OnCollision = "error",
    decoder: DecoderModel | None = None,
    scheduler: str | Client | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Written:
    """Encode an ``.h5ad`` file, a zarr store or a folder of them into a corpus, in constant memory.

    The sentences are those of :func:`c2s.encode` with the same background. The matrix is read once, in blocks of 8,192 cells;
    one stored column by column is first turned into rows on disk. A background that is not given, and a decoder, are fitted to
    a sample read before: all cells up to 16,384, else 32 evenly spaced blocks of 512. A decoder is fitted to the genes of the
    vocabulary, as if the cells had no others: its unit is log1p of counts per 10,000 counts of those genes. Shards of 131,072 cells are written whole; the same
    call after a kill writes those that lack, in the hidden folder ``.OUT.<key>`` beside ``out``, which takes the place of
    ``out`` at the end. With a scheduler the workers of a Dask cluster write the shards, to the same bytes.

    Parameters
    ----------
    source : path
    out : path
        Folder of the corpus.
    decoder : {"gene_aware", "depth_aware", "log_rank"}, optional
        Also fit ``out/decoder``.
    scheduler : str or distributed.Client, optional
        Of a Dask cluster, as ``"tcp://host:8786"``. Its workers must see ``source`` and ``out`` under the same paths.
    n_genes, layer, ties, background, vocabulary, seed, on_collision
        As for :func:`c2s.encode`.
    overwrite, progress : bool

    Raises
    ------
    ArtefactError
        ``source`` cannot be read, ``out`` may not be written or is being written by another process, or the disk has too
        little room.
    DataError, ConfigError
        As for :func:`c2s.encode`; ConfigError also where the cluster cannot be used.
    MissingDependencyError
        A scheduler is given and ``distributed`` is not installed.
    """
    check_settings(n_genes, ties, background, vocabulary, seed)
    target = check_folder(out, overwrite=overwrite)
    spare_inputs(out, source)
    with ExitStack() as held:
        client = None if scheduler is None else held.enter_context(cluster.connected(scheduler))
        matrix = held.enter_context(MatrixBlocks.open(source, layer=layer, on_collision=on_collision))
        names, obs, renamed, kinds = _metadata(source, matrix)
        own = own_vocabulary(matrix.genes)
        encoding = Encoding(ties=ties, n_genes=n_genes, layer=layer, seed=seed)
        given = [None if each is None else each.hash for each in (background, vocabulary)]
        seen = stamps(source)
        key = hash_of(seen, encoding.model_dump(), given, on_collision, decoder, [BLOCK, SHARD_BLOCKS], versions())
        held.enter_context(locked(target.resolve().with_name(f".{target.resolve().name}.lock"), what=str(out)))
        folder = held.enter_context(whole_folder(out, overwrite=overwrite, resume_key=key))
        work = held.enter_context(working_folder(folder))
        name_leftovers(target, folder)
        if client is not None:
            cluster.require_sight(client, Path(source), work, sources=seen)
        matrix = _by_rows(matrix, work, target, progress=progress)
        sample = _sample(matrix)
        _require_room(target, folder, BYTES_PER_ID * _most_ids(matrix, sample, n_genes) + 2 * obs.nbytes)
        chosen, id_of_column = (own, None) if vocabulary is None else match_genes(own, vocabulary, sample)
        background = background_for(ties, background, chosen, own, sample)
        values = name_scale(sample)
        encoding = encoding.with_(values=values, background_hash=None if background is None else background.hash)
        plan = Plan(
            source=str(Path(source).absolute()),
            layer=layer,
            on_collision=on_collision,
            ties=ties,
            n_genes=n_genes,
            seed=seed,
            vocabulary=chosen,
            background=background,
            id_of_column=id_of_column,
            n_cells=len(matrix),
            block=BLOCK,
            shard_blocks=SHARD_BLOCKS,
            versions=versions(),
        )
        plan.write(work)
        if not (work / CELLS_FILE).is_file():
            write_cells(work, names, obs, BLOCK)
        fitted = None
        if decoder:
            kept = sample if id_of_column is None else _in_vocabulary(sample, id_of_column, len(chosen))
            fitted = _fit_decoder(kept, matrix, names, chosen, encoding, background, decoder)
            fitted.write(folder / "decoder", overwrite=True)
        shards, resumed = _all_shards(plan, matrix, work, client, progress=progress)
        prints = [found for shard in shards for found in shard.fingerprints]
        encoding = encoding.with_(source_hash=source_hash(own, list(names), prints))
        n_ids = sum(shard.n_ids for shard in shards)
        require_whole(shards, folder)
        if stamps(source) != seen:
            msg = f"{source} was changed while it was encoded; run the same command again once it is at rest"
            raise ArtefactError(msg)
        record = corpus_record(len(matrix), n_ids, renamed, kinds, chosen, encoding, background)
        write_json(folder / "corpus.json", record)
    n_empty = sum(shard.n_empty for shard in shards)
    dropped = 0 if id_of_column is None else int((id_of_column < 0).sum())
    return Written(len(names), n_ids, chosen, fitted, values, resumed, n_empty=n_empty, n_dropped_genes=dropped)


def _metadata(
    source: str | os.PathLike[str], matrix: MatrixBlocks
) -> tuple[pd.Index, pa.Table, dict[str, str], dict[str, Any]]:
    """Return names of cells, ``obs`` as an Arrow table, the columns renamed in it and the types of its columns."""
    frame = read_metadata(source)
    if len(frame) != len(matrix):
        msg = f"{matrix.label} has {len(matrix):,} rows, obs has {len(frame):,}: the file is damaged"
        raise ArtefactError(msg)
    if not len(frame):
        msg = f"{source} is empty: 0 cells × {len(matrix.genes):,} genes"
        raise DataError(msg)
    refuse_repeated_cells(frame.index)
    return frame.index, *obs_table(frame), kinds_of(frame)


def _by_rows(matrix: MatrixBlocks, work: Path, out: Path, *, progress: bool) -> MatrixBlocks:
    """Return a matrix whose rows can be read; what is stored column by column is written into ``work`` as rows."""
    waiting = matrix.to_turn(work)
    entries = sum(columns.n_entries for columns in waiting)
    if waiting:
        require_room(out, sum(columns.turned_bytes for columns in waiting), what="to turn columns into rows")
        logger.warning("the matrix is stored column by column; it is written as rows first, which takes as long again")
    with progress_bar(entries, what="turning", unit="values", shown=progress and bool(waiting)) as bar:
        return matrix.turn(work, done=bar.update)


def _all_shards(
    plan: Plan, matrix: MatrixBlocks, work: Path, client: Client | None, *, progress: bool
) -> tuple[list[Shard], int]:
    """Write the shards that lack; return what is known of all, in order, and how many cells were done before."""
    found = found_shards(work)
    resumed = sum(shard.n_cells for shard in found.values())
    if resumed:
        logger.warning(
            "%s of %s cells were encoded before; going on with the rest", f"{resumed:,}", f"{plan.n_cells:,}"
        )
    missing = [number for number in range(plan.n_shards) if number not in found]
    with progress_bar(plan.n_cells, done=resumed, what="encoding", unit="cells", shown=progress) as bar:
        if client is None:
            for number in missing:
                found[number] = write_shard(plan, matrix, work, number, done=bar.update)
        else:
            for shard in cluster.write_shards(client, work, missing):
                found[shard.number] = shard
                bar.update(shard.n_cells)
    return [found[number] for number in range(plan.n_shards)], resumed


def _sample(matrix: MatrixBlocks) -> sp.csr_matrix:
    blocks = [matrix.read(start, stop) for start, stop in matrix.sample(n_blocks=SAMPLE_BLOCKS, size=SAMPLE_SIZE)]
    sample = sp.vstack(blocks, format="csr")
    if sample.nnz == 0:
        msg = f"the {sample.shape[0]:,} cells read of {matrix.label} hold nothing but zeros"
        raise DataError(msg)
    return sample


def _in_vocabulary(sample: sp.csr_matrix, id_of_column: np.ndarray, n_genes: int) -> sp.csr_matrix:
    """Return the sample with the genes of a vocabulary as columns; those it lacks are gone."""
    kept = np.flatnonzero(id_of_column >= 0)
    placed = sp.csr_matrix((np.ones(len(kept), np.int32), (kept, id_of_column[kept])), (sample.shape[1], n_genes))
    return (sample @ placed).astype(sample.dtype)


def _fit_decoder(
    sample: sp.csr_matrix,
    matrix: MatrixBlocks,
    names: pd.Index,
    vocabulary: GeneVocabulary,
    encoding: Encoding,
    background: Background | None,
    model: DecoderModel,
) -> RankDecoder:
    rows = [i for start, stop in matrix.sample(n_blocks=SAMPLE_BLOCKS, size=SAMPLE_SIZE) for i in range(start, stop)]
    adata = ad.AnnData(sample, obs=pd.DataFrame(index=names[rows]), var=pd.DataFrame(index=list(vocabulary.symbols)))
    fitted = RankDecoder.fit(adata, background=background, model=model, ties=encoding.ties, seed=encoding.seed)
    return replace(fitted, encoding=fitted.encoding.with_(layer=encoding.layer))


def _most_ids(matrix: MatrixBlocks, sample: sp.csr_matrix, n_genes: int | None) -> int:
    """Return how many ids the sentences may hold: as many as there are values, which a dense matrix shows in a sample only."""
    dense = 1.2 * sample.nnz / sample.shape[0] * len(matrix)
    entries = int(dense) if matrix.n_entries is None else matrix.n_entries
    return entries if n_genes is None else min(entries, len(matrix) * n_genes)


def _require_room(out: Path, folder: Path, n_bytes: int) -> None:
    written = sum(path.stat().st_size for path in folder.glob("part-*.parquet"))
    require_room(out, n_bytes - written, what="for the sentences", remedy=", or pass n_genes to shorten them")
