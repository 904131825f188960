"""How hard each prompt is for the model at hand: asked a few times, in batches that a kill does not lose.

Yu et al. (arXiv 2510.11701) choose prompts by the pass rates of the model that is to be trained; :func:`~c2s.engines.rl.curriculum.curate`
chooses from what is found here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from c2s.artefacts import hash_of, read_json, write_json
from c2s.engines.rl.curriculum import Curriculum, CurriculumConfig
from c2s.engines.rl.evaluation import scored
from c2s.engines.rl.problem import Problem
from c2s.engines.rl.rewards import reward_name
from c2s.engines.rl.settings import RunSettings
from c2s.engines.rl.writer import Writer
from c2s.errors import ConfigError


def _told(model: PreTrainedModel) -> list[object]:
    """Return what tells one model's weights from another's: the sum of each, cheap and enough."""
    return [[name, float(each.detach().double().sum())] for name, each in model.named_parameters()]


def probe(
    problem: Problem,
    model: PreTrainedModel,
    *,
    settings: RunSettings,
    out: str | os.PathLike[str],
    progress: Callable[[int], object] = lambda _: None,
) -> Curriculum:
    """Ask the model every training prompt ``settings.answers`` times and return the pass rates.

    Parameters
    ----------
    problem : Problem
        With a verifier, whose prompts are texts.
    model : PreTrainedModel
    settings : RunSettings
        ``prompts`` are asked together; length, temperature and seed are those of the run to come.
    out : path
        A JSON file, written after each batch; where it is there, only prompts it does not know are asked.
    progress : callable
        Told how many prompts each batch added.

    Returns
    -------
    Curriculum
        ``pass_rates`` is what :func:`~c2s.engines.rl.curriculum.curate` takes.

    Raises
    ------
    ConfigError
        There is no verifier, or ``out`` is of other prompts, settings, verifier or weights.
    """
    if problem.verifier is None:
        msg = "pass rates are of verdicts; give the problem a verifier="
        raise ConfigError(msg)
    texts, path = list(problem.prompts["prompt"]), Path(out)
    asked = hash_of(
        [str(text) for text in texts], settings.answers, settings.max_tokens, settings.temperature, settings.seed,
        reward_name(problem.verifier), *_told(model),
    )  # fmt: skip
    curriculum = Curriculum(len(texts), CurriculumConfig(drop_mastered=None))
    if path.exists():
        before = read_json(path)
        if before.get("asked") != asked:
            msg = f"{path} holds pass rates of other prompts, settings, verifier or weights; name another file, or remove it"
            raise ConfigError(msg)
        curriculum.restore(before["curriculum"])
    end = problem.tokenizer.eos_token_id
    writer = Writer(
        problem,
        settings,
        problem.tokenizer,
        ends=[end],
        interruption=problem.interruption,
        autocast=contextlib.nullcontext,
    )
    was_training = model.training
    model.eval()
    try:
        todo = curriculum.unprobed(1).tolist()
        for start in range(0, len(todo), settings.prompts):
            numbers = [number for number in todo[start : start + settings.prompts] for _ in range(settings.answers)]
            rows: list[dict[str, Any]] = [dict(problem.prompts[number]) for number in numbers]
            ids = problem.tokenizer([row["prompt"] for row in rows])["input_ids"]
            with torch.no_grad():
                answers, _ = writer(model, ids, rows, f"{settings.seed}, probing from prompt {numbers[0]}")
            verdicts = scored(problem.verifier, rows, answers.ids, writer.decode(answers.ids))
            curriculum.record(numbers, verdicts)
            write_json(path, {"asked": asked, "curriculum": curriculum.state()})
            progress(len(numbers) // settings.answers)
    finally:
        model.train(was_training)
    return curriculum
