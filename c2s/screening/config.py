"""What ``c2s screen`` is asked to do."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from c2s.config import Config, Seed


class ScreenConfig(Config):
    """Settings of a screen; every field is a flag of ``c2s screen``."""

    context_key: str  # obs column that tells the two contexts apart
    contexts: tuple[str, str]  # the context the effect is wanted in, then the one in which it is not
    programme: str | tuple[str, ...] = "MHC_CLASS_I"
    gmt: str | None = None
    unit_key: str | None = None  # obs column of donors or samples; without it cells are bootstrapped
    layer: str | None = None
    min_share: float = Field(0.5, gt=0, le=1)  # of the programme's genes that must be known
    max_rank: int | None = Field(None, ge=1)  # sentence length of the score; median genes per cell when left out
    n_samples: int = Field(2, ge=1)
    cells_per_unit: int = Field(16, ge=1)  # per context; more are drawn down to this, seeded
    n_decoys: int = Field(192, ge=0)
    n_reference: int = Field(16, ge=0)  # training perturbations run through the same cells for the gates
    positive_controls: tuple[str, ...] = ()  # names; rows with role positive_control are added
    delta: float = Field(0.02, gt=0)
    alpha: float = Field(0.05, gt=0, lt=0.5)
    fdr: float = Field(0.1, gt=0, lt=1)
    co_treatment: bool = False  # the first context is the second one plus a treatment: report the Bliss excess
    temperature: float = Field(1.0, ge=0)
    block_size: int = Field(8, ge=1)  # cells a work item; an item is what a shard takes and a resume keeps
    seed: Seed = 0
    threads: int = Field(0, ge=0)  # 0 leaves torch's own choice

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.contexts[0] == self.contexts[1]:
            msg = f"both contexts are {self.contexts[0]!r}; a screen compares two"
            raise ValueError(msg)
        if self.unit_key == self.context_key:
            msg = f"unit_key and context_key are both {self.unit_key!r}; a unit is a donor or sample, found in both contexts"
            raise ValueError(msg)
        return self
