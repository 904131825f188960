"""What the prompts of a batch begin with alike is run once; keys, states and vectors are those of whole passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GPT2Config, GPTNeoXConfig, LlamaConfig

from c2s.models.batching import right_padded
from c2s.models.embedding import Passage, embed_passages, gathered
from c2s.models.prefix import PrefixDecoder
from c2s.models.prefix_attention import RowCache

V, PAD, COMMON = 40, 0, 30
SIZES = {
    "vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 256, "initializer_range": 0.4, "pad_token_id": PAD, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
SHARED = {
    "gpt_neox": GPTNeoXConfig(**SIZES),
    "llama, two heads a key": LlamaConfig(**SIZES, num_key_value_heads=2),
    "gpt2": GPT2Config(
        vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.4, pad_token_id=PAD,
        bos_token_id=None, eos_token_id=None,
    ),
}  # fmt: skip
WHOLE = {
    "gemma2, windows and capped scores": Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8, sliding_window=32),
    "cohere, scaled logits": CohereConfig(**SIZES),
}


def build(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def prompts():
    rng = np.random.default_rng(0)
    start = rng.integers(1, V, COMMON).tolist()
    behind = [[1 + i, *rng.integers(1, V, n).tolist()] for i, n in enumerate((90, 64, 1, 120, 77))]
    return [start + rest for rest in behind]


@pytest.fixture(params=SHARED)
def model(request):
    return build(SHARED[request.param])


@pytest.fixture
def tokens_run(model):
    """Numbers of tokens of each pass through the model."""
    found = []
    model.get_input_embeddings().register_forward_hook(lambda _, ids, out: found.append(ids[0].numel()))
    return found


def test_prefixes_with_a_common_start_equal_whole_passes(model, tokens_run):
    decoder, sequences = PrefixDecoder(model), prompts()
    after = [[3, 5], [7], [9, 11], [2, 4], [6]]
    with decoder.attached():
        prefix = decoder.prefill(sequences, pad=PAD)
        assert tokens_run == [COMMON, 5 * 121]
        ids, seen = right_padded(after, PAD, decoder.device)
        hidden = decoder.extend(prefix, RowCache(decoder.n_layers, 2), ids, seen)
        found, last = decoder.logits(hidden, slice(V)), decoder.logits(prefix.last, slice(V))
    for row, (sequence, rest) in enumerate(zip(sequences, after)):
        with torch.inference_mode():
            whole = model(input_ids=torch.tensor([sequence + rest])).logits[0]
        torch.testing.assert_close(last[row], whole[len(sequence) - 1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found[row, : len(rest)], whole[len(sequence) :], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("layer", [None, 0, 1, 2])
def test_vectors_do_not_depend_on_what_is_shared(model, tokens_run, layer, pooling):
    passages = [Passage(ids, COMMON - 4, len(ids) - 1) for ids in prompts()]  # the cell begins within the common start
    together = gathered(embed_passages(model, passages, pad=PAD, layer=layer, pooling=pooling), 5)
    shared = COMMON if pooling == "last" else COMMON - 4
    longest = 151 if pooling == "last" else 150
    assert tokens_run[-2:] == [shared, 5 * (longest - shared)]
    alone = gathered(embed_passages(model, passages, pad=PAD, layer=layer, pooling=pooling, batch_size=1), 5)
    np.testing.assert_allclose(together, alone, atol=1e-5 * np.abs(alone).max())
    hidden = model(input_ids=torch.tensor([passages[0].ids]), output_hidden_states=True).hidden_states
    place = passages[0].place if pooling == "mean" else slice(len(passages[0]) - 1, None)
    if layer != 2:  # transformers norms the last of its hidden states
        expected = hidden[-1 if layer is None else layer][0, place].mean(0).detach().numpy()
        np.testing.assert_allclose(together[0], expected, atol=1e-5 * np.abs(alone).max())


@pytest.mark.parametrize("name", WHOLE)
def test_models_that_cannot_share_are_run_whole(name):
    model = build(WHOLE[name])
    passages = [Passage(ids, COMMON, len(ids)) for ids in prompts()]
    together = gathered(embed_passages(model, passages, pad=PAD), 5)
    with torch.inference_mode():
        expected = model.get_decoder()(input_ids=torch.tensor([passages[3].ids])).last_hidden_state[0, COMMON:].mean(0)
    np.testing.assert_allclose(together[3], expected.numpy(), atol=1e-4)


def test_an_error_that_is_not_ours_does_not_keep_a_model_from_being_embedded(model, monkeypatch):
    def foreign(*arguments, **settings):
        raise TypeError("forward() got an unexpected keyword argument 'prefix'")

    passages = [Passage(ids, COMMON, len(ids)) for ids in prompts()]
    expected = gathered(embed_passages(model, passages, pad=PAD), 5)
    monkeypatch.setattr(PrefixDecoder, "prefill", foreign)
    found = gathered(embed_passages(model, passages, pad=PAD), 5)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_what_is_too_short_to_share_is_not_shared():
    decoder, sequences = PrefixDecoder(build(SHARED["gpt_neox"])), prompts()
    assert decoder.common(sequences) == COMMON
    assert decoder.common(sequences, most=20) == 20
    assert decoder.common(sequences, most=15) == 0
    assert decoder.common(sequences[:1]) == 0
    assert decoder.common([[1] * 100, [1] * 120]) == 0  # one token of each is left, but the rest is short
    assert decoder.common([[1] * 40, [1] * 120]) == 39
    assert decoder.common([[1] * 120, [2] * 120]) == 0
    assert PrefixDecoder(build(WHOLE["gemma2, windows and capped scores"])).common(sequences) == 0
