"""Cells whose perturbations add up: each single one moves genes of its own, in every context by another factor."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.cells.library import Perturbation, combined

CONTROL = "medium"
FIT = {"perturbation_key": "drug", "control": CONTROL, "context_keys": ("donor",)}
A, B, C = (Perturbation(name, targets=(f"G{i}",)) for i, name in enumerate("abc"))
AB, AC, BC = combined(A, B), combined(A, C), combined(B, C)
LIBRARY = [A, B, C, AB, AC, BC]
FACTOR = {"d1": 1.0, "d2": 0.5, "d3": 1.5}
N_GENES = 24


def effect(perturbation: Perturbation, donor: str = "d1") -> np.ndarray:
    """Return the true change of each gene: a rises 1 at genes 0-4, b 0.8 at 5-9, c falls 0.6 at 8-12."""
    change = np.zeros(N_GENES)
    for name in perturbation.single:
        change += {"a": np.arange(N_GENES) < 5, "b": 0.8 * np.isin(range(N_GENES), range(5, 10)),
                   "c": -0.6 * np.isin(range(N_GENES), range(8, 13))}[name]  # fmt: skip
    return FACTOR[donor] * change


def world(
    given: dict[str, list[Perturbation]], *, n_cells: int = 40, n_controls: int = 60, noise: float = 0.2, seed: int = 0
) -> ad.AnnData:
    """Return cells far from 0 of each donor's perturbations, with its controls; donors differ in their controls, too."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(7).uniform(2.0, 4.0, size=N_GENES)
    rows, names, donors = [], [], []
    for donor, perturbations in given.items():
        own = base + 0.3 * np.sin(np.arange(N_GENES) + FACTOR[donor])
        for each in [None, *perturbations]:
            n = n_controls if each is None else n_cells
            rows.append(own + (0.0 if each is None else effect(each, donor)) + noise * rng.normal(size=(n, N_GENES)))
            names += [CONTROL if each is None else each.name] * n
            donors += [donor] * n
    obs = pd.DataFrame({"drug": pd.Categorical(names), "donor": donors}, index=[f"c{i}" for i in range(len(names))])
    var = pd.DataFrame({"number": range(N_GENES)}, index=[f"G{i}" for i in range(N_GENES)])
    return ad.AnnData(sp.csr_matrix(np.concatenate(rows).astype(np.float32)), obs=obs, var=var)


def controls_of(cells: ad.AnnData, donor: str | None = None) -> ad.AnnData:
    """Return the control cells, of one donor or of all."""
    chosen = cells.obs["drug"] == CONTROL
    return cells[chosen if donor is None else chosen & (cells.obs["donor"] == donor)].copy()


def mean_change(predicted: ad.AnnData, controls: ad.AnnData, name: str) -> np.ndarray:
    """Return the mean of the predicted cells of a perturbation less that of the controls."""
    chosen = predicted[(predicted.obs["drug"] == name).to_numpy()].X
    return np.asarray(chosen.mean(axis=0)).ravel() - np.asarray(controls.X.mean(axis=0)).ravel()
