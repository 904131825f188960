"""From a supervised response model to a reinforced one: the second stage, through the engine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from c2s.artefacts import read_json, whole_folder
from c2s.cells.library import Perturbation
from c2s.errors import ConfigError, ModelError
from c2s.models.cell_lm import CellLM
from c2s.models.loading import load_cell_lm
from c2s.models.settings import SETTINGS_FILE
from c2s.perturbation.energy import MIN_SAMPLES
from c2s.perturbation.problem import RewardConfig, response_problem

if TYPE_CHECKING:
    from c2s.engines.rl.recipes import Recipe
    from c2s.engines.rl.settings import RunSettings
    from c2s.sentences.corpus import CellSentences


def reinforce_responses(
    model: CellLM,
    sentences: CellSentences,
    out: str | os.PathLike[str],
    *,
    validation: NDArray[np.bool_],
    recipe: Recipe,
    settings: RunSettings,
    rewards: RewardConfig | None = None,
    library: Sequence[Perturbation] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> CellLM:
    """Return a response model reinforced on its training cells; it writes what the supervised one does, and is used the same way.

    Parameters
    ----------
    model : CellLM
        Trained on ``perturbation_response`` (:func:`c2s.train`); it is left as it is.
    sentences : CellSentences
        Training cells, whole, encoded by ``model.encode``.
    out : path
        Run folder: that of :func:`~c2s.engines.rl.run.reinforce`, whose ``model/`` holds a c2s model.
    validation : ndarray of bool, shape (n_cells,)
        Cells of the conditions that held-out answers are asked for; no test cell.
    recipe : Recipe
        ``flat_groups="hybrid"`` joins verdict and score; other recipes take the score alone.
    settings : RunSettings
        ``max_tokens`` is taken from the model's answers.
    rewards : RewardConfig, optional
    library, resume, overwrite, progress
        As :func:`~c2s.perturbation.problem.response_problem` and :func:`~c2s.engines.rl.run.reinforce`.

    Raises
    ------
    ConfigError
        Fewer than 3 answers a prompt, or recipe, rewards and settings that do not fit.
    DataError, ModelError, ArtefactError
        As the two functions.
    """
    from c2s.engines.rl.run import RECORD, reinforce

    rewards = rewards or RewardConfig()
    check_second_stage(recipe, settings, rewards)
    if rewards.verifier is None:
        rewards = rewards.with_(verifier=recipe.flat_groups == "hybrid")
    problem, conditions = response_problem(
        model, sentences, validation=validation, library=library, config=rewards, seed=settings.seed
    )
    settings = settings.with_(max_tokens=model.response_constraint().max_length)
    rewarded = [model.vocabulary.symbols[gene] for gene in conditions.programme]
    place = Path(out)
    if resume and (place / RECORD).is_file() and not (place / "model" / SETTINGS_FILE).is_file():
        return _kept(model, _engines_model(place), place, rewarded)  # killed before the model was ours
    run = reinforce(
        problem, recipe=recipe, settings=settings, out=out, resume=resume, overwrite=overwrite, progress=progress
    )
    if not (place / "model").is_dir():
        msg = f"reinforcement diverged and left no model: {run.cause}. Lower the learning rate ({settings.learning_rate:g})"
        raise ModelError(msg)
    return _kept(model, run.model, place, rewarded)


def check_second_stage(recipe: Recipe, settings: RunSettings, rewards: RewardConfig) -> None:
    """Refuse what cannot be reinforced, before anything is trained.

    Raises
    ------
    ConfigError
        Fewer than 3 answers a prompt, groups that a batch would cut in two, or a verdict that the recipe does not read.
    """
    if settings.answers < MIN_SAMPLES or settings.eval_answers < MIN_SAMPLES:
        msg = f"answers={settings.answers} and eval_answers={settings.eval_answers}; the energy distance needs at least {MIN_SAMPLES} answers a prompt"
        raise ConfigError(msg)
    if settings.batch_size % settings.eval_answers:
        msg = f"batch_size={settings.batch_size} is no multiple of eval_answers={settings.eval_answers}: a held-out prompt's answers would be judged apart"
        raise ConfigError(msg)
    if rewards.verifier and recipe.flat_groups != "hybrid":
        msg = f"rewards.verifier is read by recipes with flat_groups='hybrid', not by flat_groups={recipe.flat_groups!r}; leave it out"
        raise ConfigError(msg)


def _engines_model(folder: Path) -> object:
    """Return the weights that the engine left in ``folder/model``, or that were being made ours when the process was killed."""
    from transformers import AutoModelForCausalLM

    found = folder / "model" if (folder / "model").is_dir() else folder / "model.new"
    return AutoModelForCausalLM.from_pretrained(
        found, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )


def _kept(model: CellLM, policy: object, folder: Path, rewarded: list[str]) -> CellLM:
    """Write the reinforced weights as a c2s model in ``folder/model``, and return it."""
    from c2s.engines.rl.pipeline import policy_copy

    record = read_json(folder / "run.json")
    made = {**{name: record[name] for name in ("steps", "seconds", "cause")}, "programme": rewarded}
    told = {**model.settings.training, "reinforced": made}
    found = CellLM(
        policy_copy(policy), model.tokens, model.background, model.settings.with_(training=told), decoder=model.decoder,
        responses=model.responses,
    )  # fmt: skip
    place = folder / "model"  # the engine's own has a tokenizer that reads genes in texts
    with whole_folder(folder / "model.new", overwrite=True) as scratch:
        found.save(scratch)
    shutil.rmtree(place, ignore_errors=True)
    (folder / "model.new").replace(place)
    return load_cell_lm(place)
