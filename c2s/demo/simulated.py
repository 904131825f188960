"""Simulate a screen, train a model on its training drugs, screen its held-out drugs, write the report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd

from c2s.artefacts import atomic_path
from c2s.cells.library import library_frame
from c2s.cells.simulate import SimulatedScreen, simulate_screen
from c2s.models.cell_lm import CellLM
from c2s.screening.config import ScreenConfig
from c2s.screening.screen import screen
from c2s.training.config import TrainConfig
from c2s.training.run import train

# what the demo and its benchmark train and screen with; --quick only shows that everything runs
TRAINING: dict[str, Any] = {
    "perturbation_key": "drug", "control": "DMSO", "context_keys": ("ifn",), "match_by": ("cell_type",),
    "n_treated": 16, "n_controls": 32, "delta_threshold": 2.25, "n_genes": 20, "batch_size": 32, "learning_rate": 3e-3, "steps": 1400, "name_dropout": 0.5, "validation_share": 0.05,
}  # fmt: skip
SCREENING: dict[str, Any] = {
    "context_key": "ifn", "contexts": ("low", "none"), "unit_key": "donor", "cells_per_unit": 8, "n_samples": 1,
}  # fmt: skip
QUICK_SIMULATION = {
    "training_drugs": 28,
    "held_out_per_class": 3,
    "unseen_per_class": 0,
    "cells_per_condition": 12,
    "screening_cells": 3,
}
QUICK_TRAINING = {"steps": 60}
QUICK_SCREENING = {"n_decoys": 24, "n_reference": 6, "cells_per_unit": 2}


def train_simulated(
    simulated: SimulatedScreen,
    out: Path,
    *,
    quick: bool = False,
    progress: bool = True,
    overwrite: bool = False,
    **settings: Any,
) -> CellLM:
    """Return the model trained on the training drugs of a simulated screen, in ``out``."""
    values = {**TRAINING, **(QUICK_TRAINING if quick else {}), "seed": simulated.seed, **settings}
    config = TrainConfig(**values)
    library = simulated.training_library
    return train(simulated.training, out, config=config, library=library, progress=progress, overwrite=overwrite)


def screen_simulated(
    model: CellLM,
    simulated: SimulatedScreen,
    out: Path | None,
    *,
    quick: bool = False,
    progress: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Return the screened held-out drugs beside the truth."""
    values = {**SCREENING, **(QUICK_SCREENING if quick else {}), "seed": simulated.seed, **settings}
    config = ScreenConfig(programme=values.pop("programme", "MHC_CLASS_I"), **values)
    return screen(
        model, simulated.screening, simulated.library, out, config=config, truth=simulated.truth, progress=progress
    )


def run_simulated(out: Path, *, seed: int, quick: bool) -> tuple[pd.DataFrame, dict[str, float]]:
    """Run the simulated half of the demo and return the table of drugs and the seconds of each stage.

    ``out`` gets ``training.h5ad``, ``cells.h5ad``, ``training_drugs.csv``, ``drugs.csv``, ``truth.csv``, ``run/`` and
    ``screen/``, so that every step can be repeated by hand.
    """
    started = time.perf_counter()
    simulated = simulate_screen(seed, **(QUICK_SIMULATION if quick else {}))
    for name, cells in {"training.h5ad": simulated.training, "cells.h5ad": simulated.screening}.items():
        with atomic_path(out / name) as temporary:
            cells.write_h5ad(temporary, compression="gzip")
    tables = {
        "training_drugs.csv": library_frame(simulated.training_library), "drugs.csv": simulated.library_frame(), "truth.csv": simulated.truth,
    }  # fmt: skip
    for name, table in tables.items():
        with atomic_path(out / name) as temporary:
            table.to_csv(temporary, index=False)
    seconds = {"simulate": time.perf_counter() - started}
    started = time.perf_counter()
    model = train_simulated(simulated, out / "run", quick=quick)
    seconds["train"] = time.perf_counter() - started
    started = time.perf_counter()
    table = screen_simulated(model, simulated, out / "screen", quick=quick)
    seconds["screen"] = time.perf_counter() - started
    return table, seconds
