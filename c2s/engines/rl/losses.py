"""Policy losses in full: what the adapter makes TRL compute, written so that it can be checked term by term.

PPO's clipped ratio (with its upper end higher: DAPO, arXiv 2503.14476), CISPO (arXiv 2506.13585), the ratio of whole answers
(GSPO, arXiv 2507.18071); averaged over tokens (DAPO), answers (GRPO, arXiv 2402.03300) or prompts (ScaleRL, arXiv 2510.13786).
A token whose mask is 0 is in no term: what stands there may be infinite or NaN, and its gradient is 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from c2s.engines.rl.groups import Groups
from c2s.errors import ConfigError, DataError

Loss = Literal["clip", "cispo", "gspo"]
Average = Literal["token", "sequence", "prompt"]

LOG_RATIO_CAP = 20.0  # a ratio of 5e8; exp overflows float32 at 88, and 0 * inf of a masked token is NaN


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    groups: Tensor,
    *,
    loss: Loss = "clip",
    average: Average = "sequence",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    ratio_cap: float | None = None,
) -> Tensor:
    """Return the loss of a batch, a scalar; 0 with a gradient of 0 where every token is masked.

    With the ratio ``rho = exp(log_prob - old_log_prob)`` of a token and A of its answer, a token costs

    - ``clip``: ``-min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)``,
    - ``cispo``: ``-sg(min(rho, ratio_cap)) A log_prob``, where sg passes no gradient,
    - ``gspo``: as ``clip``, with the geometric mean of the answer's ratios in place of rho.

    Parameters
    ----------
    log_probs, old_log_probs : Tensor, shape (B, T), nats
        Of the policy and of the one that sampled. Computed in float32 at least.
    advantages : Tensor, shape (B,)
    mask : Tensor, shape (B, T)
        1 where a token was sampled by the policy and carries loss. An answer that is dropped is all 0.
    groups : Tensor, shape (B,), int64
        Prompt of each answer.
    average : {"token", "sequence", "prompt"}
        See :func:`average_tokens`.

    Raises
    ------
    ConfigError
        ``cispo`` without ``ratio_cap`` (its absolute bound on the ratio, about 5), ``ratio_cap`` elsewhere, or ``gspo``
        averaged over anything but answers.
    DataError
        Shapes that do not fit.
    """
    _check(log_probs, old_log_probs, advantages, mask, groups, loss, average, ratio_cap)
    active = mask.bool()
    gain = advantages[:, None].to(torch.promote_types(log_probs.dtype, torch.float32))
    difference = log_ratio(log_probs, old_log_probs, active)
    if loss == "cispo":
        ratio = difference.detach().exp().clamp(max=ratio_cap)
        surrogate = ratio * gain * torch.where(active, log_probs, torch.zeros_like(log_probs)).to(gain.dtype)
    else:
        if loss == "gspo":
            # capped by the token first: the mean of capped differences is capped
            difference = difference.sum(1, keepdim=True) / active.sum(1, keepdim=True).clamp(min=1)
        ratio = difference.exp()
        surrogate = torch.minimum(ratio * gain, ratio.clamp(1 - clip_low, 1 + clip_high) * gain)
    return average_tokens(-surrogate.expand_as(active), active, groups, average=average)


def log_ratio(log_probs: Tensor, old_log_probs: Tensor, mask: Tensor) -> Tensor:
    """Return ``log_prob - old_log_prob`` between ±20, (B, T), float32 at least; 0 where the mask is 0."""
    dtype = torch.promote_types(log_probs.dtype, torch.float32)
    zero = torch.zeros((), dtype=dtype, device=log_probs.device)
    new, old = (torch.where(mask.bool(), x.to(dtype), zero) for x in (log_probs, old_log_probs))
    return (new - old).clamp(-LOG_RATIO_CAP, LOG_RATIO_CAP)


def average_tokens(values: Tensor, mask: Tensor, groups: Tensor, *, average: Average) -> Tensor:
    """Return the average of ``values`` (B, T) where ``mask`` (B, T) is 1; 0 if it is nowhere.

    - ``token``: over all tokens of the batch,
    - ``sequence``: over the means of the answers,
    - ``prompt``: over the means of the prompts, each over all its tokens.

    Answers and prompts without a token are not counted.
    """
    active = mask.bool()
    lengths = active.sum(1)
    weights = _shares(lengths, groups, average).to(values.dtype)
    return (torch.where(active, values, torch.zeros_like(values)).sum(1) * weights).sum()


def advantage_factor(lengths: Tensor, groups: Tensor, *, average: Average = "prompt") -> Tensor:
    """Return by what to multiply advantages so that a loss divided by the tokens of the batch is the average asked for.

    ``N / (P * T_p)`` for prompts, ``N / (S * T_i)`` for answers, 1 for tokens, where N counts the active tokens of the batch,
    P its prompts and S its answers with any, T_p those of the answer's prompt, T_i its own. The factor is positive, so it
    passes through ``min`` and ``clip``: the identity is exact for ``clip``, ``cispo`` and ``gspo``. It does not reach terms
    without an advantage, such as a divergence from a reference.

    Parameters
    ----------
    lengths : Tensor, shape (B,), int64
        Active tokens of each answer, of the whole batch that the loss is divided over (gathered from all processes).
    groups : Tensor, shape (B,), int64
        Prompt of each answer.

    Returns
    -------
    Tensor, shape (B,), float64
        1 for answers without an active token, which have no loss.
    """
    factor = _shares(lengths, groups, average) * lengths.sum()
    return torch.where(lengths > 0, factor, torch.ones_like(factor))


def _shares(lengths: Tensor, groups: Tensor, average: Average) -> Tensor:
    """Return the weight of one token of each answer, (B,), float64; 0 for answers without any."""
    some = lengths > 0
    if average == "token":
        weights = torch.ones_like(lengths, dtype=torch.float64) / lengths.sum().clamp(min=1)
    elif average == "sequence":
        weights = 1 / (lengths.clamp(min=1).double() * some.sum().clamp(min=1))
    elif average == "prompt":
        by_prompt = Groups(groups)
        tokens = by_prompt.sum(lengths.double())
        weights = 1 / (tokens.clamp(min=1) * (tokens > 0).sum().clamp(min=1))[by_prompt.index]
    else:
        msg = f"average is token, sequence or prompt, not {average!r}"
        raise ConfigError(msg)
    return torch.where(some, weights, torch.zeros_like(weights))


def _check(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    groups: Tensor,
    loss: str,
    average: str,
    ratio_cap: float | None,
) -> None:
    if loss not in ("clip", "cispo", "gspo"):
        msg = f"loss is clip, cispo or gspo, not {loss!r}"
        raise ConfigError(msg)
    if (loss == "cispo") != (ratio_cap is not None):
        msg = f"loss={loss!r} with ratio_cap={ratio_cap}: cispo needs the absolute bound on its ratio (about 5), no other loss reads it"
        raise ConfigError(msg)
    if ratio_cap is not None and not 1 <= ratio_cap < float("inf"):
        msg = f"ratio_cap is {ratio_cap}; it bounds the ratio itself, which is 1 on policy: give a number of at least 1, about 5"
        raise ConfigError(msg)
    if loss == "gspo" and average != "sequence":
        msg = f"loss='gspo' has one ratio an answer, so average must be 'sequence', not {average!r}"
        raise ConfigError(msg)
    rows, shape = (len(log_probs),), log_probs.shape
    if log_probs.dim() != 2 or old_log_probs.shape != shape or mask.shape != shape:
        found = [tuple(x.shape) for x in (log_probs, old_log_probs, mask)]
        msg = f"log-probabilities, old ones and mask have shapes {found}; all are (answers, tokens)"
        raise DataError(msg)
    if advantages.shape != rows or groups.shape != rows:
        msg = f"advantages have shape {tuple(advantages.shape)} and groups {tuple(groups.shape)}; there are {rows[0]} answers"
        raise DataError(msg)
