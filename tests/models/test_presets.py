"""The sizes the presets promise, counted on the meta device."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from c2s.errors import ConfigError
from c2s.models.presets import PRESETS, preset_config


@pytest.mark.parametrize(
    ("name", "millions", "layers", "width"),
    [("c2s-mini", 1.0, 3, 192), ("c2s-small", 25.0, 8, 512), ("c2s-deep", 4.0, 12, 192)],
)
def test_parameters_without_embeddings(name, millions, layers, width):
    config = preset_config(name, n_tokens=1234, pad=0, end=12)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    embeddings = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is embeddings  # tied
    assert embeddings.shape == (1234, width)
    n = sum(p.numel() for p in model.parameters()) - embeddings.numel()
    assert n / 1e6 == pytest.approx(millions, rel=0.1)
    assert (config.num_hidden_layers, config.hidden_size) == (layers, width)
    assert (config.vocab_size, config.pad_token_id, config.eos_token_id, config.bos_token_id) == (1234, 0, 12, None)
    assert config.hidden_size % config.num_attention_heads == 0
    assert config.num_attention_heads % config.num_key_value_heads == 0


def test_length_is_a_setting():
    assert preset_config("c2s-mini", n_tokens=10, pad=0, end=1).max_position_embeddings == 4096
    assert preset_config("c2s-mini", n_tokens=10, pad=0, end=1, max_length=99).max_position_embeddings == 99


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match=f"no preset 'c2s-huge'; there are {', '.join(PRESETS)}. A folder with"):
        preset_config("c2s-huge", n_tokens=10, pad=0, end=1)
