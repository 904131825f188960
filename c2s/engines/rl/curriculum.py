"""Which prompts to ask: not those that are mastered, not yet those that are hopeless.

No-Positive-Resampling (Khatri et al., arXiv 2510.13786) takes prompts out whose answers were nearly all right;
Kimi-Dev (arXiv 2509.23045) starts without those that sixteen answers never solved, and brings some back every hundred steps;
Yu et al. (arXiv 2510.11701) choose prompts by the pass rates of the model at hand. Passing is an indicator of its own: a
dense reward above 0 is no pass. Every draw comes from the seed and the step or epoch, so nothing random is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from c2s.config import Config, Seed
from c2s.errors import ConfigError, DataError

Ids = NDArray[np.int64]


class CurriculumConfig(Config):
    """When prompts leave and return.

    Attributes
    ----------
    drop_mastered : float or None
        A prompt with at least this pass rate over its history is mastered; None keeps all.
    min_answers : int
        Answers that a prompt needs before it can be mastered.
    hopeless_after : int or None
        A prompt that so many answers never solved is put aside; None puts none aside.
    return_every, return_count : int
        Every so many steps, so many prompts that were put aside come back, for good.
    min_prompts : int
        Never fewer are active: prompts of one batch. The least mastered come back first.
    seed : int
    """

    drop_mastered: float | None = Field(0.9, gt=0, le=1)
    min_answers: int = Field(1, ge=1)
    hopeless_after: int | None = Field(None, ge=1)
    return_every: int = Field(100, ge=1)
    return_count: int = Field(500, ge=1)
    min_prompts: int = Field(1, ge=1)
    seed: Seed = 0


class Curriculum:
    """Pass rates of prompts 0 … n-1, and which of them are active.

    Parameters
    ----------
    n_prompts : int
    config : CurriculumConfig, optional

    Raises
    ------
    ConfigError
        There are fewer prompts than ``min_prompts``.
    """

    def __init__(self, n_prompts: int, config: CurriculumConfig | None = None) -> None:
        self.config = config or CurriculumConfig()
        if n_prompts < self.config.min_prompts:
            msg = f"there are {n_prompts} prompts and min_prompts is {self.config.min_prompts}; lower it or give more prompts"
            raise ConfigError(msg)
        self.answers = np.zeros(n_prompts, dtype=np.int64)
        self.passes = np.zeros(n_prompts, dtype=np.int64)
        self.returned = np.zeros(n_prompts, dtype=bool)
        self.step = 0

    @property
    def pass_rates(self) -> NDArray[np.float64]:
        """Passes by answers of each prompt, shape (n_prompts,); NaN for one never asked."""
        return np.where(self.answers > 0, self.passes / np.maximum(self.answers, 1), np.nan)

    def record(self, prompts: ArrayLike, passed: ArrayLike) -> None:
        """Take answers into the history.

        Parameters
        ----------
        prompts : array-like, shape (n,), int
            Prompt of each answer.
        passed : array-like, shape (n,)
            1 (True) or 0; NaN, not known, is not counted.

        Raises
        ------
        DataError
            There is no such prompt, or ``passed`` is no indicator: record the verdict, not the reward.
        """
        ids, verdicts = np.asarray(prompts, dtype=np.int64), np.asarray(passed, dtype=np.float64)
        known = ~np.isnan(verdicts)
        if ids.shape != verdicts.shape or not np.isin(verdicts[known], (0.0, 1.0)).all():
            msg = f"passed is 0, 1 or NaN, one an answer; found {np.unique(verdicts)[:5]} in shape {verdicts.shape} for {ids.shape} prompts"
            raise DataError(msg)
        if len(ids) and not 0 <= ids.min() <= ids.max() < len(self.answers):
            msg = f"prompts are numbered 0 to {len(self.answers) - 1}; found {ids.min()} to {ids.max()}"
            raise DataError(msg)
        np.add.at(self.answers, ids[known], 1)
        np.add.at(self.passes, ids[known], verdicts[known].astype(np.int64))

    def advance(self, step: int) -> Ids:
        """Return the prompts that come back on the way to ``step``, in rising order.

        They are drawn among those aside when this is called; skipped steps are made up for.
        """
        before = self.returned.copy()
        for due in range(self.step // self.config.return_every + 1, step // self.config.return_every + 1):
            aside = np.flatnonzero(self.aside)
            rng = np.random.default_rng([self.config.seed, 1, due])
            self.returned[rng.choice(aside, size=min(self.config.return_count, len(aside)), replace=False)] = True
        self.step = max(self.step, step)
        return np.flatnonzero(self.returned & ~before)

    @property
    def mastered(self) -> NDArray[np.bool_]:
        """Prompts that are answered right at least as often as ``drop_mastered``, shape (n_prompts,)."""
        if self.config.drop_mastered is None:
            return np.zeros(len(self.answers), dtype=bool)
        enough = self.answers >= self.config.min_answers
        return enough & (self.passes >= self.config.drop_mastered * self.answers - 1e-9)

    @property
    def aside(self) -> NDArray[np.bool_]:
        """Prompts never solved by ``hopeless_after`` answers that have not come back, shape (n_prompts,)."""
        if self.config.hopeless_after is None:
            return np.zeros(len(self.answers), dtype=bool)
        return (self.answers >= self.config.hopeless_after) & (self.passes == 0) & ~self.returned

    @property
    def active(self) -> Ids:
        """Prompts that may be asked, in rising order; never fewer than ``min_prompts``.

        Where too few are left, mastered prompts fill up by falling difficulty (the lowest pass rate first), then those put
        aside; ties go to the lower number.
        """
        out = self.mastered | self.aside
        found = np.flatnonzero(~out)
        if (missing := self.config.min_prompts - len(found)) > 0:
            spare = np.flatnonzero(out)
            order = np.lexsort((spare, self.pass_rates[spare], self.aside[spare]))
            found = np.sort(np.concatenate([found, spare[order[:missing]]]))
        return found

    def epoch(self, number: int) -> Ids:
        """Return the active prompts in the order of epoch ``number``; it depends on them and the seed only."""
        return np.random.default_rng([self.config.seed, 0, number]).permutation(self.active)

    def unprobed(self, answers: int) -> Ids:
        """Return the prompts with fewer than ``answers`` answers: those that probing the model has yet to ask."""
        return np.flatnonzero(self.answers < answers)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, fit for JSON."""
        return {
            "answers": self.answers.tolist(), "passes": self.passes.tolist(),
            "returned": np.flatnonzero(self.returned).tolist(), "step": self.step,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`.

        Raises
        ------
        DataError
            The state is that of another number of prompts.
        """
        if len(state["answers"]) != len(self.answers) or len(state["passes"]) != len(self.answers):
            msg = f"the state knows {len(state['answers'])} prompts and there are {len(self.answers)}; restore it with the same prompts"
            raise DataError(msg)
        self.answers = np.array(state["answers"], dtype=np.int64)
        self.passes = np.array(state["passes"], dtype=np.int64)
        self.returned = np.zeros(len(self.answers), dtype=bool)
        self.returned[np.array(state["returned"], dtype=np.int64)] = True
        self.step = int(state["step"])


class TargetMix(Config):
    """Shares of prompts by difficulty for the model at hand; they are normalised to 1.

    Attributes
    ----------
    hard, medium, easy : float
        Shares with a pass rate of at most ``hard_up_to``, in between, and of at least ``easy_from``.
    """

    hard: float = Field(0.25, ge=0)
    medium: float = Field(0.5, ge=0)
    easy: float = Field(0.25, ge=0)
    hard_up_to: float = Field(0.25, gt=0, lt=1)
    easy_from: float = Field(0.75, gt=0, lt=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.hard + self.medium + self.easy == 0 or self.hard_up_to >= self.easy_from:
            msg = "give at least one share above 0, and hard_up_to below easy_from"
            raise ValueError(msg)
        return self


class Curation(NamedTuple):
    """Prompts chosen, in rising order, and how many of each kind there were and were taken."""

    prompts: Ids
    found: dict[str, int]
    taken: dict[str, int]


def curate(pass_rates: ArrayLike, mix: TargetMix | None = None, *, size: int | None = None, seed: int = 0) -> Curation:
    """Return prompts whose difficulties have the shares of ``mix``; those always or never solved, or never asked, are left out.

    Nothing is taken twice, so the scarcest kind sets the size: as many as the shares (to the nearest prompt) allow, or
    ``size`` if that is fewer.

    Parameters
    ----------
    pass_rates : array-like, shape (n_prompts,)
        Of the model at hand, such as over 8 answers each; NaN is never asked.
    """
    mix, rates = mix or TargetMix(), np.asarray(pass_rates, dtype=np.float64)
    useful = (rates > 0) & (rates < 1)
    kinds = {
        "hard": np.flatnonzero(useful & (rates <= mix.hard_up_to)),
        "medium": np.flatnonzero(useful & (rates > mix.hard_up_to) & (rates < mix.easy_from)),
        "easy": np.flatnonzero(useful & (rates >= mix.easy_from)),
    }
    total = mix.hard + mix.medium + mix.easy
    shares = {kind: getattr(mix, kind) / total for kind in kinds}
    possible = min(len(kinds[kind]) / share for kind, share in shares.items() if share > 0)
    wanted = possible if size is None else min(size, possible)
    taken = {kind: min(round(wanted * share), len(kinds[kind])) for kind, share in shares.items()}
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(ids, size=taken[kind], replace=False) for kind, ids in kinds.items()]
    return Curation(np.sort(np.concatenate(chosen)), {kind: len(ids) for kind, ids in kinds.items()}, taken)
