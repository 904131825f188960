"""The card of what has been made: every row's means beside floor and ceiling, what the second stage changed, and who wins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.card import ROOT, Figure, write_card
from benchmarks.perturbation import norman_report
from benchmarks.perturbation.norman import NAME as NORMAN
from c2s.artefacts import atomic_path, read_json
from c2s.stats import bootstrap_interval, mean_interval

SHOWN = (
    "scFID", "energy distance", "MMD², unbiased", "energy distance, off-programme genes", "Pearson delta", "discrimination, cosine",
    "variance ratio", "coverage",
)  # fmt: skip
OF_WELLS = (
    "energy distance",
    "MMD², unbiased",
    "Pearson delta",
    "discrimination, cosine",
    "weighted MSE, w = z²/Σz²",
)  # of three to six wells a condition
WELLS = "l1000"
PICTURE = ROOT / "docs" / "_static" / "perturbation_rows.png"
FIRST, SECOND, SUM, SHIFT, CEILING = (
    "supervised",
    "supervised + GRPO",
    "control + sum of single shifts",
    "mean shift",
    "half of the real cells",
)


def report(made: Path) -> None:
    """Write the card of all runs kept in ``made``."""
    table, told, seconds, commits = read(made)
    figures: list[Figure] = [figure for world in table["world"].unique() for figure in gaps(str(world), told)]
    for (world, tier), part in table.groupby(["world", "tier"], sort=False):
        for metric in OF_WELLS if str(world).startswith(WELLS) else SHOWN:
            figures += [mean_of(rows, world, tier, row, metric) for row, rows in part.groupby("row", sort=False)]
    figures += [
        figure
        for (world, row), part in table.groupby(["world", "row"], sort=False)
        for figure in synergy(str(world), str(row), part)
    ]
    figures += [figure for world, part in table.groupby("world", sort=False) for figure in verdicts(str(world), part)]
    draw(table, PICTURE)
    of_pairs, more, others = norman_report.figures(made / NORMAN.replace(" ", "_"))
    write_card(
        Path(__file__).parent, figures + of_pairs,
        data={
            "cytokines": "simulated: 8 cytokines and all 28 pairs in 3 cell types and 2 exposures; 160 genes; 48 training cells a condition, 128 test cells",
            "kang": "kang_muscat: 1,556 cells, 1,267 genes, 5 types, 2 donors, interferon-β",
            "l1000": "l1000_small: 377 wells of A375, 24 h, 978 genes; 59 drugs at 6 doses, a well each, and 26 wells of DMSO; targets of the Repurposing Hub and DrugCentral",
            "norman": "norman_gi: fitness of all 6,216 pairs of 112 activated genes in K562; 104 genes with one guide each",
        },
        notes=[
            "Every cell, real or foretold, has come the same road: encoded, decoded as if a model had written it; baselines are fitted and answer behind it, to all training cells, those included that the model holds out for validation (7 % of the conditions). Space of distances and scFID: 12 principal components of training cells; scFID in the first 6 of them.",
            "Means over conditions and seeds with 95 % bootstrap intervals over conditions within seeds; differences paired by condition and seed.",
            "The second stage's runs were made with an earlier penalty for genes that nothing moves (a limit that nine tenths of real cells keep, weight 0.1); with weight 0.5 those genes drifted nearly as far (seed 10). The package has since judged them by distribution, as the programme is, which is not measured here yet.",
            "l1000 and norman have goals and no bars. l1000: a well stands for a cell, two to the power of its log2 intensity for counts; DMSO wells are dealt to training and test in halves, so that what does not start from the test's controls (scGen-style arithmetic, half of the real cells) shares their noise with the truth in Pearson delta; of held-out doses there are three wells a drug, no two halves, and no ceiling. The model's settings were chosen with seed 10, half of whose held-out drugs are held out by seeds 0 to 4 too; seeds share drugs, so that intervals over drugs are too narrow. A mean of the drug's lower doses is no strong rival where a dose is held out: ridge, which reads doses with targets, is beside it.",
            "norman: intervals are Student's t over the five seeds, which ask many of the same pairs; n adds the seeds' pairs up. Beyond the sum: fitness less the sum of single fitnesses, which is above 0 for nearly all pairs, because sick cells cannot become twice as sick, so that all that falls with the sum correlates with it. Beyond the surface: less a polynomial of second degree in both, fitted to training pairs. Its sign: over the tenth of the pairs furthest from it. No ceiling can be had: the files hold no replicate. The row of one guide a gene is one of the measurements that the truth is the mean of, and noisier.",
            f"Runs were made at the commits {', '.join(sorted(commits | others))}; seconds are CPU seconds of fitting and foretelling.",
        ],
        seconds=seconds + more,
    )  # fmt: skip


def draw(table: pd.DataFrame, path: Path) -> None:
    """Write a PNG: the energy distance of every row in every tier, with its interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture

    panels = list(dict.fromkeys(zip(table["world"], table["tier"])))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    picture = Picture(figsize=(4.6 * columns, 3.4 * lines), layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.subplots(lines, columns, squeeze=False).ravel()
    for axis, (world, tier) in zip(axes, panels):
        part = table[(table["world"] == world) & (table["tier"] == tier)]
        means = []
        for row, rows in part.groupby("row", sort=False):
            known = rows.dropna(subset=["energy distance"])
            if len(known) > 1:
                found = bootstrap_interval(
                    known["energy distance"].to_numpy(float), strata=known["seed"].to_numpy(), seed=0
                )
                means.append((str(row), float(found.value), float(found.low), float(found.high)))
        means.sort(key=lambda each: -each[1])
        for place, (row, value, low, high) in enumerate(means):
            colour = "tab:red" if row == SECOND else "tab:orange" if row == FIRST else "0.45"
            axis.plot([low, high], [place, place], color=colour, lw=2)
            axis.plot(value, place, "o", color=colour, ms=5)
        axis.set_yticks(range(len(means)), [row for row, *_ in means], fontsize=7)
        axis.axvline(0, color="0.85", lw=1, zorder=0)
        axis.set_title(f"{world}: {tier}", fontsize=9)
        axis.tick_params(axis="x", labelsize=7)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    picture.supxlabel("energy distance to real cells; less is better, 0 is as near as real cells are", fontsize=9)
    with atomic_path(path) as temporary:
        picture.savefig(temporary, dpi=120, format="png")


def read(made: Path) -> tuple[pd.DataFrame, pd.DataFrame, float, set[str]]:
    """Return a line a condition, a line a swap gap of each model, what all runs cost, and the commits that made them."""
    lines: list[dict[str, Any]] = []
    swapped: list[dict[str, Any]] = []
    seconds, commits = 0.0, set()
    for path in sorted(made.glob("*/*.json")):
        run = read_json(path)
        if run["world"] == NORMAN:
            continue
        seconds += run["cpu_seconds"]
        commits.add(str(run["commit"]))
        lines += [{"world": run["world"], "row": run["row"], "seed": run["seed"], **line} for line in run["scores"]]
        known = {"world": run["world"], "row": run["row"], "seed": run["seed"]}
        swapped += [{**known, "gap": name, "value": value} for name, value in run["record"].get("gaps", {}).items()]
    if not lines:
        msg = f"nothing has been made in {made.name}/"
        raise SystemExit(msg)
    return (
        pd.DataFrame(lines),
        pd.DataFrame(swapped, columns=["world", "row", "seed", "gap", "value"]),
        seconds,
        commits,
    )


def gaps(world: str, told: pd.DataFrame) -> Iterable[Figure]:
    """Yield each swap gap of both stages, and whether that of the perturbation has not fallen."""
    own = told[told["world"] == world].dropna(subset=["value"])
    for (row, gap), part in own.groupby(["row", "gap"], sort=False):
        values, seeds = part["value"].to_numpy(float), sorted(map(int, part["seed"]))
        interval = mean_interval(values) if len(values) > 1 else None
        low, high = (float(interval.low), float(interval.high)) if interval else (None, None)
        yield Figure(
            f"{world}, {row}: {gap}, nats a token", float(values.mean()), low, high, n=len(values), seeds=seeds
        )
    wide = own[own["gap"] == "swap gap, perturbation"].pivot_table(index="seed", columns="row", values="value")
    if {FIRST, SECOND} <= set(wide.columns) and len(both := wide[[FIRST, SECOND]].dropna()):
        difference = (both[SECOND] - both[FIRST]).to_numpy(float)
        interval = mean_interval(difference) if len(difference) > 1 else None
        low, high = (float(interval.low), float(interval.high)) if interval else (None, None)
        met = bool((difference.mean() if high is None else high) >= 0)
        yield Figure(
            f"{world}: swap gap of the perturbation, {SECOND} less {FIRST}", float(difference.mean()), low, high, n=len(both),
            seeds=[int(seed) for seed in both.index], bar="not below 0: interval reaches 0", met=met, reason=None if met else "the gap has fallen",
        )  # fmt: skip


def mean_of(rows: pd.DataFrame, world: str, tier: str, row: str, metric: str) -> Figure:
    """Return the mean of a metric over conditions and seeds."""
    known = rows.dropna(subset=[metric])
    name, seeds = f"{world}, {tier}, {row}: {metric}", sorted(map(int, rows["seed"].unique()))
    if len(known) < 2:
        return Figure(name, None, n=len(known), seeds=seeds, reason="fewer than two conditions have a value: under 50 real cells, or nothing to compare with")  # fmt: skip
    found = bootstrap_interval(known[metric].to_numpy(float), strata=known["seed"].to_numpy(), seed=0)
    return Figure(name, float(found.value), float(found.low), float(found.high), n=len(known), seeds=seeds)


def paired(part: pd.DataFrame, one: str, other: str, metric: str) -> tuple[Any, list[int], int] | None:
    """Return the interval of ``one`` less ``other`` over the conditions and seeds both have, those seeds, and the number of pairs."""
    keys = ["seed", "tier", "condition"]
    sides = [part[part["row"] == row].set_index(keys)[metric] for row in (one, other)]
    both = pd.concat(sides, axis=1, keys=["one", "other"], join="inner").dropna()
    if len(both) < 2:
        return None
    difference = (both["one"] - both["other"]).to_numpy(float)
    seeds = both.index.get_level_values("seed").to_numpy()
    return bootstrap_interval(difference, strata=seeds, seed=0), sorted(set(map(int, seeds))), len(both)


def verdict(part: pd.DataFrame, name: str, one: str, other: str, metric: str, *, bar: str, sign: int) -> Iterable[Figure]:  # fmt: skip
    """Yield the difference of two rows and whether it is what was asked: -1 below 0, 1 above 0, 0 not told from 0."""
    found = paired(part, one, other, metric)
    if found is None:
        return
    interval, seeds, n = found
    low, high = float(interval.low), float(interval.high)
    met = {-1: high < 0, 1: low > 0, 0: low <= 0 <= high}[sign]
    reason = None if met else "the interval says otherwise" if (low > 0 or high < 0) else "the interval holds 0"
    yield Figure(f"{name}: {metric}, {one} less {other}", float(interval.value), low, high, n=n, seeds=seeds, bar=bar, met=met, reason=reason)  # fmt: skip


def verdicts(world: str, table: pd.DataFrame) -> Iterable[Figure]:
    """Yield what was asked of the second stage and of the whole."""
    if world.startswith(WELLS):
        yield from goals(world, table)
        return
    tie = "mean shift" in world
    for tier, part in table.groupby("tier", sort=False):
        name = f"{world}, {tier}"
        for metric in ("scFID", "energy distance"):
            yield from verdict(part, name, SECOND, FIRST, metric, bar="falls: interval below 0", sign=-1)
            yield from closed(part, name, metric)
        yield from not_worse(part, name, SECOND, FIRST, "energy distance, off-programme genes")
        for metric in ("variance ratio", "coverage"):
            yield from not_worse(part, name, FIRST, SECOND, metric)
        # one thing was given to Kang's cells: no condition is left for the second stage, and the first stands for it
        model, rival = (SECOND, SUM) if world.startswith("cytokines") else (FIRST, SHIFT)
        for metric in ("scFID", "MMD², unbiased", "energy distance"):
            bar = "a tie: interval holds 0" if tie else "better: interval below 0"
            yield from verdict(part, name, model, rival, metric, bar=bar, sign=0 if tie else -1)
        yield from verdict(part, name, model, rival, "Pearson delta", bar="above: interval above 0", sign=1)
        yield from verdict(part, name, model, "no change", "energy distance", bar="better: interval below 0", sign=-1)


def goals(world: str, table: pd.DataFrame) -> Iterable[Figure]:
    """Yield by how much the models are nearer than the mean shift, where that is a goal and no bar."""
    for tier, part in table.groupby("tier", sort=False):
        for row in (FIRST, SECOND):
            for metric, goal in (("energy distance", "below 0"), ("Pearson delta", "above 0")):
                if (found := paired(part, row, SHIFT, metric)) is not None:
                    interval, seeds, n = found
                    name = f"{world}, {tier}: {metric}, {row} less {SHIFT} (goal: {goal})"
                    yield Figure(name, float(interval.value), float(interval.low), float(interval.high), n=n, seeds=seeds)  # fmt: skip


def synergy(world: str, row: str, part: pd.DataFrame) -> Iterable[Figure]:
    """Yield how well what a row foretells beyond the sum of singles tells synergy from antagonism, over held-out conditions."""
    from sklearn.metrics import roc_auc_score

    if "kind" not in part or row not in (
        FIRST,
        SECOND,
        SUM,
        CEILING,
        "scGPT architecture",
        "scGen-style arithmetic",
        "bilinear PCA",
    ):
        return
    known = part[part["kind"].isin(["synergy", "antagonism"])].dropna(subset=["beyond the sum"])
    found = []
    for _, one in known.groupby("seed"):
        if one["kind"].nunique() == 2:
            found.append(float(roc_auc_score(one["kind"] == "synergy", one["beyond the sum"])))
    if len(found) < 2:
        return
    interval = bootstrap_interval(np.array(found), seed=0, within=(0.0, 1.0))
    asked = row == SECOND
    met = float(interval.low) > 0.5 if asked else None
    yield Figure(
        f"{world}: AUC of synergy against antagonism by what {row} foretells beyond the sum", float(interval.value), float(interval.low),
        float(interval.high), n=len(known), seeds=sorted(map(int, known["seed"].unique())), bar="above 0.5 with its interval" if asked else None,
        met=met, reason=None if met is not False else "the interval holds 0.5",
    )  # fmt: skip


def closed(part: pd.DataFrame, name: str, metric: str) -> Iterable[Figure]:
    """Yield the share of the gap between the first stage and the ceiling that the second closes."""
    found = [part[part["row"] == row].groupby("seed")[metric].mean() for row in (FIRST, SECOND, CEILING)]
    both = pd.concat(found, axis=1, join="inner").dropna()
    if both.empty:
        return
    first, second, ceiling = both.mean().to_numpy()
    share = float((first - second) / (first - ceiling)) if first > ceiling else float("nan")
    if np.isnan(share):
        yield Figure(f"{name}: {metric}, share of the gap closed by GRPO", None, reason="the first stage is at the ceiling")  # fmt: skip
        return
    met = share >= 0.1
    reason = None if met else "the second stage closed less"
    yield Figure(f"{name}: {metric}, share of the gap between supervised and ceiling closed by GRPO", share, n=len(both), seeds=[int(s) for s in both.index], bar=">= 0.10", met=met, reason=reason)  # fmt: skip


def not_worse(part: pd.DataFrame, name: str, one: str, other: str, metric: str) -> Iterable[Figure]:
    """Yield whether ``one`` less ``other`` is not above 0 by its interval."""
    found = paired(part, one, other, metric)
    if found is None:
        return
    interval, seeds, n = found
    low, high = float(interval.low), float(interval.high)
    met = low <= 0
    yield Figure(f"{name}: {metric}, {one} less {other}", float(interval.value), low, high, n=n, seeds=seeds, bar="not above 0: interval reaches 0", met=met, reason=None if met else "the interval is above 0")  # fmt: skip
