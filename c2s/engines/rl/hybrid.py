"""A verifier's verdict and a dense score as one reward: HERO (arXiv 2510.07242), with its knobs where they act.

The score ranks answers within one verdict of one prompt, in bands that keep every right answer above every wrong one
(:func:`hybrid_rewards`); prompts whose scores differ more than usual weigh more (:class:`SpreadWeights`). The paper weights
rewards; divided by the spread of the group afterwards, such a weight cancels, so here it is applied to advantages after
they were scaled. For the same reason the bands mean nothing under the scale of the group where all verdicts are alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from c2s.config import Config
from c2s.engines.rl.groups import Groups
from c2s.errors import DataError


class HybridConfig(Config):
    """How verdict and score are joined.

    Attributes
    ----------
    wrong_band, right_band : float
        alpha and beta: wrong answers get rewards of 0 ± alpha, right ones 1 ± beta; alpha + beta < 1 keeps them apart.
    low_weight, high_weight : float
        Of a prompt whose scores hardly, or greatly, differ.
    slope : float
        k of the weight's sigmoid, per unit of the usual spread.
    warm_up : int
        Prompts whose spread must be known before any weight differs from 1.
    """

    wrong_band: float = Field(0.05, ge=0)
    right_band: float = Field(0.05, ge=0)
    low_weight: float = Field(0.5, ge=0)
    high_weight: float = Field(2.0, gt=0)
    slope: float = Field(5.0, ge=0)
    warm_up: int = Field(32, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.wrong_band + self.right_band >= 1:
            msg = f"wrong_band + right_band is {self.wrong_band + self.right_band:g}; below 1, or wrong answers can beat right ones"
            raise ValueError(msg)
        if self.low_weight > self.high_weight:
            msg = f"low_weight={self.low_weight:g} is above high_weight={self.high_weight:g}"
            raise ValueError(msg)
        return self


def hybrid_rewards(verdicts: Tensor, scores: Tensor, groups: Tensor, config: HybridConfig | None = None) -> Tensor:
    """Return ``verdict ± band``: ``-alpha + 2 alpha z`` for wrong answers, ``(1 - beta) + 2 beta z`` for right ones.

    ``z = (score - min) / (max - min)`` over the answers to the same prompt with the same verdict, so shifting or scaling the
    scores of a prompt changes nothing. Where the score cannot rank (one answer of its verdict, all scores alike, score NaN)
    z is 0.5 and the reward is the verdict. A NaN verdict gives NaN: no reward.

    Parameters
    ----------
    verdicts : Tensor, shape (B,), float
        1 right, 0 wrong, NaN not known.
    scores : Tensor, shape (B,), float
        Any unit, more is better. They must not follow from the verdict, or they add nothing.
    groups : Tensor, shape (B,), int64
        Prompt of each answer.

    Returns
    -------
    Tensor, shape (B,), dtype of the scores

    Raises
    ------
    DataError
        A verdict other than 0, 1 and NaN, an infinite score, or lengths that differ.
    """
    config = config or HybridConfig()
    _check(verdicts, scores, groups)
    right = verdicts == 1
    exact = scores.double()
    stratum = Groups(groups_and_verdicts(groups, right), ~verdicts.isnan() & ~scores.isnan())
    low, high = stratum.low(exact)[stratum.index], stratum.high(exact)[stratum.index]
    ranked = ~stratum.flat(exact)[stratum.index] & stratum.counted
    z = torch.where(ranked, (exact - low) / torch.where(ranked, high - low, 1.0), 0.5)
    band = torch.where(right, config.right_band, config.wrong_band).double()
    reward = right.double() + band * (2 * z - 1)
    return reward.masked_fill(verdicts.isnan(), torch.nan).to(scores.dtype)


def groups_and_verdicts(groups: Tensor, right: Tensor) -> Tensor:
    """Return an id for each pair of prompt and verdict, (B,), int64."""
    return torch.unique(groups, return_inverse=True)[1] * 2 + right.long()


class SpreadWeights:
    """Weights of prompts by the spread of their scores: ``low + (high - low) sigmoid(slope (spread / usual - 1))``.

    The spread is the standard deviation of a prompt's scores, the usual one its mean over all prompts so far, before the
    batch at hand: a weight depends on no batch-mate. Dividing by it makes weights free of the score's unit. A prompt with
    fewer than two scores, and every prompt while fewer than ``warm_up`` were seen or the usual spread is 0, weighs 1.
    """

    def __init__(self, config: HybridConfig | None = None) -> None:
        self.config = config or HybridConfig()
        self.n_prompts, self.usual = 0, 0.0

    def __call__(self, scores: Tensor, groups: Tensor) -> Tensor:
        """Return the weight of each answer's prompt, (B,), float64, and take the batch into the mean.

        Parameters
        ----------
        scores : Tensor, shape (B,), float
            NaN scores are left out.
        groups : Tensor, shape (B,), int64

        Raises
        ------
        DataError
            An infinite score, or lengths that differ.
        """
        _check(None, scores, groups)
        by_prompt = Groups(groups, ~scores.isnan())
        exact = scores.nan_to_num().double()
        spread, known = by_prompt.std(exact), by_prompt.sizes >= 2
        spread = torch.where(by_prompt.flat(exact), torch.zeros_like(spread), spread)  # rounding is no spread
        weights = torch.ones_like(spread)
        if self.n_prompts >= self.config.warm_up and self.usual > 0:
            low, high = self.config.low_weight, self.config.high_weight
            ours = low + (high - low) * torch.sigmoid(self.config.slope * (spread / self.usual - 1))
            weights = torch.where(known, ours, weights)
        if n := int(known.sum()):
            total = self.n_prompts * self.usual + float(spread[known].sum())
            self.n_prompts += n
            self.usual = total / self.n_prompts
        return weights[by_prompt.index]

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, fit for JSON."""
        return {"n_prompts": self.n_prompts, "usual": self.usual}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.n_prompts, self.usual = int(state["n_prompts"]), float(state["usual"])


class Loudness(NamedTuple):
    """Mean size of an advantage, where the verifier splits a prompt's answers and where it does not; NaN without any."""

    split: float
    alike: float


def loudness(advantages: Tensor, verdicts: Tensor, groups: Tensor) -> Loudness:
    """Return the mean size of advantages of prompts with both verdicts and of prompts with one: the second should be the quieter by far.

    Parameters
    ----------
    advantages, verdicts : Tensor, shape (B,)
        Answers with a NaN verdict are left out.
    groups : Tensor, shape (B,), int64
    """
    judged = Groups(groups, ~verdicts.isnan())
    alike = judged.flat(verdicts.nan_to_num(), tolerance=0.0)[judged.index]
    sizes = advantages.abs().double()
    return Loudness(*[float(sizes[judged.counted & where].mean()) for where in (~alike, alike)])


def _check(verdicts: Tensor | None, scores: Tensor, groups: Tensor) -> None:
    if groups.shape != scores.shape or (verdicts is not None and verdicts.shape != scores.shape):
        found = None if verdicts is None else tuple(verdicts.shape)
        msg = f"verdicts, scores and groups have shapes {found}, {tuple(scores.shape)} and {tuple(groups.shape)}; give one of each an answer"
        raise DataError(msg)
    if verdicts is not None and not bool(((verdicts == 0) | (verdicts == 1) | verdicts.isnan()).all()):
        msg = f"verdicts are 0, 1 or NaN; found {sorted(set(verdicts.tolist()))[:5]}"
        raise DataError(msg)
    if bool(scores.isinf().any()):
        msg = f"{int(scores.isinf().sum())} scores are infinite; a missing score is NaN"
        raise DataError(msg)
