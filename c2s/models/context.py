"""The longest sequence that a model was made for: beyond it some models fail, others answer wrongly and say nothing."""

from __future__ import annotations

import functools
import logging

from transformers import PretrainedConfig

from c2s.errors import ConfigError

logger = logging.getLogger(__name__)

_BY_LENGTH = ("dynamic", "longrope")  # rotary positions whose angles change for all tokens once a sequence is long


def check_context(config: PretrainedConfig, n_tokens: int) -> None:
    """Hold a sequence of ``n_tokens``, prompt and answer, against the model's context.

    Refused is what the model cannot compute: places beyond learned positions (GPT-2), and rotary positions that depend on the
    length of the sequence (``dynamic``, ``longrope``) beyond the length where they begin to change, because stored keys
    would be turned otherwise than new ones. Other rotary models run on and are warned of, once: a checkpoint may have been
    trained on longer sequences than its configuration says. Models without ``max_position_embeddings`` have no limit.

    Raises
    ------
    ConfigError
        It does not fit.
    """
    limit = getattr(config, "max_position_embeddings", None)
    rotary = getattr(config, "rope_parameters", None) or {}
    kinds = [kind for kind in (rotary, *rotary.values()) if isinstance(kind, dict) and "rope_type" in kind]
    changing = [kind for kind in kinds if kind["rope_type"] in _BY_LENGTH]
    for kind in changing:
        limit = min(limit or n_tokens, kind.get("original_max_position_embeddings") or limit or n_tokens)
    if limit is None or n_tokens <= limit:
        return
    if kinds and not changing:
        _warn(limit)
        return
    msg = f"prompt and answer take {n_tokens} tokens and this model's context holds {limit}; ask for fewer genes or a shorter answer"
    raise ConfigError(msg)


@functools.cache
def _warn(limit: int) -> None:
    logger.warning(
        "prompt and answer can be longer than the %d tokens this model says it was trained on; what it makes of the rest is not known",
        limit,
    )
