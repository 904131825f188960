"""A response model against baselines on the same held-out conditions, and whether it reads its prompt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from c2s.artefacts import atomic_path, plain, write_json
from c2s.baselines.additive import SumOfSingles
from c2s.baselines.responses import ResponseBaseline
from c2s.baselines.shifts import ContextMean, NoChange, PerturbationMean, TrainMean
from c2s.cells.library import Perturbation
from c2s.cells.reading import complete_column, refuse_repeated_cells
from c2s.errors import DataError
from c2s.metrics.perturbation import UNSCORED, response_scores, space_of, summarised
from c2s.perturbation.predict import known_perturbations, predict_cells, road_of, trained_on
from c2s.perturbation.swap import swap_gaps
from c2s.results import Result

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.models.cell_lm import CellLM

MODEL = "model"
SHOWN = ("Pearson delta", "energy distance", "MMD², unbiased", "discrimination, cosine", "variance ratio", "coverage")
BASELINES: tuple[type[ResponseBaseline], ...] = (NoChange, TrainMean, ContextMean, PerturbationMean, SumOfSingles)


@dataclass(frozen=True)
class ResponseEvaluation:
    """What was found.

    Attributes
    ----------
    scores : DataFrame
        Column ``row`` (the model, each baseline), then those of
        :func:`~c2s.metrics.perturbation.response_scores`.
    gaps : list of Result
        Of :func:`~c2s.perturbation.swap.swap_gaps`.
    """

    scores: pd.DataFrame
    gaps: list[Result]

    def table(self) -> pd.DataFrame:
        """Return means over conditions: a line a row and metric, with ``value``, ``low``, ``high`` and ``n``."""
        known = self.scores[self.scores["metric"].isin(SHOWN)]
        lines = [
            (row, mean.metric, mean.value, np.nan if mean.low is None else mean.low, np.nan if mean.high is None else mean.high, mean.n)
            for row, part in known.groupby("row", sort=False)
            for mean in summarised(part)
        ]  # fmt: skip
        return pd.DataFrame(lines, columns=["row", "metric", "value", "low", "high", "n"])

    def markdown(self) -> str:
        """Return the table of means, a line a row, and the swap gaps."""
        table = self.table()
        table["shown"] = [
            "" if np.isnan(v) else f"{v:.3f}" if np.isnan(a) else f"{v:.3f} ({a:.3f} to {b:.3f})"
            for v, a, b in zip(table["value"], table["low"], table["high"])
        ]
        wide = table.pivot(index="row", columns="metric", values="shown").reindex(table["row"].unique())
        metrics = [metric for metric in SHOWN if metric in wide]
        lines = ["| row | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
        lines += [f"| {row} | " + " | ".join(wide.loc[row, metrics]) + " |" for row in wide.index]
        lines += ["", "| swapped in the prompt | loss of log-likelihood, nats a token | note |", "|---|---|---|"]
        for gap in self.gaps:
            value = "" if np.isnan(gap.value) else f"{gap.value:.4f}"
            ends = "" if gap.low is None else f" ({gap.low:.4f} to {gap.high:.4f})"
            lines.append(f"| {gap.metric.removeprefix('swap gap, ')} | {value}{ends} | {gap.reason or ''} |")
        return "\n".join(lines) + "\n"

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write ``scores.csv``, ``summary.md`` and ``results.json`` into a folder that exists."""
        place = Path(folder)
        with atomic_path(place / "scores.csv") as temporary:
            self.scores.to_csv(temporary, index=False)
        with atomic_path(place / "summary.md") as temporary:
            temporary.write_text(self.markdown(), encoding="utf-8")
        told = {"means": self.table().to_dict(orient="records"), "gaps": [asdict(gap) for gap in self.gaps]}
        write_json(place / "results.json", {"format": "c2s-response-evaluation", **plain(told)})


def evaluate_responses(
    model: CellLM, cells: AnnData, *, training: AnnData | None = None, library: Sequence[Perturbation] | None = None, layer: str | None = None,
    max_cells: int = 500, seed: int = 0,
) -> ResponseEvaluation:  # fmt: skip
    """Return how a model, and baselines fitted to its training cells, foretell the perturbed cells of ``cells``.

    All cells come the model's road (:class:`~c2s.metrics.road.SentenceRoad`); baselines are fitted behind it and move the same control cells.

    Parameters
    ----------
    model : CellLM
    cells : AnnData
        Held-out perturbed cells and the controls of their contexts, counts or log1p CP10k.
    training : AnnData, optional
        What the model was trained on: without it there are no baselines but no change. None of its perturbed cells may be among ``cells``.
    library : sequence of Perturbation, optional
        What the perturbations are; the model's own where left out.
    layer : str, optional
        Of both.
    max_cells : int
        Most cells of a side in distances.
    seed : int

    Raises
    ------
    DataError
        Columns or controls are missing, a perturbation is not in the library, or perturbed cells were trained on.
    ModelError
        The model was trained on another task.
    """
    _, details = trained_on(model)
    keys: dict[str, Any] = {
        "perturbation_key": details.perturbation_key,
        "control": details.control,
        "context_keys": details.context_keys,
    }
    road = road_of(model)
    refuse_repeated_cells(cells.obs_names)
    names = complete_column(cells.obs, details.perturbation_key, "perturbation_key")
    known = known_perturbations(details, names, library)
    controls = cells[names == details.control].copy()
    if not controls.n_obs:
        msg = f"no cell has {details.perturbation_key} == {details.control!r}; held-out cells need controls of their contexts"
        raise DataError(msg)
    asked = [known[name] for name in sorted(set(names) - {details.control})]
    real = road(model.encode(cells, layer=layer))
    learnt = None if training is None else road(model.encode(training, layer=layer))
    space = space_of(real, learnt, details.perturbation_key, details.control)
    told = {MODEL: predict_cells(model, model.encode(controls, layer=layer), asked, seed=seed)}
    before = road(model.encode(controls, layer=layer))
    kinds = BASELINES if learnt is not None else (NoChange,)
    for kind in kinds:
        fitted = kind().fit(real if learnt is None else learnt, library=list(known.values()), seed=seed, **keys)
        told[kind.name] = fitted.predict(before, asked, seed=seed)
    scores = []
    for row, predicted in told.items():
        found = response_scores(
            real, predicted, training=learnt, embedder=space, max_cells=max_cells, seed=seed, **keys
        )
        scores.append(found[found["metric"] != UNSCORED].assign(row=row))
    table = pd.concat(scores, ignore_index=True)
    table = table[["row", *(name for name in table.columns if name != "row")]]
    return ResponseEvaluation(table, swap_gaps(model, cells, library=library, layer=layer, seed=seed))
