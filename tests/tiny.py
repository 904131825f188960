"""The smallest screen that is still one: simulated cells and a one-layer model, made once per process and shared."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from c2s.cells.simulate import SimulatedScreen, simulate_screen

# large initial weights: an almost untrained model still answers every prompt differently, so effects are not all zero
PRESET = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32,
    "initializer_range": 0.3,
}  # fmt: skip
TRAINING: dict[str, Any] = {
    "model": "c2s-tiny", "perturbation_key": "drug", "control": "DMSO", "context_keys": ("ifn",), "match_by": ("cell_type",),
    "n_genes": 12, "n_up": 4, "n_down": 4, "steps": 6, "batch_size": 4, "checkpoint_steps": 2, "validation_share": 0.2, "threads": 1,
}  # fmt: skip
SCREENING: dict[str, Any] = {
    "context_key": "ifn", "contexts": ("low", "none"), "unit_key": "donor", "n_decoys": 24, "n_reference": 4,
    "n_samples": 1, "block_size": 2, "threads": 1,
}  # fmt: skip
_SCRATCH = tempfile.TemporaryDirectory(prefix="c2s-tiny-")


@contextmanager
def tiny_preset() -> Iterator[None]:
    """Offer the preset ``c2s-tiny`` and keep torch to one thread."""
    import torch

    from c2s.models.presets import PRESETS

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with mock.patch.dict(PRESETS, {"c2s-tiny": PRESET}):
        yield
    torch.set_num_threads(threads)


@functools.cache
def simulated() -> SimulatedScreen:
    """Return a screen of 14 training drugs, 7 held-out drugs and 300 genes; 8 cells are screened."""
    return simulate_screen(
        0, n_genes=300, training_drugs=14, held_out_per_class=1, unseen_per_class=0, cells_per_condition=6,
        training_donors=2, screening_donors=2, screening_cells=2,
    )  # fmt: skip


def n_screened() -> int:
    """Return how many rows of the library are screened: all but the vehicle."""
    return len(simulated().library) - 1


@functools.cache
def run_folder() -> Path:
    """Return the run folder of a model trained for a few steps on :func:`simulated`."""
    from c2s.training.run import train

    folder = Path(_SCRATCH.name) / "run"
    with tiny_preset():
        train(simulated().training, folder, library=simulated().training_library, progress=False, **TRAINING)
    return folder


@functools.cache
def annotation_folder() -> Path:
    """Return the run folder of a model trained for a few steps on the cell types of :func:`simulated`."""
    from c2s.training.run import train

    folder = Path(_SCRATCH.name) / "annotation"
    settings = {"task": "cell_type_annotation", "model": "c2s-tiny", "n_genes": 8, "steps": 3, "batch_size": 4}
    with tiny_preset():
        train(simulated().training, folder, progress=False, **settings)
    return folder
