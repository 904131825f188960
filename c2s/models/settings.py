"""What a model folder says about itself beside the weights: ``c2s.json``, read and checked on loading."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from c2s.config import Config

SETTINGS_FILE = "c2s.json"
FORMAT = 3  # 1 had no conditions, and moved_ranks in perturbation_response; 2 had no objective
Objective = Literal["next_token", "masked_diffusion"]


class PerturbationSettings(Config):
    """How a model was trained on perturbation responses."""

    perturbation_key: str
    control: str
    context_keys: tuple[str, ...] = ()
    match_by: tuple[str, ...] = ()
    library: tuple[dict[str, Any], ...] = ()  # training perturbations, the vehicle among them
    held_out: tuple[str, ...] = ()  # names kept out of training, for validation
    delta_rule: dict[str, Any] | None = None


class ModelSettings(Config):
    """Everything a model needs to be used as it was trained."""

    format: int = FORMAT
    version: str = ""
    objective: Objective = "next_token"
    tasks: dict[str, dict[str, Any]] = Field(default_factory=dict)  # task name -> its settings
    encoding: dict[str, Any] = Field(default_factory=dict)
    n_expressed: int = 0  # training median of genes expressed per cell
    labels: tuple[str, ...] = ()
    label_share: tuple[float, ...] = ()  # share of each label among training cells
    conditions: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # generation's: name -> values seen
    perturbation: PerturbationSettings | None = None
    training: dict[str, Any] = Field(default_factory=dict)  # data hash, seed, steps, tokens, seconds, losses
