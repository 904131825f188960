"""Reuse of hidden states changes no reward and saves layers; many plans run on one sample in one pass."""

from __future__ import annotations

import pytest
import torch

from c2s.engines.layer_routing.hooks import routed
from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.prefix import PrefixReuse, logits_of_plans
from c2s.engines.layer_routing.searching import search
from c2s.errors import ConfigError
from tests.engines.layer_routing import toy


def score(out):
    return float(out.logits[:, -1].log_softmax(-1)[:, 7].mean())


@pytest.mark.parametrize(("family", "keep"), [("llama", 3), ("gemma2", 256), ("gpt_neox", 256)])
def test_a_search_with_reuse_is_the_same_and_costs_less(family, keep):
    model, inputs = (
        toy.model(family, num_hidden_layers=6, **({"layer_types": None} if family == "gemma2" else {})),
        toy.prompts(),
    )

    def naive(plan):
        with torch.no_grad(), routed(model, plan):
            return score(model(**inputs, use_cache=False))

    reuse = PrefixReuse(model, inputs, score, keep=keep)
    plain = search(naive, 6, budget=40, seed=1)
    found = search(reuse, 6, budget=40, seed=1)
    assert found.tried == plain.tried and found.best == plain.best
    assert found.executions == reuse.executed and reuse.naive == plain.executions
    if keep == 256:
        assert reuse.naive >= 1.5 * reuse.executed
    assert not any(layer._forward_hooks or "forward" in layer.__dict__ for layer in model.base_model.layers)


def test_executions_are_those_of_the_layers_that_are_run():
    model = toy.shared()
    calls = []
    handles = [
        layer.mlp.register_forward_hook(lambda *_, i=i: calls.append(i))
        for i, layer in enumerate(model.base_model.layers)
    ]
    reuse = PrefixReuse(model, toy.prompts(), score)
    for plan, run in (
        ("1111", [0, 1, 2, 3]),
        ("1121", [2, 2, 3]),
        ("1120", []),
        ("0211", [1, 1, 2, 3]),
        ("1111", []),
        ("1101", [3]),
    ):
        calls.clear()
        before = reuse.executed
        reuse(LayerPlan.parse(plan))
        assert calls == run and reuse.executed - before == len(run)
    for handle in handles:
        handle.remove()


def test_many_plans_of_one_sample():
    model, inputs = toy.shared("llama", torch.float64), toy.prompts((7,))
    plans = [LayerPlan.parse(text) for text in ("1111", "0212", "2012")]
    found = logits_of_plans(model, inputs, plans)
    for row, plan in enumerate(plans):
        with torch.no_grad(), routed(model, plan):
            assert (model(**inputs).logits[0] - found[row]).abs().max() < 1e-12


def test_what_does_not_fit_is_refused():
    model = toy.shared()
    with pytest.raises(ConfigError, match="keep=0"):
        PrefixReuse(model, toy.prompts(), score, keep=0)
    with pytest.raises(ConfigError, match="plan 11 is of 2 layers; the model has 4"):
        PrefixReuse(model, toy.prompts(), score)(LayerPlan.parse("11"))
    with pytest.raises(ConfigError, match="input_ids has 3 rows"):
        logits_of_plans(model, toy.prompts(), [LayerPlan.parse("1111")])
