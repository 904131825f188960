"""Control cells and perturbations to predicted cells, with the control each came from and how far samples of it differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from c2s.cells.library import Perturbation
from c2s.errors import DataError, ModelError
from c2s.metrics.road import SentenceRoad
from c2s.models.answers import with_columns
from c2s.sentences.corpus import CellSentences

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.models.cell_lm import CellLM
    from c2s.models.settings import PerturbationSettings
    from c2s.tasks import PerturbationResponse

SPREAD = "spread"


def predict_cells(
    model: CellLM,
    controls: AnnData | CellSentences,
    perturbations: Sequence[Perturbation],
    *,
    n_samples: int = 1,
    seed: int = 0,
    temperature: float = 1.0,
    layer: str | None = None,
) -> AnnData:
    """Return each control cell after each perturbation, as cells.

    Parameters
    ----------
    model : CellLM
        Trained on ``perturbation_response``.
    controls : AnnData or CellSentences
        Control cells with the model's context columns in ``obs``; sentences must be whole and encoded by ``model.encode``.
    perturbations : sequence of Perturbation
    n_samples : int
        Answers a cell and perturbation; from 2 on their spread is told.
    seed, temperature
        Of sampling (:meth:`c2s.models.cell_lm.CellLM.perturb`).
    layer : str, optional
        Of an AnnData.

    Returns
    -------
    AnnData
        ``X`` log1p CP10k, csr float32, decoded from the sentences that the model wrote; rows cell by cell, then perturbation, then sample.
        ``obs``: the controls' columns (one called like those below is kept as ``cells_…``) with the model's perturbation column overwritten, ``control_cell`` (name of the control), ``sample``, and
        ``spread``: the root mean square over genes of the standard deviation between the samples of one cell and perturbation, log1p CP10k; NaN
        where there is one sample. ``uns["c2s_response"]`` says which model, seed and number of samples.

    Raises
    ------
    ModelError, DataError, ConfigError
        As :meth:`c2s.models.cell_lm.CellLM.perturb` and :func:`c2s.encode`.
    """
    sentences = controls if isinstance(controls, CellSentences) else model.encode(controls, layer=layer)
    written = model.perturb(sentences, perturbations, n_samples=n_samples, seed=seed, temperature=temperature)
    spec, details = trained_on(model)
    cells = road_of(model)(written)
    rows = np.arange(len(sentences)).repeat(len(perturbations) * n_samples)
    names = np.tile(np.repeat([row.name for row in perturbations], n_samples), len(sentences))
    samples = np.tile(np.arange(n_samples), len(sentences) * len(perturbations))
    controls_of = sentences.obs.index.astype(str).to_numpy()[rows]
    told = {"control_cell": controls_of, "sample": samples, SPREAD: _spread(cells.X, n_samples)}
    obs = with_columns(sentences.obs, told, owner="cells", rows=rows).assign(**{details.perturbation_key: names})
    obs.index = pd.Index([f"{cell}|{name}|{sample}" for cell, name, sample in zip(controls_of, names, samples)])
    cells.obs = obs
    cells.uns["c2s_response"] = {
        "version": model.settings.version, "training_data": str(model.settings.training.get("data_hash", "")), "seed": seed,
        "n_samples": n_samples, "temperature": temperature, "target": spec.target,
    }  # fmt: skip
    return cells


def trained_on(model: CellLM) -> tuple[PerturbationResponse, PerturbationSettings]:
    """Return the task of a response model and how it was trained.

    Raises
    ------
    ModelError
        It was trained on another task, or does not say how.
    """
    spec, details = model.task("perturbation_response"), model.settings.perturbation
    if details is None:
        msg = "c2s.json says nothing of how this model was trained on perturbations; train it again"
        raise ModelError(msg)
    return spec, details


def known_perturbations(
    details: PerturbationSettings, names: Iterable[str], library: Sequence[Perturbation] | None
) -> dict[str, Perturbation]:
    """Return what is known of perturbations by name: the model's own library, and ``library``, which counts where both have one.

    Raises
    ------
    DataError
        One of ``names`` is in neither; they are listed.
    """
    known = {row["name"]: Perturbation.from_dict(row) for row in details.library}
    known |= {row.name: row for row in library or ()}
    if missing := sorted(set(names) - set(known)):
        msg = f"{len(missing)} perturbations of the cells are not in the library: {', '.join(missing[:8])}"
        raise DataError(msg)
    return known


def road_of(model: CellLM) -> SentenceRoad:
    """Return the road that real cells go to be like those a response model writes: encoded, cut and decoded by what it was trained with."""
    spec = model.task("perturbation_response")
    n_genes = spec.n_answer if spec.target == "sentence" else None
    return SentenceRoad(model.decoder, model.vocabulary, model.background, n_genes)


def _spread(matrix: object, n_samples: int) -> np.ndarray:
    """Return, for each row, how far the samples of its cell and perturbation differ, float32 (n,)."""
    n = matrix.shape[0]  # type: ignore[attr-defined]
    if n_samples < 2:
        return np.full(n, np.nan, dtype=np.float32)
    found = np.empty(n, dtype=np.float32)
    for start in range(0, n, n_samples):
        rows = matrix[start : start + n_samples].toarray()  # type: ignore[index]
        found[start : start + n_samples] = np.sqrt(rows.var(axis=0, ddof=1, dtype=np.float64).mean())
    return found
