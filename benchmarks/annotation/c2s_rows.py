"""The rows of c2s itself, behind the face of the baselines (see :class:`c2s.baselines.annotation.Annotator`).

Settings were chosen on splits that the table does not hold: pbmc4k → pbmc3k, and the fine labels split by seed 10.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from benchmarks.annotation.splits import held_out, labelled
from benchmarks.card import ROOT
from c2s.baselines.annotation import Annotator
from c2s.models.cell_lm import CellLM
from c2s.models.loading import load_cell_lm
from c2s.training.run import train

STARTS = ROOT / "runs" / "benchmarks" / "annotation"
BATCH = 32
PASSES = 8.0  # over the training cells
LEAST_STEPS = 200
SETTINGS: dict[str, Any] = {
    "task": "cell_type_annotation", "labels_key": "label", "n_genes": 200, "batch_size": BATCH, "learning_rate": 5e-4,
    "prompt_weight": 0.3, "validation_share": 0.0,
}  # fmt: skip


class TrainedHere:
    """A model trained on the training cells, asked by label likelihood.

    Parameters
    ----------
    start : str or callable
        A preset, whose random weights it starts from; or, given a seed, the folder of a model it goes on from.
    share : float
        Of the training cells of each label.
    name : str
        Of the row.
    **settings
        Of training, beside those of every row.
    """

    def __init__(
        self, start: str | Callable[[int], Path] = "c2s-mini", *, share: float = 1.0, name: str = "", **settings: Any
    ) -> None:
        self.start, self.share, self.settings = start, share, SETTINGS | settings
        self.name = name or f"{start}, trained on these cells"
        self.model: CellLM | None = None

    def fit(self, adata: AnnData, labels: Any, *, seed: int) -> Self:
        """Train on genes that the cells express; on those it knows, where training starts from a model."""
        if self.share < 1:
            kept = held_out(np.asarray(labels, dtype=str), seed, share=self.share)
            adata, labels = adata[kept], np.asarray(labels)[kept]
        start = self.start if isinstance(self.start, str) else str(self.start(seed))
        cells = (adata[:, expressed(adata)] if isinstance(self.start, str) else adata[:, known_genes(start)]).copy()
        cells.obs["label"] = np.asarray(labels, dtype=str)
        steps = max(LEAST_STEPS, round(PASSES * adata.n_obs / BATCH))
        with tempfile.TemporaryDirectory() as folder:
            self.model = train(
                cells, Path(folder) / "run", model=start, seed=seed, steps=steps, threads=torch.get_num_threads(),
                progress=False, **self.settings,
            )  # fmt: skip
        self.setting_ = {"steps": steps, "cells": adata.n_obs, "parameters": self.model.n_parameters, **self.settings}
        return self

    def predict_proba(self, adata: AnnData) -> pd.DataFrame:
        """Return probabilities of the training labels."""
        assert self.model is not None
        table = self.model.annotate(self.model.encode(adata))
        found = table.filter(like="p(")
        return found.rename(columns={name: name[2:-1] for name in found.columns})


def c2s_rows() -> dict[str, Callable[[], Annotator]]:
    """Return what makes the annotator of each row, names starting with ``c2s``; steps are set by passes, not by seconds."""
    return {"c2s_mini": TrainedHere}


def curve_rows(data: Path) -> dict[str, Callable[[], Annotator]]:
    """Return rows that differ from ``c2s_mini`` in one thing: size, cells seen, or where training starts and what is trained."""
    begun = partial(trained_on_pbmc4k, data)
    return {
        "c2s_micro": partial(TrainedHere, "c2s-micro"),
        "c2s_midi": partial(TrainedHere, "c2s-midi"),
        "c2s_mini_quarter": partial(TrainedHere, share=0.25),
        "c2s_mini_half": partial(TrainedHere, share=0.5),
        "c2s_pbmc4k_full": partial(TrainedHere, begun, name="c2s-mini of pbmc4k, all weights trained on these cells"),
        "c2s_pbmc4k_lora": partial(
            TrainedHere, begun, name="c2s-mini of pbmc4k, LoRA of rank 8 on these cells", lora_rank=8
        ),
    }


def trained_on_pbmc4k(data: Path, seed: int) -> Path:
    """Return the folder of a model that knows the coarse labels of pbmc4k; it is trained where it is not there yet."""
    folder = STARTS / f"pbmc4k-{seed}"
    if not (folder / "model" / "c2s.json").exists():
        cells = labelled(data, "pbmc4k")
        cells = cells[:, expressed(cells) & cells.var_names.isin(labelled(data, "pbmc3k").var_names)].copy()
        steps = round(PASSES * cells.n_obs / BATCH)
        train(
            cells, folder, model="c2s-mini", seed=seed, steps=steps, threads=torch.get_num_threads(), progress=False,
            overwrite=True, **SETTINGS,
        )  # fmt: skip
    return folder / "model"


def expressed(adata: AnnData) -> np.ndarray:
    """Return which genes any cell expresses."""
    return np.asarray((adata.X > 0).sum(axis=0)).ravel() > 0


def known_genes(folder: str) -> list[str]:
    """Return the genes of a trained model."""
    return list(load_cell_lm(folder).vocabulary.symbols)
