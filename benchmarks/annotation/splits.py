"""The splits of the annotation benchmark: what is learnt from, what is asked, and the labels of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp

from benchmarks.annotation.labels import PBMC3K_TO_PBMC4K, UNNAMED
from c2s.cells.reading import expression, read_cells

TEST_SHARE = 0.3
FILES = {
    "pbmc3k": ("pbmc3k/pbmc3k_counts.h5ad", "cell_type"),
    "pbmc4k": ("pbmc4k_soupx/pbmc4k_counts.h5ad", "Annotation"),
    "pancreas": ("pancreas_human_mouse/pancreas_baron_counts.h5ad", "Group"),
}


@dataclass(frozen=True)
class Split:
    """Cells with counts in ``X`` and their type in ``obs["label"]``."""

    train: ad.AnnData
    test: ad.AnnData

    @property
    def classes(self) -> list[str]:
        return sorted({*self.train.obs["label"], *self.test.obs["label"]})


def splits(data: Path) -> dict[str, Callable[[int], Split]]:
    """Return each split by its name: a function of the seed. Only the fine labels are split at random."""
    return {
        "pbmc3k to pbmc4k": lambda seed: _across_pbmc(data),
        "pbmc3k, fine labels": partial(_fine, data),
        "pancreas, human to mouse": lambda seed: _across_species(data, "human", "mouse"),
        "pancreas, mouse to human": lambda seed: _across_species(data, "mouse", "human"),
    }


@cache
def labelled(data: Path, name: str) -> ad.AnnData:
    """Return the named cells of a data set; genes of one name are added up."""
    file, key = FILES[name]
    adata = read_cells(data / file)
    matrix, genes = expression(adata, on_collision="sum")
    named = adata.obs[key].notna().to_numpy() & ~adata.obs[key].isin(UNNAMED[name]).to_numpy()
    found = ad.AnnData(
        sp.csr_matrix(matrix[named]), obs=adata.obs[named].assign(label=adata.obs.loc[named, key].astype(str))
    )
    found.var_names = genes
    return found


def _across_pbmc(data: Path) -> Split:
    train = labelled(data, "pbmc3k").copy()
    train.obs["label"] = train.obs["label"].map(PBMC3K_TO_PBMC4K)
    return Split(train[train.obs["label"].notna().to_numpy()].copy(), labelled(data, "pbmc4k"))


def _across_species(data: Path, train: str, test: str) -> Split:
    cells = labelled(data, "pancreas")
    species = cells.obs["Batch"].to_numpy(dtype=str)
    return Split(cells[species == train].copy(), cells[species == test].copy())


def _fine(data: Path, seed: int) -> Split:
    cells = labelled(data, "pbmc3k")
    test = held_out(cells.obs["label"].to_numpy(dtype=str), seed)
    return Split(cells[~test].copy(), cells[test].copy())


def held_out(labels: np.ndarray, seed: int, *, share: float = TEST_SHARE) -> np.ndarray:
    """Return a mask of a share of the cells of each label, at least one of each."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        mask[rows[: max(1, round(share * len(rows)))]] = True
    return mask
