"""``c2s rl``: train a policy by reward, run rewards again on what it wrote, compare recipes, predict the rest of a curve."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False
)


class Preset(StrEnum):
    """Recipes by name."""

    grpo = "grpo"
    dapo = "dapo"
    gspo = "gspo"
    grpo_tcr = "grpo_tcr"
    scalerl = "scalerl"


class Study(StrEnum):
    """What arms an ablation has."""

    leave_one_out = "leave-one-out"
    equal_compute = "equal-compute"
    presets = "presets"


PROBLEM = typer.Argument(
    ..., metavar="MODULE:NAME", help="A Problem, or a function that returns one. The module is imported, which runs it."
)
SETTING = typer.Option(
    [], "--set", metavar="NAME=VALUE", help="A field of the recipe or of the settings; may be repeated."
)
SEED = typer.Option(0, min=0, help="Of weights, prompts and answers.")


@app.callback()
def rl() -> None:
    """Reinforce a language model: train by reward, replay rollouts, ablate recipes, predict scaling.

    A problem holds model, prompts and rewards; `docs/guide/reinforcement.md` shows one.
    """


@app.command("run")
def run(
    problem: str = PROBLEM,
    out: Path = typer.Argument(..., metavar="OUT", help="Run folder."),
    recipe: Preset = typer.Option(Preset.scalerl, help="What is optimised."),
    changes: list[str] = SETTING,
    seed: int = SEED,
    resume: bool = typer.Option(False, "--resume", help="Go on from the last checkpoint in OUT."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what is in OUT."),
) -> None:
    """Train a policy; write its health line by line, its held-out curve, a dashboard, its answers and the model.

    **Examples**

    `c2s rl run myproject.ordering:problem runs/ordering --recipe grpo_tcr --set steps=400 --set eval_every=50`

    `c2s rl run myproject.ordering:problem runs/ordering --recipe grpo_tcr --set steps=400 --set eval_every=50 --resume`
    """
    from c2s.engines.rl.run import reinforce

    chosen, settings = _chosen(recipe.value, changes, seed=seed)
    made = reinforce(_problem(problem), recipe=chosen, settings=settings, out=out, resume=resume, overwrite=overwrite)
    first, last = made.evaluations[0], made.evaluations[-1]
    typer.echo(
        f"held-out mean {first['mean']:.3f} → {last['mean']:.3f} after {last['step']} steps; {out / 'dashboard.png'}"
    )
    if made.cause:
        typer.echo(f"Ended early: {made.cause}", err=True)
        raise typer.Exit(1)


@app.command("replay")
def replay(
    run: Path = typer.Argument(..., metavar="RUN", help="Folder of a run, or its rollouts/."),
    rewards: list[str] = typer.Argument(..., metavar="MODULE:NAME …", help="Reward functions, in TRL's convention."),
    out: Path = typer.Option(None, metavar="FILE.csv", help="Write every answer with its values. [default: nothing]"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace FILE.csv."),
) -> None:
    """Run rewards again on the answers of a run: no model, no training.

    **Examples**

    `c2s rl replay runs/ordering myproject.ordering:right`

    `c2s rl replay runs/ordering myproject.ordering:right myproject.ordering:stricter --out values.csv`
    """
    import numpy as np

    from c2s.artefacts import atomic_path, check_file
    from c2s.engines.rl.problem import load_object
    from c2s.engines.rl.rewards import reward_name
    from c2s.engines.rl.rollouts import replay as run_again
    from c2s.errors import ConfigError

    if out is not None:
        check_file(out, overwrite=overwrite)
        if out.resolve().is_relative_to(run.resolve()):
            msg = f"{out} lies in the run that is read; name a place outside {run}"
            raise ConfigError(msg)
    sys.path.insert(0, str(Path.cwd()))
    found: dict[str, Any] = {}
    for spec in rewards:
        reward = load_object(spec)
        if not callable(reward):
            msg = f"{spec} is a {type(reward).__name__}; expected a function"
            raise ConfigError(msg)
        name = reward_name(reward)
        if name in found:
            msg = f"two rewards are called {name}; give one of them another __name__, or run them one after the other"
            raise ConfigError(msg)
        found[name] = reward
    table = run_again(run, found)
    for name in found:
        line = f"{name}: mean {table[name].mean():.4f} of {len(table):,} answers"
        then = f"{name}, then"
        if then in table:
            apart = ~np.isclose(table[name], table[then], rtol=1e-5, atol=1e-7, equal_nan=True)  # kept as float32
            line += f"; {int(apart.sum()):,} differ from what the run recorded"
        typer.echo(line)
    if out is not None:
        with atomic_path(out) as temporary:
            table.to_csv(temporary, index=False)
        typer.echo(f"{len(table):,} answers → {out}")


@app.command("ablate")
def ablate(
    problem: str = PROBLEM,
    out: Path = typer.Argument(
        ..., metavar="OUT", help="A folder for each run; runs that are there are not made again."
    ),
    recipe: Preset = typer.Option(Preset.scalerl, help="Whose components are left out."),
    study: Study = typer.Option(Study.leave_one_out, help="Which arms."),
    seeds: int = typer.Option(5, min=2, help="0 to N-1 for each arm."),
    changes: list[str] = SETTING,
) -> None:
    """Train a recipe with all but one component, at equal compute, and write the table with intervals.

    **Examples**

    `c2s rl ablate myproject.ordering:problem grid --recipe scalerl --seeds 5 --set steps=200 --set eval_every=20`

    `c2s rl ablate myproject.ordering:problem knobs --study equal-compute --set steps=200 --set eval_every=20`
    """
    from c2s.engines.rl import ablation as grid
    from c2s.engines.rl.recipes import Recipe

    chosen, settings = _chosen(recipe.value, changes, seed=0)
    given = {name: getattr(chosen, name) for name in parsed(changes) if name in Recipe.model_fields}
    arms = {
        Study.leave_one_out: lambda: grid.leave_one_out(recipe.value, settings, **given),
        Study.equal_compute: lambda: grid.at_equal_compute(recipe.value, settings, **given),
        Study.presets: lambda: grid.presets(settings, **given),
    }[study]()
    table = grid.ablate(
        _problem(problem), arms, seeds=range(seeds), out=out, progress=lambda what: typer.echo(what, err=True)
    )
    typer.echo(grid.as_markdown(table))
    typer.echo(f"→ {out / 'table.md'}")


@app.command("fit")
def fit(
    runs: list[Path] = typer.Argument(..., metavar="RUN …", help="Folders of finished runs."),
    out: Path = typer.Argument(..., metavar="OUT.png", help="The curves, their fits and bands."),
    first: float = typer.Option(
        1.0, min=0.05, max=1.0, help="Fit to this first share of the compute, predict the rest."
    ),
    ceiling: float = typer.Option(1.0, help="The greatest reward there is."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace OUT.png."),
) -> None:
    """Fit the scaling curve of each run's held-out rewards and plot it with its 90 % band.

    **Examples**

    `c2s rl fit runs/grpo runs/scalerl curves.png`

    `c2s rl fit runs/scalerl forecast.png --first 0.25`
    """
    from c2s.artefacts import check_file
    from c2s.engines.rl.run import read_curve
    from c2s.engines.rl.scaling_plot import fitted, write_curves

    check_file(out, overwrite=overwrite)
    found = {str(run): fitted(read_curve(run), first=first, ceiling=ceiling) for run in runs}
    for name, each in found.items():
        typer.echo(f"{name}: {each.said}")
    write_curves(out, found)
    typer.echo(f"→ {out}")


def _problem(spec: str) -> Any:
    from c2s.engines.rl.problem import load_problem

    sys.path.insert(0, str(Path.cwd()))
    return load_problem(spec)


def parsed(changes: list[str]) -> dict[str, Any]:
    """Return NAME=VALUE pairs, values as JSON where they are, else as text."""
    import json

    from c2s.errors import ConfigError

    found: dict[str, Any] = {}
    for change in changes:
        name, sign, value = change.partition("=")
        if not sign or not name:
            msg = f"--set {change!r}; write NAME=VALUE"
            raise ConfigError(msg)
        try:
            found[name] = json.loads({"None": "null", "True": "true", "False": "false"}.get(value, value))
        except ValueError:
            found[name] = value
    return found


def _chosen(preset: str, changes: list[str], *, seed: int) -> tuple[Any, Any]:
    """Return recipe and settings with the changes, each where it belongs."""
    from c2s.engines.rl.recipes import Recipe, recipe
    from c2s.engines.rl.settings import RunSettings
    from c2s.errors import ConfigError

    given = parsed(changes)
    unknown = [name for name in given if name not in {*Recipe.model_fields, *RunSettings.model_fields}]
    if unknown:
        msg = f"--set knows no {', '.join(unknown)}; recipes have {', '.join(Recipe.model_fields)}; runs {', '.join(RunSettings.model_fields)}"
        raise ConfigError(msg)
    of_recipe = {name: value for name, value in given.items() if name in Recipe.model_fields}
    of_run = {name: value for name, value in given.items() if name in RunSettings.model_fields}
    return recipe(preset, **of_recipe), RunSettings(**{"seed": seed, **of_run})
