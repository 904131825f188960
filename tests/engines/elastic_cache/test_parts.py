"""A model taken apart computes what it did, on any rows, and is left as it was."""

from __future__ import annotations

import pytest
import torch

from c2s.engines.elastic_cache.attention import Whole
from c2s.engines.elastic_cache.bidirectional import make_bidirectional
from c2s.engines.elastic_cache.parts import DecoderParts
from c2s.engines.elastic_cache.shadow import shadow
from c2s.errors import ModelError
from tests.engines.elastic_cache.families import FAMILIES, MASK, N_TOKENS, causal, model_of, parts_of


@pytest.mark.parametrize("family", [*FAMILIES, "llada"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_layer_by_layer_equals_the_forward_pass(family, dtype, tolerance):
    parts, ids = parts_of(family, dtype), torch.randint(0, N_TOKENS, (23,), generator=torch.Generator().manual_seed(1))
    rows = torch.arange(23)
    with torch.no_grad():
        told, hidden = parts.places(31).at(rows), parts.embed(ids)[None]
        for layer in range(parts.n_layers):
            hidden = parts.layer(layer, hidden, told, Whole(23, parts.device))
        ours = parts.head(parts.norm(hidden[0]))
        theirs = model_of(family, dtype)(ids[None]).logits[0]
        if family == "gemma2":  # whose own softmax is in float32 always
            tolerance = 1e-5
        assert (ours - theirs).abs().max() <= tolerance * (1 + theirs.abs().max())
        some = torch.tensor([3, 30, 7])
        torch.testing.assert_close(parts.head.of(some)(parts.norm(hidden[0])), ours[:, some])
        torch.testing.assert_close(parts.plain(ids, torch.tensor([4, 9])), theirs[[4, 9]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["Gemma", "Granite", "Cohere"])
def test_families_that_multiply_embeddings_or_logits_fit(name):
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
             "intermediate_size": 16, "vocab_size": N_TOKENS, "pad_token_id": 0, "initializer_range": 0.2}  # fmt: skip
    more = {"Granite": {"embedding_multiplier": 3.0, "logits_scaling": 4.0}, "Cohere": {"logit_scale": 0.25}}.get(
        name, {}
    )
    config = getattr(transformers, f"{name}Config")(**sizes, **more)
    model = make_bidirectional(getattr(transformers, f"{name}ForCausalLM")(config).eval())
    parts, ids = DecoderParts.of(model, mask_id=MASK), torch.arange(9)
    with torch.no_grad():
        hidden, told = parts.embed(ids)[None], parts.places(9).at(ids)
        for layer in range(2):
            hidden = parts.layer(layer, hidden, told, Whole(9, parts.device))
        torch.testing.assert_close(parts.head(parts.norm(hidden[0])), model(ids[None]).logits[0], rtol=1e-4, atol=1e-5)


def test_a_model_that_does_more_than_its_parts_is_refused():
    from transformers import LlamaForCausalLM

    class Loud(LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = 2 * out.logits
            return out

    loud = make_bidirectional(Loud(causal("llama").config).eval())
    with pytest.raises(ModelError, match="Loud taken apart is .* away from its own logits"):
        DecoderParts.of(loud, mask_id=MASK)


def test_refusals():
    with pytest.raises(ModelError, match=r"LlamaForCausalLM is causal; give make_bidirectional\(model\)"):
        DecoderParts.of(causal("llama"), mask_id=MASK)
    with pytest.raises(ModelError, match="mask_id is 40 and LlamaForCausalLM has 40 tokens"):
        DecoderParts.of(model_of("llama"), mask_id=40)
    from transformers import GPT2Config, GPT2LMHeadModel

    gpt2 = make_bidirectional(GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=N_TOKENS)).eval())
    with pytest.raises(ModelError, match="does not keep its layers, last norm and head where decoders do"):
        DecoderParts.of(gpt2, mask_id=MASK)
    strange = shadow(model_of("llada"))
    blocks = strange.model.transformer["blocks"]
    del blocks[0]._modules["up_proj"]
    with pytest.raises(ModelError, match="blocks have no up_proj"):
        DecoderParts.of(strange, mask_id=MASK)
    assert hasattr(model_of("llada").model.transformer["blocks"][0], "up_proj")


def test_what_is_set_on_a_shadow_is_not_set_on_the_model():
    model = causal("llama")
    model.train()
    twin = shadow(model, attention="eager")
    assert not twin.training
    assert all(not module.training for module in twin.modules())
    assert all(module.training for module in model.modules())
    assert twin.model.layers[0].self_attn.config._attn_implementation == "eager"
    assert model.config._attn_implementation == "sdpa"
    assert all(a is b for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    with torch.no_grad():
        torch.testing.assert_close(twin(torch.tensor([[3, 4]])).logits, model.eval()(torch.tensor([[3, 4]])).logits)
    twin.lm_head.weight = torch.nn.Parameter(torch.zeros_like(twin.lm_head.weight))
    twin.model.rotary_emb.inv_freq = torch.zeros(4)
    twin.model.layers[0].register_buffer("more", torch.zeros(1))
    assert model.lm_head.weight.abs().max() > 0
    assert model.model.rotary_emb.inv_freq.abs().max() > 0
    assert not hasattr(model.model.layers[0], "more")
