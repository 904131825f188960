"""Rewards of answers to the same prompt become advantages: centred, scaled, flat groups seen to.

Shao et al. (arXiv 2402.03300) divide by the spread within the group, Liu et al. (arXiv 2503.20783) by nothing, Khatri et al.
(arXiv 2510.13786) by the spread of the *centred* rewards of the batch; that of raw rewards, which TRL 1.16 takes for its
``scale_rewards="batch"``, is larger the more the prompts differ, and shrinks the gradient for it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from c2s.engines.rl.groups import Groups
from c2s.errors import ConfigError, DataError

Scale = Literal["group", "batch", "none"]
FlatGroups = Literal["drop", "keep", "hybrid"]

EPSILON = 1e-4  # added to the divisor, as TRL does


class Advantages(NamedTuple):
    """Advantages, and who has any.

    Attributes
    ----------
    values : Tensor, shape (B,), dtype of the rewards
        0 for answers that are not kept, and exactly 0 in flat groups.
    kept : Tensor, shape (B,), bool
        Answers that belong in the loss and in its denominator.
    flat : Tensor, shape (B,), bool
        Answers of groups that say nothing, by what decides it (see :func:`group_advantages`).
    flat_share : float
        Of the groups with a reward, those that are flat; NaN without any.
    """

    values: Tensor
    kept: Tensor
    flat: Tensor
    flat_share: float


def group_advantages(
    rewards: Tensor,
    groups: Tensor,
    *,
    scale: Scale = "group",
    flat_groups: FlatGroups = "keep",
    verdicts: Tensor | None = None,
    counted: Tensor | None = None,
    tolerance: float = 1e-6,
) -> Advantages:
    """Return ``A_i = r_i - mean_g``, divided by ``std + 1e-4``.

    Standard deviations have n - 1 below (TRL's): of the group's rewards, or of all centred rewards that are kept.

    Parameters
    ----------
    rewards : Tensor, shape (B,), float
        NaN: there is no reward, the answer is not kept and has no part in any mean or spread.
    groups : Tensor, shape (B,), int64
        Prompt of each answer.
    scale : {"group", "batch", "none"}
    flat_groups : {"drop", "keep", "hybrid"}
        - ``drop``: answers of flat groups are not kept; what is left is as if they had not been sampled.
        - ``keep``: they are kept with advantage 0, and count in denominators and in the spread of the batch.
        - ``hybrid``: groups whose verdicts are alike are kept if their rewards (which then hold a dense part, see
          :mod:`c2s.engines.rl.hybrid`) differ, and dropped if these are alike too.
    verdicts : Tensor, shape (B,), optional
        Of the verifier, 0 or 1. With them ``drop`` drops groups of one verdict, whatever their rewards; needed for
        ``hybrid``. Without them a group is flat if its rewards are alike.
    counted : Tensor, shape (B,), bool, optional
        Answers to leave out as if they had no reward: those whose tokens are all masked must not vote in the mean.
    tolerance : float
        See :meth:`c2s.engines.rl.groups.Groups.flat`.

    Raises
    ------
    ConfigError
        ``hybrid`` without verdicts, or with the scale of the group: there a group that only the dense reward ranks would be
        as loud as one that the verifier splits.
    DataError
        An infinite reward, or lengths that differ.
    """
    _check(rewards, groups, scale, flat_groups, verdicts)
    known = ~rewards.isnan() if counted is None else ~rewards.isnan() & counted.bool()
    exact = torch.where(known, rewards, torch.zeros_like(rewards)).double()
    by_prompt = Groups(groups, known)
    alike = by_prompt.flat(exact, tolerance=tolerance)
    undecided = alike
    if verdicts is not None:
        judged = Groups(groups, known & ~verdicts.isnan())
        undecided = judged.flat(verdicts.nan_to_num().double(), tolerance=0.0)
    dropped = {"drop": undecided | alike, "keep": torch.zeros_like(alike), "hybrid": alike}[flat_groups]
    kept = known & ~dropped[by_prompt.index]
    centred = exact - by_prompt.mean(exact)[by_prompt.index]
    centred = torch.where(kept & ~alike[by_prompt.index], centred, torch.zeros_like(centred))
    if scale == "group":
        centred = centred / (by_prompt.std(exact, correction=1) + EPSILON)[by_prompt.index]
    elif scale == "batch":
        centred = centred / ((centred**2).sum() / (kept.sum() - 1).clamp(min=1)).sqrt().add(EPSILON)
    seen = by_prompt.sizes > 0
    share = float(undecided[seen].double().mean()) if bool(seen.any()) else float("nan")
    return Advantages(centred.to(rewards.dtype), kept, undecided[by_prompt.index] & known, share)


def _check(rewards: Tensor, groups: Tensor, scale: str, flat_groups: str, verdicts: Tensor | None) -> None:
    if scale not in ("group", "batch", "none") or flat_groups not in ("drop", "keep", "hybrid"):
        msg = f"scale is group, batch or none and flat_groups drop, keep or hybrid; found {scale!r} and {flat_groups!r}"
        raise ConfigError(msg)
    if flat_groups == "hybrid" and verdicts is None:
        msg = (
            "flat_groups='hybrid' needs verdicts: without them every group that has a spread is kept as it is by 'drop'"
        )
        raise ConfigError(msg)
    if flat_groups == "hybrid" and scale == "group":
        msg = (
            "flat_groups='hybrid' with scale='group' makes a group that only the dense reward ranks as loud as one the "
            "verifier splits; use 'batch' or 'none'"
        )
        raise ConfigError(msg)
    for name, other in (("groups", groups), ("verdicts", verdicts)):
        if other is not None and other.shape != rewards.shape:
            msg = (
                f"rewards have shape {tuple(rewards.shape)} and {name} {tuple(other.shape)}; give one of each an answer"
            )
            raise DataError(msg)
    if bool(rewards.isinf().any()):
        msg = f"{int(rewards.isinf().sum())} rewards are infinite; a missing reward is NaN, a bad one a finite number"
        raise DataError(msg)
