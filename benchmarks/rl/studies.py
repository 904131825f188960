"""What is compared: recipes by name, a recipe less one component, and what rewards; on which small worlds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.rl.toy import problem
from c2s.engines.rl.ablation import Arm, leave_one_out, presets
from c2s.engines.rl.problem import Problem
from c2s.engines.rl.recipes import recipe
from c2s.engines.rl.settings import RunSettings

# the learning rate was chosen by one run of grpo on ordering with seed 10, which is in no table
SETTINGS = RunSettings(
    steps=400, prompts=8, answers=8, max_tokens=16, batch_size=64, learning_rate=3e-4, eval_every=10, eval_answers=8,
    keep_rollouts=False,
)  # fmt: skip
# six times as long: the middle of the curves lies at about 11,000 answers, and a first quarter has to reach well beyond it
LONG = SETTINGS.with_(steps=2400, eval_every=25)
OF_CELLS = SETTINGS.with_(steps=120, max_tokens=41, learning_rate=1e-4, eval_answers=32)  # nine prompts, a label each
IN_TURN: dict[str, Any] = {"staleness": None}  # repeatable to the bit


class Cell(NamedTuple):
    """One arm of a study on one world."""

    study: str
    world: str
    arm: str
    rewards: tuple[str, ...]  # names, which are part of a run's key
    problem: Callable[[], Problem]
    run: Arm


NAMES = {
    "ordering": ("ordered_share", "in_order"),
    "completion": ("overlap", "completed"),
    "ambiguous": ("ordered_share", "in_order"),
}


def cells() -> list[Cell]:
    """Return all cells of all studies; the first arm of a study and world is what the others are held against."""
    found = []
    for study, world, settings in (
        ("presets", "ordering", SETTINGS),
        ("presets", "completion", SETTINGS),
        ("forecast", "ordering", LONG),
    ):
        arms = presets(settings, ("grpo", "dapo", "gspo", "grpo_tcr"))
        arms["scalerl"] = Arm(recipe("scalerl", **IN_TURN), settings)
        found += [
            Cell(study, world, name, NAMES[world][1:], lambda world=world: by_verifier(world), arm)
            for name, arm in arms.items()
        ]
    for name, arm in leave_one_out("scalerl", SETTINGS, **IN_TURN).items():
        found.append(
            Cell("scalerl less one", "ordering", name, NAMES["ordering"][1:], lambda: by_verifier("ordering"), arm)
        )
    for world in ("ordering", "ambiguous"):
        hero = Arm(recipe("scalerl", flat_groups="hybrid", **IN_TURN), SETTINGS)
        plain = Arm(recipe("scalerl", **IN_TURN), SETTINGS)
        dense = Arm(recipe("scalerl", drop_mastered=None, **IN_TURN), SETTINGS)
        found += [
            Cell("rewards", world, "HERO", NAMES[world], lambda world=world: problem(world), hero),
            Cell("rewards", world, "verifier only", NAMES[world][1:], lambda world=world: by_verifier(world), plain),
            Cell("rewards", world, "dense only", NAMES[world][:1], lambda world=world: by_dense(world), dense),
        ]
    kept: dict[str, Any] = {
        "drop_mastered": None,
        "interrupt": False,
        **IN_TURN,
    }  # nine prompts; sentences end by themselves
    of_cells = {
        "grpo": (recipe("grpo"), of_verdicts),
        "scalerl": (recipe("scalerl", **kept), of_verdicts),
        "scalerl, HERO": (recipe("scalerl", flat_groups="hybrid", **kept), problem_of_cells),
        "scalerl, dense only": (recipe("scalerl", **kept), of_likeness),
    }
    found += [
        Cell("cells", "pbmc3k", name, (build.__name__,), build, Arm(chosen, OF_CELLS))
        for name, (chosen, build) in of_cells.items()
    ]
    return found


def problem_of_cells() -> Problem:
    """Return the world of real cells (:mod:`benchmarks.rl.cells`), which is loaded only when it is asked for."""
    from benchmarks.rl.cells import problem as build

    return build()


def of_verdicts() -> Problem:
    """Return the world of real cells in which a classifier's verdict alone is rewarded."""
    return dataclasses.replace(problem_of_cells(), rewards=())


def of_likeness() -> Problem:
    """Return the world of real cells in which likeness to real cells alone is rewarded."""
    return dataclasses.replace(problem_of_cells(), verifier=None)


def by_verifier(world: str) -> Problem:
    """Return a world in which right answers alone are rewarded."""
    return dataclasses.replace(problem(world), rewards=())


def by_dense(world: str) -> Problem:
    """Return a world in which the dense reward alone is given; held-out answers are still judged right or wrong."""
    made = problem(world)
    return dataclasses.replace(made, verifier=None, held_out_reward=made.verifier)
