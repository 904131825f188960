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

from c2s.baselines.annotation import Annotator
from c2s.models.cell_lm import CellLM
from c2s.training.run import train

BATCH = 32
PASSES = 8.0  # over the training cells
LEAST_STEPS = 200
SETTINGS: dict[str, Any] = {
    "task": "cell_type_annotation", "labels_key": "label", "n_genes": 200, "batch_size": BATCH, "learning_rate": 5e-4,
    "prompt_weight": 0.3, "validation_share": 0.0,
}  # fmt: skip


class TrainedHere:
    """A model trained from random weights on the training cells, asked by label likelihood.

    Parameters
    ----------
    preset : str
        Its size.
    **settings
        Of training, beside those of every row.
    """

    def __init__(self, preset: str = "c2s-mini", **settings: Any) -> None:
        self.preset, self.settings = preset, SETTINGS | settings
        self.name = f"{preset}, trained on these cells"
        self.model: CellLM | None = None

    def fit(self, adata: AnnData, labels: Any, *, seed: int) -> Self:
        """Train on genes that the cells express."""
        expressed = np.asarray((adata.X > 0).sum(axis=0)).ravel() > 0
        cells = adata[:, expressed].copy()
        cells.obs["label"] = np.asarray(labels, dtype=str)
        steps = max(LEAST_STEPS, round(PASSES * adata.n_obs / BATCH))
        with tempfile.TemporaryDirectory() as folder:
            self.model = train(
                cells, Path(folder) / "run", model=self.preset, seed=seed, steps=steps, threads=torch.get_num_threads(),
                progress=False, **self.settings,
            )  # fmt: skip
        self.setting_ = {"steps": steps, "parameters": self.model.n_parameters, **self.settings}
        return self

    def predict_proba(self, adata: AnnData) -> pd.DataFrame:
        """Return probabilities of the training labels."""
        assert self.model is not None
        table = self.model.annotate(self.model.encode(adata))
        found = table.filter(like="p(")
        return found.rename(columns={name: name[2:-1] for name in found.columns})


def c2s_rows() -> dict[str, Callable[[], Annotator]]:
    """Return what makes the annotator of each row, names starting with ``c2s``; steps are set by passes, not by seconds."""
    return {"c2s_mini": partial(TrainedHere, "c2s-mini")}
