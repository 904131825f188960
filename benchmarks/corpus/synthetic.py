"""Corpora of any size whose sentences are runs of genes, written shard by shard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from c2s.artefacts import write_json
from c2s.cells.genes import GeneVocabulary
from c2s.sentences.background import Background
from c2s.sentences.parquet import joined_table
from c2s.sentences.record import Encoding, corpus_record

LABELS = tuple(f"type {i}" for i in range(12))
ROWS = 50_000  # a shard


def write_synthetic(folder: Path, *, cells: int, length: int = 200, n_genes: int = 1999, seed: int = 0) -> Background:
    """Write a corpus of ``cells`` sentences of ``length`` genes and return its background.

    ``n_genes`` is a prime above ``length``: a sentence starts anywhere and goes on by a step of its own, so no gene occurs twice.
    ``obs`` has ``cell_type`` (12 categories) and ``donor`` (text).
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    vocabulary = GeneVocabulary(tuple(f"GENE{i}" for i in range(n_genes)))
    background = Background(vocabulary, np.linspace(0, 1, n_genes), cells)
    for number, first in enumerate(range(0, cells, ROWS)):
        n = min(ROWS, cells - first)
        starts, steps = rng.integers(0, n_genes, size=n), rng.integers(1, n_genes, size=n)
        ids = (starts[:, None] + steps[:, None] * np.arange(length)) % n_genes
        names = [f"ACGTACGTACGT{i:08d}-1" for i in range(first, first + n)]
        kinds = pa.DictionaryArray.from_arrays(pa.array(steps % len(LABELS), pa.int8()), pa.array(LABELS))
        obs = pa.table({"cell_type": kinds, "donor": [f"donor {i % 8}" for i in range(n)]})
        sizes = np.full(n, length, dtype=np.int32)
        table = joined_table(names, ids.astype(np.int32).ravel(), np.arange(n + 1) * length, sizes, obs)
        pq.write_table(table, folder / f"part-{number:05d}.parquet", compression="zstd")
    encoding = Encoding(n_genes=length, background_hash=background.hash)
    columns = {"cell_type": "cell_type", "donor": "donor"}
    write_json(
        folder / "corpus.json", corpus_record(cells, cells * length, columns, {}, vocabulary, encoding, background)
    )
    return background
