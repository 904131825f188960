"""Do the recipes learn what can be checked, which of their parts matter, and can a curve be foretold from its first quarter?

Run: ``python -m benchmarks.rl.run`` (``--studies presets --seeds 0,1`` does part of it). A run takes minutes on one core and there
are hundreds, so every run is kept in ``made/`` with the commit that made it, and is made once. The card holds what has been made.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.card import ROOT, Figure, commit, write_card
from benchmarks.rl.studies import LONG, Cell, cells
from c2s.artefacts import hash_of, plain, read_json, write_json
from c2s.engines.rl.ablation import compared, final_and_area, to_the_end
from c2s.engines.rl.run import reinforce
from c2s.engines.rl.scaling_plot import FittedCurve, fitted, write_curves
from c2s.engines.rl.settings import RunSettings

logger = logging.getLogger(__name__)

MADE = Path(__file__).parent / "made"
SEEDS = (0, 1, 2, 3, 4)
QUARTER, WIDEST, INSIDE = 0.25, 0.15, 0.8
OVERHEAD, MOST = MADE / "overhead.json", 1.05
PICTURE = ROOT / "docs" / "_static" / "rl_curves.png"

Curve = list[dict[str, Any]]
Made = dict[tuple[str, str, str], dict[int, Curve]]  # study, world, arm → seed → curve


def main() -> None:
    """Make the runs asked for, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", help="names separated by commas; all if left out, none if empty")
    parser.add_argument("--worlds", help="names separated by commas; all if left out")
    parser.add_argument("--seeds", help="numbers separated by commas")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    torch.set_num_threads(1)
    grid = cells()
    studies = {cell.study for cell in grid} if asked.studies is None else set(filter(None, asked.studies.split(",")))
    worlds = {cell.world for cell in grid} if asked.worlds is None else set(asked.worlds.split(","))
    if studies - {cell.study for cell in grid} or worlds - {cell.world for cell in grid}:
        msg = f"studies are {', '.join(dict.fromkeys(c.study for c in grid))}; worlds {', '.join(dict.fromkeys(c.world for c in grid))}"
        raise SystemExit(msg)
    for seed in SEEDS if asked.seeds is None else map(int, asked.seeds.split(",")):
        for cell in grid:
            if cell.study in studies and cell.world in worlds and not path_of(cell, seed).exists():
                make(cell, seed)
    report(grid)


def path_of(cell: Cell, seed: int) -> Path:
    """Return where a run is kept: runs that are alike in all that decides them are one, in whatever study they stand."""
    return MADE / f"{cell.world}-{key_of(cell)}-{seed}.json"


def key_of(cell: Cell) -> str:
    """Return a hash of what decides a run: recipe, settings, rewards; not the code, which the record names by its commit."""
    told = [plain(cell.run.recipe.model_dump(mode="json")), plain(cell.run.settings.model_dump(mode="json"))]
    return hash_of(*told, list(cell.rewards))[:10]


def make(cell: Cell, seed: int) -> None:
    """Train once and keep the curve."""
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        made = reinforce(
            cell.problem(), recipe=cell.run.recipe, settings=cell.run.settings.with_(seed=seed), out=Path(folder) / "run",
            progress=False,
        )  # fmt: skip
    record = {
        "study": cell.study, "world": cell.world, "arm": cell.arm, "seed": seed, "commit": commit(),
        "cpu_seconds": round(time.process_time() - begun, 1), "cause": made.cause, "curve": made.evaluations,
    }  # fmt: skip
    write_json(path_of(cell, seed), record)
    first, last = made.evaluations[0]["mean"], made.evaluations[-1]["mean"]
    logger.info("%s | %s | %s | %d: %.3f → %.3f, %.0f CPU s%s", cell.study, cell.world, cell.arm, seed, first, last,
                record["cpu_seconds"], f"; {made.cause}" if made.cause else "")  # fmt: skip


def report(grid: list[Cell]) -> None:
    """Write the card, and the picture of what was foretold."""
    made: Made = {}
    seconds = 0.0
    commits = set()
    for cell in grid:
        for seed in SEEDS:
            if path_of(cell, seed).exists():
                record = read_json(path_of(cell, seed))
                made.setdefault((cell.study, cell.world, cell.arm), {})[seed] = record["curve"]
                seconds += record["cpu_seconds"]
                commits.add(str(record["commit"]))
    figures: list[Figure] = []
    for study, world in dict.fromkeys((cell.study, cell.world) for cell in grid):
        figures += comparison([cell for cell in grid if (cell.study, cell.world) == (study, world)], made)
    foretold = {
        arm: fitted(mean_curve(list(runs.values()), LONG), first=QUARTER)
        for (study, world, arm), runs in made.items()
        if study == "forecast"
    }
    figures += [*forecasts(foretold), *overhead()]
    if foretold:
        write_curves(PICTURE, foretold)
    write_card(
        Path(__file__).parent, figures,
        data={"worlds": "ordering: 4 to 6 letters in disorder; ambiguous: 7 or 8; completion: the other half of one of 20 hidden sets of 6", "prompts": "512 to train on, 64 held out, 8 answers each"},
        notes=[
            "Held-out mean: share of right answers. Final: after 400 steps of 64 answers (2,400 for forecasts, 120 for cells); area: mean height of the held-out curve over answers written. Intervals: 95 % t over seeds, differences paired by seed; seeds differ in weights, imitation, prompts' order and draws.",
            "A model of 0.1 million parameters, taught by 55 to 100 steps of imitation; every arm begins with the same weights. The claims are about these worlds; asymptotes of large models are the papers'.",
            f"Forecasts: the mean curve of a preset's seeds on ordering over 2,400 steps, a sigmoid fitted to the first quarter of its compute, the 90 % band for the rest. Runs were made at the commits {', '.join(sorted(commits))}; seconds are CPU seconds of all runs.",
        ],
        seconds=seconds,
    )  # fmt: skip


def comparison(of_one: list[Cell], made: Made) -> list[Figure]:
    """Return final and area of each arm of a study in a world, and what it differs by from the first, over the seeds both have."""
    study, world, arms = of_one[0].study, of_one[0].world, [cell.arm for cell in of_one]
    runs = {
        cell.arm: {
            seed: final_and_area(to_the_end(curve, cell.run.settings))
            for seed, curve in made.get((study, world, cell.arm), {}).items()
        }
        for cell in of_one
    }
    found = []
    for arm in arms:
        shared = sorted(set(runs[arm]) & set(runs[arms[0]]))
        if len(shared) < 2:
            name = f"{study}, {world}, {arm}: final held-out mean"
            found.append(
                Figure(
                    name, None, reason=f"fewer than two seeds were run; --studies '{study}' --worlds {world} makes them"
                )
            )
            continue
        sides = {name: {seed: runs[name][seed] for seed in shared} for name in (arms[0], arm)}
        row = compared(sides)[-1]
        for measure in ("final", "area"):
            name = f"{study}, {world}, {arm}: {'final held-out mean' if measure == 'final' else 'area under the held-out curve'}"
            found.append(
                Figure(
                    name,
                    row[measure],
                    row[f"{measure} low"],
                    row[f"{measure} high"],
                    n=len(row["seeds"]),
                    seeds=row["seeds"],
                )
            )
            if arm != arms[0]:
                label = f"{measure} difference"
                found.append(
                    Figure(f"{study}, {world}, {arm}: {measure} minus that of {arms[0]}", row[label], row[f"{label} low"], row[f"{label} high"],
                           n=len(shared), seeds=shared, **goal(study, arm, measure, row[label]))
                )  # fmt: skip
    return found


def overhead() -> list[Figure]:
    """Return what ``benchmarks.rl.overhead`` measured."""
    name = "engine: CPU seconds of a step, times those of a plain TRL step, no constraint"
    if not OVERHEAD.exists():
        return [Figure(name, None, reason="not measured yet; python -m benchmarks.rl.overhead does")]
    found = read_json(OVERHEAD)
    met = found["ratio"] <= MOST
    return [
        Figure(name, found["ratio"], found["low"], found["high"], n=len(found["ours"]), bar=f"<= {MOST}", met=met,
               reason=None if met else "the sampler, the schedule and what is logged cost more than that")
    ]  # fmt: skip


def goal(study: str, arm: str, measure: str, value: float) -> dict[str, Any]:
    """Return the bar of a difference, where the project set itself one."""
    if study == "presets" and arm in ("scalerl", "grpo_tcr") and measure == "area":
        met = value > 0
        return {"bar": "goal: above 0", "met": met, "reason": None if met else "plain GRPO learns these worlds as fast"}
    if study == "rewards" and arm != "HERO" and measure == "final":
        met = value < 0
        return {
            "bar": "goal: below 0, HERO above both",
            "met": met,
            "reason": None if met else "HERO is not above it here",
        }
    return {}


def mean_curve(curves: list[Curve], settings: RunSettings) -> Curve:
    """Return the mean of the curves of several seeds over the whole budget; a run that ended early counts at its last height."""

    def height(curve: Curve, step: int) -> float:
        return float([row["mean"] for row in curve if row["step"] <= step][-1])

    return [
        {
            "answers": step * settings.prompts * settings.answers,
            "mean": float(np.mean([height(curve, step) for curve in curves])),
        }
        for step in range(0, settings.steps + 1, settings.eval_every)
    ]


def forecasts(curves: dict[str, FittedCurve]) -> list[Figure]:
    """Return how well the first quarter of each preset's curve foretold the rest."""
    found, good = [], 0
    for arm, each in curves.items():
        name = f"forecast, {arm}: share of later points in the 90 % band"
        if each.law.refusal is not None:
            found.append(Figure(name, None, n=each.n_fitted, reason=f"refused: {each.law.refusal}"))
            continue
        good += each.inside >= INSIDE and each.width <= WIDEST
        found.append(Figure(name, each.inside, n=len(each.compute) - each.n_fitted))
        found.append(Figure(f"forecast, {arm}: width of the band at the end", each.width))
        found += [Figure(f"forecast, {arm}: skill over {plain}", value) for plain, value in each.skills().items()]
    if len(curves) == 5:
        reason = f"{sum(each.law.refusal is not None for each in curves.values())} of 5 refused, for the reasons in their rows"
        found.append(
            Figure("forecast: recipes with >= 80 % of points inside a band <= 0.15 wide", float(good), n=5, bar=">= 4 of 5",
                   met=good >= 4, reason=None if good >= 4 else reason)
        )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
