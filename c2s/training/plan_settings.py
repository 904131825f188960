"""Settings of a search for layer plans."""

from __future__ import annotations

import math
from typing import Self

from pydantic import Field, model_validator

from c2s.config import Config, Seed
from c2s.engines.layer_routing.searching import Method
from c2s.training.label_rewards import Kind


class PlanSearchConfig(Config):
    """How plans are searched; every field is a flag of ``c2s route search``.

    Attributes
    ----------
    n_cells : int
        Cells that get a search, alike many of each type as far as there are.
    budget : int
        Plans tried a cell.
    method : {"uct", "random", "greedy", "exhaustive"}
    reward : {"log_probability", "correct"}
        Of :class:`~c2s.training.label_rewards.LabelRewards`.
    length_penalty : float
        What a plan of the model's depth gives up, in nats (or answers); others in proportion.
    n_fresh : int
        Other cells of the same type that a plan is tested on, those most alike.
    candidates : int
        Plans of a cell that are tested, from the best on, until one holds.
    margin : float
        Reward that a plan may cost on fresh cells where it saves layers; one that saves none must gain.
    alpha : float
        Of the test, for all candidates of a cell together.
    pool : int
        Cells of a type, drawn by lot, among which the most alike are looked for.
    seed : int
    """

    n_cells: int = Field(200, ge=1)
    budget: int = Field(64, ge=2)
    method: Method = "uct"
    reward: Kind = "log_probability"
    length_penalty: float = Field(0.3, ge=0)
    n_fresh: int = Field(8, ge=1)
    candidates: int = Field(4, ge=1)
    margin: float = Field(0.05, ge=0)
    alpha: float = Field(0.05, gt=0, lt=1)
    pool: int = Field(200, ge=1)
    seed: Seed = 0

    @model_validator(mode="after")
    def _enough_fresh(self) -> Self:
        need = math.ceil(-math.log2(self.alpha / self.candidates))
        if not need <= self.n_fresh < self.pool:
            msg = f"n_fresh={self.n_fresh} must be below pool={self.pool}, and at least {need} to test {self.candidates} candidates at alpha={self.alpha}"
            raise ValueError(msg)
        return self
