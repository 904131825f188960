"""What ``c2s train`` is asked to do."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from c2s.config import Config, Seed
from c2s.models.presets import PRESETS
from c2s.models.settings import Objective

TaskName = Literal["perturbation_response", "cell_type_annotation", "cell_generation"]


class TrainConfig(Config):
    """Settings of supervised fine-tuning; every field is a flag of ``c2s train``."""

    task: TaskName = "perturbation_response"
    objective: Objective = "next_token"  # or masked_diffusion: the answer's places in any order, several a step
    model: str = "c2s-mini"  # a preset, or the folder of a trained model to go on from
    layer: str | None = None
    seed: Seed = 0

    # examples
    n_genes: int = Field(48, ge=1)  # genes of a cell shown (annotation, perturbation) or written (generation)
    labels_key: str = "cell_type"
    perturbation_key: str = "perturbation"
    control: str = "control"
    context_keys: tuple[str, ...] = ()
    match_by: tuple[str, ...] = ()  # further columns on which controls must agree; context_keys always do
    pairing: Literal["random", "nearest", "transport"] = (
        "random"  # which controls of those that agree: any, the most alike, by optimal transport
    )
    target: Literal["delta", "sentence"] = "delta"
    n_up: int = Field(12, ge=1)
    n_down: int = Field(12, ge=1)
    n_answer: int = Field(200, ge=1)
    delta_threshold: float = Field(1.5, gt=0)  # spreads of the control noise a listed gene must move by
    delta_sizes: Literal["place", "gene"] = (
        "place"  # how far a listed gene moves: by its place alone, or by gene, place and length of the list
    )
    n_treated: int = Field(4, ge=1)  # cells treated alike averaged for a delta
    n_controls: int = Field(8, ge=1)  # matched controls averaged for a delta
    moved_weight: float = Field(4.0, ge=1)
    prompt_weight: float = Field(
        0.0, ge=0
    )  # annotation: loss weight of the cell's own genes, all together, beside the answer's
    name_dropout: float = Field(0.3, ge=0, lt=1)
    split_by: str | None = (
        None  # obs column whose groups stay whole; the perturbation column when left out; "condition": perturbation and context
    )
    validation_share: float = Field(0.1, ge=0, lt=1)

    # optimisation
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    warmup: float = Field(0.05, ge=0, lt=1)  # share of the steps
    weight_decay: float = Field(0.01, ge=0)
    lora_rank: int = Field(0, ge=0)  # 0 trains all weights
    keep_best: bool = False  # the weights of the lowest held-out loss, looked at ten times, and not the last ones
    checkpoint_steps: int = Field(500, ge=1)
    threads: int = Field(0, ge=0)  # 0 leaves torch's own choice

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.context_keys)) < len(self.context_keys):
            msg = f"context_keys names a column twice: {', '.join(self.context_keys)}"
            raise ValueError(msg)
        if self.keep_best and not self.validation_share:
            msg = "keep_best looks at the held-out loss, and validation_share=0 holds nothing out; give it a share"
            raise ValueError(msg)
        if self.prompt_weight and self.task != "cell_type_annotation":
            msg = f"prompt_weight={self.prompt_weight:g} is read by task='cell_type_annotation' only, not by {self.task!r}; leave it out"
            raise ValueError(msg)
        if self.objective == "masked_diffusion" and self.task == "cell_type_annotation":
            msg = "masked_diffusion writes sentences (cell_generation, perturbation_response); a label is one answer of a few, which next_token scores"
            raise ValueError(msg)
        if self.lora_rank and self.model in PRESETS:
            msg = f"lora_rank adapts a trained model; {self.model} starts from random weights. Give model= a folder, or lora_rank=0"
            raise ValueError(msg)
        return self
