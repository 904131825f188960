"""Cells to be stored and streamed, and what tells two corpora apart."""

from __future__ import annotations

import hashlib

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

N, G = 57, 40


def cells(n=N, seed=0, prefix="c") -> ad.AnnData:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.4, 2.0, size=(n, G))).astype(np.float32)
    counts[5:12] = 0  # a block of cells without counts
    obs = pd.DataFrame({"kind": pd.Categorical(rng.choice(["B", "T"], n)), "note": [None] * (n // 2) + ["x"] * (n - n // 2)},
                       index=[f"{prefix}{i}" for i in range(n)])  # fmt: skip
    adata = ad.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"GENE{i}" for i in range(G)]))
    adata.layers["dense"] = counts * 2
    adata.raw = adata[:, :30].copy()
    return adata


def small(monkeypatch) -> None:
    """Make blocks of 5 cells and shards of 15."""
    from c2s.sentences import encode, stream

    for module in (stream, encode):
        monkeypatch.setattr(module, "BLOCK", 5)
    monkeypatch.setattr(stream, "SHARD_BLOCKS", 3)


def bytes_of(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
