"""A corpus read into memory beside the same corpus mapped from disk: opening, memory, random rows, examples for training.

A synthetic corpus (``benchmarks/corpus/synthetic.py``) in a temporary folder; each way is measured in a process of its own.
Run: ``python -m benchmarks.corpus.run [--cells 1000000]`` (about a minute on 2 cores, 2 GB of disk, 2 GB of memory).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.card import Figure, write_card
from benchmarks.corpus.synthetic import LABELS, write_synthetic

LENGTH = 200
ROWS, EXAMPLES, BATCH = 100_000, 20_000, 16


def main() -> None:
    """Write the corpus, measure both ways and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--measure", choices=["made", "held", "mapped", "cold"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measured(asked.folder, asked.measure)))
        return
    n, begun = asked.cells, time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "corpus"
        write_synthetic(folder, cells=n, length=LENGTH)
        shards = sum(file.stat().st_size for file in folder.glob("part-*"))
        made, held, mapped, cold = (in_a_process(folder, way) for way in ("made", "held", "mapped", "cold"))
        on_disk = sum(file.stat().st_size for file in folder.glob("mapped-*/*"))
    ratio = mapped["examples"] / held["examples"]
    write_card(
        Path(__file__).parent,
        [
            Figure("own memory of an open mapped corpus, bytes a cell", mapped["memory"] / n, n=n, bar="<= 100", met=mapped["memory"] <= 100 * n,
                   reason=None if mapped["memory"] <= 100 * n else "names, offsets and metadata take more"),
            Figure("own memory of the corpus read into memory, bytes a cell", held["memory"] / n, n=n),
            Figure("most own memory while the mapped file is made, MB", made["most"] / 1e6, bar="<= 300", met=made["most"] <= 3e8,
                   reason=None if made["most"] <= 3e8 else "more than a few thousand sentences are held at a time"),
            Figure("examples per second, mapped over in memory", ratio, n=EXAMPLES, bar=">= 0.8", met=ratio >= 0.8,
                   reason=None if ratio >= 0.8 else "page faults take longer than rendering"),
            Figure("examples per second, in memory", held["examples"], n=EXAMPLES),
            Figure("examples per second, mapped", mapped["examples"], n=EXAMPLES),
            Figure("seconds to make the mapped file, once", made["open"]),
            Figure("seconds to open, mapped", mapped["open"]),
            Figure("seconds to open, in memory", held["open"]),
            Figure("random sentences per second, in memory", held["rows"], n=ROWS),
            Figure("random sentences per second, mapped, file in the page cache", mapped["rows"], n=ROWS),
            Figure("random sentences per second, mapped, file on disk only", cold["rows"], n=ROWS),
            Figure("mapped file, GB", on_disk / 1e9), Figure("shards, GB", shards / 1e9),
        ],
        data={"name": "synthetic: runs of genes", "cells": n, "genes": 1999, "sentence": LENGTH, "labels": len(LABELS), "seed": 0},
        notes=[
            "One run each, one thread. Own memory is RssAnon of /proc/self/status above where it stood with everything imported: what cannot be dropped and read again.",
            "An example is a cell type annotation of 200 genes, rendered, batched by 16 and padded as for training, in shuffled order.",
            "The synthetic shards compress far better than real sentences; reading real shards takes longer.",
        ],
        seconds=time.perf_counter() - begun,
    )  # fmt: skip


def in_a_process(folder: Path, way: str) -> dict[str, float]:
    """Return what :func:`measured` says in a fresh process with one thread."""
    command = [sys.executable, "-m", "benchmarks.corpus.run", "--measure", way, "--folder", str(folder)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(folder: Path, way: str) -> dict[str, float]:
    """Return seconds to open, own memory and the most of it (bytes), and rows and examples per second."""
    from benchmarks.corpus.own_memory import OwnMemory
    from c2s.models.tokenizer import PartTokenizer, build_tokenizer
    from c2s.sentences.corpus import read_sentences
    from c2s.training.cell_data import CellExamples, prepare_cells
    from c2s.training.config import TrainConfig
    from c2s.training.examples import Collator

    with tempfile.TemporaryDirectory() as place:
        write_synthetic(Path(place) / "warm", cells=100, length=LENGTH)  # what opening imports and compiles
        warm = read_sentences(Path(place) / "warm", memory_map=True)
        tokens = PartTokenizer(build_tokenizer(warm.vocabulary, LABELS), warm.vocabulary)
        warm.truncate(3)
    if way == "cold":
        forget(next(folder.glob("mapped-*/ids.npy")))
    with OwnMemory() as memory:
        start = time.perf_counter()
        sentences = read_sentences(folder, memory_map=way != "held")
        found = {"open": time.perf_counter() - start, "memory": memory.now()}
    found["most"] = memory.most
    if way == "made":
        return found
    order = np.random.default_rng(0).integers(len(sentences), size=ROWS).tolist()
    start = time.perf_counter()
    for i in order:
        sentences.row(i).max()
    found["rows"] = len(order) / (time.perf_counter() - start)
    config = TrainConfig(task="cell_type_annotation", n_genes=LENGTH, validation_share=0)
    data = prepare_cells(sentences, config)
    examples: Any = CellExamples(data, data.rows(validation=False), tokens, max_length=512)
    collate, shuffled = Collator(tokens.pad), order[:EXAMPLES]
    start = time.perf_counter()
    for first in range(0, EXAMPLES, BATCH):
        collate([examples[i] for i in shuffled[first : first + BATCH]])
    found["examples"] = EXAMPLES / (time.perf_counter() - start)
    return found


def forget(path: Path) -> None:
    """Have the system drop ``path`` from its page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
