"""Cell types of real cells: across two blood data sets, on fine labels, and across species, beside ten baselines.

Run: ``C2S_DATA_DIR=… python -m benchmarks.annotation.run`` (``--rows majority,knn_pca --splits … --seeds 3`` does part of
it; ``--server http://localhost:8000/v1 --server-model NAME`` adds the row of a model behind a server). Every run of split x row x seed is kept below ``runs/`` and not made twice; the card is written when all are there.
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
from benchmarks.annotation.c2s_rows import c2s_rows
from benchmarks.annotation.splits import Split, splits
from benchmarks.card import ROOT, Figure, write_card
from c2s.artefacts import hash_of, plain, read_json, write_json
from c2s.baselines.annotation import ANNOTATORS, Annotator
from c2s.baselines.network import Budget
from c2s.errors import MissingDependencyError
from c2s.metrics.annotation import annotation_scores

logger = logging.getLogger(__name__)

CACHE = ROOT / "runs" / "benchmarks" / "annotation"
SECONDS = 900.0  # of training a network on these cells, c2s-mini and the architectures of others alike
SEEDS = 3
NETWORKS = ("scgpt_architecture", "geneformer_architecture")
CHEAP = ("majority", "logistic_variable_genes", "logistic_top_genes", "logistic_top_genes_rank", "knn_pca")
BAR_ROW = "logistic_top_genes"
BAR_SPLITS = ("pbmc3k to pbmc4k", "pbmc3k, fine labels")
# a run counts for the sources that made it; rows of c2s rest on the packages of the second line as well
SOURCES = ("cells", "sentences", "baselines", "metrics", "results.py", "stats.py")
MODEL_SOURCES = ("tasks", "models", "training", "engines/constraint.py")
ASKED_SOURCES = ("tasks", "models/asked_annotation.py", "models/backends")


def rows(seconds: float) -> dict[str, Callable[[], Annotator]]:
    """Return what makes the annotator of each row; folders of scGPT weights are out of reach here and have none."""
    budget = Budget(steps=100_000, seconds=seconds)
    return {
        **{name: ANNOTATORS[name] for name in (*CHEAP, "celltypist")},
        **{name: partial(ANNOTATORS[name], budget=budget) for name in NETWORKS},
        **c2s_rows(),
    }


def main() -> None:
    """Make the runs asked for, and write the card where no run is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", help="names separated by commas; all if left out")
    parser.add_argument("--splits", help="names separated by semicolons; all if left out")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="budget of training a network")
    parser.add_argument("--threads", type=int, default=1)
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
    torch.set_num_threads(asked.threads)
    makers, chosen = rows(asked.seconds), splits(Path(place))
    if asked.server:
        row = "asked_" + re.sub(r"[^\w.-]+", "_", asked.server_model)
        makers[row] = partial(
            asked_model, asked.server, asked.server_model, cache=CACHE / f"{row}.jsonl",
            api_key_env=asked.server_key_env, chat=not asked.server_completions,
        )  # fmt: skip
    grid = [(split, row, seed) for split in chosen for row in makers for seed in range(asked.seeds)]
    wanted_rows = set(asked.rows.split(",")) if asked.rows else set(makers)
    wanted_splits = set(asked.splits.split(";")) if asked.splits else set(chosen)
    if wanted_rows - set(makers) or wanted_splits - set(chosen):
        msg = f"rows are {', '.join(makers)}; splits are {'; '.join(chosen)}"
        raise SystemExit(msg)
    made: dict[tuple[str, str, int], dict[str, Any]] = {}
    for split, row, seed in grid:
        path = run_path(split, row, seed, seconds=asked.seconds, threads=asked.threads)
        if not path.exists() and row in wanted_rows and split in wanted_splits:
            write_json(path, one_run(chosen[split](seed), makers[row], seed))
        if path.exists():
            made[split, row, seed] = read_json(path)
            if row in wanted_rows and split in wanted_splits:
                logger.info("%s | %s | %d | %s", split, row, seed, told(made[split, row, seed]))
    if len(made) < len(grid):
        logger.info("%d of %d runs are there: no card yet", len(made), len(grid))
        return
    write_card(
        Path(__file__).parent, figures(made), data=sizes(made), notes=notes(asked.seconds, asked.threads),
        seconds=sum(run.get("seconds", 0.0) for run in made.values()),
    )  # fmt: skip


def run_path(split: str, row: str, seed: int, *, seconds: float, threads: int, cache: Path = CACHE) -> Path:
    """Return where a run is kept; the name holds a hash of the sources and settings that decide it."""
    kind = next((kind for kind in ("c2s", "asked") if row.startswith(kind)), None)
    names = SOURCES + {"c2s": MODEL_SOURCES, "asked": ASKED_SOURCES, None: ()}[kind]
    budget = (seconds, threads) if row.startswith("c2s") or row in NETWORKS else ()
    here = Path(__file__).parent
    files = [file for name in names for file in sorted((ROOT / "c2s" / name).rglob("*.py")) or [ROOT / "c2s" / name]]
    files += [here / "labels.py", here / "splits.py", *([here / f"{kind}_rows.py"] if kind else [])]
    key = hash_of({str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}, list(budget))
    return cache / "_".join(word.strip(",") for word in split.split()) / f"{row}-{seed}-{key}.json"


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


def figures(made: dict[tuple[str, str, int], dict[str, Any]]) -> list[Figure]:
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
            bar, met, reason = _bar(made, split, row, value) if metric == "macro F1" else (None, None, None)
            found.append(Figure(name, value, low, high, n=n, seeds=seeds, bar=bar, met=met, reason=reason))
        name, speeds = f"{split}, {row}: cells annotated per second", [run["cells_per_second"] for run in runs.values()]
        if None in speeds:  # kept answers cost no time
            found.append(
                Figure(name, None, seeds=seeds, reason="the speed of a server is its own, and answers are kept")
            )
        else:
            found.append(Figure(name, statistics.median(speeds), seeds=seeds))
    return found


def _bar(
    made: dict[tuple[str, str, int], dict[str, Any]], split: str, row: str, value: float
) -> tuple[str | None, bool | None, str | None]:
    if not row.startswith("c2s") or split not in BAR_SPLITS:
        return None, None, None
    beside = statistics.median(
        run["scores"]["macro F1"]["value"] for (s, r, _), run in made.items() if (s, r) == (split, BAR_ROW)
    )
    met = value >= beside
    reason = None if met else "below the same genes without their order"
    return f">= {beside:.3f}, logistic regression on the bag of the same top genes", met, reason


def sizes(made: dict[tuple[str, str, int], dict[str, Any]]) -> dict[str, Any]:
    """Return how many cells each split has."""
    found: dict[str, Any] = {}
    for (split, _, _), run in made.items():
        if "reason" not in run:
            found[split] = f"{run['train']:,} cells to learn from, {run['test']:,} asked, {len(run['classes'])} classes"
    return found


def notes(seconds: float, threads: int) -> list[str]:
    """Return how to read the figures."""
    return [
        "Medians over seeds; low and high are the least and greatest ends of their 95 % bootstrap intervals over test cells (accuracy, calibration) or test cells within their class (balanced accuracy, macro F1). One donor or few each: the intervals say nothing of other donors.",
        "The labels of both blood data sets were made from clusters, so a T cell's subtype is itself a guess; of pbmc3k the platelets are left out, dendritic cells and monocytes are mononuclear phagocytes (benchmarks/annotation/labels.py). The fine labels are split at random within label, 30 % asked. pancreas: 35 cells a type and species, genes by human symbol.",
        f"Networks: about {seconds:,.0f} s of training on {threads} thread(s), search of settings included; settings are chosen on a tenth of the training cells. scgpt_architecture and geneformer_architecture share their namesakes' architecture at a small size, not their pre-training: 'same data, same budget'. Weights of scGPT are out of reach here, so the rows 'frozen + probe' and 'fine-tuned' have no numbers.",
        "Cells per second: raw counts to probabilities, fitting left out.",
        "A model asked in words (rows asked_…) is told the labels and trained on no cell; it counts as certain of what it says, and an answer that cannot be read is wrong.",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
