"""The longest sequence that a model was made for: beyond it some models fail, others answer wrongly and say nothing."""

from __future__ import annotations

from transformers import PretrainedConfig

from c2s.errors import ConfigError


def check_context(config: PretrainedConfig, n_tokens: int) -> None:
    """Refuse a sequence of ``n_tokens``, prompt and answer, that is longer than the model's context.

    The limit is ``max_position_embeddings``, which is what transformers calls a model's context; models without one (ALiBi)
    have no limit here.

    Raises
    ------
    ConfigError
        It does not fit.
    """
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None and n_tokens > limit:
        msg = f"prompt and answer take {n_tokens} tokens and this model's context holds {limit}; ask for fewer genes (n_genes=) or fewer samples"
        raise ConfigError(msg)
