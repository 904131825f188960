"""From a problem to a better policy: train, watch, evaluate, keep; go on after a kill as if nothing had happened."""

from __future__ import annotations

import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from c2s.artefacts import check_folder, plain, prepare_folder, read_json, write_json
from c2s.engines.rl.dashboard import write_dashboard
from c2s.engines.rl.health import Health
from c2s.engines.rl.problem import Problem, check, check_model
from c2s.engines.rl.recipes import Recipe
from c2s.engines.rl.sampling import Diverged
from c2s.engines.rl.settings import RunSettings
from c2s.engines.rl.trainer import STATE, PolicyTrainer
from c2s.engines.rl.watch import CURVE, Watch, is_finite, read_lines
from c2s.errors import ArtefactError, ConfigError
from c2s.locks import locked_folder
from c2s.quiet import no_bars

logger = logging.getLogger(__name__)

RECORD = "run.json"


@dataclass(frozen=True)
class Run:
    """What training made.

    Attributes
    ----------
    model : PreTrainedModel
    history : list of Health
    evaluations : list of dict
        The held-out curve (:class:`~c2s.engines.rl.watch.Watch`).
    cause : str or None
        Why it ended before its last step.
    folder : Path
    """

    model: PreTrainedModel
    history: list[Health]
    evaluations: list[dict[str, Any]]
    cause: str | None
    folder: Path


def reinforce(
    problem: Problem,
    *,
    recipe: Recipe,
    settings: RunSettings,
    out: str | os.PathLike[str],
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Run:
    """Train the policy of a problem and return it.

    Parameters
    ----------
    problem : Problem
    recipe : Recipe
        What is optimised (:func:`~c2s.engines.rl.recipes.recipe`).
    settings : RunSettings
        How much and how long.
    out : path
        Run folder: ``reinforcement.json``, ``health.jsonl``, ``evaluation.jsonl``, ``dashboard.png``, ``rollouts/``, ``model/`` and, last,
        ``run.json``. A run that died keeps its ``checkpoints/``, and has no ``model/`` where it diverged.
    resume : bool
        Go on from the last whole checkpoint (``save_every``) with the same recipe and settings; on a CPU, and with answers and
        updates in turn, the rest is bit for bit what it would have been.
    overwrite : bool
        Replace what is in ``out``.
    progress : bool

    Raises
    ------
    ArtefactError
        ``out`` is not empty, or there is nothing to resume.
    ConfigError
        Problem, recipe and settings do not fit, or a run is resumed with others.
    """
    if resume and overwrite:
        msg = "resume goes on with what is in out, overwrite replaces it; give one"
        raise ConfigError(msg)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        msg = "runs are of one process so far; start it without torchrun or accelerate launch"
        raise ConfigError(msg)
    check(problem, recipe, settings)
    told = record_of(problem, recipe, settings)
    if not resume:
        check_folder(out, overwrite=overwrite)
    with _quiet():
        policy = problem.model(settings.seed)  # a folder is not emptied for what cannot be built
    check_model(policy, recipe)
    with locked_folder(out):
        return _reinforced(
            problem, policy, recipe, settings, out, told, resume=resume, overwrite=overwrite, progress=progress
        )


def _reinforced(
    problem: Problem, policy: PreTrainedModel, recipe: Recipe, settings: RunSettings, out: str | os.PathLike[str], told: Any, *,
    resume: bool, overwrite: bool, progress: bool,
) -> Run:  # fmt: skip
    """Train in a folder that no other process writes."""
    folder = _resumed(out, told) if resume else prepare_folder(out, overwrite=overwrite)
    checkpoint = last_checkpoint(folder / "checkpoints") if resume else None
    with _quiet():
        trainer = PolicyTrainer(
            policy, problem, recipe=recipe, settings=settings, out=folder / "checkpoints",
            rollouts=folder / "rollouts" if settings.keep_rollouts else None,
        )  # fmt: skip
    watch = Watch(trainer, folder, progress=progress)
    trainer.add_callback(watch)
    if checkpoint is not None:
        trainer.restore(checkpoint)
        watch.restore(_step(checkpoint))
    elif not resume:
        write_json(folder / "reinforcement.json", told)
    else:
        logger.warning("no checkpoint in %s: training starts from the beginning", folder)
        watch.restore(-1)
    diverged = False
    with no_bars(), _quiet():
        try:
            if checkpoint is not None and _step(checkpoint) >= settings.steps:  # killed behind the last step
                trainer._load_from_checkpoint(str(checkpoint))
                trainer.state.global_step = settings.steps
                watch.finish(settings.steps)
            else:
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except Diverged as error:
            if not watch.evaluations:
                raise
            watch.cause, diverged = str(error), True
        finally:
            if trainer.pipeline is not None:
                trainer.pipeline.close()
        model = trainer.accelerator.unwrap_model(trainer.model)
        if is_finite(model) and not diverged:
            trainer.save_model(str(folder / "model"))
    if watch.history:
        write_dashboard(folder / "dashboard.png", watch.history, watch.evaluations)
    write_json(
        folder / RECORD,
        {
            "steps": trainer.state.global_step,
            "seconds": watch.seconds,
            "cause": watch.cause,
            "final": watch.evaluations[-1],
        },
    )
    if watch.cause is None:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return Run(model, watch.history, watch.evaluations, watch.cause, folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what libraries below tell one another of their next versions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def read_curve(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the held-out evaluations of a finished run, by rising step.

    Raises
    ------
    ArtefactError
        The folder holds no finished run.
    """
    place = Path(folder)
    if not (place / RECORD).is_file():
        msg = f"{place} holds no finished run"
        raise ArtefactError(msg)
    found = read_lines(place / CURVE)
    if not found or any(one["step"] >= other["step"] for one, other in zip(found, found[1:])):
        msg = f"{place / CURVE} is empty, or not by rising step: something else wrote it, or it was damaged"
        raise ArtefactError(msg)
    return found


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint: one whose own state, written last, is there."""
    whole = [
        path
        for path in folder.glob("checkpoint-*")
        if re.fullmatch(r"checkpoint-\d+", path.name) and (path / STATE).is_file()
    ]
    return max(whole, key=_step) if whole else None


def record_of(problem: Problem, recipe: Recipe, settings: RunSettings) -> Any:
    """Return what a run is started with, fit for JSON: runs with the same record are the same run."""
    return plain(
        {
            "recipe": recipe.model_dump(mode="json"),
            "settings": settings.model_dump(mode="json"),
            "problem": {"fingerprint": problem.fingerprint()},
        }
    )


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _resumed(out: str | os.PathLike[str], told: Any) -> Path:
    folder = Path(out)
    if (folder / RECORD).is_file():
        msg = f"the run in {folder} is finished; nothing is left to resume"
        raise ArtefactError(msg)
    if not (folder / "reinforcement.json").is_file():
        msg = f"{folder} holds no run to resume; leave resume out"
        raise ArtefactError(msg)
    before = read_json(folder / "reinforcement.json")
    changed = [
        f"{part}.{name}"
        for part in told
        for name in {*told[part], *before.get(part, {})}
        if told[part].get(name) != before.get(part, {}).get(name)
    ]
    if changed:
        msg = f"{folder} was started with other settings: {', '.join(sorted(changed))} differ; resume with the same, or start anew"
        raise ConfigError(msg)
    return folder
