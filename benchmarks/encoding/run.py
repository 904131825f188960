"""How fast cells become ids: 20,000 synthetic cells × 20,000 genes at 6 % density, beside a NumPy loop and the memory floor.

Run: ``python -m benchmarks.encoding.run`` (about 30 s on 2 cores).
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from benchmarks.card import Figure, write_card
from c2s.sentences.background import Background
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode, rank_matrix

N_CELLS, N_GENES, DENSITY = 20_000, 20_000, 0.06
ROUNDS = 9
BAR = 80_000  # cells/s
NUMPY_CELLS = 400


def synthetic_cells(n: int = N_CELLS, g: int = N_GENES, *, density: float = DENSITY, seed: int = 0) -> ad.AnnData:
    """Return integer counts: detection log-normal over genes (so that backgrounds differ), counts geometric (many ties)."""
    rng = np.random.default_rng(seed)
    detection = np.exp(1.5 * rng.normal(size=g))
    for _ in range(20):  # capped below 1, then scaled to the density asked for
        detection = np.minimum(0.95, detection * density / detection.mean())
    rows = [np.flatnonzero(rng.random(g, dtype=np.float32) < detection).astype(np.int32) for _ in range(n)]
    indptr = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)
    indices = np.concatenate(rows)
    counts = rng.geometric(0.55, len(indices)).astype(np.int32)
    obs, var = pd.DataFrame(index=[f"cell{i}" for i in range(n)]), pd.DataFrame(index=[f"GENE{i}" for i in range(g)])
    return ad.AnnData(sp.csr_matrix((counts, indices, indptr), (n, g)), obs, var)


def timed(work: Callable[[], object], *, rounds: int = ROUNDS) -> tuple[list[float], float]:
    """Return wall seconds of each round after one to warm up, and median CPU seconds (all threads)."""
    work()
    wall, cpu = [], []
    for _ in range(rounds):
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return wall, statistics.median(cpu)


def numpy_loop(matrix: sp.csr_matrix, place: np.ndarray, n: int) -> list[np.ndarray]:
    """Return the ids of the first ``n`` cells by one lexsort a cell: what one would write without a kernel."""
    result = []
    for row in range(n):
        span = slice(matrix.indptr[row], matrix.indptr[row + 1])
        columns = matrix.indices[span]
        result.append(columns[np.lexsort((place[columns], -matrix.data[span]))])
    return result


def copy_bandwidth(threads: int = 2, size: int = 32 * 2**20) -> float:
    """Return bytes read plus bytes written per second when ``threads`` threads copy arrays."""
    sources = [np.ones(size // 4, np.int32) for _ in range(threads)]
    targets = [np.empty_like(source) for source in sources]
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(8):
            start = time.perf_counter()
            list(pool.map(np.copyto, targets, sources))
            best = min(best, time.perf_counter() - start)
    return 2 * threads * size / best


def speed(name: str, wall: list[float], **more: object) -> Figure:
    """Return cells per second: median round, with the slowest and fastest as low and high."""
    rates = sorted(N_CELLS / seconds for seconds in wall)
    return Figure(name, statistics.median(rates), rates[0], rates[-1], n=len(rates), seeds=[0], **more)


def main() -> None:
    """Measure and write the card."""
    begun = time.perf_counter()
    adata = synthetic_cells()
    matrix = adata.X
    background = Background.fit(adata)
    vocabulary, barcodes = background.vocabulary, list(adata.obs_names)
    sentences = encode(adata, background=background)
    expected = numpy_loop(matrix, background.tie_ranks(vocabulary), NUMPY_CELLS)
    for row, ids in enumerate(expected):
        np.testing.assert_array_equal(sentences.row(row), ids)

    def kernel() -> object:
        return rank_matrix(matrix, vocabulary, barcodes, ties="background", background=background)

    load = os.getloadavg()[0]
    kernel_wall, kernel_cpu = timed(kernel)
    whole_wall, _ = timed(lambda: encode(adata, background=background))
    fitting_wall, _ = timed(lambda: encode(adata), rounds=5)
    hash_wall, _ = timed(lambda: encode(adata, ties="hash"), rounds=3)
    logged = adata.copy()
    logged.X = matrix.astype(np.float32)
    logged.X.data = np.log1p(logged.X.data)
    float_wall, _ = timed(lambda: encode(logged, background=background), rounds=3)
    np.testing.assert_array_equal(encode(logged, background=background).ids, sentences.ids)
    numpy_wall, _ = timed(lambda: numpy_loop(matrix, background.tie_ranks(vocabulary), NUMPY_CELLS), rounds=3)
    decoder = RankDecoder.fit(adata[:2000].copy(), background=background)
    decode_wall, _ = timed(lambda: decoder.decode(sentences), rounds=3)
    bandwidth = copy_bandwidth()
    moved = matrix.nnz * 12 + len(matrix.indptr) * 12  # values and columns read, ids written; row bounds
    floor = moved / bandwidth
    kernel_rate = N_CELLS / statistics.median(kernel_wall)
    met = kernel_rate >= BAR
    by_cpu = N_CELLS / (kernel_cpu / 2)
    reason = None if met else f"load average {load:.1f} on {os.cpu_count()} CPUs; {by_cpu:,.0f} by CPU time"
    figures = [
        speed(
            "counts to ids, background ties, 2 cores, cells/s", kernel_wall, bar=f">= {BAR:,}", met=met, reason=reason
        ),
        Figure("the same by CPU time: cells per second of two cores", by_cpu),
        speed("c2s.encode, background given (checks, names, fingerprint included), cells/s", whole_wall),
        speed("c2s.encode, background fitted on the way, cells/s", fitting_wall),
        speed("c2s.encode of log values (float32), cells/s", float_wall),
        speed("c2s.encode, hash ties, cells/s", hash_wall),
        speed("RankDecoder.decode to a sparse AnnData, gene model, cells/s", decode_wall),
        Figure(
            "baseline: one NumPy lexsort a cell, one core, cells/s",
            NUMPY_CELLS / statistics.median(numpy_wall),
            n=NUMPY_CELLS,
        ),
        Figure("floor: bytes read and written over copy bandwidth, ms", floor * 1e3),
        Figure("kernel time over that floor", statistics.median(kernel_wall) / floor),
        Figure("copy bandwidth, two threads, read plus write, GB/s", bandwidth / 1e9),
        Figure("largest memory of the process, GB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6),
    ]
    data = {
        "name": "synthetic counts", "cells": N_CELLS, "genes": N_GENES, "density": matrix.nnz / N_CELLS / N_GENES,
        "entries": matrix.nnz, "share_of_ones": float(np.mean(matrix.data == 1)), "seed": 0,
    }  # fmt: skip
    notes = [
        "Speeds are the median of the rounds after one to warm up; low and high are the slowest and fastest round.",
        f"One-minute load average when timing began: {load:.1f}, priority (nice) {os.nice(0)}; other work on the machine slows the wall-clock figures.",
        "ids are equal to the NumPy loop's for its cells, and equal from counts and from their logarithms for all cells.",
        "The floor counts 12 bytes an entry (value and column read, id written), over the bandwidth of a plain two-thread copy.",
    ]
    write_card(Path(__file__).parent, figures, data=data, notes=notes, seconds=time.perf_counter() - begun)


if __name__ == "__main__":
    main()
