"""c2s beside cell2sentence 1.2.0 and a Geneformer-style tokenizer, in turn in one process: encode, write, decode, repair.

Run: ``pip install --no-deps cell2sentence==1.2.0``, then ``python -m benchmarks.encoding.run`` (about four minutes on 2
cores; pbmc3k and pbmc4k too where C2S_DATA_DIR is set).
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import anndata as ad
import numpy as np
import scipy.sparse as sp

import c2s
from benchmarks.card import Figure, write_card
from benchmarks.encoding.data import public_cells, synthetic_cells
from benchmarks.encoding.timing import copy_bandwidth, in_turn, ratio, speed
from c2s.sentences.encode import rank_matrix
from c2s.sentences.ranking import on_one_thread
from c2s.sentences.text import read_texts, write_texts

BARRED = ("synthetic", "pbmc3k")
KERNEL_BAR = 80_000  # cells/s on two cores
CHECKED = 300  # cells whose ids are compared with a sort in NumPy


def main() -> None:
    """Measure and write the card."""
    begun = time.perf_counter()
    load = os.getloadavg()[0]
    sys.modules.setdefault("plotnine", mock.MagicMock())  # drawing is not measured
    try:
        import cell2sentence
    except ImportError:
        sys.exit("this benchmark needs the reference: pip install --no-deps cell2sentence==1.2.0")
    data = {"synthetic": synthetic_cells(), **public_cells()}
    figures: list[Figure] = []
    for name, adata in data.items():
        figures += encoding(name, adata, cell2sentence)
        figures += writing(name, adata, cell2sentence)
    figures += floor(data["synthetic"])
    figures += ours_alone(data["synthetic"])
    few = data["synthetic"][:2000].copy()
    figures += decoding(few, cell2sentence.utils)
    figures += repair(few, cell2sentence.utils)
    figures.append(
        Figure("largest memory of the process, GB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
    )
    sizes = {name: f"{a.n_obs:,} cells x {a.n_vars:,} genes, {a.X.nnz:,} entries" for name, a in data.items()}
    write_card(
        Path(__file__).parent, figures, data={"name": ", ".join(data), **sizes},
        notes=[
            "Ratios are the others' seconds over ours: medians of rounds taken in turn, after one round of ours to compile; the interval is the worst and best pair of rounds. CPU seconds are those of one thread on both sides, as the reference has one; on all threads ours take more CPU time (the row says how much), because they wait for the same memory.",
            "Ids of the first cells are checked against a sort in NumPy before timing; repaired texts against the reference's.",
            "scipy remembers that a matrix is in canonical form, so the rounds after the first do not check it again (0.3 us a cell of 1,200 genes).",
            f"One-minute load average at the start: {load:.1f}; other work on the machine slows the wall-clock figures.",
        ],
        seconds=time.perf_counter() - begun,
    )  # fmt: skip


def encoding(name: str, adata: ad.AnnData, reference: Any) -> list[Figure]:
    """Return ratios of encoding to ids, against the reference and a Geneformer-style loop."""
    background = c2s.Background.fit(adata)
    matrix, place = adata.X, background.tie_ranks(background.vocabulary)
    vocabulary = reference.utils.generate_vocabulary(adata)
    checked = c2s.encode(adata, background=background)
    short = c2s.encode(adata, background=background, n_genes=200)
    for row in range(CHECKED):
        span = slice(matrix.indptr[row], matrix.indptr[row + 1])
        columns = matrix.indices[span]
        expected = columns[np.lexsort((place[columns], -matrix.data[span]))]
        np.testing.assert_array_equal(checked.row(row), expected)
        np.testing.assert_array_equal(short.row(row), expected[:200])
    medians = np.maximum(np.asarray(matrix.mean(axis=0)).ravel(), 1e-9)

    def geneformer() -> list[np.ndarray]:
        rows = (slice(start, stop) for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True))
        return [matrix.indices[row][np.argsort(-matrix.data[row] / medians[matrix.indices[row]])] for row in rows]

    took = in_turn({
        "full": lambda: alone(lambda: c2s.encode(adata, background=background)),
        "threads": lambda: c2s.encode(adata, background=background),
        "short": lambda: alone(lambda: c2s.encode(adata, background=background, n_genes=200)),
        "reference": lambda: reference.utils.generate_sentences(adata, vocabulary),
        "geneformer": geneformer,
    })  # fmt: skip
    n, barred = adata.n_obs, name in BARRED
    why = f"see benchmarks/encoding/README.md; the call took {statistics.median(took['short'].cpu) / n * 1e6:.2f} us of CPU a cell (200 genes), {statistics.median(took['full'].cpu) / n * 1e6:.2f} (full)"
    theirs = took["reference"]
    return [
        ratio(f"{name}: full sentences to ids, CPU time against generate_sentences", took["full"].cpu, theirs.cpu, 50 if barred else None, reason=why),
        ratio(f"{name}: 200-gene sentences to ids, CPU time against generate_sentences", took["short"].cpu, theirs.cpu, 100 if barred else None, reason=why),
        ratio(f"{name}: full sentences on all threads, wall time against generate_sentences", took["threads"].wall, theirs.wall),
        ratio(f"{name}: full sentences, CPU time against the Geneformer-style loop", took["full"].cpu, took["geneformer"].cpu),
        ratio(f"{name}: full sentences on all threads, CPU time against one thread", took["full"].cpu, took["threads"].cpu),
        speed(f"{name}: c2s.encode, full sentences, cells per CPU second", n, took["full"].cpu),
        speed(f"{name}: c2s.encode, 200 genes, cells per CPU second", n, took["short"].cpu),
        speed(f"{name}: generate_sentences, cells per CPU second", n, theirs.cpu),
        speed(f"{name}: the Geneformer-style loop, cells per CPU second", n, took["geneformer"].cpu),
    ]  # fmt: skip


def alone(work: Callable[[], object]) -> None:
    """Do the work on one thread, as the reference does its own."""
    with on_one_thread():
        work()


def writing(name: str, adata: ad.AnnData, reference: Any) -> list[Figure]:
    """Return ratios of the way to a corpus on disk, from cells in memory and from a file."""
    cells = adata.copy()
    cells.obs["organism"] = "Homo sapiens"
    with tempfile.TemporaryDirectory() as place:
        folder, file = Path(place), Path(place) / "cells.h5ad"
        cells.write_h5ad(file)
        rounds = iter(range(1000))

        def theirs(cells: ad.AnnData) -> None:
            table, _ = reference.CSData.adata_to_arrow(cells, label_col_names=["organism"])
            table.save_to_disk(str(folder / f"theirs{next(rounds)}"))

        took = in_turn({
            "ours": lambda: c2s.encode(cells).write(folder / f"ours{next(rounds)}"),
            "theirs": lambda: theirs(cells),
            "our file": lambda: c2s.encode_file(file, folder / f"file{next(rounds)}", progress=False),
            "their file": lambda: theirs(ad.read_h5ad(file)),
        }, rounds=3)  # fmt: skip
    why = f"see benchmarks/encoding/README.md; ours took {statistics.median(took['ours'].wall) * 1e3:.0f} ms"
    return [
        ratio(f"{name}: cells in memory to a written corpus, wall time against adata_to_arrow and save", took["ours"].wall, took["theirs"].wall, 40 if name in BARRED else None, reason=why),
        ratio(f"{name}: .h5ad file to a written corpus, wall time against read_h5ad, adata_to_arrow and save", took["our file"].wall, took["their file"].wall),
    ]  # fmt: skip


def floor(adata: ad.AnnData) -> list[Figure]:
    """Return the kernel's speed and its share of the copy bandwidth."""
    matrix, background = adata.X, c2s.Background.fit(adata)
    names = list(adata.obs_names)
    took = in_turn({
        "kernel": lambda: rank_matrix(matrix, background.vocabulary, names, ties="background", background=background)
    }, rounds=9)["kernel"]  # fmt: skip
    threads = len(os.sched_getaffinity(0))
    bandwidth = copy_bandwidth(threads)
    moved = matrix.nnz * (matrix.data.itemsize + matrix.indices.itemsize + 4) + len(matrix.indptr) * 12
    share = moved / bandwidth / statistics.median(took.wall)
    busy = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
    return [
        speed(f"counts to ids on {threads} cores, cells/s", adata.n_obs, took.wall, KERNEL_BAR, reason=busy),
        Figure(f"copy bandwidth on {threads} threads, read plus write, GB/s", bandwidth / 1e9),
        Figure("floor: bytes read and written over that bandwidth, ms", moved / bandwidth * 1e3),
        Figure(
            "share of the floor that the kernel reaches", share, bar=">= 0.5", met=share >= 0.5,
            reason=None if share >= 0.5 else "a comparison-free pass over the bytes; sorting 1,200 keys alone takes several times as long, see benchmarks/encoding/README.md",
        ),
    ]  # fmt: skip


def ours_alone(adata: ad.AnnData) -> list[Figure]:
    """Return speeds of what has no counterpart in the reference."""
    background = c2s.Background.fit(adata)
    logged = adata.copy()
    logged.X = sp.csr_matrix((np.log1p(adata.X.data).astype(np.float32), adata.X.indices, adata.X.indptr), adata.shape)
    sentences = c2s.encode(adata, background=background)
    np.testing.assert_array_equal(c2s.encode(logged, background=background).ids, sentences.ids)
    decoder = c2s.RankDecoder.fit(adata[:2000].copy(), background=background)
    decoder.decode(sentences)
    took = in_turn({
        "c2s.encode, background fitted on the way, wall, cells/s": lambda: c2s.encode(adata),
        "c2s.encode of log values (float32), wall, cells/s": lambda: c2s.encode(logged, background=background),
        "c2s.encode, hash ties, wall, cells/s": lambda: c2s.encode(adata, ties="hash"),
        "RankDecoder.decode to a sparse AnnData, default model, wall, cells/s": lambda: decoder.decode(sentences),
    }, rounds=3)  # fmt: skip
    return [speed(name, adata.n_obs, each.wall) for name, each in took.items()]


def decoding(adata: ad.AnnData, reference: Any) -> list[Figure]:
    """Return the ratio of decoding 2,000 cells × 20,000 genes with the literature's line."""
    decoder = c2s.RankDecoder.fit(adata[:500].copy(), model="log_rank", clip=False)
    sentences = c2s.encode(adata)
    texts, genes = write_texts(sentences).to_pylist(), list(adata.var_names)
    settings = {"delimiter": " ", "vocab_list": genes, "slope": decoder.slope, "intercept": decoder.intercept}
    decoder.decode(sentences)
    took = in_turn({
        "ours": lambda: decoder.decode(sentences),
        "theirs": lambda: [reference.reconstruct_expression_from_cell_sentence(text, **settings) for text in texts],
    })  # fmt: skip
    name = f"decode {len(texts):,} cells x {len(genes):,} genes, log_rank, CPU time"
    return [ratio(name, took["ours"].cpu, took["theirs"].cpu, 100, reason="below what was asked for")]


def repair(adata: ad.AnnData, reference: Any) -> list[Figure]:
    """Return the ratio of repairing generated sentences of 1,000 words over 20,000 genes."""
    rng = np.random.default_rng(0)
    genes = list(adata.var_names)
    words = np.array([*genes, "NONSENSE"])
    texts = [" ".join(words[rng.integers(len(words), size=1000)]) for _ in range(2000)]
    vocabulary = c2s.GeneVocabulary(tuple(genes))
    found = read_texts(texts, vocabulary, repair="mean_rank")
    few = texts[:8]  # theirs looks each word up in a list: a part is enough
    for i, text in enumerate(few):
        theirs_here, _ = reference.post_process_generated_cell_sentences(text, genes, "NOT_A_GENE")
        if found.genes(i) != [word for word in theirs_here if word != "NOT_A_GENE"]:
            sys.exit("the repaired sentences differ: there is nothing to compare")
    took = in_turn({
        "ours": lambda: read_texts(texts, vocabulary, repair="mean_rank"),
        "theirs": lambda: [reference.post_process_generated_cell_sentences(text, genes, "NOT_A_GENE") for text in few],
    }, rounds=3)  # fmt: skip
    ours, theirs = ([second / n for second in took[who].cpu] for who, n in (("ours", len(texts)), ("theirs", len(few))))
    name = "repair of generated text, 20,000 genes, CPU time a cell"
    return [ratio(name, ours, theirs, 1000, reason="below what was asked for")]


if __name__ == "__main__":
    main()
