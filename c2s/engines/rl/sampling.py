"""Answers of a policy with the log-probability of each token, under a constraint, and ended at a budget.

What the sampler masks, the loss masks as well (:func:`constrained_log_probs`): a constraint is part of the policy, and its
probabilities are those of the masked, renormalised model. Tokens that the engine writes itself (the cue that ends an
answer at its budget) have log-probability 0 and are marked, so that they carry no loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2s.errors import ConfigError, ModelError


class PolicyConstraint(Protocol):
    """What may be sampled: :class:`c2s.engines.constraint.Constraint`, or anything of its kind."""

    def step(self, prefix: Tensor) -> Tensor:
        """Return which tokens may follow ``prefix``, (B, T) → (B, V) bool."""
        ...

    def sequence(self, ids: Tensor) -> Tensor:
        """Return which tokens were allowed at every place, (B, T) → (B, T, V) bool."""
        ...


class Diverged(ModelError):
    """The model's logits are not numbers: nothing can be drawn."""


class Interruption(NamedTuple):
    """How an answer that goes on too long is ended.

    Attributes
    ----------
    low, high : int
        The budget in tokens is drawn evenly between them, both included, for each answer.
    cue : tuple of int
        Tokens that are written behind it; they carry no loss.
    then : int
        Tokens that the model may write behind the cue; 0 where the cue ends the answer.
    """

    low: int
    high: int
    cue: tuple[int, ...]
    then: int = 0

    def check(self, max_tokens: int) -> None:
        """Raise a ConfigError where an answer of ``max_tokens`` has no room for budget, cue and what follows."""
        low, high, cue, then = self
        if not 0 < low <= high or not cue or high + len(cue) + then > max_tokens:
            msg = (
                f"an answer of {max_tokens} tokens holds no budget of {low} to {high}, a cue of {len(cue)} and {then} behind it; "
                "raise max_tokens or lower the budget"
            )
            raise ConfigError(msg)


class Answers(NamedTuple):
    """What was written: one list an answer, the end included.

    Attributes
    ----------
    ids : list of list of int
    log_probs : list of list of float
        Of the policy that wrote them, at its temperature; 0 for tokens of the cue.
    own : list of list of int
        1 for tokens of the policy, 0 for those of the cue.
    interrupted : list of bool
    cut : list of bool
        The limit was reached before the answer had ended.
    """

    ids: list[list[int]]
    log_probs: list[list[float]]
    own: list[list[int]]
    interrupted: list[bool]
    cut: list[bool]


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    ends: Sequence[int],
    pad: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    constraint: PolicyConstraint | None = None,
    interruption: Interruption | None = None,
    before_token: Callable[[], None] | None = None,
    limits: Sequence[int] | None = None,
) -> Answers:
    """Draw one answer to each prompt.

    Parameters
    ----------
    model : PreTrainedModel
        Causal; in whatever mode it is (a policy with dropout samples with dropout).
    prompts : sequence of token ids, each at least one
        Padded on the left with ``pad``.
    max_tokens : int
        No answer is longer, cue and end included.
    ends : sequence of int
        Tokens that end an answer.
    generator : torch.Generator
        On the CPU: the same draws on every device.
    temperature : float
        Above 0.
    before_token : callable, optional
        Called before each token is drawn; it may change the model's weights, and keys of earlier tokens stay as they are.
    limits : sequence of int, optional
        Most tokens of each answer, 1 to ``max_tokens``.

    Raises
    ------
    ConfigError
        No room for the cue, or a temperature that is no positive number.
    ModelError
        The model's logits are not numbers.
    """
    if not 0 < temperature < float("inf"):
        msg = f"temperature is {temperature}; a policy is sampled at a number above 0"
        raise ConfigError(msg)
    n, device = len(prompts), model.device
    budgets = _budgets(n, max_tokens, interruption, generator).to(device)
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts], device=device)
    seen = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    ending = torch.tensor(list(ends), device=device)
    written = ids.new_zeros(n, 0)
    log_probs, own = [], []
    left_of_cue = torch.zeros(n, dtype=torch.long, device=device)  # tokens of the cue that are still to be written
    begun = torch.zeros(n, dtype=torch.bool, device=device)  # the cue was reached
    cue = torch.tensor(interruption.cue if interruption else [pad], device=device)
    done = torch.zeros(n, dtype=torch.bool, device=device)
    limit = torch.tensor(limits, device=device) if limits else torch.full((n,), max_tokens, device=device)
    cache: Any = None
    new = ids
    for place in range(max_tokens):
        if before_token is not None:
            before_token()
        out = model(
            input_ids=new, attention_mask=seen, position_ids=(seen.cumsum(1) - 1).clamp(min=0)[:, -new.shape[1] :],
            past_key_values=cache, use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        cache = out.past_key_values
        scores = _log_softmax(out.logits[:, -1], temperature, constraint.step(written) if constraint else None)
        chosen = _drawn(scores, torch.rand(n, 1, generator=generator, dtype=torch.float64).to(device))
        if interruption:
            starts = (place == budgets) & ~done & ~begun
            begun, left_of_cue = begun | starts, torch.where(starts, len(cue), left_of_cue)
            limit = torch.where(starts, place + len(cue) + interruption.then, limit)
        injected = (left_of_cue > 0) & ~done
        chosen = torch.where(injected, cue[(len(cue) - left_of_cue).clamp(0, len(cue) - 1)], chosen)
        chosen = torch.where(done, pad, chosen)
        left_of_cue = (left_of_cue - 1).clamp(min=0)
        value = scores.gather(1, chosen[:, None])[:, 0]
        log_probs.append(torch.where(injected | done, 0.0, value))
        own.append(torch.where(done, -1, (~injected).long()))  # -1: behind the end
        written = torch.cat([written, chosen[:, None]], 1)
        done = done | (torch.isin(chosen, ending) & (left_of_cue == 0)) | (place + 1 >= limit)
        if bool(done.all()):
            break
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)
        new = chosen[:, None]
    kinds = torch.stack(own, 1).tolist()
    values = torch.stack(log_probs, 1).tolist()
    lengths = [sum(kind >= 0 for kind in row) for row in kinds]
    texts = [row[:k] for row, k in zip(written.tolist(), lengths, strict=True)]
    cued = begun.tolist()
    return Answers(
        texts,
        [row[:k] for row, k in zip(values, lengths, strict=True)],
        [row[:k] for row, k in zip(kinds, lengths, strict=True)],
        cued,
        [not by_cue and row[-1] not in ends for row, by_cue in zip(texts, cued, strict=True)],
    )


def _drawn(scores: Tensor, uniform: Tensor) -> Tensor:
    """Return the token whose stretch of the cumulated probabilities holds ``uniform``, (B, V) and (B, 1) → (B,)."""
    cumulated = scores.double().exp().cumsum(-1)
    if not bool(cumulated[:, -1].isfinite().all()):
        msg = "the model's logits are not numbers: training diverged, or the weights were broken to begin with"
        raise Diverged(msg)
    return (cumulated > uniform * cumulated[:, -1:]).int().argmax(-1)


def constrained_log_probs(
    logits: Tensor, ids: Tensor, constraint: PolicyConstraint | None, *, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return log-probability of each token of ``ids`` and entropy at its place, both (B, T), float32, of the masked policy.

    A token that the constraint did not allow (one of a cue) has log-probability 0 and no gradient.

    Parameters
    ----------
    logits : Tensor, shape (B, T, V)
        What the model said before each token.
    ids : Tensor, shape (B, T), int64
    """
    allowed = constraint.sequence(ids).to(logits.device) if constraint else None
    scores = _log_softmax(logits, temperature, allowed)
    chosen = scores.gather(-1, ids[..., None])[..., 0]
    entropy = -(scores.exp() * scores.masked_fill(scores == -torch.inf, 0.0)).sum(-1)
    return chosen.masked_fill(chosen == -torch.inf, 0.0), entropy


def _log_softmax(logits: Tensor, temperature: float, allowed: Tensor | None) -> Tensor:
    logits = (logits.double() if logits.dtype == torch.float64 else logits.float()) / temperature
    if allowed is not None:
        allowed = allowed[..., : logits.shape[-1]]
        logits = logits.masked_fill(~allowed, -torch.inf)
    return torch.log_softmax(logits, -1)


def _budgets(n: int, max_tokens: int, interruption: Interruption | None, generator: torch.Generator) -> Tensor:
    if interruption is None:
        return torch.full((n,), max_tokens)
    interruption.check(max_tokens)
    return torch.randint(interruption.low, interruption.high + 1, (n,), generator=generator)
