"""What a run's numbers say in plain words at every log step, and whether it has died: no gradient, no room, no variety."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from c2s.engines.rl.groups import Groups

TRUNCATED = 0.15  # share of answers cut off above which training is unstable (Khatri et al., arXiv 2510.13786)
NO_ENTROPY = 1e-3  # nats a token
TREND = 0.1  # relative change of the entropy over the last steps that is worth a word
PATIENCE = 10  # log steps in a row


@dataclass(frozen=True)
class Health:
    """One log step; shares are 0 to 1, nan where the run has no such number.

    Attributes
    ----------
    step : int
    reward, chance : float
        Mean reward of the answers, and what an untrained guess gets.
    all_right, all_wrong, flat : float
        Shares of prompts whose answers were all right, all wrong, and all rewarded alike.
    truncated, interrupted : float
        Shares of answers cut off at the limit, and ended by the cue.
    clipped : float
        Share of tokens whose ratio was clipped or capped.
    entropy : float
        Nats a token.
    grad_norm, loss : float
    length : float
        Tokens of an answer.
    lag : float
        Updates between the weights that began the answers and those trained on them.
    calls, call_success : float
        Calls an episode, and the share of them that were carried out.
    """

    step: int
    reward: float = math.nan
    chance: float = math.nan
    all_right: float = math.nan
    all_wrong: float = math.nan
    flat: float = math.nan
    truncated: float = math.nan
    interrupted: float = math.nan
    clipped: float = math.nan
    entropy: float = math.nan
    grad_norm: float = math.nan
    loss: float = math.nan
    length: float = math.nan
    lag: float = math.nan
    calls: float = math.nan
    call_success: float = math.nan

    def record(self) -> dict[str, Any]:
        """Return the numbers, None for nan: fit for JSON."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def from_logs(step: int, logs: Mapping[str, Any], *, chance: float | None = None) -> Health:
    """Return the health that TRL's log of a step tells."""

    def number(*names: str) -> float:
        return next((float(logs[name]) for name in names if logs.get(name) is not None), math.nan)

    return Health(
        step=step, reward=number("reward"), chance=math.nan if chance is None else chance,
        all_right=number("groups_all_right"), all_wrong=number("groups_all_wrong"), flat=number("flat_groups"),
        truncated=number("cut_off"), interrupted=number("interrupted"),
        clipped=number("cispo_clip_ratio", "clip_ratio/region_mean"), entropy=number("entropy"), grad_norm=number("grad_norm"),
        loss=number("loss"), length=number("completions/mean_length"), lag=number("lag"),
        calls=number("calls"), call_success=number("call_success"),
    )  # fmt: skip


def unanimous(verdicts: Tensor, groups: Tensor) -> tuple[float, float]:
    """Return the shares of prompts whose answers were all right and all wrong, of those with a verdict; nan where none has.

    Parameters
    ----------
    verdicts : Tensor, shape (B,)
        1, 0 or NaN.
    groups : Tensor, shape (B,), int64
    """
    judged = Groups(groups, ~verdicts.isnan())
    known = judged.sizes > 0
    if not bool(known.any()):
        return math.nan, math.nan
    rates = judged.mean(verdicts.nan_to_num())[known]
    return float((rates == 1).double().mean()), float((rates == 0).double().mean())


def sentence(now: Health, history: Sequence[Health] = ()) -> str:
    """Return a step in words; ``history`` holds the steps before it."""
    parts = [f"step {now.step}"]
    reward = f"reward {now.reward:.3f}"
    if not math.isnan(now.chance):
        reward += f" (chance {now.chance:.3f}{', no better' if now.reward <= now.chance else ''})"
    parts.append(reward)
    groups = [
        f"{100 * share:.0f} % {word}"
        for share, word in ((now.all_right, "all right"), (now.all_wrong, "all wrong"), (now.flat, "flat"))
        if not math.isnan(share)
    ]
    if groups:
        parts.append("prompts " + ", ".join(groups))
    for share, word in (
        (now.truncated, "cut off"),
        (now.interrupted, "interrupted"),
        (now.clipped, "of tokens clipped"),
    ):
        if share > 0:
            parts.append(f"{100 * share:.1f} % {word}")
    if not math.isnan(now.entropy):
        parts.append(f"entropy {now.entropy:.2f}{_trend([*history, now])}")
    if now.lag > 0:
        parts.append(f"{now.lag:.1f} updates behind")
    if not math.isnan(now.calls):
        parts.append(f"{now.calls:.1f} calls an episode" + _of_calls(now))
        if now.calls == 0 and any(step.calls > 0 for step in history):
            parts.append("ALARM: no tool is called any more")
    if not math.isfinite(now.loss):
        parts.append("loss is not finite")
    elif now.grad_norm == 0:
        parts.append("no gradient")
    return " | ".join(parts)


def _of_calls(now: Health) -> str:
    return "" if math.isnan(now.call_success) else f", {100 * now.call_success:.0f} % carried out"


def _trend(steps: Sequence[Health]) -> str:
    values = [step.entropy for step in steps[-PATIENCE:] if not math.isnan(step.entropy)]
    if len(values) < 2 or values[0] <= 0:
        return ""
    change = values[-1] / values[0] - 1
    return ", falling" if change < -TREND else ", rising" if change > TREND else ", steady"


def cause_of_death(history: Sequence[Health], *, patience: int = PATIENCE) -> str | None:
    """Return why a run cannot go on, or None while it can.

    A number that is not finite ends it at once; no gradient, too many answers cut off, or no entropy do when the last ``patience``
    log steps agree.
    """
    if not history:
        return None
    now = history[-1]
    if not math.isfinite(now.loss) or not math.isfinite(now.grad_norm):
        return f"at step {now.step} loss is {now.loss} and the gradient's norm {now.grad_norm}: lower learning_rate or max_grad_norm"
    last = history[-patience:]
    if len(last) < patience:
        return None
    over = f"for {patience} log steps up to {now.step}"
    if all(step.grad_norm == 0 for step in last):
        return f"no gradient {over}: {_why_flat(last)}"
    if all(step.truncated > TRUNCATED for step in last):
        return (
            f"more than {100 * TRUNCATED:.0f} % of answers were cut off {over}: raise max_tokens, or choose a recipe that "
            "interrupts or shapes long answers"
        )
    if all(step.entropy < NO_ENTROPY for step in last):
        return f"the policy no longer varies (entropy below {NO_ENTROPY:g} nats) {over}: lower learning_rate, raise clip_high, or set entropy_target"
    return None


def _why_flat(steps: Sequence[Health]) -> str:
    right = sum(step.all_right for step in steps) / len(steps)
    wrong = sum(step.all_wrong for step in steps) / len(steps)
    if right > 0.99:
        return "every answer is right, so these prompts teach nothing more; give harder ones"
    if wrong > 0.99:
        return "no answer is right; start from a model that is sometimes right, or with easier prompts"
    return "the answers to each prompt are all rewarded alike; give a reward that tells them apart, or harder and easier prompts"
