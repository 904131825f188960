"""Is a corpus the same after kill -9 at random moments and the same command again, and how many seconds does a kill cost?

Cells are drawn with replacement from pbmc3k (C2S_DATA_DIR; without it from simulated counts) into a gzip-compressed .h5ad in a
temporary folder. Run: ``python -m benchmarks.resume.run [--cells 300000]`` (about three minutes on 2 cores, 3 GB of disk).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from benchmarks.card import Figure, write_card
from benchmarks.stream.run import resampled
from c2s.sentences.stream import encode_file

SEEDS = range(5)


def main() -> None:
    """Kill and go on five times, once more with a worker of a Dask cluster, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=300_000)
    n = parser.parse_args().cells
    begun = time.perf_counter()
    name, source = cells()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        entries = resampled(source, n, folder / "cells.h5ad")
        finish(folder, "warm")  # compiles
        shutil.rmtree(folder / "warm")
        whole = min(finish(folder, "whole"), finish(folder, "again"))
        expected = hash_of_files(folder / "whole")
        if hash_of_files(folder / "again") != expected:
            sys.exit("two uninterrupted runs differ")
        shares = [float(np.random.default_rng(seed).uniform()) for seed in SEEDS]
        runs = [killed(folder, share * whole, expected) for share in shares]
        same_over_dask, dask_seconds, undisturbed = killed_worker(folder, expected)
    lost = [seconds - whole for _, seconds, _ in runs]
    same, seeds, kills = sum(equal for equal, *_ in runs), list(SEEDS), sum(hit for *_, hit in runs)
    figures = [
        Figure("identical corpora after kill -9 and the same command again", same, n=len(runs), seeds=seeds, bar=">= 5 of 5",
               met=same == len(runs) == kills, reason=None if same == len(runs) == kills else "other bytes, or the run ended before the kill"),
        Figure("kills that hit the run before its end", kills, n=len(runs), seeds=seeds),
        Figure("seconds lost to a kill (both runs less one uninterrupted; mean, and least to most)", float(np.mean(lost)),
               low=min(lost), high=max(lost), n=len(runs), seeds=seeds),
        Figure("seconds of an uninterrupted run, the shorter of two", whole),
        Figure("identical corpora over two Dask workers, one killed by kill -9 after the first shard", int(same_over_dask), n=1,
               bar=">= 1 of 1", met=same_over_dask, reason=None if same_over_dask else "other bytes, or no worker was busy when it was to be killed"),
        Figure("seconds over two Dask workers, one killed", dask_seconds),
        Figure("seconds over two Dask workers, none killed", undisturbed),
    ]  # fmt: skip
    moments = ", ".join(f"{share:.2f}" for share in shares)
    write_card(
        Path(__file__).parent, figures,
        data={"name": name, "cells": n, "genes": source.n_vars, "entries": entries, "seed": 0},
        notes=[
            f"Moments of the kills as shares of an uninterrupted run, drawn by seeds 0 to 4: {moments}. A run starts Python anew.",
            "All files of the corpora are compared byte by byte through SHA-256. Shards of 131,072 cells: what a kill can lose.",
        ],
        seconds=time.perf_counter() - begun,
    )  # fmt: skip


def cells() -> tuple[str, ad.AnnData]:
    """Return the name and the cells to draw from."""
    folder = os.environ.get("C2S_DATA_DIR")
    if folder:
        found = ad.read_h5ad(Path(folder) / "pbmc3k" / "pbmc3k_counts.h5ad")
        found.var_names_make_unique()
        return "pbmc3k, resampled with replacement", found
    rng = np.random.default_rng(0)
    counts = sp.random(2000, 20_000, 0.04, "csr", rng=rng, data_rvs=lambda size: 1.0 + rng.poisson(1.0, size))
    return "simulated counts, resampled with replacement", ad.AnnData(
        counts, var=pd.DataFrame(index=[f"GENE{i}" for i in range(20_000)])
    )


def start(folder: Path, out: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "c2s.cli.main", "encode", str(folder / "cells.h5ad"), str(folder / out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(folder: Path, out: str) -> float:
    """Encode in a process of its own and return its seconds."""
    begun = time.perf_counter()
    if start(folder, out).wait() != 0:
        sys.exit(f"c2s encode failed for {out}")
    return time.perf_counter() - begun


def killed(folder: Path, after: float, expected: dict[str, str]) -> tuple[bool, float, bool]:
    """Kill a run after some seconds, go on, and return whether the bytes are the same, seconds in all, and whether it was hit."""
    begun = time.perf_counter()
    process = start(folder, "out")
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    hit = process.wait() == -signal.SIGKILL and not (folder / "out").exists()
    seconds = time.perf_counter() - begun
    if hit:
        seconds += finish(folder, "out")
    same = hash_of_files(folder / "out") == expected
    shutil.rmtree(folder / "out")
    return same, seconds, hit


def killed_worker(folder: Path, expected: dict[str, str]) -> tuple[bool, float, float]:
    """Encode over two worker processes, one killed after the first shard; return whether the bytes are the same, and seconds with and without the kill."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        begun = time.perf_counter()
        encode_file(folder / "cells.h5ad", folder / "undisturbed", scheduler=client, progress=False)
        undisturbed = time.perf_counter() - begun
        pids, struck = client.run(os.getpid), []

        def kill() -> None:
            while not list(folder.glob(".out.*/unfinished/shard-*.json")):
                time.sleep(0.01)
            for worker in [worker for worker, keys in client.processing().items() if keys][:1]:
                os.kill(pids[worker], signal.SIGKILL)
                struck.append(worker)

        thread = threading.Thread(target=kill)
        thread.start()
        begun = time.perf_counter()
        encode_file(folder / "cells.h5ad", folder / "out", scheduler=client, progress=False)
        seconds = time.perf_counter() - begun
        thread.join()
    same = hash_of_files(folder / "out") == hash_of_files(folder / "undisturbed") == expected
    return same and bool(struck), seconds, undisturbed


def hash_of_files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


if __name__ == "__main__":
    main()
