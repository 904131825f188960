"""Cell types of real cells: across two blood data sets, on fine labels, and across species, beside ten baselines.

Run: ``C2S_DATA_DIR=… python -m benchmarks.annotation.run`` (``--rows majority,knn_pca --splits … --seeds 3`` does part of
it; ``--server http://localhost:8000/v1 --server-model NAME`` adds the row of a model behind a server). The grid of
split x row x seed takes hours, so every run is kept in ``made/`` with the commit that made it, and is made once; ``--again``
makes those anew whose sources have changed since. The card holds what has been made, and says what has not.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.annotation.asked_rows import Asked, asked_model
from benchmarks.annotation.c2s_rows import c2s_rows, curve_rows
from benchmarks.annotation.plots import curves
from benchmarks.annotation.splits import Split, splits
from benchmarks.card import ROOT, Figure, commit, write_card
from c2s.artefacts import hash_of, plain, read_json, write_json
from c2s.baselines.annotation import ANNOTATORS, Annotator
from c2s.baselines.network import Budget
from c2s.errors import MissingDependencyError
from c2s.metrics.annotation import annotation_scores

logger = logging.getLogger(__name__)

MADE = Path(__file__).parent / "made"
ANSWERS = ROOT / "runs" / "benchmarks" / "annotation"  # of servers
STEPS = 3000  # of the long run of a network of others, batches of 16, after a search of 0.43 times as many
SEEDS = 3
NETWORKS = ("scgpt_architecture", "geneformer_architecture")
CHEAP = ("majority", "logistic_variable_genes", "logistic_top_genes", "logistic_top_genes_rank", "knn_pca")
BAR_ROW = "logistic_top_genes"
FINE = "pbmc3k, fine labels"
BAR_SPLITS = ("pbmc3k to pbmc4k", FINE)
# sources that make a run; rows of c2s rest on the packages of the second line as well
SOURCES = ("cells", "sentences", "baselines", "metrics", "results.py", "stats.py")
MODEL_SOURCES = ("tasks", "models", "training", "engines/constraint.py")
ASKED_SOURCES = ("tasks", "models/asked_annotation.py", "models/backends")
Made = dict[tuple[str, str, int], dict[str, Any]]  # by split, row and seed


def rows(data: Path, split: str) -> dict[str, Callable[[], Annotator]]:
    """Return what makes the annotator of each row of a split; folders of scGPT weights are out of reach here and have none."""
    budget = Budget(steps=STEPS)
    return {
        **{name: ANNOTATORS[name] for name in (*CHEAP, "celltypist")},
        **{name: partial(ANNOTATORS[name], budget=budget) for name in NETWORKS},
        **c2s_rows(),
        **(curve_rows(data) if split == FINE else {}),
    }


def main() -> None:
    """Make the runs asked for, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", help="names separated by commas; all if left out, none if empty")
    parser.add_argument("--splits", help="names separated by semicolons; all if left out")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of rows that depend on the seed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="make runs anew whose sources have changed")
    parser.add_argument("--server", help="URL of an OpenAI-compatible server, up to and with /v1")
    parser.add_argument("--server-model", help="name of the model there")
    parser.add_argument("--server-key-env", help="environment variable that holds the server's key")
    parser.add_argument(
        "--server-completions", action="store_true", help="the model completes texts and holds no chats"
    )
    asked = parser.parse_args()
    if bool(asked.server) != bool(asked.server_model):
        parser.error("--server and --server-model belong together")
    place = os.environ.get("C2S_DATA_DIR")
    if not place:
        msg = "set C2S_DATA_DIR to the folder that holds pbmc3k/, pbmc4k_soupx/ and pancreas_human_mouse/"
        raise SystemExit(msg)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("c2s").setLevel(logging.WARNING)
    torch.set_num_threads(asked.threads)
    chosen = splits(Path(place))
    makers = {split: rows(Path(place), split) for split in chosen}
    if asked.server:
        row = "asked_" + re.sub(r"[^\w.-]+", "_", asked.server_model)
        for of_split in makers.values():
            of_split[row] = partial(
                asked_model, asked.server, asked.server_model, cache=ANSWERS / f"{row}.jsonl",
                api_key_env=asked.server_key_env, chat=not asked.server_completions,
            )  # fmt: skip
    grid = [
        (split, row, seed)
        for split in chosen
        for row in makers[split]
        for seed in range(SEEDS if is_random(split, row) else 1)
    ]
    names = dict.fromkeys(row for _, row, _ in grid)
    wanted_rows = set(names) if asked.rows is None else set(filter(None, asked.rows.split(",")))
    wanted_splits = set(asked.splits.split(";")) if asked.splits else set(chosen)
    if wanted_rows - set(names) or wanted_splits - set(chosen):
        msg = f"rows are {', '.join(names)}; splits are {'; '.join(chosen)}"
        raise SystemExit(msg)
    for split, row, seed in grid:
        path = run_path(split, row, seed)
        if row in wanted_rows and split in wanted_splits and seed < asked.seeds:
            if not path.exists() or (asked.again and read_json(path)["code"] != code_of(row)):
                begun = {"code": code_of(row), "commit": commit(), "threads": asked.threads}
                write_json(path, {**one_run(chosen[split](seed), makers[split][row], seed), **begun})
            logger.info("%s | %s | %d | %s", split, row, seed, told(read_json(path)))
    made = {key: read_json(run_path(*key)) for key in grid if run_path(*key).exists()}
    of_curves = {key[1:]: run for key, run in made.items() if key[0] == FINE}
    if {row for row, _ in of_curves} & set(curve_rows(Path(place))):
        curves(of_curves, ROOT / "docs" / "_static" / "annotation_curves.png")
    write_card(
        Path(__file__).parent, [*figures(made), *missing(grid, made)], data=sizes(made), notes=notes(made),
        seconds=sum(run.get("seconds", 0.0) for run in made.values()),
    )  # fmt: skip


def is_random(split: str, row: str) -> bool:
    """Return whether a run depends on its seed: fine labels are split by it, and networks are trained with it."""
    return split == FINE or row in NETWORKS or row.startswith("c2s")


def run_path(split: str, row: str, seed: int, *, made: Path = MADE) -> Path:
    """Return where a run is kept."""
    return made / "_".join(word.strip(",") for word in split.split()) / f"{row}-{seed}.json"


def code_of(row: str) -> str:
    """Return a hash of the sources and settings that decide a run of a row."""
    kind = next((kind for kind in ("c2s", "asked") if row.startswith(kind)), None)
    names = SOURCES + {"c2s": MODEL_SOURCES, "asked": ASKED_SOURCES, None: ()}[kind]
    here = Path(__file__).parent
    files = [file for name in names for file in sorted((ROOT / "c2s" / name).rglob("*.py")) or [ROOT / "c2s" / name]]
    files += [here / "labels.py", here / "splits.py", *([here / f"{kind}_rows.py"] if kind else [])]
    return hash_of(
        {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files},
        [STEPS] if row in NETWORKS else [],
    )


def one_run(split: Split, maker: Callable[[], Annotator], seed: int) -> dict[str, Any]:
    """Return the scores of one annotator on one split, with the time it took; or why there are none."""
    begun = time.perf_counter()
    try:
        annotator = maker()
    except MissingDependencyError as error:
        return {"reason": str(error)}
    annotator.fit(split.train, split.train.obs["label"].to_numpy(dtype=str), seed=seed)
    fitted = time.perf_counter()
    predicted = annotator.predict_proba(split.test)
    done = time.perf_counter()
    found = annotation_scores(split.test.obs["label"], predicted, classes=split.classes, seed=seed)
    return {
        "name": annotator.name,
        "scores": {row.metric: {"value": row.value, "low": row.low, "high": row.high, "reason": row.reason} for row in found},
        "cells_per_second": None if isinstance(annotator, Asked) else split.test.n_obs / (done - fitted),
        "fit_seconds": fitted - begun,
        "seconds": done - begun,
        "setting": plain(getattr(annotator, "setting_", None)),
        "train": split.train.n_obs,
        "test": split.test.n_obs,
        "classes": split.classes,
    }  # fmt: skip


def told(run: dict[str, Any]) -> str:
    """Return a run in one line."""
    if "reason" in run:
        return run["reason"]
    scores = ", ".join(f"{name.partition(',')[0]} {score['value']:.3f}" for name, score in run["scores"].items())
    speed = "" if run["cells_per_second"] is None else f", {run['cells_per_second']:,.0f} cells/s"
    return f"{scores}; fit {run['fit_seconds']:.1f} s{speed}"


def missing(grid: list[tuple[str, str, int]], made: Made) -> list[Figure]:
    """Return a figure without value for each row of a split of which no seed was run."""
    untried = dict.fromkeys((split, row) for split, row, _ in grid if (split, row) not in {key[:2] for key in made})
    return [
        Figure(f"{split}, {row}: macro F1", None, reason=f"not run yet; --rows {row} --splits '{split}' makes its runs")
        for split, row in untried
    ]


def figures(made: Made) -> list[Figure]:
    """Return the median over seeds of each score, the widest interval, the speed, and the bar of the rows of c2s."""
    found = []
    for split, row in dict.fromkeys((split, row) for split, row, _ in made):
        runs = {seed: run for (s, r, seed), run in made.items() if (s, r) == (split, row)}
        seeds = list(runs)
        reasons = [run["reason"] for run in runs.values() if "reason" in run]
        if reasons:
            found.append(Figure(f"{split}, {row}: macro F1", None, seeds=seeds, reason=reasons[0]))
            continue
        for metric in next(iter(runs.values()))["scores"]:
            scores = [run["scores"][metric] for run in runs.values()]
            name, n = f"{split}, {row}: {metric}", next(iter(runs.values()))["test"]
            if any(score["value"] is None for score in scores):
                found.append(Figure(name, None, n=n, seeds=seeds, reason=scores[0]["reason"]))
                continue
            value = statistics.median(score["value"] for score in scores)
            low = min((score["low"] for score in scores if score["low"] is not None), default=None)
            high = max((score["high"] for score in scores if score["high"] is not None), default=None)
            bar = _bar(made, split, row, seeds, value) if metric == "macro F1" else {}
            found.append(Figure(name, value, low, high, n=n, seeds=seeds, **bar))
        name, speeds = f"{split}, {row}: cells annotated per second", [run["cells_per_second"] for run in runs.values()]
        if None in speeds:  # kept answers cost no time
            found.append(
                Figure(name, None, seeds=seeds, reason="the speed of a server is its own, and answers are kept")
            )
        else:
            found.append(Figure(name, statistics.median(speeds), seeds=seeds))
    return found + _goals(made)


def _bar(made: Made, split: str, row: str, seeds: list[int], value: float) -> dict[str, Any]:
    """Return bar, whether it is met, and why not, of the macro F1 of c2s-mini."""
    beside = _median(made, split, BAR_ROW, seeds)
    if row != "c2s_mini" or split not in BAR_SPLITS or beside is None:
        return {}
    met = value >= beside
    return {
        "bar": f">= {beside:.3f}, logistic regression on the bag of the same top genes", "met": met,
        "reason": None if met else "below the same genes without their order",
    }  # fmt: skip


def _goals(made: Made) -> list[Figure]:
    """Return how far c2s-mini is from what reads the whole cell, points of macro F1."""
    found = []
    for split in BAR_SPLITS:
        seeds = [seed for s, row, seed in made if (s, row) == (split, "c2s_mini")]
        ours = _median(made, split, "c2s_mini", seeds)
        for row in ("logistic_variable_genes", "celltypist"):
            theirs = _median(made, split, row, seeds)
            if ours is None or theirs is None:
                continue
            gap, name = 100 * (ours - theirs), f"{split}: macro F1 of c2s_mini minus that of {row}, points"
            reason = (
                None
                if gap >= -1
                else "it sees 200 genes of a cell and their order; the other sees all genes and their counts"
            )
            found.append(Figure(name, gap, seeds=seeds, bar="goal: >= -1", met=gap >= -1, reason=reason))
    return found


def _median(made: Made, split: str, row: str, seeds: list[int]) -> float | None:
    """Return the median macro F1 of a row over those seeds; a row that has one seed counts for all."""
    runs = {seed: run for (s, r, seed), run in made.items() if (s, r) == (split, row) and "scores" in run}
    values = [runs[seed]["scores"]["macro F1"]["value"] for seed in seeds if seed in runs]
    if not is_random(split, row):
        values = [run["scores"]["macro F1"]["value"] for run in runs.values()]
    return statistics.median(values) if values else None


def sizes(made: Made) -> dict[str, Any]:
    """Return how many cells each split has."""
    found: dict[str, Any] = {}
    for (split, _, _), run in made.items():
        if "reason" not in run:
            found[split] = f"{run['train']:,} cells to learn from, {run['test']:,} asked, {len(run['classes'])} classes"
    return found


def notes(made: Made) -> list[str]:
    """Return how to read the figures."""
    return [
        "Medians over seeds; low and high are the least and greatest ends of their 95 % bootstrap intervals over test cells (accuracy, calibration) or test cells within their class (balanced accuracy, macro F1). One donor or few each: the intervals say nothing of other donors.",
        "The labels of both blood data sets were made from clusters, so a T cell's subtype is itself a guess; of pbmc3k the platelets are left out, dendritic cells and monocytes are mononuclear phagocytes (benchmarks/annotation/labels.py). The fine labels are split at random within label, 30 % asked. pancreas: 35 cells a type and species, genes by human symbol.",
        f"Networks: {STEPS:,} steps of 16 cells after a search of {round(0.3 / 0.7 * STEPS):,} in all; settings are chosen on a tenth of the training cells; {_minutes(made, NETWORKS)}. c2s_mini: 8 passes over the training cells, {_minutes(made, ('c2s_mini',))}. scgpt_architecture and geneformer_architecture share their namesakes' architecture at a small size, not their pre-training: 'same data, same budget'. Weights of scGPT are out of reach here, so the rows 'frozen + probe' and 'fine-tuned' have no numbers.",
        "Curves (rows c2s_…) are on the fine labels. c2s_micro and c2s_midi are other sizes; _quarter and _half learn from that share of the training cells, at as many passes; c2s_pbmc4k goes on, with all weights or by LoRA, from a model trained on the coarse labels of pbmc4k.",
        f"Cells per second: raw counts to probabilities, fitting left out. Runs were made at the commits {', '.join(sorted({str(run['commit']) for run in made.values()}))}, one or two at a time on two cores.",
        "A model asked in words (rows asked_…) is told the labels and trained on no cell; it counts as certain of what it says, and an answer that cannot be read is wrong.",
    ]  # fmt: skip


def _minutes(made: Made, names: tuple[str, ...]) -> str:
    seconds = [run["fit_seconds"] * run["threads"] for (_, row, _), run in made.items() if row in names]
    return f"{min(seconds) / 60:.1f} to {max(seconds) / 60:.1f} core minutes a fit" if seconds else "not run yet"


if __name__ == "__main__":
    main()
