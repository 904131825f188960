"""The matrices that encoding is timed on."""

from __future__ import annotations

import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

N_CELLS, N_GENES, DENSITY = 20_000, 20_000, 0.06


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


def public_cells() -> dict[str, ad.AnnData]:
    """Return the raw counts of pbmc3k and pbmc4k where C2S_DATA_DIR is set, with the genes the reference can name apart."""
    folder = os.environ.get("C2S_DATA_DIR")
    files = {"pbmc3k": "pbmc3k/pbmc3k_counts.h5ad", "pbmc4k": "pbmc4k_soupx/pbmc4k_counts.h5ad"}
    found = {}
    for name, file in files.items() if folder else ():
        adata = ad.read_h5ad(Path(folder) / file)
        upper = adata.var_names.str.upper()
        found[name] = adata[:, ~upper.duplicated(keep=False)].copy()
        found[name].X = sp.csr_matrix(found[name].X)
    return found
