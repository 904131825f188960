"""What is longer than a model's context is refused where it would be wrong, warned of where the model can run it."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, Gemma3TextConfig, GPT2Config, LlamaConfig

from c2s.errors import ConfigError
from c2s.models import context
from c2s.models.context import check_context
from c2s.models.embedding import Passage, embed_passages
from c2s.models.prefix import PrefixDecoder
from c2s.models.prefix_attention import RowCache

SIZES = {
    "vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
GPT2 = GPT2Config(
    vocab_size=30, n_embd=32, n_layer=2, n_head=4, n_positions=64, pad_token_id=0, bos_token_id=None, eos_token_id=None
)
DYNAMIC = LlamaConfig(**SIZES, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0})
LONG = LlamaConfig(
    **{**SIZES, "max_position_embeddings": 256},
    rope_parameters={
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 64,
    },
)  # fmt: skip


@pytest.mark.parametrize("config", [GPT2, DYNAMIC, LONG], ids=["learned", "dynamic", "longrope"])
def test_the_last_place_runs_and_the_next_is_refused(config):
    model = AutoModelForCausalLM.from_config(config).eval()
    decoder = PrefixDecoder(model)
    with decoder.attached():
        prefix, ids = decoder.prefill([[1] * 60], pad=0), torch.ones(1, 4, dtype=torch.long)
        rows = RowCache(decoder.n_layers, 8)
        decoder.extend(prefix, rows, ids, ids.bool())
        with pytest.raises(ConfigError, match=r"65 tokens .* holds 64"):
            decoder.extend(prefix, rows, ids[:, :1], torch.ones(1, 5, dtype=torch.bool))
        with pytest.raises(ConfigError, match="65 tokens"):
            decoder.prefill([[1] * 65], pad=0)
    with pytest.raises(ConfigError, match="70 tokens"):
        list(embed_passages(model, [Passage([1] * 70, 0, 70)], pad=0))


def test_fixed_rotary_positions_run_on_as_one_pass_would_and_are_warned_of_once(caplog):
    """Released checkpoints were trained on longer prompts than Pythia's 2,048."""
    context._warn.cache_clear()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES)).eval()
    ids = torch.randint(1, 30, (1, 80))
    decoder = PrefixDecoder(model)
    with decoder.attached():
        prefix, rows = decoder.prefill(ids[:, :50].tolist(), pad=0), RowCache(decoder.n_layers, 30)
        hidden = decoder.extend(prefix, rows, ids[:, 50:], torch.ones(1, 30, dtype=torch.bool))
        found = decoder.logits(hidden[:, -1], torch.arange(30))
        check_context(model.config, 90)
    with torch.inference_mode():
        torch.testing.assert_close(found, model(input_ids=ids).logits[:, -1], rtol=1e-4, atol=1e-4)
    assert caplog.text.count("64 tokens") == 1


def test_rotary_positions_by_kind_of_layer_and_models_without_a_limit():
    context._warn.cache_clear()
    check_context(Gemma3TextConfig(max_position_embeddings=64), 65)
    check_context(BloomConfig(), 10**9)
