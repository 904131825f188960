"""Losses against closed forms; a planted rule of which layers are needed is learnt from hidden states."""

from __future__ import annotations

import pytest
import torch

from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.router import Router
from c2s.engines.layer_routing.router_training import (
    class_weights,
    fit_router,
    focal_loss,
    prompt_windows,
    train_routers,
)
from c2s.engines.layer_routing.routing import plans_of
from c2s.engines.layer_routing.settings import RouterSettings
from c2s.errors import ConfigError, DataError, ModelError
from tests.engines.layer_routing import toy

SMALL = RouterSettings(windows=3, bottleneck=16, epochs=30, batch_size=16, learning_rate=1e-2)
PLANS = {"easy": LayerPlan.parse("1001"), "plain": LayerPlan.parse("1111"), "hard": LayerPlan.parse("1212")}


def planted(n, *, seed):
    """Prompts of which some hold many tokens 50, some many tokens 55: those need few layers, these more."""
    draw = torch.Generator().manual_seed(seed)
    batches, plans = [], []
    for start in range(0, n, 12):
        batch = toy.prompts([12 + (start + row) % 7 for row in range(12)], seed=seed + start)
        for row in range(12):
            kind = ("easy", "plain", "plain", "hard")[(start + row) % 4]
            filled = (torch.rand(batch["input_ids"].shape[1], generator=draw) < 0.6) & batch["attention_mask"][
                row
            ].bool()
            if kind != "plain":
                batch["input_ids"][row, filled] = 50 if kind == "easy" else 55
                batch["input_ids"][row, -1] = 50 if kind == "easy" else 55
            plans.append(PLANS[kind])
        batches.append(batch)
    return batches, plans


def test_a_planted_rule_is_learnt_and_holds_on_other_prompts():
    model = toy.model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    router = train_routers(model, *planted(480, seed=0), SMALL.with_(epochs=15), progress=False)
    batches, plans = planted(96, seed=1000)
    found = plans_of(router, model, batches)
    right = sum(one == other for one, other in zip(found, plans, strict=True)) / len(plans)
    assert right >= 0.9
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(value.requires_grad is False for value in model.parameters())
    with router.attached(model):
        pass


def test_training_is_its_seeds_and_leaves_the_global_generator():
    model, state = toy.shared(), torch.get_rng_state()
    made = [
        train_routers(model, *planted(24, seed=0), SMALL.with_(epochs=2, seed=seed), progress=False)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, made[1].state_dict()[name]) for name, value in made[0].state_dict().items())
    assert not torch.equal(made[0].down, made[2].down)


def test_plain_settings_give_cross_entropy():
    draw = torch.Generator().manual_seed(0)
    logits, labels = (
        torch.randn(50, 4, 3, dtype=torch.float64, generator=draw),
        torch.randint(3, (50, 4), generator=draw),
    )
    weights = class_weights(labels, balance=0.0)
    assert torch.equal(weights, torch.ones(3, dtype=torch.float64))
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 3), labels.reshape(-1))
    assert torch.allclose(focal_loss(logits, labels, weights=weights, focusing=0.0), expected, rtol=0, atol=1e-12)


def test_focal_loss_is_the_formula_and_its_gradient_is_finite_where_it_is_sure():
    logits = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    labels, weights = torch.tensor([1, 2]), torch.tensor([0.5, 2.0, 0.5], dtype=torch.float64)
    p = [float(logits[0].softmax(-1)[1]), 1 / 3]
    expected = sum(-w * (1 - q) ** 1.5 * torch.tensor(q).double().log() for w, q in zip((2.0, 0.5), p)) / 2
    assert torch.allclose(focal_loss(logits, labels, weights=weights, focusing=1.5), expected, atol=1e-7)
    for focusing in (0.0, 0.5, 2.0):
        sure = torch.tensor([[0.0, 80.0, 0.0]], requires_grad=True)
        focal_loss(sure, torch.tensor([1]), weights=torch.ones(3), focusing=focusing).backward()
        assert sure.grad.isfinite().all()


def test_class_weights_are_of_effective_numbers_with_mean_one():
    labels = torch.tensor([0] * 5 + [1] * 100 + [2] * 2)
    weights = class_weights(labels, balance=0.99)
    raw = torch.tensor([(1 - 0.99) / (1 - 0.99**n) for n in (5, 100, 2)], dtype=torch.float64)
    assert torch.allclose(weights, raw / raw.mean(), rtol=0, atol=1e-12) and weights.mean() == pytest.approx(1)
    absent = class_weights(labels[:105], balance=0.99)
    assert absent[2] == 0 and absent[:2].mean() == pytest.approx(1)
    with pytest.raises(ConfigError, match="balance=1"):
        class_weights(labels, balance=1.0)
    with pytest.raises(ConfigError, match="there are 0 labels"):
        class_weights(labels[:0], balance=0.5)


def test_the_teacher_shows_what_enters_each_layer_under_the_plan():
    model, inputs, plan = toy.model(dtype=torch.float64), toy.prompts((6, 6)), LayerPlan.parse("2101")
    means, there = prompt_windows(model, [inputs], [plan] * 2, windows=2, progress=False)
    copied = toy.unrolled(model, plan)
    with torch.no_grad():
        states = copied(**inputs, output_hidden_states=True).hidden_states
    for layer, place in enumerate([0, 2, 3, 3]):  # layers of the copy that come before it
        expected = torch.stack([states[place][:, :3].mean(1), states[place][:, 3:].mean(1)], 1)
        assert torch.allclose(means[:, layer].double(), expected, atol=1e-5)
    assert there.all()


def test_loss_falls_and_what_does_not_fit_is_refused():
    model = toy.shared()
    batches, plans = planted(24, seed=0)
    means, there = prompt_windows(model, batches, plans, windows=3, progress=False)
    router = Router(4, 32, windows=3, bottleneck=16)
    router.standardise(means, there)
    losses = fit_router(router, means, there, torch.tensor([plan.actions for plan in plans]), SMALL, progress=False)
    assert len(losses) == SMALL.epochs and losses[-1] < 0.2 * losses[0]
    for wrong in (plans[:-1], [*plans, plans[0]], []):
        with pytest.raises(DataError, match="give one plan a row"):
            train_routers(model, batches, wrong, SMALL, progress=False)
    with pytest.raises(ConfigError, match="plan 11 is of 2 layers"):
        train_routers(model, batches, [LayerPlan.parse("11")] * 24, SMALL, progress=False)
    with pytest.raises(ConfigError, match="class_balance"):
        RouterSettings(class_balance=1.0)
    broken = toy.model()
    with torch.no_grad():
        broken.base_model.layers[1].mlp.down_proj.weight[0, 0] = torch.inf
    with pytest.raises(ModelError, match="hidden states of prompt 0 are not finite under plan 1111"):
        train_routers(broken, [toy.prompts((4,))], [PLANS["plain"]], SMALL, progress=False)
