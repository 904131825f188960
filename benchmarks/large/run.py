"""What would 50 million cells cost? Rates, bytes and memory measured on 300,000 cells, and the arithmetic from there.

Cells are drawn with replacement from pbmc3k (C2S_DATA_DIR) into gzip-compressed .h5ad files in a temporary folder.
Run: ``python -m benchmarks.large.run [--cells 300000]`` (about two minutes on 2 cores, 4 GB of disk).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from benchmarks.card import Figure, write_card
from benchmarks.stream.run import Growth, resampled
from c2s.cells.blocks import MatrixBlocks, read_metadata
from c2s.sentences.parquet import obs_table
from c2s.sentences.stream import BLOCK, SHARD_BLOCKS, encode_file

CELLS, GENES_A_CELL = 50_000_000, 2_000  # of the arithmetic: genes a cell expresses in today's atlases
COLUMNS, METADATA = 60_000, 1_000_000  # cells of the files stored by column, and of metadata alone


def main() -> None:
    """Measure and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=300_000)
    n = parser.parse_args().cells
    if not os.environ.get("C2S_DATA_DIR"):
        sys.exit("this benchmark needs C2S_DATA_DIR, the folder that holds pbmc3k/pbmc3k_counts.h5ad")
    begun = time.perf_counter()
    source = ad.read_h5ad(Path(os.environ["C2S_DATA_DIR"]) / "pbmc3k" / "pbmc3k_counts.h5ad")
    source.var_names_make_unique()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        entries = resampled(source, n, folder / "cells.h5ad")
        resampled(source, 20_000, folder / "small.h5ad")
        encode_file(folder / "small.h5ad", folder / "warm", progress=False)  # compiles, and loads what is imported late
        full, full_size, full_ids, growth = encoded(folder, None)
        short, short_size, short_ids, _ = encoded(folder, 200)
        read = (folder / "cells.h5ad").stat().st_size / entries
        turning, turned = turned_columns(source, folder)
        metadata = memory_of_metadata(folder)
    values, rate = CELLS * GENES_A_CELL, entries / full
    figures = [
        Figure("million values of the matrix read, ranked and written a second, full sentences", rate / 1e6, n=n),
        Figure("million values of the matrix read, ranked and written a second, 200 genes", entries / short / 1e6, n=n),
        Figure("bytes a value, compressed .h5ad", read),
        Figure("bytes a gene of a sentence in the corpus, full sentences", full_size / full_ids),
        Figure("bytes a gene of a sentence in the corpus, 200 genes", short_size / short_ids),
        Figure("growth of memory while encoding, MB", growth),
        Figure("memory of names and three columns of obs, MB a million cells", metadata),
        Figure("million values stored column by column turned into rows a second", turning / 1e6, n=COLUMNS),
        Figure("bytes a value of the temporary rows", turned),
        Figure("50 million cells of 2,000 genes: values, in thousand millions", values / 1e9),
        Figure("50 million cells: compressed .h5ad, GB", values * read / 1e9),
        Figure("50 million cells: corpus of full sentences, GB", values * full_size / full_ids / 1e9),
        Figure("50 million cells: corpus of 200 genes, GB", CELLS * 200 * short_size / short_ids / 1e9),
        Figure("50 million cells: shards", -(-CELLS // (BLOCK * SHARD_BLOCKS))),
        Figure("50 million cells: hours in one process, full sentences", values / rate / 3600),
        Figure("50 million cells: hours in one process, 200 genes", values / (entries / short) / 3600),
        Figure("50 million cells: minutes over 32 workers that do not wait for the disk, full sentences", values / rate / 60 / 32),
    ]  # fmt: skip
    write_card(
        Path(__file__).parent, figures,
        data={"name": "pbmc3k, resampled with replacement", "cells": n, "genes": source.n_vars, "entries": entries, "seed": 0},
        notes=[
            "One run; files are in the page cache while they are read. The lines on 50 million cells are arithmetic, not measured.",
        ],
        seconds=time.perf_counter() - begun,
    )  # fmt: skip


def encoded(folder: Path, n_genes: int | None) -> tuple[float, int, int, float]:
    """Return seconds, bytes and ids of a corpus, and how far memory grew, MB."""
    out = folder / f"out{n_genes}"
    with Growth() as growth:
        start = time.perf_counter()
        written = encode_file(folder / "cells.h5ad", out, n_genes=n_genes, progress=False)
        seconds = time.perf_counter() - start
    return seconds, sum(part.stat().st_size for part in out.glob("part-*")), written.n_ids, growth.most


def turned_columns(source: ad.AnnData, folder: Path) -> tuple[float, float]:
    """Return values a second, and bytes a value, of turning columns into rows."""
    rows = np.random.default_rng(0).integers(source.n_obs, size=COLUMNS)
    matrix = source.X.tocsr()[rows].astype(np.float32).tocsc()
    cells = ad.AnnData(matrix, obs=pd.DataFrame(index=[f"cell{i}" for i in range(COLUMNS)]), var=source.var[[]])
    cells.write_h5ad(folder / "columns.h5ad", compression="gzip", compression_opts=1)
    seconds = 0.0
    for name in ("warm-columns", "columns"):  # the first compiles
        (folder / name).mkdir()
        with MatrixBlocks.open(folder / "columns.h5ad") as blocks:
            start = time.perf_counter()
            blocks.turn(folder / name)
            seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in (folder / "columns" / "rows-0").glob("*.bin"))
    return matrix.nnz / seconds, size / matrix.nnz


def memory_of_metadata(folder: Path) -> float:
    """Return how much memory the names of a million cells and three columns take, MB."""
    rng = np.random.default_rng(0)
    kinds = {name: pd.Categorical(rng.choice(["a", "b", "c"], METADATA)) for name in ("donor", "tissue", "cell_type")}
    obs = pd.DataFrame(kinds, index=[f"AAACCTGAGAAACCAT-{i}" for i in range(METADATA)])
    ad.AnnData(obs=obs).write_h5ad(folder / "metadata.h5ad")
    del obs
    with Growth() as growth:
        frame = read_metadata(folder / "metadata.h5ad")
        obs_table(frame)
    return growth.most / METADATA * 1e6


if __name__ == "__main__":
    main()
