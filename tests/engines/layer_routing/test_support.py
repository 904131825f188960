"""Decoders that cannot be routed are refused, each with its reason."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from c2s.engines.layer_routing.support import decoder_of
from c2s.errors import ModelError
from tests.engines.layer_routing import toy


@pytest.mark.parametrize("family", [*toy.FAMILIES, "qwen2"])
def test_layers_are_found_with_and_without_head(family):
    model = toy.shared(family)
    for each in (model, model.base_model):
        found = decoder_of(each)
        assert found.n_layers == toy.N_LAYERS and found.hidden_size == 32
        assert found.cache_name == ("layer_past" if family == "gpt_neox" else "past_key_values")


@pytest.mark.parametrize("family", toy.FAMILIES)
def test_the_head_is_the_models_own(family):
    model, inputs = toy.shared(family), toy.prompts((6, 6))
    last = {}
    handle = model.base_model.layers[-1].register_forward_hook(lambda _, __, left: last.update(left=left))
    with torch.no_grad():
        logits = model(**inputs).logits
        handle.remove()
        assert torch.equal(decoder_of(model).head(last["left"]), logits)


def _causal(kind, **more):
    small = {
        "vocab_size": 20,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **small, **more))


def _checkpointed():
    model = toy.model()
    model.gradient_checkpointing_enable()
    return model


def _sharing():
    model = toy.model()
    model.config.num_kv_shared_layers = 2
    return model


def _compiled():
    wrapper = torch.nn.Module()  # as torch.compile wraps it
    wrapper._orig_mod = toy.shared()
    return wrapper


def _encoder_decoder():
    config = AutoConfig.for_model("t5", vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    return AutoModelForSeq2SeqLM.from_config(config)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: torch.nn.Linear(2, 2), "layers of a Linear cannot be routed"),
        (_checkpointed, "gradient checkpointing is on"),
        (_sharing, "share keys and values"),
        (_encoder_decoder, "it has an encoder"),
        (lambda: _causal("mixtral", num_key_value_heads=2, num_local_experts=2), "mixture of experts"),
        (lambda: _causal("qwen3_next", num_key_value_heads=2, layer_types=["linear_attention", "full_attention"]), "linear_attention"),
        (lambda: AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", n_embd=8, n_layer=1, n_head=2)), "its family is not one"),
        (_compiled, "the model is compiled"),
    ],
)  # fmt: skip
def test_what_cannot_be_routed_says_why(build, reason):
    with torch.random.fork_rng(), pytest.raises(ModelError, match=reason):
        decoder_of(build())
