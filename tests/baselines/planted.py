"""Cells with planted classes: each class doubles and redoubles a few genes of its own."""

from __future__ import annotations

import anndata as ad
import numpy as np
import scipy.sparse as sp


def planted(
    n_per_class: int = 60, n_classes: int = 4, n_genes: int = 80, seed: int = 0
) -> tuple[ad.AnnData, np.ndarray]:
    """Return raw counts and labels."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).gamma(1.0, 1.0, size=n_genes)
    codes = np.repeat(np.arange(n_classes), n_per_class)
    rates = np.tile(base, (len(codes), 1))
    for code in range(n_classes):
        rates[np.ix_(codes == code, np.arange(6 * code, 6 * code + 6))] += 4.0
    counts = rng.poisson(rates * rng.gamma(8, 1 / 8, size=(len(codes), 1)))
    counts[:, -1] += 1  # no empty cell
    cells = ad.AnnData(sp.csr_matrix(counts.astype(np.float32)))
    cells.var_names = [f"GENE{i}" for i in range(n_genes)]
    cells.obs_names = [f"cell{seed}_{i}" for i in range(len(codes))]
    return cells, np.array([f"type {c}" for c in codes])
