"""Shared prefixes give what one ordinary forward pass over the whole sequence gives."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PhiConfig,
    Qwen3Config,
    StableLmConfig,
)

from c2s.errors import ModelError
from c2s.models import prefix as prefix_module
from c2s.models import prefix_attention
from c2s.models.batching import left_padded, right_padded
from c2s.models.prefix import PrefixDecoder
from c2s.models.prefix_attention import IMPLEMENTATION, PrefixCache, RowCache

V, PAD = 30, 0
SIZES = {
    "vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64, "initializer_range": 0.4, "pad_token_id": PAD, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
CONFIGS = {
    "llama": LlamaConfig(**SIZES, num_key_value_heads=2),
    "llama, all heads": LlamaConfig(**SIZES, num_key_value_heads=4, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, num_key_value_heads=1, head_dim=16),
    "gpt_neox": GPTNeoXConfig(**SIZES),
    "gpt2": GPT2Config(
        vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.4, pad_token_id=PAD, bos_token_id=None,
        eos_token_id=None,
    ),
    "gemma2, windows of 4 on every other layer": Gemma2Config(
        **SIZES, num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=8, sliding_window=4, attn_logit_softcapping=2.0
    ),
    "mistral, windows of 5": MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=5),
    "phi, whose output layer has a bias": PhiConfig(**SIZES, num_key_value_heads=4),
}  # fmt: skip


def build(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)  # zero at first, where a forgotten bias would not show
    return model


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return build(CONFIGS[request.param])


def random_ids(generator, n):
    return torch.randint(1, V, (n,), generator=generator).tolist()


def full_logits(model, ids):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0]


def test_prefix_plus_rows_equals_the_full_forward_pass(model):
    """Three cells of unequal prompts, two rows each of unequal suffixes, two more tokens one at a time."""
    generator = torch.Generator().manual_seed(1)
    prefixes = [random_ids(generator, n) for n in (1, 7, 4)]
    suffixes = [random_ids(generator, n) for n in (3, 1, 2, 5, 4, 4)]
    later = [[random_ids(generator, 1)[0] for _ in suffixes] for _ in range(2)]
    everything = torch.arange(V)
    decoder = PrefixDecoder(model)
    with decoder.attached():
        prefix = decoder.prefill(prefixes, pad=PAD)
        ids, seen = left_padded(suffixes, PAD, decoder.device)
        rows = RowCache(decoder.n_layers, ids.shape[1] + 2)
        first = decoder.extend(prefix, rows, ids, seen)
        logits = [decoder.logits(first[:, -1], everything)]
        for new in later:
            seen = torch.cat([seen, torch.ones(6, 1, dtype=torch.bool)], dim=1)
            hidden = decoder.extend(prefix, rows, torch.tensor(new)[:, None], seen)
            logits.append(decoder.logits(hidden[:, -1], everything))
        along = decoder.logits(first, everything)
    for row in range(6):
        whole = full_logits(model, prefixes[row // 2] + suffixes[row] + [new[row] for new in later])
        at = len(prefixes[row // 2]) + len(suffixes[row]) - 1
        for step in range(3):
            torch.testing.assert_close(logits[step][row], whole[at + step], rtol=1e-4, atol=1e-4)
        n = len(suffixes[row])
        torch.testing.assert_close(along[row, -n:], whole[at - n + 1 : at + 1], rtol=1e-4, atol=1e-4)


def test_rows_of_a_batch_are_counted_from_what_each_holds(model, monkeypatch):
    """Keys and values as the cache of a row really stores them, and the bytes beside them."""
    decoder = PrefixDecoder(model)
    ids = torch.ones(2, 3, dtype=torch.long)
    with decoder.attached():
        rows = RowCache(decoder.n_layers, 5)
        decoder.extend(decoder.prefill([[1], [1]], pad=PAD), rows, ids, ids.bool())
    held = sum(store.untyped_storage().nbytes() for store in (*rows.keys, *rows.values))
    assert held == decoder.bytes_per_place * 5 * 2
    monkeypatch.setitem(prefix_module.BATCH_BYTES, "cpu", 10 * (held + 2 * 700))
    assert decoder.rows_per_batch(5, beside=700) == 20
    assert decoder.rows_per_batch(5, beside=700 * 10**6) == 1
    monkeypatch.setattr(prefix_module, "ROWS_PER_BATCH", 7)
    assert decoder.rows_per_batch(5, beside=700) == 7


@pytest.mark.parametrize("lengths", [(0, 0), (0, 4), (3, 0)])
def test_prefixes_may_be_empty(model, lengths):
    generator = torch.Generator().manual_seed(3)
    prefixes, suffixes = [random_ids(generator, n) for n in lengths], [random_ids(generator, n) for n in (2, 3)]
    decoder = PrefixDecoder(model)
    with decoder.attached():
        prefix = decoder.prefill(prefixes, pad=PAD)
        ids, seen = left_padded(suffixes, PAD, decoder.device)
        hidden = decoder.extend(prefix, RowCache(decoder.n_layers, ids.shape[1]), ids, seen)
        found = decoder.logits(hidden[:, -1], torch.arange(V))
    for row in range(2):
        torch.testing.assert_close(
            found[row], full_logits(model, prefixes[row] + suffixes[row])[-1], rtol=1e-4, atol=1e-4
        )


def test_a_cache_that_makes_room_step_by_step_holds_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 3, length, 4, generator=generator) for length in (2, 1, 1, 3, 1)]
    monkeypatch.setattr(prefix_attention, "ROOM", 1)
    rows, rooms = RowCache(1, 9), []
    for part in parts:
        keys, values = rows.update(part, -part, 0)
        rows.used += part.shape[2]
        rooms.append(rows.keys[0].shape[2])
    torch.testing.assert_close(keys, torch.cat(parts, dim=2), rtol=0, atol=0)
    torch.testing.assert_close(values, -keys, rtol=0, atol=0)
    assert rooms == [3, 3, 6, 8, 8]


def test_rows_repeated_and_dropped_keep_their_own_state(model):
    """What sampling does: repeat rows for samples, then drop those that are done."""
    generator = torch.Generator().manual_seed(2)
    prefixes, suffixes = (
        [random_ids(generator, 3), random_ids(generator, 5)],
        [random_ids(generator, n) for n in (2, 4)],
    )
    decoder = PrefixDecoder(model)
    with decoder.attached():
        prefix = decoder.prefill(prefixes, pad=PAD)
        ids, seen = left_padded(suffixes, PAD, decoder.device)
        rows = RowCache(decoder.n_layers, 8)
        decoder.extend(prefix, rows, ids, seen)
        repeat = torch.tensor([0, 0, 0, 1, 1, 1])
        rows.select(repeat)
        new = torch.tensor([3, 4, 5, 6, 7, 8])
        seen = torch.cat([seen[repeat], torch.ones(6, 1, dtype=torch.bool)], dim=1)
        decoder.extend(prefix, rows, new[:, None], seen)
        keep = torch.tensor([2, 0, 5, 3])
        rows.select(keep)
        seen = torch.cat([seen[keep], torch.ones(4, 1, dtype=torch.bool)], dim=1)
        hidden = decoder.extend(prefix, rows, torch.full((4, 1), 9), seen)
        found = decoder.logits(hidden[:, -1], torch.arange(V))
    for row, original in enumerate(keep.tolist()):
        cell = original // 3
        whole = full_logits(model, prefixes[cell] + suffixes[cell] + [int(new[original]), 9])
        torch.testing.assert_close(found[row], whole[-1], rtol=1e-4, atol=1e-4)
    assert rows.get_seq_length() == 6


def test_logits_of_chosen_tokens_only(model):
    hidden = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([5, 0, 29, 5])
    with torch.inference_mode():
        expected = model.get_output_embeddings()(hidden)[..., tokens]
        cap = getattr(model.config, "final_logit_softcapping", None)
        expected = cap * torch.tanh(expected / cap) if cap else expected
        found = PrefixDecoder(model).logits(hidden, tokens)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_what_was_before_is_restored_also_after_an_error(model):
    before = model.config._attn_implementation
    assert before != IMPLEMENTATION
    model.train()
    decoder = PrefixDecoder(model)
    with pytest.raises(ZeroDivisionError), decoder.attached():
        assert model.config._attn_implementation == IMPLEMENTATION
        assert not model.training
        assert torch.is_inference_mode_enabled()
        _ = 1 / 0
    assert model.config._attn_implementation == before
    assert model.training
    assert not torch.is_inference_mode_enabled()
    model.eval()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            FalconConfig(vocab_size=V, hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
            "FalconForCausalLM, whose attention",
        ),
        (BloomConfig(vocab_size=V, hidden_size=32, n_layer=2, n_head=4), "BloomForCausalLM, whose attention"),
        (
            MambaConfig(vocab_size=V, hidden_size=32, num_hidden_layers=2, state_size=4),
            "MambaForCausalLM, whose attention",
        ),
        (StableLmConfig(**SIZES, num_key_value_heads=2), "StableLmForCausalLM, whose attention"),
        (GraniteConfig(**SIZES, logits_scaling=8.0), "scales its logits .logits_scaling"),
        (CohereConfig(**SIZES), "scales its logits .logit_scale"),
    ],
)
def test_attention_that_cannot_be_shared_is_refused_with_the_reason(config, reason):
    """A model that would be decoded wrongly without a word is as bad as one that fails."""
    model = build(config)
    with pytest.raises(ModelError, match=f"shared-prefix decoding does not support .*{reason}"):
        decoder = PrefixDecoder(model)
        with decoder.attached():
            decoder.prefill([[1, 2, 3]], pad=PAD)


def test_layers_that_drop_the_prefix_are_found(monkeypatch):
    """A model that says its attention can be replaced, and then does not ask it."""
    model = build(FalconConfig(vocab_size=V, hidden_size=32, num_hidden_layers=2, num_attention_heads=4))
    monkeypatch.setattr(type(model), "_supports_attention_backend", True)
    decoder = PrefixDecoder(model)
    with pytest.raises(ModelError, match="FalconForCausalLM: 0 of its 2 layers attend"), decoder.attached():
        decoder.prefill([[1, 2, 3]], pad=PAD)


def test_gemma2_logits_are_capped():
    model = build(Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0))
    with torch.inference_mode():
        hidden = model.model(input_ids=torch.tensor([[1, 2, 3]])).last_hidden_state
        expected = full_logits(model, [1, 2, 3])
        found = PrefixDecoder(model).logits(hidden[0], torch.arange(V))
    assert expected.abs().max() > 1.0
    torch.testing.assert_close(found, expected)


def test_a_missing_layer_is_an_error():
    with pytest.raises(ModelError, match="layer 1 has no prefix"):
        PrefixCache(2, torch.ones(1, 1, dtype=torch.bool)).of_layer(1)


def test_padding():
    device = torch.device("cpu")
    ids, mask = left_padded([[1, 2, 3], [4]], 9, device)
    assert ids.tolist() == [[1, 2, 3], [9, 9, 4]]
    assert mask.tolist() == [[True, True, True], [False, False, True]]
    ids, mask = right_padded([[1, 2, 3], [4]], 9, device)
    assert ids.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert mask.sum(1).tolist() == [3, 1]
