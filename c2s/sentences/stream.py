"""Files of any size to a corpus: row blocks in, Parquet shards out, resumed after a kill to the very same bytes."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from c2s.artefacts import check_folder, hash_of, read_json, whole_folder, write_json
from c2s.cells.blocks import CellBlocks
from c2s.cells.genes import GeneVocabulary, OnCollision
from c2s.cells.scale import Scale
from c2s.errors import ArtefactError, DataError
from c2s.sentences.background import Background
from c2s.sentences.corpus import Encoding, Ties, corpus_record, refuse_repeated_cells
from c2s.sentences.decode import DecoderModel, RankDecoder
from c2s.sentences.encode import (
    BLOCK,
    background_for,
    check_settings,
    fingerprint,
    match_genes,
    name_scale,
    own_vocabulary,
    rank_matrix,
    source_hash,
)
from c2s.sentences.parquet import VOCABULARY, joined_table, obs_table

logger = logging.getLogger(__name__)

SHARD_BLOCKS = 16  # blocks a shard, each a row group: what a kill can lose
SAMPLE_BLOCKS, SAMPLE_SIZE = 32, 512  # blocks of cells that the background and the decoder are fitted to
STATE_FILE = "unfinished.json"
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
    """

    n_cells: int
    n_ids: int
    vocabulary: GeneVocabulary
    decoder: RankDecoder | None
    values: Scale
    resumed: int


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
    overwrite: bool = False,
    progress: bool = True,
) -> Written:
    """Encode an ``.h5ad`` file, a zarr store or a folder of them into a corpus, in constant memory.

    The sentences are those of :func:`c2s.encode`. The matrix is read once, in blocks of 8,192 cells. A background that is
    not given, and a decoder, are fitted to a sample read before: all cells up to 16,384, else 32 evenly spaced blocks of
    512. Shards of 131,072 cells are written whole; the same call after a kill goes on behind the last of them, in the
    hidden folder ``.OUT.<key>`` beside ``out``, which takes the place of ``out`` at the end.

    Parameters
    ----------
    source : path
    out : path
        Folder of the corpus.
    decoder : {"gene", "log_rank"}, optional
        Also fit ``out/decoder``.
    n_genes, layer, ties, background, vocabulary, seed, on_collision
        As for :func:`c2s.encode`.
    overwrite, progress : bool

    Raises
    ------
    ArtefactError
        ``source`` cannot be read, ``out`` may not be written, or the disk has too little room for it.
    DataError, ConfigError
        As for :func:`c2s.encode`.
    """
    check_settings(n_genes, ties, background, vocabulary, seed)
    check_folder(out, overwrite=overwrite)
    cells = CellBlocks.open(source, layer=layer, on_collision=on_collision)
    refuse_repeated_cells(cells.obs.index)
    if not len(cells):
        msg = f"{source} is empty: 0 cells × {len(cells.genes):,} genes"
        raise DataError(msg)
    obs, renamed = obs_table(cells.obs)
    _require_room(Path(out), cells, n_genes)
    sample = _sample(cells)
    own = own_vocabulary(cells.genes)
    target, id_of_column = (own, None) if vocabulary is None else match_genes(own, vocabulary, sample)
    background = background_for(ties, background, target, own, sample)
    values = name_scale(sample)
    encoding = Encoding(
        ties=ties,
        n_genes=n_genes,
        layer=layer,
        values=values,
        seed=seed,
        background_hash=None if background is None else background.hash,
    )
    ranking: dict[str, Any] = {
        "ties": ties, "background": background, "id_of_column": id_of_column, "n_genes": n_genes, "seed": seed
    }  # fmt: skip
    key = hash_of(cells.sources, encoding.model_dump(), target.hash, on_collision, decoder, [BLOCK, SHARD_BLOCKS])
    _name_leftovers(Path(out), key)
    with whole_folder(out, overwrite=overwrite, resume_key=key) as folder:
        shards = _encode_shards(folder, cells, target, obs, ranking, progress=progress)
        fitted = _fit_decoder(sample, cells, encoding, background, decoder) if decoder else None
        if fitted is not None:
            fitted.write(folder / "decoder", overwrite=True)
        prints = [found for shard in shards.found for found in shard["fingerprints"]]
        encoding = encoding.with_(source_hash=source_hash(own, list(cells.obs.index), prints))
        n_ids = sum(shard["n_ids"] for shard in shards.found)
        record = corpus_record(len(cells), n_ids, renamed, target, encoding, background)
        write_json(folder / "corpus.json", record)
        (folder / STATE_FILE).unlink()
    return Written(len(cells), n_ids, target, fitted, values, shards.resumed)


@dataclass(frozen=True)
class _Shards:
    found: list[dict[str, Any]]
    resumed: int


def _encode_shards(
    folder: Path,
    cells: CellBlocks,
    vocabulary: GeneVocabulary,
    obs: pa.Table,
    ranking: dict[str, Any],
    *,
    progress: bool,
) -> _Shards:
    """Write the shards that ``folder`` lacks and return what is known of all of them."""
    from tqdm.auto import tqdm

    state = folder / STATE_FILE
    shards: list[dict[str, Any]] = read_json(state)["shards"] if state.is_file() else []
    size = BLOCK * SHARD_BLOCKS
    resumed = min(len(shards) * size, len(cells))
    if resumed:
        logger.warning("going on behind %s cells that were encoded before", f"{resumed:,}")
    with tqdm(
        total=len(cells), initial=resumed, desc="encoding", unit="cell", unit_scale=True, disable=not progress
    ) as bar:
        for start in range(resumed, len(cells), size):
            path = folder / f"part-{start // size:05d}.parquet"
            writer, prints, n_ids = None, [], 0
            try:
                for first in range(start, min(start + size, len(cells)), BLOCK):
                    last = min(first + BLOCK, len(cells))
                    matrix = cells.read(first, last)
                    prints.append(fingerprint(matrix))
                    names = list(cells.obs.index[first:last])
                    ids, offsets, n_expressed = rank_matrix(matrix, vocabulary, names, **ranking)
                    table = joined_table(names, ids, offsets, n_expressed, obs.slice(first, last - first))
                    table = table.replace_schema_metadata({VOCABULARY: vocabulary.hash})
                    if writer is None:
                        writer = pq.ParquetWriter(path, table.schema, compression="zstd")
                    writer.write_table(table, row_group_size=BLOCK)
                    n_ids += len(ids)
                    bar.update(last - first)
            finally:
                if writer is not None:
                    writer.close()
            shards.append({"n_ids": n_ids, "fingerprints": prints})
            write_json(state, {"shards": shards})  # only now is the shard known to be whole
    return _Shards(shards, resumed)


def _sample(cells: CellBlocks) -> sp.csr_matrix:
    blocks = [cells.read(start, stop) for start, stop in cells.sample(n_blocks=SAMPLE_BLOCKS, size=SAMPLE_SIZE)]
    sample = sp.vstack(blocks, format="csr")
    if sample.nnz == 0:
        msg = f"the {sample.shape[0]:,} cells read of {cells.sources[0][0]} hold nothing but zeros"
        raise DataError(msg)
    return sample


def _fit_decoder(
    sample: sp.csr_matrix, cells: CellBlocks, encoding: Encoding, background: Background | None, model: DecoderModel
) -> RankDecoder:
    rows = [i for start, stop in cells.sample(n_blocks=SAMPLE_BLOCKS, size=SAMPLE_SIZE) for i in range(start, stop)]
    adata = ad.AnnData(sample, obs=cells.obs.iloc[rows][[]])
    adata.var_names = cells.genes
    fitted = RankDecoder.fit(adata, background=background, model=model, ties=encoding.ties, seed=encoding.seed)
    return replace(fitted, encoding=fitted.encoding.with_(layer=encoding.layer))


def _name_leftovers(out: Path, key: str) -> None:
    """Warn of what killed runs with other cells or settings left beside ``out``: nobody else will go on with it."""
    for folder in out.absolute().parent.glob(f".{out.name}.*"):
        if (folder / STATE_FILE).is_file() and folder.name != f".{out.name}.{key}":
            logger.warning(
                "%s is left of an unfinished run with other cells or settings; delete it if nobody needs it", folder
            )


def _require_room(out: Path, cells: CellBlocks, n_genes: int | None) -> None:
    """Refuse to start what cannot end: the sentences take up to four bytes a gene, and the cells' metadata come with them."""
    genes = cells.n_entries if n_genes is None else min(cells.n_entries, len(cells) * n_genes)
    needed = BYTES_PER_ID * genes + int(cells.obs.memory_usage(index=True).sum())
    above = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(above).free
    if free < needed:
        msg = f"{out} needs up to {needed / 1e9:,.2f} GB, {free / 1e9:,.2f} GB are free; make room, or pass n_genes to shorten the sentences"
        raise ArtefactError(msg)
