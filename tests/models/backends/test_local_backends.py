"""Completions of a model in this process against naive ones, and what vLLM is told."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest
import torch

from c2s.errors import ConfigError, MissingDependencyError
from c2s.models.backends.base import answer_seed
from c2s.models.backends.transformers_backend import TransformersBackend
from c2s.models.backends.vllm_backend import VllmBackend
from c2s.models.text_lm import TextLM
from tests.models.texts import LABELS, byte_level, cells, transformer

PROMPTS = ["MS4A1 CD79A", "The genes are CD3D CD3E IL7R. The cell type is", "LYZ", "GNLY NKG7 GENE3 GENE4"]


@pytest.fixture(scope="module", params=["gpt_neox", "gemma2"])
def backend(request):
    tokenizer = byte_level()
    return TransformersBackend(transformer(request.param, len(tokenizer)), tokenizer)


def greedy(backend, prompt, n):
    ids = backend.tokens.encode([prompt])[0]
    written = []
    for _ in range(n):
        with torch.inference_mode():
            token = int(backend.model(input_ids=torch.tensor([ids + written])).logits[0, -1].argmax())
        if token == backend.tokens.end:
            break
        written.append(token)
    return written


def test_greedy_answers_are_those_of_full_passes(backend):
    found = backend.complete(PROMPTS, max_tokens=9, temperature=0.0)
    decode = partial(backend.tokens.tokenizer.decode, clean_up_tokenization_spaces=False)
    assert [each.text for (each,) in found] == [decode(greedy(backend, prompt, 9)) for prompt in PROMPTS]
    assert all(each.n_tokens == 9 or each.finish_reason == "stop" for (each,) in found)


def test_draws_do_not_depend_on_batch_mates(backend):
    together = backend.complete(PROMPTS, max_tokens=6, seed=2, n=3)
    again = backend.complete(PROMPTS[:1], max_tokens=6, seed=2, n=3)
    assert together[0] == again[0]
    assert len({each.text for each in together[0]}) == 3
    assert together != backend.complete(PROMPTS, max_tokens=6, seed=3, n=3)


def test_draws_follow_the_prompt_and_not_its_place(backend):
    there = backend.complete(PROMPTS, max_tokens=6, seed=2, n=2)
    turned = backend.complete([*PROMPTS[::-1], PROMPTS[0]], max_tokens=6, seed=2, n=2)
    assert turned[:-1] == there[::-1]
    assert turned[-1] == there[0]


def test_draws_are_of_the_models_distribution(backend):
    """First tokens of many answers, as often as a full pass says."""
    ids = backend.tokens.encode(PROMPTS[2:3])
    with torch.inference_mode():
        p = torch.softmax(backend.model(input_ids=torch.tensor(ids)).logits[0, -1].double() / 0.7, dim=-1).numpy()
    n = 4000
    (drawn,) = backend.complete(PROMPTS[2:3], max_tokens=1, temperature=0.7, n=n, seed=1)
    text = [backend.tokens.tokenizer.decode([i], skip_special_tokens=True) for i in range(len(backend.tokens))]
    expected = dict.fromkeys(text, 0.0)
    for token, share in enumerate(p):
        expected[text[token]] += share
    seen = Counter(each.text for each in drawn)
    for word, share in expected.items():
        assert abs(seen[word] / n - share) < 5 * (share * (1 - share) / n) ** 0.5 + 1e-3


def test_ends_of_the_generation_settings_end_answers():
    tokenizer = byte_level()
    model = transformer("gpt_neox", len(tokenizer))
    plain = TransformersBackend(model, tokenizer)
    ((whole,),) = plain.complete(PROMPTS[:1], max_tokens=8, temperature=0.0)
    first, _, third = greedy(plain, PROMPTS[0], 3)
    assert first != third
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, third]
    ((ended,),) = TransformersBackend(model, tokenizer).complete(PROMPTS[:1], max_tokens=8, temperature=0.0)
    assert whole.text.startswith(ended.text)
    assert ended.n_tokens <= 2
    assert (whole.finish_reason, ended.finish_reason) == ("length", "stop")


def test_stops_end_answers_and_are_left_out(backend):
    ((whole,),) = backend.complete(PROMPTS[:1], max_tokens=12, temperature=0.0)
    middle = whole.text[len(whole.text) // 2]
    ((cut,),) = backend.complete(PROMPTS[:1], max_tokens=12, temperature=0.0, stop=[middle])
    assert cut.text == whole.text.partition(middle)[0]
    assert cut.finish_reason == "stop"
    assert cut.n_tokens <= whole.n_tokens


def test_what_cannot_be_asked(backend):
    with pytest.raises(ConfigError, match="prompt 1 is empty"):
        backend.complete(["a", ""], max_tokens=3)
    with pytest.raises(ConfigError, match="max_tokens=0"):
        backend.complete(["a"], max_tokens=0)


def test_free_text_and_its_parse_rate():
    tokenizer = byte_level()
    model = TextLM(transformer("gpt_neox", len(tokenizer)), tokenizer, n_genes=25)
    table = model.answer(cells(5), labels=LABELS, max_tokens=4)
    assert table["parsed"].dtype == bool
    assert (table["label"].isna() == ~table["parsed"]).all()
    assert table.loc[~table["parsed"], "reason"].str.len().min() > 0


def test_vllm_is_told_what_is_asked(monkeypatch):
    heard = {}

    class Engine:
        def __init__(self, **settings):
            heard["engine"] = settings

        def generate(self, prompts, settings):
            heard["asked"] = (prompts, settings)
            out = SimpleNamespace(text="B cell", finish_reason="length", token_ids=[1, 2])
            return [SimpleNamespace(prompt_token_ids=[1, 2, 3], outputs=[out] * s.n) for s in settings]

    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = Engine, lambda **settings: SimpleNamespace(**settings)
    monkeypatch.setitem(sys.modules, "vllm", module)
    found = VllmBackend("m", tensor_parallel_size=2, dtype="bfloat16").complete(
        ["a", "b"], max_tokens=7, seed=4, n=2, stop=("#",)
    )
    assert heard["engine"] == {
        "model": "m",
        "enable_prefix_caching": True,
        "tensor_parallel_size": 2,
        "dtype": "bfloat16",
    }
    seeds = [answer_seed(4, prompt) for prompt in ("a", "b")]
    assert [(s.n, s.max_tokens, s.seed, s.stop) for s in heard["asked"][1]] == [(2, 7, seed, ["#"]) for seed in seeds]
    assert [[(c.text, c.finish_reason, c.n_prompt_tokens, c.n_tokens) for c in row] for row in found] == [
        [("B cell", "length", 3, 2)] * 2
    ] * 2


def test_copies_in_vllm_are_servers():
    with pytest.raises(ConfigError, match="vllm serve m --data-parallel-size 4"):
        VllmBackend("m", data_parallel_size=4)


def test_vllm_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingDependencyError, match=r"c2s\[vllm\]"):
        VllmBackend("m")


def test_an_answer_that_cannot_fit_is_refused_before_any_is_written():
    tokenizer = byte_level()
    backend = TransformersBackend(transformer("gpt2", len(tokenizer)), tokenizer)
    limit = backend.model.config.max_position_embeddings
    with pytest.raises(ConfigError, match=f"holds {limit}"):
        backend.complete(PROMPTS, max_tokens=limit)
