"""Recipes of reinforcement learning: each component a field of its own, so that it can be left out; presets by name.

``grpo`` is Shao et al. (arXiv 2402.03300); ``grpo_tcr`` Yu et al. (arXiv 2510.11701: token-level loss, clip-higher, overlong
reward shaping, no KL); ``scalerl`` Khatri et al. (arXiv 2510.13786); ``dapo`` and ``gspo`` the losses of arXiv 2503.14476 and
2507.18071. A recipe says what is optimised; how long, on what and how often is :class:`c2s.engines.rl.settings.RunSettings`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Self

from pydantic import Field, model_validator

from c2s.config import Config
from c2s.engines.rl.advantages import FlatGroups, Scale
from c2s.engines.rl.losses import Average, Loss
from c2s.errors import ConfigError


class Recipe(Config):
    """What is optimised.

    Attributes
    ----------
    loss : {"clip", "cispo", "gspo"}
        PPO's clipped ratio of each token; the truncated ratio times log-probability of each token; the clipped ratio of a
        sequence.
    average : {"token", "sequence", "prompt"}
        Over all tokens; over the mean of each answer; over the mean of each prompt's tokens.
    clip_low, clip_high : float
        Ratios of ``clip`` and ``gspo`` count between 1 - clip_low and 1 + clip_high.
    ratio_cap : float or None
        Of ``cispo``: the greatest ratio, absolute, about 5.
    advantage_scale : {"group", "batch", "none"}
        What centred rewards are divided by: the standard deviation within the prompt's group, that of all centred rewards
        of the batch, or nothing.
    flat_groups : {"drop", "keep", "hybrid"}
        Of groups whose rewards are all alike: they leave the loss, they stay in its denominator, or a dense reward tells
        their answers apart (HERO).
    kl : float
        Weight of the divergence from the model that training started from, averaged over tokens whatever ``average`` says;
        0 keeps none in memory.
    fp32_logits : bool
        The output layer runs in float32.
    overlong : int
        The last so many tokens before the limit cost up to one point of reward; 0 costs nothing.
    interrupt : bool
        An answer that reaches its budget is ended by the run's cue, which carries no loss.
    entropy_target : float or None
        An adaptive bonus keeps the entropy of a token, in nats, from falling below it.
    drop_mastered : float or None
        No-Positive-Resampling: a prompt answered right at least as often over the run is not asked again.
    staleness : int or None
        k of PipelineRL-k: answers are written ahead, by weights at most so many updates older than those they train
        (:mod:`c2s.engines.rl.pipeline`). None writes and trains in turn; 0 gives the same answers by the thread of the pipeline.
    """

    loss: Loss = "clip"
    average: Average = "sequence"
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.2, gt=0)
    ratio_cap: float | None = Field(None, gt=1)
    advantage_scale: Scale = "group"
    flat_groups: FlatGroups = "keep"
    kl: float = Field(0.0, ge=0)
    fp32_logits: bool = False
    overlong: int = Field(0, ge=0)
    interrupt: bool = False
    entropy_target: float | None = Field(None, gt=0)
    drop_mastered: float | None = Field(None, gt=0, le=1)
    staleness: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.loss == "cispo" and self.ratio_cap is None:
            msg = "loss='cispo' needs ratio_cap, the greatest ratio (absolute, about 5): without it TRL weights every token by 0.2 at most"
            raise ValueError(msg)
        if self.loss != "cispo" and self.ratio_cap is not None:
            msg = f"ratio_cap is read by loss='cispo' only, not by {self.loss!r}; leave it out, or set clip_high"
            raise ValueError(msg)
        if self.loss == "gspo" and self.average != "sequence":
            msg = f"loss='gspo' has one ratio an answer, so average must be 'sequence', not {self.average!r}"
            raise ValueError(msg)
        if self.flat_groups == "hybrid" and self.advantage_scale == "group":
            msg = (
                "flat_groups='hybrid' with advantage_scale='group' makes a group that only the dense reward ranks as loud as "
                "one the verifier splits; use 'batch' or 'none'"
            )
            raise ValueError(msg)
        if self.flat_groups == "hybrid" and self.overlong:
            msg = "overlong with flat_groups='hybrid' can put a long right answer below a wrong one; choose one, or interrupt"
            raise ValueError(msg)
        if self.interrupt and self.overlong:
            msg = "interrupt and overlong both deal with answers that are too long; choose one"
            raise ValueError(msg)
        return self


PRESETS: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "grpo": {"kl": 0.04},
        "dapo": {"average": "token", "clip_high": 0.28, "flat_groups": "drop"},
        "gspo": {"loss": "gspo", "clip_low": 3e-4, "clip_high": 4e-4},
        "grpo_tcr": {"average": "token", "clip_high": 0.28, "overlong": 8},
        "scalerl": {
            "loss": "cispo", "ratio_cap": 5.0, "average": "prompt", "advantage_scale": "batch", "flat_groups": "drop",
            "fp32_logits": True, "interrupt": True, "drop_mastered": 0.9, "staleness": 8,
        },
    }
)  # fmt: skip


def recipe(name: str, **changes: Any) -> Recipe:
    """Return a preset with ``changes``.

    Raises
    ------
    ConfigError
        There is no such preset, or the changes contradict it.
    """
    if name not in PRESETS:
        msg = f"no recipe {name!r}; there are {', '.join(PRESETS)}"
        raise ConfigError(msg)
    return Recipe(**{**PRESETS[name], **changes})


def without(name: str) -> dict[str, Recipe]:
    """Return a preset less one component at a time, by the component's name: each falls back to plain GRPO without KL.

    A fallback that would contradict the rest takes what it needs with it: without ``loss`` there is no ``ratio_cap``.
    """
    plain, chosen = Recipe(), recipe(name)
    found: dict[str, Recipe] = {}
    for field in PRESETS[name]:
        if field == "ratio_cap" or (chosen.loss == "gspo" and field in ("clip_low", "clip_high")):
            continue  # part of the loss
        changes = {field: getattr(plain, field)}
        if field == "loss":
            changes["ratio_cap"] = None
            if chosen.loss == "gspo":  # whose bounds are of whole sequences
                changes |= {"clip_low": plain.clip_low, "clip_high": plain.clip_high}
        found[field] = chosen.with_(**changes)
    return found
