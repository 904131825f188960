"""The card and the pictures, from the runs that have been made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.card import ROOT, Figure, write_card
from benchmarks.diffusion.speed import ratio
from c2s.artefacts import read_json

PICTURE = ROOT / "docs" / "_static" / "diffusion_pareto.png"
ONE, FITTED, DUAL = "uncached, one gene a step", "elastic, calibrated", "dual block cache"
REAL = "real held-out cells"
MARGIN = 0.05  # of label accuracy, in which a row's cells are as good
NOISE = 1.96


def report(made: Path) -> None:
    """Write the card and the picture of what is in ``made``."""
    runs = [read_json(path) for path in sorted(made.glob("*.json"))]
    cells = [run for run in runs if "label accuracy" in run]
    figures: list[Figure] = []
    for length in sorted({run["length"] for run in cells}):
        figures += _of_length(length, [run for run in cells if run["length"] == length])
    for run in runs:
        if "width" in run:
            figures += _of_wide(run)
        elif "rows" in run:
            figures += _of_wall(run, cells)
    if not figures:
        return
    seconds = sum(sum(run["seconds"]) for run in cells)
    write_card(
        Path(__file__).parent, figures,
        data={"cells": "pbmc3k and pbmc4k (five types), those that express as many of 3,000 genes as a sentence is long; three fifths learnt from, one judges, one held out"},
        notes=[
            "label accuracy: by logistic regression on ranks, of the judging fifth; scFID: in six components of that fifth, against as many held-out cells of each type; tau: Kendall's, of a cell's ranks with the mean ranks of its type in the judging fifth; overlap: mean Jaccard index of the genes of two cells of a type. tau and overlap above those of real cells mean collapse.",
            f"As good as uncached at one gene a step: label accuracy of the same cells lower by at most {MARGIN:g}, the 95 % interval of the paired difference reaching 0 or above, and scFID below the upper end of its interval.",
            "Seconds of the uncached decoder on wide weights are those of 25 steps on all places, multiplied.",
            "Rows decode the same weights one request after the other on one thread; a row's number is the confidence above which more than one gene is written in a step.",
            "Ratios of seconds: median of five interleaved rounds, with the least and the greatest as interval.",
            "What is trained for a few steps is timing only: its cells mean nothing.",
        ],
        seconds=round(seconds, 1),
    )  # fmt: skip
    _picture(cells)


def _of_length(length: int, runs: Sequence[dict[str, Any]]) -> list[Figure]:
    found: list[Figure] = []
    uncached = {run["seed"]: run for run in runs if run["row"] == ONE}
    for run in sorted(runs, key=lambda run: (run["row"] != ONE, run["row"], -run.get("commit above", 0), run["seed"])):
        level = f", above {run['commit above']:g}" if "commit above" in run else ""
        name, n, seeds = f"{length} genes, {run['row']}{level}", len(run["right"]), [run["seed"]]
        share, half = (
            run["label accuracy"],
            NOISE * np.sqrt(max(run["label accuracy"] * (1 - run["label accuracy"]), 0.01) / n),
        )
        found += [
            Figure(f"{name}: label accuracy", round(share, 3), round(max(0.0, share - half), 3), round(min(1.0, share + half), 3), n, seeds),
            Figure(f"{name}: scFID (real halves {run['scFID of halves']:.2f})", round(run["scFID"], 2), round(run["scFID low"], 2), round(run["scFID high"], 2), n, seeds),
            Figure(f"{name}: tau to mean ranks", round(run["tau"], 3), n=n, seeds=seeds),
            Figure(f"{name}: overlap of two cells of a type", round(run["overlap"], 3), n=n, seeds=seeds),
        ]  # fmt: skip
        if run["row"] != REAL:
            found += [
                Figure(f"{name}: valid cells (known genes, none twice, of the length asked for)", run["valid"], n=n, seeds=seeds),
                Figure(f"{name}: seconds a cell", round(float(np.median(run["seconds"])), 3), n=n, seeds=seeds),
            ]  # fmt: skip
        if "token_layers" not in run:
            continue
        base = uncached.get(run["seed"])
        if base is not None and run["row"] == FITTED:
            cost = sum(run["token_layers"]) / sum(base["token_layers"])
            bar = "<= 0.15, quality within its noise" if length == 256 else None
            fits = bool(cost <= 0.15 and like(run, base))
            found.append(
                Figure(
                    f"{name}: token-layers against uncached at one gene a step", round(cost, 3), n=n, seeds=seeds, bar=bar,
                    met=fits if bar else None, reason=None if fits or not bar else "rows of refreshes and of the window, or quality outside its noise",
                )
            )  # fmt: skip
            rate = run["refresh_rate"]
            alive = bool(0.01 <= rate <= 0.4)
            found.append(
                Figure(
                    f"{name}: share of steps with any refresh", round(rate, 3), n=n, seeds=seeds, bar="between 0.01 and 0.40", met=alive,
                    reason=None if alive else "the quantile of the drift on the sample does not carry over",
                )
            )  # fmt: skip
        found.append(
            Figure(f"{name}: genes a step", round(sum([length + 1] * n) / sum(run["steps"]), 2), n=n, seeds=seeds)
        )
    return found


def like(run: dict[str, Any], base: dict[str, Any]) -> bool:
    """Return whether a row's cells are as good as the uncached ones; the card's notes say what that is."""
    less = np.array(run["right"]) - np.array(base["right"])
    upper = less.mean() + NOISE * less.std() / np.sqrt(len(less))
    return bool(less.mean() >= -MARGIN and upper >= 0 and run["scFID"] <= base["scFID high"])


def _of_wall(run: dict[str, Any], cells: Sequence[dict[str, Any]]) -> list[Figure]:
    rows, length, found = run["rows"], run["length"], []
    slow = next(name for name in rows if name.startswith(ONE))
    for name, each in rows.items():
        if name == slow:
            continue
        value, low, high = ratio(rows[slow]["seconds"], each["seconds"])
        mine = {
            (each["row"], str(each.get("commit above"))): each
            for each in cells
            if (each["length"], each["seed"]) == (length, run["seed"])
        }
        row, level = name.rsplit(", ", 1)
        base, made = next((each for (one, _), each in mine.items() if one == ONE), None), mine.get((row, level))
        bar = ">= 4, quality within noise" if length == 512 and row == FITTED and base and made else None
        met = bool(value >= 4 and like(made, base)) if bar and base and made else None
        found.append(
            Figure(
                f"{length} genes, trained model: seconds of uncached at one gene a step against {name}", round(value, 2), round(low, 2), round(high, 2),
                len(each["seconds"]), [run["seed"]], bar, met, "small matrices: time goes to steps, not to rows; or quality outside its noise" if met is False else None,
            )
        )  # fmt: skip
    for level in sorted({name.rsplit(", ", 1)[1] for name in rows}):
        dual, ours = rows.get(f"{DUAL}, {level}"), rows.get(f"{FITTED}, {level}")
        if dual and ours:
            value, low, high = ratio(dual["seconds"], ours["seconds"])
            bar = ">= 1.2 (goal)" if length == 512 else None
            met = value >= 1.2 if bar else None
            found.append(
                Figure(
                    f"{length} genes, trained model, above {level}: seconds of the dual block cache against elastic", round(value, 2), round(low, 2),
                    round(high, 2), len(ours["seconds"]), [run["seed"]], bar, met, "the window of both is as wide; elastic adds the watch" if met is False else None,
                )
            )  # fmt: skip
    return found


def _of_wide(run: dict[str, Any]) -> list[Figure]:
    rows, found = run["rows"], []
    for name, each in rows.items():
        if name == ONE:
            continue
        value, low, high = ratio(rows[ONE]["seconds"], each["seconds"])
        bar = {"elastic, one gene a step": ">= 3", "elastic, four genes a step": ">= 8"}.get(name)
        least = {"elastic, one gene a step": 3, "elastic, four genes a step": 8}.get(name)
        met = value >= least if least else None
        found.append(
            Figure(
                f"{run['length']} genes, width {run['width']}, {run['layers']} layers, trained briefly (timing only): seconds of uncached at one gene a step against {name}",
                round(value, 2), round(low, 2), round(high, 2), len(each["seconds"]), [run["seed"]], bar, met,
                "few rows use a core less well than many" if met is False else None,
            )
        )  # fmt: skip
    return found


def _picture(runs: Sequence[dict[str, Any]]) -> None:
    lengths = sorted({run["length"] for run in runs})
    if not lengths:
        return
    figure, axes = plt.subplots(1, len(lengths), figsize=(4.2 * len(lengths), 3.8), squeeze=False, layout="constrained")
    for axis, length in zip(axes[0], lengths):
        mine = [run for run in runs if run["length"] == length]
        for name, colour in zip(sorted({run["row"] for run in mine}), plt.cm.tab20.colors):  # type: ignore[attr-defined]
            each = [run for run in mine if run["row"] == name and run["seconds"]]
            axis.plot(
                [np.median(run["seconds"]) for run in each],
                [run["scFID"] for run in each],
                "o-",
                color=colour,
                label=name,
                markersize=5,
                linewidth=0.8,
            )
        axis.set(xscale="log", title=f"{length} genes", xlabel="seconds a cell", ylabel="scFID to held-out cells")
        axis.axhline(np.mean([run["scFID of halves"] for run in mine]), color="0.6", linestyle=":", linewidth=1)
    axes[0][-1].legend(fontsize=6, frameon=False, bbox_to_anchor=(1, 1))
    figure.savefig(PICTURE, dpi=150)
    plt.close(figure)
