"""Settings of a run: how much is sampled, how long it trains, and what of TRL's they become."""

from __future__ import annotations

import os
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from trl import GRPOConfig

from c2s.config import Config, Seed
from c2s.engines.rl.recipes import Recipe

ADAPTIVE_ENTROPY_STEP = 0.005  # by which the weight of the bonus moves an update


class RunSettings(Config):
    """How much and how long.

    Attributes
    ----------
    steps : int
        Updates.
    prompts : int
        A step, each answered ``answers`` times.
    max_tokens : int
        Of an answer.
    temperature : float
        Answers are sampled, and their probabilities taken, at this temperature.
    batch_size : int
        Answers in one backward pass; divides ``prompts * answers``.
    learning_rate, warmup : float
        Constant behind a linear rise over that many steps.
    log_every, save_every, eval_every : int
        Steps; 0 keeps no checkpoints, and evaluates at the end only.
    eval_answers : int
        To each held-out prompt.
    keep_rollouts : bool
        Every answer goes to disk, where rewards can be run on it again.
    seed : int
    """

    steps: int = Field(200, ge=1)
    prompts: int = Field(8, ge=1)
    answers: int = Field(8, ge=2)
    max_tokens: int = Field(64, ge=1)
    temperature: float = Field(1.0, gt=0)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(1e-5, gt=0)
    warmup: int = Field(0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    log_every: int = Field(1, ge=1)
    save_every: int = Field(0, ge=0)
    eval_every: int = Field(0, ge=0)
    eval_answers: int = Field(16, ge=1)
    keep_rollouts: bool = True
    seed: Seed = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.prompts * self.answers % self.batch_size:
            msg = f"batch_size={self.batch_size} must divide prompts x answers = {self.prompts} x {self.answers} = {self.prompts * self.answers}"
            raise ValueError(msg)
        if self.save_every % self.log_every:
            msg = f"save_every={self.save_every} must be a multiple of log_every={self.log_every}: a log step that a checkpoint cuts in two would differ after a resumption"
            raise ValueError(msg)
        return self


def trl_config(recipe: Recipe, settings: RunSettings, out: str | os.PathLike[str]) -> GRPOConfig:
    """Return what TRL is told; the rest of a recipe is done by :class:`c2s.engines.rl.trainer.PolicyTrainer`.

    Averages and the scale of advantages are not TRL's: its ``scale_rewards="batch"`` divides by the spread of rewards that
    were not centred, and it has no average over prompts. The divergence from a reference, averaged over tokens always, is
    set by the trainer, which makes the reference itself.
    """
    loss = "cispo" if recipe.loss == "cispo" else "dapo"  # divided by the batch's tokens: other averages are factors
    accumulation = settings.prompts * settings.answers // settings.batch_size
    entropy = (
        {}
        if recipe.entropy_target is None
        else {
            "use_adaptive_entropy": True, "entropy_target": recipe.entropy_target,
            "entropy_coef_delta": ADAPTIVE_ENTROPY_STEP,
        }
    )  # fmt: skip
    told: dict[str, Any] = {
        "output_dir": os.fspath(out), "seed": settings.seed, "max_steps": settings.steps,
        "learning_rate": settings.learning_rate, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": settings.warmup,
        "max_grad_norm": settings.max_grad_norm, "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": accumulation, "steps_per_generation": accumulation,
        "num_generations": settings.answers, "max_completion_length": settings.max_tokens,
        "temperature": settings.temperature, "top_p": 1.0, "top_k": 0,
        "loss_type": loss, "importance_sampling_level": "sequence" if recipe.loss == "gspo" else "token",
        "epsilon": recipe.clip_low, "epsilon_high": recipe.ratio_cap if recipe.loss == "cispo" else recipe.clip_high,
        "beta": 0.0, "scale_rewards": "none", "cast_lm_head_to_fp32": recipe.fp32_logits,
        "mask_truncated_completions": False, "disable_dropout": True,
        "logging_steps": settings.log_every, "save_strategy": "steps" if settings.save_every else "no",
        "save_steps": max(1, settings.save_every), "save_total_limit": 2, "report_to": "none", "disable_tqdm": True,
        "bf16": torch.cuda.is_available() and torch.cuda.is_bf16_supported(), "gradient_checkpointing": False,
        "use_cpu": not torch.cuda.is_available(), "remove_unused_columns": False, "dataloader_num_workers": 0,
        **entropy,
    }  # fmt: skip
    return GRPOConfig(**told)
