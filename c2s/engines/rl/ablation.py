"""Which component of a recipe earns its place: runs with all but one, at equal compute and over several seeds, as a table.

Every run has a folder of its own and is made once: a grid that was cut off goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from c2s.artefacts import atomic_path, hash_of, plain, read_json, write_json
from c2s.engines.rl.problem import Problem, check
from c2s.engines.rl.recipes import PRESETS, Recipe, recipe, without
from c2s.engines.rl.run import RECORD, last_checkpoint, read_curve, record_of, reinforce
from c2s.engines.rl.sampling import Interruption
from c2s.engines.rl.settings import RunSettings
from c2s.errors import ConfigError
from c2s.stats import mean_interval

logger = logging.getLogger(__name__)

FULL = "full"


class Arm(NamedTuple):
    """One way to train, the share of the training prompts it sees, and the share of the length its answers may have."""

    recipe: Recipe
    settings: RunSettings
    prompts: float = 1.0
    length: float = 1.0

    def of(self, problem: Problem, seed: int) -> tuple[Problem, RunSettings]:
        """Return the problem and the settings of a seed."""
        settings = self.settings.with_(seed=seed, max_tokens=max(1, round(self.length * self.settings.max_tokens)))
        n = len(problem.prompts)
        kept = np.sort(np.random.default_rng(seed).permutation(n)[: max(settings.prompts, round(self.prompts * n))])
        changes: dict[str, Any] = {"prompts": problem.prompts.select(kept.tolist())} if len(kept) < n else {}
        if self.length != 1 and problem.interruption is not None:
            low, high, cue, then = problem.interruption
            shorter = (max(1, round(self.length * low)), max(1, round(self.length * high)))
            changes["interruption"] = Interruption(shorter[0], shorter[1], cue, round(self.length * then))
        return dataclasses.replace(problem, **changes), settings


def leave_one_out(preset: str, settings: RunSettings, **changes: Any) -> dict[str, Arm]:
    """Return the preset and the preset less one component at a time (:func:`~c2s.engines.rl.recipes.without`).

    Parameters
    ----------
    **changes
        Of every recipe, such as what the problem has no use for; their components are in no arm.
    """
    arms = {FULL: Arm(recipe(preset, **changes), settings)}
    for name, arm in without(preset).items():
        if name in changes:
            continue
        given = {k: v for k, v in changes.items() if not (k == "ratio_cap" and arm.loss != "cispo")}
        try:
            arms[f"without {name}"] = Arm(arm.with_(**given), settings)
        except ConfigError as error:
            logger.warning("no arm without %s: %s", name, error)
    return arms


def at_equal_compute(preset: str, settings: RunSettings, **changes: Any) -> dict[str, Arm]:
    """Return arms that spend the answers of the full recipe otherwise, and those that turn one knob.

    Batches twice and half as large (with half and twice the steps), more and fewer answers to a prompt at the same batch, half the
    length, a penalty of length in place of interruption, other upper bounds of the ratio, a quarter of the prompts.
    """
    base = recipe(preset, **changes)
    arms = {FULL: Arm(base, settings)}
    n, steps = settings.prompts * settings.answers, settings.steps
    if steps % 2 == 0:
        arms["batch x 2"] = Arm(
            base,
            settings.with_(prompts=2 * settings.prompts, steps=steps // 2, eval_every=-(-settings.eval_every // 2)),
        )
    if settings.prompts % 2 == 0:
        half = n // 2 if n // 2 % settings.batch_size else settings.batch_size
        arms["batch / 2"] = Arm(
            base,
            settings.with_(
                prompts=settings.prompts // 2, steps=2 * steps, eval_every=2 * settings.eval_every, batch_size=half
            ),
        )
        arms["answers x 2"] = Arm(base, settings.with_(prompts=settings.prompts // 2, answers=2 * settings.answers))
    if settings.answers % 2 == 0 and settings.answers > 2:
        arms["answers / 2"] = Arm(base, settings.with_(prompts=2 * settings.prompts, answers=settings.answers // 2))
    arms["half the length"] = Arm(base.with_(overlong=base.overlong // 2), settings, length=0.5)
    if base.interrupt and base.flat_groups != "hybrid":
        arms["length penalty, no interruption"] = Arm(
            base.with_(interrupt=False, overlong=max(1, settings.max_tokens // 4)), settings
        )
    field, values = ("ratio_cap", (2.0, 8.0)) if base.loss == "cispo" else ("clip_high", (0.2, 0.4))
    if base.loss != "gspo":
        arms |= {f"{field} {value:g}": Arm(base.with_(**{field: value}), settings) for value in values}
    arms["quarter of the prompts"] = Arm(base, settings, prompts=0.25)
    return arms


def ablate(
    problem: Problem,
    arms: Mapping[str, Arm],
    *,
    seeds: Sequence[int],
    out: str | os.PathLike[str],
    progress: Callable[[str], object] = lambda _: None,
) -> list[dict[str, Any]]:
    """Run every arm with every seed, where it was not run yet, and return the table.

    Parameters
    ----------
    problem : Problem
    arms : mapping of str to Arm
        The first is what the others are compared with.
    seeds : sequence of int
        At least two, or there are no intervals.
    out : path
        ``<arm>/<seed>/`` for each run, ``table.json`` and ``table.md``.
    progress : callable
        Told what begins.

    Returns
    -------
    list of dict
        One an arm: ``arm``, ``seeds``, ``died`` (runs that ended early; they count at their last height), and ``final`` (last
        held-out mean) and ``area`` (mean height of the held-out curve over answers written), each with the ends of its 95 % t interval, and their difference to the first arm's, paired by seed.

    Raises
    ------
    ConfigError
        Fewer than two seeds or arms, or a folder holds the run of other settings.
    """
    if len(set(seeds)) < 2 or len(arms) < 2:
        msg = f"{len(set(seeds))} seeds and {len(arms)} arms; give at least two of each, or nothing can be compared"
        raise ConfigError(msg)
    for name, arm in arms.items():
        try:
            shown, settings = arm.of(problem, 0)
            check(shown, arm.recipe, settings)
        except ConfigError as error:
            msg = f"{name}: {error}"
            raise ConfigError(msg) from error
    place = Path(out)
    curves: dict[str, dict[int, tuple[float, float]]] = {}
    died: dict[str, int] = {}
    for name, arm in arms.items():
        for seed in seeds:
            progress(f"{name}, seed {seed}")
            folder = place / _folder(name) / str(seed)
            curves.setdefault(name, {})[seed] = one_run(problem, arm, seed, folder)
            died[name] = died.get(name, 0) + (read_json(folder / RECORD)["cause"] is not None)
    table = [{**row, "died": died[row["arm"]]} for row in compared(curves)]
    write_json(place / "table.json", plain(table))
    with atomic_path(place / "table.md") as temporary:
        temporary.write_text(as_markdown(table), encoding="utf-8")
    return table


def one_run(problem: Problem, arm: Arm, seed: int, folder: Path) -> tuple[float, float]:
    """Return last height and mean height of an arm's held-out curve; it is trained, or trained on, where that was not done."""
    shown, settings = arm.of(problem, seed)
    told = record_of(shown, arm.recipe, settings)
    if (folder / "reinforcement.json").is_file() and read_json(folder / "reinforcement.json") != told:
        msg = f"{folder} holds a run of another problem or with other settings; give another out, or remove it"
        raise ConfigError(msg)
    if not (folder / RECORD).is_file():
        begun = last_checkpoint(folder / "checkpoints") is not None
        reinforce(
            shown, recipe=arm.recipe, settings=settings, out=folder, resume=begun, overwrite=not begun and folder.exists(),
            progress=False,
        )  # fmt: skip
    return final_and_area(to_the_end(read_curve(folder), settings))


def to_the_end(curve: Sequence[Mapping[str, Any]], settings: RunSettings) -> list[Mapping[str, Any]]:
    """Return a held-out curve that goes on at its last height to the whole budget: so a run that died is held against the others'."""
    found = list(curve)
    if found[-1]["step"] < settings.steps:
        whole = settings.steps * settings.prompts * settings.answers
        found.append({**found[-1], "step": settings.steps, "answers": whole})
    return found


def final_and_area(curve: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the last mean of a held-out curve, and its mean height over answers written (trapezia)."""
    compute, mean = np.array([row["answers"] for row in curve], float), np.array([row["mean"] for row in curve], float)
    area = np.trapezoid(mean, compute) / (compute[-1] - compute[0]) if len(curve) > 1 else mean[-1]
    return float(mean[-1]), float(area)


def compared(curves: Mapping[str, Mapping[int, tuple[float, float]]]) -> list[dict[str, Any]]:
    """Return the table of :func:`ablate` from each arm's final and area by seed."""
    first = next(iter(curves.values()))
    table = []
    for name, runs in curves.items():
        row: dict[str, Any] = {"arm": name, "seeds": list(runs)}
        for place, measure in enumerate(("final", "area")):
            values = np.array([run[place] for run in runs.values()])
            apart = np.array([run[place] - first[seed][place] for seed, run in runs.items()])
            for label, numbers in ((measure, values), (f"{measure} difference", apart)):
                found = mean_interval(numbers)
                row |= {label: float(found.value), f"{label} low": float(found.low), f"{label} high": float(found.high)}
        table.append(row)
    return table


def as_markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as Markdown."""

    def cell(row: Mapping[str, Any], label: str) -> str:
        return f"{row[label]:.3f} ({row[f'{label} low']:.3f} to {row[f'{label} high']:.3f})"

    lines = ["| arm | seeds | died | final | difference | area | difference |", "|---|---|---|---|---|---|---|"]
    for i, row in enumerate(table):
        apart = [cell(row, f"{measure} difference") if i else "" for measure in ("final", "area")]
        lines.append(
            f"| {row['arm']} | {len(row['seeds'])} | {row.get('died', 0)} | {cell(row, 'final')} | {apart[0]} | {cell(row, 'area')} | {apart[1]} |"
        )
    return "\n".join(lines) + "\n"


def presets(settings: RunSettings, names: Sequence[str] = tuple(PRESETS), **changes: Any) -> dict[str, Arm]:
    """Return whole presets as arms, ``grpo`` first where it is among them."""
    ordered = sorted(names, key=lambda name: name != "grpo")
    return {name: Arm(recipe(name, **changes), settings) for name in ordered}


def _folder(name: str) -> str:
    plainly = "_".join("".join(c if c.isalnum() or c in ".-" else " " for c in name).split()).lstrip(".")
    return (
        plainly if plainly == name.replace(" ", "_") else f"{plainly}-{hash_of(name)[:6]}"
    )  # no two arms share a folder
