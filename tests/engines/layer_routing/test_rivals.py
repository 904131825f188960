"""Rivals against loops, planted idle layers and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from c2s.engines.layer_routing.hooks import routed
from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.rivals import block_influence, early_exit, random_removal, shortgpt, tale
from c2s.errors import ConfigError, DataError, ModelError
from tests.engines.layer_routing import toy
from tests.engines.layer_routing.toy import ToyReward


def test_influence_is_one_less_the_mean_cosine_of_tokens():
    model = toy.shared("llama", torch.float64)
    batches = [toy.prompts((9, 4, 7)), toy.prompts((3, 5), seed=1)]
    hooks = [len(layer._forward_hooks) for layer in model.base_model.layers]
    found = block_influence(model, batches)
    assert [len(layer._forward_hooks) for layer in model.base_model.layers] == hooks
    cosines = [[] for _ in range(toy.N_LAYERS)]
    for batch in batches:
        with torch.no_grad():
            seen = {}
            handle = model.base_model.layers[-1].register_forward_hook(
                lambda _, __, left, seen=seen: seen.update(last=left)
            )
            states = [*model(**batch, output_hidden_states=True).hidden_states[:-1]]
            handle.remove()
        states.append(seen["last"])  # the model's own last state is behind its norm
        for layer, row, place in itertools.product(range(toy.N_LAYERS), *map(range, batch["input_ids"].shape)):
            if batch["attention_mask"][row, place]:
                one, other = states[layer][row, place].numpy(), states[layer + 1][row, place].numpy()
                cosines[layer].append(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    assert np.allclose(found, [1 - np.mean(each) for each in cosines], rtol=0, atol=1e-12)


def test_shortgpt_drops_an_idle_layer_first():
    model = toy.model()
    with torch.no_grad():
        for name in ("self_attn.o_proj", "mlp.down_proj"):
            model.base_model.layers[2].get_submodule(name).weight.zero_()
    influence = block_influence(model, [toy.prompts()])
    assert abs(influence[2]) < 1e-6
    plan = shortgpt(influence, depth=3)
    assert str(plan) == "1101"
    with torch.no_grad(), routed(model, plan):
        logits = model(**toy.prompts()).logits
    assert torch.equal(logits, model(**toy.prompts()).logits)
    assert str(shortgpt(np.array([0.3, 0.1, 0.1, 0.2]), depth=2)) == "1001"


def test_tale_arrives_at_its_depth_by_the_best_removals():
    for seed in range(10):
        reward = ToyReward(seed)
        for depth in (5, 3, 0):
            plan = LayerPlan.execute_all(6)
            while plan.depth > depth:
                plan = max((plan.with_action(layer, 0) for layer in range(6) if plan[layer]), key=reward)
            assert tale(reward, 6, depth=depth) == plan


def test_layers_are_drawn_by_lot():
    drawn = [random_removal(8, depth=5, seed=seed) for seed in range(400)]
    assert {plan.depth for plan in drawn} == {5} and drawn[0] == random_removal(8, depth=5, seed=0)
    kept = np.mean([plan.actions for plan in drawn], axis=0)
    assert np.abs(kept - 5 / 8).max() < 0.1


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_early_exit_is_where_the_head_is_sure(family):
    model, inputs = toy.shared(family, torch.float64), toy.prompts((9, 4, 7, 6))
    rows = range(4)
    seen = []
    handles = [layer.register_forward_hook(lambda _, __, left: seen.append(left)) for layer in model.base_model.layers]
    with torch.no_grad():
        model(**inputs)
    for handle in handles:
        handle.remove()
    norm, head = model.base_model.norm, model.get_output_embeddings()
    cap = model.config.final_logit_softcapping if family == "gemma2" else None

    def certainty(state):
        logits = head(norm(state))
        logits = (logits / cap).tanh() * cap if cap else logits
        return float(logits.softmax(-1).max().detach())

    sure = [[certainty(seen[layer][row, -1]) for layer in range(toy.N_LAYERS)] for row in rows]
    threshold = float(np.median([each[:-1] for each in sure]))
    expected = []
    for row in rows:
        depth = next((layer + 1 for layer in range(toy.N_LAYERS) if sure[row][layer] > threshold), toy.N_LAYERS)
        expected.append(LayerPlan([1] * depth + [0] * (toy.N_LAYERS - depth)))
    with early_exit(model, threshold=threshold) as routing:
        written = model.generate(**inputs, max_new_tokens=4, do_sample=False, eos_token_id=None)
    assert routing.plans == expected and len(set(expected)) > 1
    with routed(model, expected):
        assert torch.equal(model.generate(**inputs, max_new_tokens=4, do_sample=False, eos_token_id=None), written)
    with early_exit(model, threshold=0.0, first=3) as routing, torch.no_grad():
        model(**inputs)
    assert routing.plans == [LayerPlan.parse("1110")] * 4
    with early_exit(model, threshold=1.0) as routing, torch.no_grad():
        model(**inputs)
    assert routing.plans == [LayerPlan.parse("1111")] * 4


def test_padding_on_the_right_does_not_move_the_last_position():
    model, inputs = toy.shared("llama", torch.float64), toy.prompts((6, 6))
    wide = {name: torch.nn.functional.pad(value, (0, 4)) for name, value in inputs.items()}
    for threshold in (0.1, 0.2, 0.3, 0.4):
        plans = []
        for each in (inputs, wide):
            with early_exit(model, threshold=threshold) as routing, torch.no_grad():
                model(**each)
            plans.append(routing.plans)
        assert plans[0] == plans[1]


def test_what_does_not_fit_is_refused():
    model = toy.shared()
    for build in (
        lambda: shortgpt(np.ones(4), depth=5),
        lambda: tale(ToyReward(0), 4, depth=-1),
        lambda: random_removal(4, depth=9, seed=0),
    ):
        with pytest.raises(ConfigError, match="must lie between 0 and the 4 layers"):
            build()
    with pytest.raises(DataError, match="there is no token"):
        block_influence(model, [])
    with pytest.raises(ConfigError, match="threshold=1.5"), early_exit(model, threshold=1.5):
        pass
    with pytest.raises(ConfigError, match="first=0"), early_exit(model, threshold=0.5, first=0):
        pass
    with pytest.raises(ModelError, match="has no language modelling head"), early_exit(model.base_model, threshold=0.5):
        pass
