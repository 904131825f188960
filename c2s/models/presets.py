"""Sizes of models trained from scratch, as standard transformers decoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from c2s.errors import ConfigError

if TYPE_CHECKING:
    from transformers import LlamaConfig

PRESETS: dict[str, dict[str, int]] = {
    "c2s-micro": {
        "hidden_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "intermediate_size": 224,
    },
    "c2s-mini": {
        "hidden_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "intermediate_size": 448,
    },
    "c2s-midi": {
        "hidden_size": 320,
        "num_hidden_layers": 4,
        "num_attention_heads": 10,
        "num_key_value_heads": 2,
        "intermediate_size": 768,
    },
    "c2s-small": {
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "intermediate_size": 1376,
    },
    "c2s-deep": {
        "hidden_size": 192,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "intermediate_size": 448,
    },
}


def preset_config(name: str, *, n_tokens: int, pad: int, end: int, max_length: int = 4096) -> LlamaConfig:
    """Return the Llama configuration of a preset.

    ``c2s-mini`` has about 1 M parameters without embeddings and trains on two cores in minutes; ``c2s-micro`` about
    0.2 M, ``c2s-midi`` 4 M, and ``c2s-small`` 25 M (8 layers of width 512). ``c2s-deep``, 4 M in
    12 layers of width 192, has layers to spare (:mod:`c2s.engines.layer_routing`). Input and output embeddings are tied.
    """
    from transformers import LlamaConfig

    if name not in PRESETS:
        msg = f"no preset {name!r}; there are {', '.join(PRESETS)}. A folder with a trained model can be given instead"
        raise ConfigError(msg)
    return LlamaConfig(
        vocab_size=n_tokens,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        pad_token_id=pad,
        eos_token_id=end,
        bos_token_id=None,
        **PRESETS[name],
    )
