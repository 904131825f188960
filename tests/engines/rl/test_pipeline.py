"""Answers written ahead: never too far, by the newest weights there are, and an error in the thread is told."""

from __future__ import annotations

import threading

import pytest
import torch

from c2s.engines.rl.pipeline import Pipeline, policy_copy
from c2s.errors import ModelError
from tests.engines.rl import toy


def first_weight(model):
    return next(model.parameters()).detach().flatten()[0].item()


def moved(model, value):
    with torch.no_grad():
        next(model.parameters()).flatten()[0] = value


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_no_step_is_begun_before_it_may(staleness):
    """The trainer waits for nothing: the thread alone has to hold back."""
    model, begun, version = toy.model(), [], 0

    def write(copy, step, before_token):
        begun.append((step, version))
        return step

    pipeline = Pipeline(model, write, staleness=staleness)
    pipeline.start(0)
    for step in range(8):
        written = pipeline.take(step)
        assert written.answers == step and 0 <= step - written.begun <= staleness
        version = step + 1
        pipeline.push(version)
    pipeline.close()
    assert [step for step, _ in begun][:8] == list(range(8))
    assert all(step - at <= staleness for step, at in begun)


def test_new_weights_come_in_between_two_tokens():
    model, seen = toy.model(), []
    gate, pushed = threading.Event(), threading.Event()

    def write(copy, step, before_token):
        before_token()
        seen.append(first_weight(copy))
        gate.set()
        pushed.wait(10)
        before_token()
        seen.append(first_weight(copy))
        return step

    moved(model, 1.0)
    pipeline = Pipeline(model, write, staleness=0)
    pipeline.start(0)
    gate.wait(10)
    moved(model, 2.0)  # the policy itself moves on; its copy does not, until it is told
    pipeline.push(1)
    pushed.set()
    written = pipeline.take(0)
    pipeline.close()
    assert seen[:2] == [1.0, 2.0]
    assert (written.begun, written.ended) == (0, 1)


def test_an_error_in_the_thread_is_raised_where_its_answers_are_awaited():
    def write(copy, step, before_token):
        raise ZeroDivisionError("in the thread")

    pipeline = Pipeline(toy.model(), write, staleness=1)
    pipeline.start(0)
    with pytest.raises(ModelError, match="the answers of step 0 were not written: in the thread"):
        pipeline.take(0)
    pipeline.close()


def test_closing_in_mid_sentence_ends_the_thread():
    begun = threading.Event()

    def write(copy, step, before_token):
        begun.set()
        while True:
            before_token()

    pipeline = Pipeline(toy.model(), write, staleness=0)
    pipeline.start(0)
    begun.wait(10)
    thread = pipeline._thread
    pipeline.close()
    assert not thread.is_alive()


def test_a_copy_holds_on_to_nothing_of_the_original():
    """Where a trainer put its own forward in place, a deep copy would go on reading the first model's weights."""
    model = toy.model()
    head = model.lm_head
    head.forward = lambda hidden: torch.nn.functional.linear(hidden, head.weight)
    state = torch.random.get_rng_state()
    copy, ids = policy_copy(model), torch.tensor([[3, 4, 5]])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(copy(ids).logits, model(ids).logits)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert copy(ids).logits.abs().max() > 0
    half = policy_copy(toy.model().to(torch.bfloat16), fp32_logits=True)
    assert half(ids).logits.dtype == torch.float32 and half.lm_head.weight.dtype == torch.bfloat16


def test_a_copy_has_no_dropout_and_each_weight_its_precision():
    from transformers import AutoModelForCausalLM, GPTNeoXConfig

    config = GPTNeoXConfig(
        vocab_size=15,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=32,
        hidden_dropout=0.5,
    )
    model = AutoModelForCausalLM.from_config(config).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.to(torch.bfloat16).get_output_embeddings().float()
    copy, ids = policy_copy(model, fp32_logits=True), torch.tensor([[3, 4, 5]])
    assert torch.equal(copy(ids).logits, copy(ids).logits)
    assert (
        copy.get_output_embeddings().weight.dtype == torch.float32
        and copy.gpt_neox.embed_in.weight.dtype == torch.bfloat16
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert copy(ids).logits.dtype == torch.float32  # whatever precision is asked for around it
