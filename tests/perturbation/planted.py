"""A small screen with known responses, and a model trained on it for a few steps; made once per process and shared."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.cells.library import Perturbation, combined
from c2s.models.cell_lm import CellLM
from tests.tiny import tiny_preset

N_GENES, WRITTEN, CELLS = 80, 32, 24
UP, DOWN, STILL = range(4), range(4, 8), range(20, 80)
ONE, OTHER, INERT = Perturbation("IFN-β 1a", targets=("G0", "unmeasured")), Perturbation("TNF", targets=("G4",)), Perturbation("saline")  # fmt: skip
LIBRARY = [Perturbation("medium", role="vehicle"), ONE, OTHER, INERT, combined(ONE, OTHER)]
_SCRATCH = tempfile.TemporaryDirectory(prefix="c2s-planted-")


@functools.cache
def cells() -> ad.AnnData:
    """Return counts: ONE raises genes UP, OTHER lowers genes DOWN, INERT does nothing, together they do both; in two lines."""
    rng = np.random.default_rng(5)
    base = rng.uniform(3.0, 20.0, N_GENES)
    base[list(UP)] = 3.0
    base[list(DOWN)] = 20.0
    rows, counts = [], []
    for line in ("HeLa", "A549"):
        for row in LIBRARY:
            mean = base * (1.0 if line == "HeLa" else 1.1)
            if ONE.name in row.single:
                mean[list(UP)] *= 6.0
            if OTHER.name in row.single:
                mean[list(DOWN)] *= 0.15
            n = CELLS * (2 if row.role == "vehicle" else 1)
            counts.append(rng.poisson(mean, size=(n, N_GENES)))
            rows += [(row.name, line)] * n
    obs = pd.DataFrame(rows, columns=["given", "line"]).set_axis([f"c{i}" for i in range(len(rows))])
    matrix = sp.csr_matrix(np.concatenate(counts).astype(np.float32))
    return ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(N_GENES)]))


def validation() -> np.ndarray:
    """Return the cells of the held-out condition: both together in A549."""
    obs = cells().obs
    return ((obs["given"] == LIBRARY[-1].name) & (obs["line"] == "A549")).to_numpy()


def model(target: str = "sentence") -> CellLM:
    """Return a model trained on all but the held-out condition, for a few steps."""
    return _model(target)


@functools.cache
def _model(target: str) -> CellLM:
    from c2s.training.run import train

    folder = Path(_SCRATCH.name) / target
    with tiny_preset():
        return train(
            cells()[~validation()].copy(), folder, library=LIBRARY, model="c2s-tiny", target=target, perturbation_key="given",
            control="medium", context_keys=("line",), n_genes=8, n_answer=WRITTEN, n_up=4, n_down=4, steps=30, batch_size=8,
            learning_rate=1e-2, moved_weight=1.0, name_dropout=0.0, validation_share=0.0, threads=1, progress=False,
        )  # fmt: skip


def renamed(known: CellLM) -> CellLM:
    """Return a model that reads the columns ``cytokine`` and ``cell_type`` instead of ``given`` and ``line``."""
    details = known.settings.perturbation
    assert details is not None
    told = details.with_(perturbation_key="cytokine", context_keys=("cell_type",), match_by=("cell_type",))
    return CellLM(
        known.model, known.tokens, known.background, known.settings.with_(perturbation=told), decoder=known.decoder
    )
