"""c2s beside cell2sentence 1.2.0, the same matrices in one process: encode, decode, repair, write a corpus.

Run: ``pip install --no-deps cell2sentence==1.2.0``, then ``python -m benchmarks.reference.run`` (about three minutes on 2
cores; pbmc3k too where C2S_DATA_DIR is set). A Geneformer-style tokenizer (median-scaled ranks, two lines of NumPy a
cell) stands beside the two. CPU seconds of all threads, medians of rounds taken in turn.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import anndata as ad
import numpy as np

import c2s
from benchmarks.card import Figure, write_card
from benchmarks.encoding.run import synthetic_cells
from c2s.sentences.text import read_texts, write_texts

ROUNDS = 3
CELLS = 2000  # of the synthetic matrix; the reference needs a second per thousand


def main() -> None:
    """Measure and write the card."""
    begun = time.perf_counter()
    sys.modules.setdefault("plotnine", mock.MagicMock())  # drawing is not measured
    try:
        from cell2sentence import utils as reference
    except ImportError:
        sys.exit("this benchmark needs the reference: pip install --no-deps cell2sentence==1.2.0")
    data = {"synthetic": synthetic_cells(CELLS)}
    if os.environ.get("C2S_DATA_DIR"):
        data["pbmc3k"] = pbmc3k(Path(os.environ["C2S_DATA_DIR"]))
    figures: list[Figure] = []
    for name, adata in data.items():
        figures += encoding(name, adata, reference)
    figures += decoding(data["synthetic"], reference)
    figures += repair(data["synthetic"], reference)
    write_card(
        Path(__file__).parent, figures,
        data={"name": ", ".join(data), **{name: {"cells": a.n_obs, "genes": a.n_vars, "entries": int(a.X.nnz)} for name, a in data.items()}},
        notes=[
            "Ratios: the reference's seconds over ours, medians of 3 rounds taken in turn, after one round of ours to compile.",
            "CPU seconds count all threads. One-minute load average at the start: " + f"{os.getloadavg()[0]:.1f}.",
        ],
        seconds=time.perf_counter() - begun,
    )  # fmt: skip


def pbmc3k(folder: Path) -> ad.AnnData:
    """Return the raw counts of pbmc3k, genes with a unique upper-case name only, which the reference needs."""
    adata = ad.read_h5ad(folder / "pbmc3k" / "pbmc3k_counts.h5ad")
    upper = adata.var_names.str.upper()
    return adata[:, ~upper.duplicated(keep=False)].copy()


def in_turn(*works: Callable[[], object], clock: Callable[[], float] = time.process_time) -> list[float]:
    """Return the median seconds of each piece of work, run one after the other in every round."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for number, work in enumerate(works):
            start = clock()
            work()
            seconds[number].append(clock() - start)
    return [statistics.median(each) for each in seconds]


def ratio(name: str, ours: float, theirs: float, bar: float | None = None, **more: object) -> Figure:
    """Return how many times faster ours is."""
    value = theirs / ours
    met = None if bar is None else value >= bar
    return Figure(
        name, value, n=ROUNDS, bar=None if bar is None else f">= {bar:g}", met=met,
        reason="below what was asked for" if met is False else None, **more,
    )  # fmt: skip


def encoding(name: str, adata: ad.AnnData, reference: object) -> list[Figure]:
    """Return ratios of encoding, to ids and to a written corpus."""
    background = c2s.Background.fit(adata)
    vocabulary = reference.generate_vocabulary(adata)
    c2s.encode(adata, background=background)
    c2s.encode(adata, background=background, n_genes=200)
    medians = np.maximum(np.asarray(adata.X.mean(axis=0)).ravel(), 1e-9)

    def geneformer() -> list[np.ndarray]:
        rows = (slice(start, stop) for start, stop in zip(adata.X.indptr[:-1], adata.X.indptr[1:], strict=True))
        return [adata.X.indices[row][np.argsort(-adata.X.data[row] / medians[adata.X.indices[row]])] for row in rows]

    full, short, theirs, tokens = in_turn(
        lambda: c2s.encode(adata, background=background),
        lambda: c2s.encode(adata, background=background, n_genes=200),
        lambda: reference.generate_sentences(adata, vocabulary),
        geneformer,
    )
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "cells.h5ad"
        adata.write_h5ad(file)

        def written() -> None:
            c2s.encode_file(file, Path(place) / "ours", overwrite=True, progress=False)

        def saved() -> None:
            from cell2sentence import CSData

            cells = ad.read_h5ad(file)
            cells.obs["organism"] = "Homo sapiens"
            table, _ = CSData.adata_to_arrow(cells, label_col_names=["organism"])
            table.save_to_disk(str(Path(place) / "theirs"))

        written()
        ours_wall, theirs_wall = in_turn(written, saved, clock=time.perf_counter)
    return [
        ratio(f"{name}: full sentences to ids, CPU time against generate_sentences", full, theirs, 50),
        ratio(f"{name}: 200-gene sentences to ids, CPU time against generate_sentences", short, theirs, 100),
        ratio(f"{name}: the Geneformer-style loop, CPU time against generate_sentences", tokens, theirs),
        ratio(
            f"{name}: file to a written corpus, wall time against adata_to_arrow and save", ours_wall, theirs_wall, 40
        ),
        Figure(f"{name}: full sentences, cells per CPU second", adata.n_obs / full),
        Figure(f"{name}: generate_sentences, cells per CPU second", adata.n_obs / theirs),
    ]


def decoding(adata: ad.AnnData, reference: object) -> list[Figure]:
    """Return the ratio of decoding 2,000 cells × 20,000 genes with the literature's line."""
    decoder = c2s.RankDecoder.fit(adata[:500].copy(), model="log_rank", clip=False)
    sentences = c2s.encode(adata)
    texts, genes = write_texts(sentences).to_pylist(), list(adata.var_names)
    settings = {"delimiter": " ", "vocab_list": genes, "slope": decoder.slope, "intercept": decoder.intercept}
    decoder.decode(sentences)
    few = texts[:200]  # theirs is a loop over cells: a part of them is enough
    ours, theirs = in_turn(
        lambda: decoder.decode(sentences),
        lambda: [reference.reconstruct_expression_from_cell_sentence(text, **settings) for text in few],
    )
    return [
        ratio("decode 2,000 cells x 20,000 genes, log_rank, CPU time a cell", ours / len(texts), theirs / len(few), 100)
    ]


def repair(adata: ad.AnnData, reference: object) -> list[Figure]:
    """Return the ratio of repairing generated sentences of 1,000 words over 20,000 genes."""
    rng = np.random.default_rng(0)
    genes = list(adata.var_names)
    words = np.array([*genes, "NONSENSE"])
    texts = [" ".join(words[rng.integers(len(words), size=1000)]) for _ in range(2000)]
    vocabulary = c2s.GeneVocabulary(tuple(genes))
    found = read_texts(texts, vocabulary, repair="mean_rank")
    few = texts[:8]
    for i, text in enumerate(few):
        theirs_here, _ = reference.post_process_generated_cell_sentences(text, genes, "NOT_A_GENE")
        if found.genes(i) != [word for word in theirs_here if word != "NOT_A_GENE"]:
            sys.exit("the repaired sentences differ: there is nothing to compare")
    ours, theirs = in_turn(
        lambda: read_texts(texts, vocabulary, repair="mean_rank"),
        lambda: [reference.post_process_generated_cell_sentences(text, genes, "NOT_A_GENE") for text in few],
    )
    return [
        ratio("repair of generated text, 20,000 genes, CPU time a cell", ours / len(texts), theirs / len(few), 1000)
    ]


if __name__ == "__main__":
    main()
