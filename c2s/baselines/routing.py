"""A router held against the model without it and against rivals of its depth: labels, layers, token-layers and time, side by side."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from c2s.artefacts import atomic_path, write_json
from c2s.baselines.routing_plot import plot_decisions
from c2s.baselines.routing_rivals import RoutingRivals
from c2s.cells.genes import listed
from c2s.cells.reading import complete_column
from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.routing import calibrate_depth, mean_depth
from c2s.engines.layer_routing.support import decoder_of
from c2s.errors import ConfigError, DataError
from c2s.metrics.annotation import annotation_scores
from c2s.models.routed_prefix import Plans, require_own_router
from c2s.sentences.progress import progress_bar
from c2s.training.routing import prompt_batches, require_searched
from c2s.training.searched_plans import cell_hashes

if TYPE_CHECKING:
    from c2s.engines.layer_routing.router import Router
    from c2s.models.cell_lm import CellLM
    from c2s.sentences.corpus import CellSentences
    from c2s.training.searched_plans import SearchedPlans

FULL = "model as it is"
METRICS = ("accuracy", "macro F1")


@dataclass(frozen=True, eq=False)
class RoutingEvaluation:
    """What was found.

    Attributes
    ----------
    table : DataFrame
        A line a row: ``accuracy`` and ``macro F1`` with ``… low`` and ``… high`` (95 % over cells), mean ``layers`` a prompt, ``token-layers``
        as a share of those of the model as it is, ``time`` as a share of its time (median of rounds) with the least and most of them, and
        ``seconds`` (median).
    decisions : DataFrame, shape (types, layers)
        Mean number of runs under the first router.
    n_cells, n_timed, rounds : int
    """

    table: pd.DataFrame
    decisions: pd.DataFrame
    n_cells: int
    n_timed: int
    rounds: int

    def markdown(self) -> str:
        """Return the table, a line a row."""
        lines = ["| row | accuracy | macro F1 | layers | token-layers | time |", "|---|---|---|---|---|---|"]
        for row, line in self.table.iterrows():
            scores = [f"{line[m]:.3f} ({line[f'{m} low']:.3f} to {line[f'{m} high']:.3f})" for m in METRICS]
            shown = f"{line['time']:.2f} ({line['time least']:.2f} to {line['time most']:.2f})"
            lines.append(
                f"| {row} | {' | '.join(scores)} | {line['layers']:.2f} | {line['token-layers']:.3f} | {shown} |"
            )
        return "\n".join(lines) + "\n"

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write ``scores.csv``, ``summary.md``, ``decisions.csv``, ``decisions.png`` and ``results.json`` into a folder that exists."""
        place = Path(folder)
        for name, table in (("scores.csv", self.table), ("decisions.csv", self.decisions)):
            with atomic_path(place / name) as temporary:
                table.to_csv(temporary)
        with atomic_path(place / "summary.md") as temporary:
            temporary.write_text(self.markdown(), encoding="utf-8")
        plot_decisions(self.decisions, place / "decisions.png")
        results = self.table.reset_index().to_dict(orient="records")
        record = {"n_cells": self.n_cells, "n_timed": self.n_timed, "rounds": self.rounds, "results": results}
        write_json(place / "results.json", {"format": "c2s-routing-evaluation", **record})


def evaluate_routing(
    model: CellLM, sentences: CellSentences, router: Router, *, labels_key: str, training: SearchedPlans, depths: Sequence[float] = (),
    draws: int = 3, rounds: int = 5, timed: int = 256, seed: int = 0, progress: bool = True,
) -> RoutingEvaluation:  # fmt: skip
    """Return how labels, depth and time of a routed model compare with those of the model as it is and of rivals.

    Rivals are ShortGPT's and TALE's removal of layers, removal by lot, and early exit by confidence, each at the mean depth that the router
    has on test cells. Whatever has to be fitted (depth, layers to remove, the threshold) is fitted on training cells.

    Parameters
    ----------
    model : CellLM
        Without :attr:`~c2s.models.cell_lm.CellLM.routing`.
    sentences : CellSentences
        Test cells, none of which was searched.
    router : Router
        Not changed.
    labels_key : str
        Column of ``sentences.obs``.
    training : SearchedPlans
        Of ``c2s route search``.
    depths : sequence of float
        Mean layers to which the router is calibrated, a row each; none: as it was trained.
    draws : int
        Random removals at each depth.
    rounds : int
        In which all rows label the same cells in turn; one more goes before and is not counted.
    timed : int
        Test cells of a round, at most.
    seed : int
        Of removals and intervals.

    Raises
    ------
    ConfigError
        A depth is out of the router's reach, or there are no rounds.
    DataError
        A test cell was searched, or its label is none of the model's.
    ModelError
        Router or plans are of another model.
    """
    if rounds < 1 or timed < 1 or draws < 0:
        msg = f"rounds={rounds} and timed={timed} must be at least 1, draws={draws} at least 0"
        raise ConfigError(msg)
    model.require_all_layers("comparisons")
    require_searched(model, training)
    require_own_router(router, model.model)
    truth = complete_column(sentences.obs, labels_key, "labels_key").astype(str)
    if unknown := sorted(set(truth) - set(model.settings.labels)):
        msg = f"column {labels_key!r} holds {listed(unknown)}, which the model was not trained on; it knows {listed(model.settings.labels)}"
        raise DataError(msg)
    _refuse_searched(sentences, training)
    rivals = RoutingRivals(model, training, draws=draws, seed=seed)
    rows: dict[str, Plans | None] = {FULL: None}
    decided: list[LayerPlan] = []
    for asked in depths or (None,):
        name, calibrated = "router", copy.deepcopy(router).to(model.model.device)
        if asked is not None:
            calibrate_depth(calibrated, model.model, list(prompt_batches(model, training.sentences)), depth=asked)
            name = f"router, asked for {asked:g} layers"
        with model.routed(calibrated):
            plans = model.plans(sentences)
        decided = decided or plans
        rows[name] = calibrated
        rows.update(rivals.at(mean_depth(plans)))
    lines = {name: _scored(model, sentences, truth, plans, seed) for name, plans in rows.items()}
    chosen = sentences[np.sort(np.random.default_rng(seed).permutation(len(sentences))[:timed])]
    seconds = _timed(model, chosen, rows, rounds, progress=progress)
    ratios = seconds / seconds[:, [0]]
    table = pd.DataFrame.from_dict(lines, orient="index").assign(
        **{"time": np.median(ratios, 0), "time least": ratios.min(0), "time most": ratios.max(0), "seconds": np.median(seconds, 0)}
    )  # fmt: skip
    table.index.name = "row"
    runs = pd.DataFrame([plan.actions for plan in decided], columns=range(1, len(decided[0]) + 1))
    return RoutingEvaluation(table, runs.groupby(truth).mean().rename_axis("type"), len(sentences), len(chosen), rounds)


def _refuse_searched(sentences: CellSentences, training: SearchedPlans) -> None:
    known = set(training.seen)
    shared = [i for i, told in enumerate(cell_hashes(sentences)) if told in known]
    if shared:
        msg = f"{len(shared):,} of {len(sentences):,} test cells were searched ({sentences.obs.index[shared[0]]}); give cells that the router never saw"
        raise DataError(msg)


def _scored(
    model: CellLM, sentences: CellSentences, truth: NDArray[Any], plans: Plans | None, seed: int
) -> dict[str, float]:
    """Return scores and cost of a row."""
    with model.routed(plans):
        table = model.annotate(sentences)
        cost = model.routing_cost
    found = {each.metric: each for each in annotation_scores(truth, table["label"], classes=model.settings.labels, seed=seed)}  # fmt: skip
    line: dict[str, float] = {}
    for metric in METRICS:
        known = found[metric]
        low, high = (np.nan if end is None else end for end in (known.low, known.high))
        line |= {metric: known.value, f"{metric} low": low, f"{metric} high": high}
    layers = float(decoder_of(model.model).n_layers) if cost is None else mean_depth(cost.plans)
    return {**line, "layers": layers, "token-layers": 1.0 if cost is None else cost.share}


def _timed(
    model: CellLM, cells: CellSentences, rows: dict[str, Plans | None], rounds: int, *, progress: bool
) -> NDArray[np.float64]:
    """Return seconds of labelling, shape (rounds, rows), the rows in turn within each round."""
    seconds = np.empty((rounds + 1, len(rows)))
    with progress_bar(seconds.size, what="timing", unit="runs", shown=progress) as bar:
        for turn in range(rounds + 1):
            for place, plans in enumerate(rows.values()):
                with model.routed(plans):
                    started = time.perf_counter()
                    model.annotate(cells)
                    seconds[turn, place] = time.perf_counter() - started
                bar.update()
    return seconds[1:]
