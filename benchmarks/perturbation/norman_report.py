"""The part of the card that is about pairs: every row's scores in every tier, with intervals over pairs, and a picture of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import sem, t

from benchmarks.card import ROOT, Figure
from benchmarks.perturbation.norman import NAME, TIERS
from benchmarks.perturbation.norman_rows import ROWS
from benchmarks.perturbation.norman_runs import TRUTH, path_of
from benchmarks.perturbation.norman_scores import scored
from c2s.artefacts import atomic_path, read_json

PICTURE = ROOT / "docs" / "_static" / "perturbation_pairs.png"
RESAMPLES = 199
COMPARED = (("language model", "low rank"), ("language model", "ridge on genes and singles"))
DRAWN = ("Pearson, fitness", "Pearson, beyond the surface")
MODEL = "language model"


def figures(folder: Path) -> tuple[list[Figure], float, set[str]]:
    """Return the figures of all runs in ``folder``, what they cost in CPU seconds, and the commits that made them."""
    runs = [
        (row, read_json(path))
        for row in ROWS
        for path in sorted(folder.glob(f"{path_of(folder, row, 0).stem[:-1]}*.json"))
    ]
    seconds, commits = sum(run["cpu_seconds"] for _, run in runs), {str(run["commit"]) for _, run in runs}
    table: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for row, run in runs:
        truth = read_json(path_of(folder, TRUTH, run["seed"]))
        for each in scored(run, truth, resamples=RESAMPLES):
            table.setdefault((each["tier"], row), {})[run["seed"]] = each
    found = []
    for tier in TIERS:
        for row in ROWS:
            if of_seeds := table.get((tier, row)):
                metrics = [name for name in next(iter(of_seeds.values())) if name not in ("tier", "n")]
                found += [figure(f"{NAME}, {tier}, {row}: {metric}", [(each, metric) for each in of_seeds.values()], sorted(of_seeds)) for metric in metrics]  # fmt: skip
        found += list(differences(tier, table))
    draw(found, PICTURE)
    return found, float(seconds), commits


def differences(tier: str, table: dict[tuple[str, str], dict[int, dict[str, Any]]]) -> Iterable[Figure]:
    """Yield by how much the language model is above its rivals, resample by resample."""
    for one, other in COMPARED:
        sides = [table.get((tier, row), {}) for row in (one, other)]
        seeds = sorted(set(sides[0]) & set(sides[1]))
        for metric in ("Pearson, fitness", "Pearson, beyond the surface") if seeds else ():
            gaps = [
                {"n": sides[0][seed]["n"], metric: sides[0][seed][metric] - sides[1][seed][metric]} for seed in seeds
            ]
            yield figure(f"{NAME}, {tier}: {metric}, {one} less {other} (goal: above 0)", [(gap, metric) for gap in gaps], seeds)  # fmt: skip


def figure(name: str, parts: Sequence[tuple[dict[str, Any], str]], seeds: list[int]) -> Figure:
    """Return the mean over seeds of a metric, and the interval of Student's t over seeds: they ask many of the same pairs, so pairs are no sample."""
    values = np.array([each[metric] for each, metric in parts])
    n = int(sum(each["n"] for each, _ in parts))
    if np.isnan(values[:, 0]).any():
        return Figure(name, None, n=n, seeds=seeds, reason="the row says the same of every pair, or fewer than five pairs have one of the signs")  # fmt: skip
    mean, error = float(values[:, 0].mean()), float(sem(values[:, 0])) if len(values) > 1 else float("nan")
    half = float(t.ppf(0.975, len(values) - 1)) * error if len(values) > 1 else float("nan")
    ends = (None, None) if np.isnan(half) else (mean - half, mean + half)
    return Figure(name, mean, *ends, n=n, seeds=seeds)


def draw(found: Sequence[Figure], path: Path) -> None:
    """Write a PNG: two scores of every row in every tier, with their intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture

    of_name = {each.name: each for each in found}
    picture = Picture(figsize=(4.6 * len(TIERS), 3.4 * len(DRAWN)), layout="constrained")
    FigureCanvasAgg(picture)
    for line, metric in zip(picture.subplots(len(DRAWN), len(TIERS), squeeze=False), DRAWN):
        for axis, tier in zip(line, TIERS):
            known = [(row, of_name.get(f"{NAME}, {tier}, {row}: {metric}")) for row in ROWS]
            shown = [(each.value, each.low, each.high, row) for row, each in known if each is not None and each.value is not None]  # fmt: skip
            for place, (value, low, high, row) in enumerate(sorted(shown)):
                colour = "tab:orange" if row == MODEL else "0.45"
                axis.plot([low, high], [place, place], color=colour, lw=2)
                axis.plot(value, place, "o", color=colour, ms=5)
            axis.set_yticks(range(len(shown)), [row for *_, row in sorted(shown)], fontsize=7)
            axis.set_title(f"{tier}: {metric}", fontsize=9)
            axis.tick_params(axis="x", labelsize=7)
    picture.supxlabel(
        "correlation over pairs that were not trained on; seen: how many of the two genes training has in other pairs",
        fontsize=9,
    )
    with atomic_path(path) as temporary:
        picture.savefig(temporary, dpi=120, format="png")
