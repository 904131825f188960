"""Cells in place: layers, neighbourhoods and tumour regions, with knowledge of gene pairs and a placebo for it.

Run: ``C2S_DATA_DIR=… python -m benchmarks.spatial.run`` (``--rows majority,cell --questions … --seeds 3`` does part of it).
Every run of question x row x fold x seed is kept below ``runs/`` and not made twice; the card is written when all are there but
those of language models, which are made only if ``--rows`` names them.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from benchmarks.card import ROOT, Figure, write_card
from benchmarks.spatial.c2s_rows import c2s_rows
from benchmarks.spatial.questions import N_CELLS, N_TEST, Question, folds_of, questions
from benchmarks.spatial.rows import Row, rows
from c2s.artefacts import hash_of, read_json, write_json
from c2s.metrics.annotation import annotation_scores
from c2s.stats import bootstrap_interval

logger = logging.getLogger(__name__)

CACHE = ROOT / "runs" / "benchmarks" / "spatial"
SEEDS = 3
METRICS = ("accuracy", "balanced accuracy", "macro F1", "parse rate")
# a run counts for the sources that made it; rows of c2s rest on the packages of the second line as well
SOURCES = ("cells", "sentences", "spatial", "baselines")
MODEL_SOURCES = ("tasks", "models", "training", "engines/constraint.py")


class Key(NamedTuple):
    """What names a run."""

    question: str
    row: str
    fold: str
    seed: int


def main() -> None:
    """Make the runs asked for, and write the card where no run is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", help="names separated by commas; all if left out")
    parser.add_argument("--questions", help="names separated by semicolons; all if left out")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    place = os.environ.get("C2S_DATA_DIR")
    if not place:
        msg = "set C2S_DATA_DIR to the folder that holds starmap_cortex/, her2st/, ligand_receptor/, networks/ and gene_tables/"
        raise SystemExit(msg)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("c2s").setLevel(logging.WARNING)
    torch.set_num_threads(asked.threads)
    chosen = questions(Path(place))
    makers = {question: {**rows(question), **c2s_rows(question)} for question in chosen}
    grid = [
        Key(question, row, fold, seed)
        for question in chosen
        for row in makers[question]
        for fold in folds_of(question)
        for seed in range(asked.seeds if is_random(question, row) else 1)
    ]
    wanted_rows = set(asked.rows.split(",")) if asked.rows else {key.row for key in grid if not is_model(key.row)}
    wanted = set(asked.questions.split(";")) if asked.questions else set(chosen)
    if wanted_rows - {key.row for key in grid} or wanted - set(chosen):
        msg = f"rows are {', '.join(dict.fromkeys(key.row for key in grid))}; questions are {'; '.join(chosen)}"
        raise SystemExit(msg)
    made: dict[Key, dict[str, Any]] = {}
    for key in grid:
        path = run_path(key, threads=asked.threads)
        if not path.exists() and key.row in wanted_rows and key.question in wanted:
            with threadpool_limits(asked.threads):
                write_json(
                    path, one_run(chosen[key.question](key.fold, key.seed), makers[key.question][key.row], key.seed)
                )
        if path.exists():
            made[key] = read_json(path)
    for question, row in dict.fromkeys((key.question, key.row) for key in made):
        logger.info("%s | %s | %s", question, row, told(made, question, row))
    missing = [key for key in grid if key not in made]
    if any(not is_model(key.row) for key in missing):
        logger.info("%d of %d runs are there: no card yet", len(made), len(grid))
        return
    untrained = dict.fromkeys((key.question, key.row) for key in missing if not seeds_of(made, key.question, key.row))
    write_card(
        Path(__file__).parent, [*figures(made), *map(_untrained, untrained)], data=sizes(made), notes=notes(asked.threads),
        seconds=sum(run["seconds"] for run in made.values()),
    )  # fmt: skip


def is_model(row: str) -> bool:
    """Return whether a row trains a language model: made only if named by ``--rows``."""
    return row.startswith("c2s")


def is_random(question: str, row: str) -> bool:
    """Return whether a run depends on its seed: groups are drawn, partners swapped, language models trained."""
    return "same" in question or "permuted" in row or is_model(row)


def run_path(key: Key, *, threads: int, cache: Path = CACHE) -> Path:
    """Return where a run is kept; the name holds a hash of the sources and settings that decide it."""
    of_model = is_model(key.row)
    names = SOURCES + (MODEL_SOURCES if of_model else ())
    here = Path(__file__).parent
    files = [file for name in names for file in sorted((ROOT / "c2s" / name).rglob("*.py")) or [ROOT / "c2s" / name]]
    files += [here / f"{name}.py" for name in ("layers", "questions", "rows", *(("c2s_rows",) if of_model else ()))]
    hashed = hash_of(
        {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}, [threads] if of_model else []
    )
    return cache / key.question.replace(", ", "_").replace(" ", "_") / f"{key.row}-{key.fold}-{key.seed}-{hashed}.json"


def one_run(question: Question, row: Row, seed: int) -> dict[str, Any]:
    """Return the truth and the answer of each item of one fold, and the time it took."""
    begun = time.perf_counter()
    predicted, chosen = row(question, seed)
    return {
        "truth": question.test_labels.tolist(),
        "classes": list(map(str, predicted.columns)),
        "predicted": predicted.to_numpy().round(6).tolist(),
        "train": len(question.train),
        "chosen": chosen,
        "seconds": time.perf_counter() - begun,
    }


def pooled(made: dict[Key, dict[str, Any]], question: str, row: str, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the truth of all folds of one seed, and probabilities with a column a class of any fold."""
    runs = [made[Key(question, row, fold, seed)] for fold in folds_of(question)]
    frames = [pd.DataFrame(run["predicted"], columns=run["classes"]) for run in runs]
    classes = sorted({*(name for run in runs for name in run["classes"] + run["truth"])})
    table = pd.concat([frame.reindex(columns=classes, fill_value=0.0) for frame in frames], ignore_index=True)
    return np.array([label for run in runs for label in run["truth"]]), table


def seeds_of(made: dict[Key, dict[str, Any]], question: str, row: str) -> list[int]:
    """Return the seeds of which every fold is there."""
    found = {key.seed for key in made if (key.question, key.row) == (question, row)}
    return [
        seed for seed in sorted(found) if all(Key(question, row, fold, seed) in made for fold in folds_of(question))
    ]


def told(made: dict[Key, dict[str, Any]], question: str, row: str) -> str:
    """Return the balanced accuracy of each seed in one line."""
    values = []
    for seed in seeds_of(made, question, row):
        truth, table = pooled(made, question, row, seed)
        values.append(next(each.value for each in _scores(truth, table, seed) if each.metric == "balanced accuracy"))
    return "balanced accuracy " + ", ".join(f"{value:.3f}" for value in values) if values else "folds are missing"


def figures(made: dict[Key, dict[str, Any]]) -> list[Figure]:
    """Return the median over seeds of each score over all folds with the widest interval, and what knowledge adds."""
    found = []
    for question, row in dict.fromkeys((key.question, key.row) for key in made):
        seeds = seeds_of(made, question, row)
        if not seeds:
            continue
        answers = [pooled(made, question, row, seed) for seed in seeds]
        scores = [_scores(truth, table, seed) for (truth, table), seed in zip(answers, seeds, strict=True)]
        for of_metric in zip(*scores, strict=True):
            name = of_metric[0].metric
            if name.partition(",")[0] not in (*METRICS, "expected calibration error"):
                continue
            found.append(
                Figure(
                    f"{question}, {row}: {name}", statistics.median(each.value for each in of_metric),
                    min(each.low for each in of_metric), max(each.high for each in of_metric), n=of_metric[0].n, seeds=seeds,
                )
            )  # fmt: skip
    for question in dict.fromkeys(key.question for key in made):
        for base in ("differences", "cell+neighbours", "c2s_mini"):
            found += _gains(made, question, base)
    return found


def _untrained(place: tuple[str, str]) -> Figure:
    question, row = place
    return Figure(
        f"{question}, {row}: balanced accuracy", None, reason=f"not trained here yet; --rows {row} makes its runs"
    )


def _scores(truth: np.ndarray, table: pd.DataFrame, seed: int):
    return annotation_scores(truth, table, classes=list(table.columns), seed=seed)


def _gains(made: dict[Key, dict[str, Any]], question: str, base: str) -> list[Figure]:
    """Return the balanced accuracy that each kind of knowledge adds to none, and what true pairs add to the placebo."""
    names = {key.row for key in made if key.question == question and seeds_of(made, question, key.row)}
    found = []
    for row, beside in (
        *((f"{base}+{told}", base) for told in ("lr", "interactions", "both", "permuted")),
        (f"{base}+both", f"{base}+permuted"),
    ):
        if {row, beside} <= names:
            gain, seeds, n = _paired(made, question, row, beside)
            name = f"{question}: balanced accuracy of {row} minus that of {beside}"
            found.append(Figure(name, float(gain.value), float(gain.low), float(gain.high), n=n, seeds=seeds))
    return found


def _paired(made: dict[Key, dict[str, Any]], question: str, row: str, beside: str):
    """Return the interval of a paired difference: the mean over seeds for each item, items resampled within their class."""
    seeds = sorted({*seeds_of(made, question, row), *seeds_of(made, question, beside)})
    seeds = [
        seed
        for seed in seeds
        if all(_seed(question, name, seed) in seeds_of(made, question, name) for name in (row, beside))
    ]
    is_drawn = "same" in question  # other items for every seed
    gains, truths = [], []
    for seed in seeds:
        right = []
        for name in (row, beside):
            truth, table = pooled(made, question, name, _seed(question, name, seed))
            right.append(table.columns.to_numpy()[table.to_numpy().argmax(axis=1)] == truth)
        gains.append(right[0].astype(float) - right[1])
        truths.append(truth)
    values, classes = (
        (np.concatenate(gains), np.concatenate(truths)) if is_drawn else (np.mean(gains, axis=0), truths[0])
    )
    return bootstrap_interval(values, strata=classes, seed=0), seeds, len(values)


def _seed(question: str, row: str, seed: int) -> int:
    return seed if is_random(question, row) else 0


def sizes(made: dict[Key, dict[str, Any]]) -> dict[str, Any]:
    """Return how much each question learns from and asks."""
    found: dict[str, Any] = {}
    for question in dict.fromkeys(key.question for key in made):
        runs = [run for key, run in made.items() if (key.question, key.row, key.seed) == (question, "majority", 0)]
        learnt = " / ".join(f"{run['train']:,}" for run in runs)
        found[question] = (
            f"{learnt} items to learn from in {len(runs)} folds, {sum(len(run['truth']) for run in runs):,} asked"
        )
    return found


def notes(threads: int) -> list[str]:
    """Return how to read the figures."""
    return [
        "Medians over seeds; low and high are the least and greatest ends of their 95 % bootstrap intervals. Answers of all folds are pooled, so each cell is asked once. Cells beside one another are alike and groups share cells: the true uncertainty is greater. There is one mouse section, and three tumours.",
        "starmap: four blocks across the cortex, each asked in turn; cells within two radii of an asked cell are dropped, so no cell is a neighbour on both sides. The layer of a cell is the commonest marking cell type around it, its own left out (benchmarks/spatial/layers.py): a rule, not an anatomist's label, and drawn from types that were found by expression. Coordinates are pixels.",
        f"same neighbourhood, same layer: groups of {N_CELLS} cells, {N_TEST} asked in each fold, half of them together; cells are drawn alike in both halves, so cells looked at one by one tell little (row cells_one_by_one).",
        "Knowledge: pairs both sides of which are present, between a cell and its neighbours or between two cells of a group, as features of the same linear model. lr: CellPhoneDB by one-to-one orthologs, and CellTalkDB (mouse). interactions: OmniPath signalling and CellChat's protein interactions by orthologs. permuted: both, partners swapped within the panel's genes so that each gene keeps its number of pairs.",
        "her2st: spots of three patients, one asked at a time, undetermined spots left out. Breast glands occur in patient B alone and immune infiltrate in D alone, so no row can know them, and 70 of 73 spots of adipose tissue are in B: balanced accuracy and macro F1 hold classes that cannot be found.",
        f"Penalties are chosen with whole blocks or patients held out. c2s_mini: trained from random weights on the items of a fold alone, in words, on {threads} thread(s).",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
