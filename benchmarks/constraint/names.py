"""The gene names that sentences are made of: those of pbmc3k, or invented ones where there are no data."""

from __future__ import annotations

import os
from pathlib import Path

import anndata as ad
import numpy as np

N_INVENTED = 20_000
SIGNS = np.array(list("ABCDEFGHIKLMNPRSTXZ0123456789-."))


def gene_names() -> tuple[str, tuple[str, ...]]:
    """Return where the names are from, and the names; among them are prefixes of others, and names with full stops."""
    folder = os.environ.get("C2S_DATA_DIR")
    if folder:
        cells = ad.read_h5ad(Path(folder) / "pbmc3k" / "pbmc3k_counts.h5ad", backed="r")
        return "pbmc3k", tuple(cells.var_names)
    return "invented", invented_names(N_INVENTED)


def invented_names(n: int, *, seed: int = 0) -> tuple[str, ...]:
    """Return ``n`` distinct names of one to nine capitals, digits, hyphens and full stops."""
    rng = np.random.default_rng(seed)
    names: dict[str, None] = {}
    while len(names) < n:
        name = "".join(rng.choice(SIGNS, rng.integers(1, 10))).strip("-.")
        if any(sign.isalpha() for sign in name):
            names[name] = None
    return tuple(names)
