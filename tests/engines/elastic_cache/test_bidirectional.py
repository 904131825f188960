"""Every family sees both ways once told; models that cannot are refused with the reason."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from c2s.engines.elastic_cache.bidirectional import check_decoder, make_bidirectional, sees_both_ways
from c2s.errors import ModelError
from tests.engines.elastic_cache.families import FAMILIES, causal


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_of_the_last_token_reaches_the_first_place(family):
    model = causal(family)
    model.train()
    assert not sees_both_ways(model)
    assert make_bidirectional(model) is model
    assert sees_both_ways(model)
    assert model.training
    ids = torch.tensor([[5, 6, 7, 8]])
    other = ids.clone()
    other[0, -1] = 9
    model.eval()
    with torch.no_grad():
        assert (model(ids).logits[0, 0] - model(other).logits[0, 0]).abs().max() > 1e-5


def test_windows_become_symmetric():
    """A place of Gemma 2's sliding layers sees as far to the right as to the left, and no farther."""
    model = make_bidirectional(causal("gemma2", num_hidden_layers=1))
    assert model.config.layer_types == ["sliding_attention"]
    ids = torch.arange(2, 22)[None]
    with torch.no_grad():
        base = model(ids).logits[0, 10]
        moved = []
        for place in range(20):
            other = ids.clone()
            other[0, place] = 30
            moved.append(bool((model(other).logits[0, 10] - base).abs().max() > 1e-6))
    assert moved == [abs(place - 10) <= 6 for place in range(20)]


def pretended(**config):
    """Return a model with these fields in its configuration and two attention layers."""
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity())
    for index, layer in enumerate(model):
        layer.is_causal, layer.layer_idx = True, index
    model.config = SimpleNamespace(num_hidden_layers=2, **config)
    return model


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"is_encoder_decoder": True}, "Sequential has an encoder and a decoder"),
        ({"block_size": 4}, r"causal from block to block \(block_size=4\)"),
        ({"model_type": "llada2_moe"}, r"causal from block to block \(model_type='llada2_moe'\)"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "has layers of type linear_attention"),
        ({"layers_block_type": ["mamba", "attention"]}, "has layers of type attention, mamba"),
        ({"num_kv_shared_layers": 1}, "shares keys and values between layers"),
        ({"cache_implementation": "static"}, "is set to a static cache"),
    ],
)
def test_refusals(config, reason):
    with pytest.raises(ModelError, match=reason):
        check_decoder(pretended(**config))


def test_layers_that_do_not_attend_are_counted():
    model = pretended()
    model.config.num_hidden_layers = 3
    with pytest.raises(ModelError, match="2 attention layers of 3"):
        check_decoder(model)


def test_a_real_hybrid_is_refused():
    from transformers import Qwen3NextConfig, T5Config, T5ForConditionalGeneration

    t5 = T5ForConditionalGeneration(T5Config(d_model=8, d_ff=8, num_layers=1, num_heads=2, d_kv=4, vocab_size=10))
    with pytest.raises(ModelError, match="has an encoder and a decoder"):
        make_bidirectional(t5)
    model = pretended(layer_types=Qwen3NextConfig(num_hidden_layers=4).layer_types)
    with pytest.raises(ModelError, match="linear_attention"):
        check_decoder(model)


class Deaf(torch.nn.Module):
    """A decoder that stays causal whatever its configuration says."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(10, 10)
        self.attention = torch.nn.Identity()
        self.attention.is_causal, self.attention.layer_idx = True, 0
        self.config = SimpleNamespace(num_hidden_layers=1)

    def forward(self, ids):
        return SimpleNamespace(logits=self.table(ids).cumsum(1))


def test_a_model_that_does_not_listen_is_refused_and_left_as_it_was():
    model = Deaf()
    with pytest.raises(ModelError, match="Deaf stays causal with config.is_causal=False"):
        make_bidirectional(model)
    assert model.attention.is_causal
    assert not hasattr(model.config, "is_causal")
