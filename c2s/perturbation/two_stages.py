"""Cells to a reinforced response model: supervised fine-tuning, then reinforcement, in one run folder that can be gone on with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from c2s.artefacts import prepare_folder
from c2s.cells.library import Perturbation
from c2s.cells.reading import complete_column
from c2s.errors import ArtefactError, ConfigError
from c2s.models.cell_lm import CellLM
from c2s.models.loading import load_cell_lm
from c2s.perturbation.problem import RewardConfig
from c2s.perturbation.reinforce import check_second_stage, reinforce_responses
from c2s.training.config import TrainConfig
from c2s.training.perturbation_data import CONDITION, held_out_cells
from c2s.training.run import refuse_other_settings, train

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.engines.rl.recipes import Recipe
    from c2s.engines.rl.settings import RunSettings

SUPERVISED, REINFORCED = "supervised", "reinforced"


def train_responses(
    cells: AnnData,
    out: str | os.PathLike[str],
    *,
    config: TrainConfig,
    recipe: Recipe | None = None,
    settings: RunSettings | None = None,
    rewards: RewardConfig | None = None,
    library: Sequence[Perturbation] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> CellLM:
    """Return a model of perturbation responses trained in two stages.

    Parameters
    ----------
    cells : AnnData
        Training cells, perturbed ones and controls, counts or log1p CP10k; no test cell.
    out : path
        Folder of the run: ``supervised/`` is a run of :func:`c2s.train`, ``reinforced/`` one of the engine; the ``model/`` of either is a c2s
        model.
    config : TrainConfig
        Of the first stage, with ``split_by="condition"`` (conditions are held out whole: the second stage asks for them) and a
        ``validation_share`` above 0.
    recipe, settings : Recipe, RunSettings, optional
        Of the second stage, which is left out where both are.
    rewards : RewardConfig, optional
    library : sequence of Perturbation, optional
    resume : bool
        Go on with what is in ``out``: a stage that is finished is not made again.

    Raises
    ------
    ConfigError
        Settings that do not fit, or a second stage with half of its settings.
    ArtefactError
        ``out`` holds another run, or there is nothing to resume.
    DataError
        As the stages.
    """
    if (recipe is None) != (settings is None):
        msg = "the second stage needs a recipe and settings; give both, or neither"
        raise ConfigError(msg)
    if config.task != "perturbation_response" or (recipe is not None and (config.split_by != CONDITION or not config.validation_share)):  # fmt: skip
        msg = f"two stages train task='perturbation_response' with split_by='condition' and a validation_share above 0; got {config.task!r}, {config.split_by!r}, {config.validation_share:g}"
        raise ConfigError(msg)
    if recipe is not None and config.objective != "next_token":
        msg = f"the second stage reinforces models that foretell the next token; objective={config.objective!r} can be trained without it: leave recipe and settings out (--grpo-steps 0)"
        raise ConfigError(msg)
    if recipe is not None and CONDITION in cells.obs:
        msg = "obs has a column 'condition', by which cells would be split; rename it"
        raise ConfigError(msg)
    if recipe is not None and settings is not None:
        if not held_out_conditions(cells, config, library).any():
            msg = f"validation_share={config.validation_share:g} of the conditions is none of them, and the second stage asks for held-out ones; raise it"
            raise ConfigError(msg)
        check_second_stage(recipe, settings, rewards or RewardConfig())
    folder = Path(out)
    first, second = folder / SUPERVISED, folder / REINFORCED
    if resume and not first.is_dir():
        msg = f"{folder} holds no run to resume; leave resume (--resume) out"
        raise ArtefactError(msg)
    done = [(place / "model" / "c2s.json").is_file() for place in (first, second)]
    if resume and all(done):
        msg = f"the run in {folder} is finished; nothing is left to resume"
        raise ArtefactError(msg)
    if resume and done[0]:
        refuse_other_settings(first, config)
        model = load_cell_lm(first)
    else:
        if overwrite and second.exists():  # it was made from the first stage that is replaced
            prepare_folder(second, overwrite=True).rmdir()
        model = train(
            cells, first, config=config, library=library, overwrite=overwrite, resume=resume, progress=progress
        )
    if recipe is None or settings is None:
        return model
    return reinforce_responses(
        model, model.encode(cells, layer=config.layer), second, validation=held_out_conditions(cells, config, library), recipe=recipe,
        settings=settings, rewards=rewards, library=library, resume=resume and (second / "reinforcement.json").is_file(),
        overwrite=overwrite, progress=progress,
    )  # fmt: skip


def held_out_conditions(
    cells: AnnData, config: TrainConfig, library: Sequence[Perturbation] | None = None
) -> NDArray[np.bool_]:
    """Return the cells of conditions that the first stage holds out, bool (n,), the same for the same cells, settings and seed."""
    names = complete_column(cells.obs, config.perturbation_key, "perturbation_key")
    known = {row.name: row for row in library or ()}
    used = {name: known.get(name, Perturbation(name)) for name in dict.fromkeys(map(str, names))}
    used[config.control] = used.get(config.control, Perturbation(config.control)).with_role("vehicle")
    return np.asarray(held_out_cells(cells.obs, names, used, config))
