"""Routers: their size, what they do not see, when they are asked, and what is left of them on disk."""

from __future__ import annotations

import json

import pytest
import torch

from c2s.engines.layer_routing.fingerprint import fingerprint
from c2s.engines.layer_routing.hooks import routed
from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.router import Router
from c2s.engines.layer_routing.routing import calibrate_depth, mean_depth, plans_of
from c2s.errors import ArtefactError, ConfigError, ModelError
from tests.engines.layer_routing import toy


def undecided_router(dtype=torch.float64, **more):
    """A router whose random logits differ from prompt to prompt enough that each action is taken."""
    router = Router(toy.N_LAYERS, 32, windows=4, bottleneck=8, **more).to(dtype)
    batch, tokens = (
        torch.randn(64, toy.N_LAYERS, 4, 32, generator=torch.Generator().manual_seed(0)),
        torch.ones(64, 4, dtype=torch.bool),
    )
    router.standardise(batch.to(dtype), tokens)
    with torch.no_grad():
        router.up.mul_(20)
    return router


def written(model, inputs, **more):
    return model.generate(**inputs, max_new_tokens=5, do_sample=False, eos_token_id=None, **more)


def test_the_number_of_parameters_is_the_formula():
    for layers, width, bottleneck in ((28, 64, 128), (4, 32, 8), (1, 3, 1)):
        found = sum(each.numel() for each in Router(layers, width, bottleneck=bottleneck).parameters())
        assert found == layers * (width * bottleneck + bottleneck + 3 * bottleneck + 3)


def test_all_layers_at_once_are_each_layer_alone():
    router, draw = undecided_router(), torch.Generator().manual_seed(1)
    hidden = torch.randn(3, 10, 32, dtype=torch.float64, generator=draw)
    tokens = torch.ones(3, 10, dtype=torch.bool)
    tokens[1, :7] = False
    from c2s.engines.layer_routing.pooling import window_means

    means, there = window_means(hidden, tokens, 4)
    whole = router(means[:, None].expand(-1, toy.N_LAYERS, -1, -1), there)
    for layer in range(toy.N_LAYERS):
        assert torch.allclose(router.layer_logits(layer, hidden, tokens), whole[:, layer], rtol=0, atol=1e-12)
    before = router.layer_logits(1, hidden, tokens)
    router.skip_shift = 1.5
    shift = router.layer_logits(1, hidden, tokens) - before
    assert torch.allclose(shift, torch.tensor([1.5, 0.0, 0.0], dtype=torch.float64).expand(3, 3))


def test_order_inside_a_window_and_padding_are_not_seen_but_the_last_token_is():
    router, draw = undecided_router(), torch.Generator().manual_seed(1)
    hidden = torch.randn(1, 11, 32, dtype=torch.float64, generator=draw)  # windows of tokens 0-2, 3-5, 6-8, 9-10
    tokens = torch.ones(1, 11, dtype=torch.bool)
    plain = router.layer_logits(2, hidden, tokens)
    inside, across = [2, 0, 1, 5, 4, 3, 6, 8, 7, 10, 9], [3, 1, 2, 0, 4, 5, 6, 7, 8, 9, 10]
    assert torch.allclose(router.layer_logits(2, hidden[:, inside], tokens), plain, rtol=0, atol=1e-10)
    assert not torch.allclose(router.layer_logits(2, hidden[:, across], tokens), plain, atol=1e-3)
    changed = hidden.clone()
    changed[:, -1] += 1
    assert not torch.allclose(router.layer_logits(2, changed, tokens), plain, atol=1e-3)
    for left, right in ((5, 0), (0, 3), (2, 2)):
        wide = torch.nn.functional.pad(hidden, (0, 0, left, right), value=7.0)
        mask = torch.nn.functional.pad(tokens, (left, right), value=False)
        assert torch.allclose(router.layer_logits(2, wide, mask), plain, rtol=0, atol=1e-10)


@pytest.mark.parametrize("how", [{}, {"use_cache": False}, {"num_beams": 3}])
def test_a_router_is_asked_once_a_layer_and_sequence(how, monkeypatch):
    model, inputs, router = toy.shared("llama", torch.float64), toy.prompts((9, 4, 7, 6)), undecided_router()
    asked = []
    original = Router.layer_logits
    monkeypatch.setattr(Router, "layer_logits", lambda self, layer, hidden, tokens: asked.append((layer, *hidden.shape[:2])) or original(self, layer, hidden, tokens))  # fmt: skip
    rows = 4 * how.get("num_beams", 1)
    with router.attached(model) as routing:
        first = written(model, inputs, **how)
        assert asked == [(layer, rows, 9) for layer in range(toy.N_LAYERS)]
        plans = routing.plans
        other = toy.prompts((5, 8), seed=3)
        written(model, other, **how)  # another call decides anew
        assert asked[toy.N_LAYERS :] == [(layer, rows // 2, 8) for layer in range(toy.N_LAYERS)]
    assert len(set(plans)) > 1 and {action for plan in plans for action in plan} == {0, 1, 2}
    plans = plans[:: rows // 4]
    with routed(model, plans):
        assert torch.equal(written(model, inputs, **how), first)
    for row, plan in enumerate(plans):  # whatever else is in the batch
        alone = {name: value[row : row + 1] for name, value in inputs.items()}
        assert plans_of(router, model, [alone]) == [plan]


@pytest.mark.parametrize("depth", [1.0, 2.75])
def test_the_depth_knob_reaches_its_target(depth):
    model, router = toy.shared("llama", torch.float64), undecided_router()
    sample = [toy.prompts(range(3, 11), seed=seed) for seed in range(4)]
    reached = calibrate_depth(router, model, sample, depth=depth)
    assert abs(reached - depth) <= 0.25
    assert mean_depth(plans_of(router, model, sample)) == reached
    with router.attached(model) as routing, torch.no_grad():
        model(**sample[0])
    assert routing.executed == sum(plan.depth for plan in routing.plans) * 10


def test_a_depth_out_of_reach_leaves_the_router_as_it_was():
    model, router = toy.shared("llama", torch.float64), undecided_router()
    router.skip_shift = 0.5
    with pytest.raises(ConfigError, match=r"depth=9 is out of reach: shifts of this router give 0\.00 to"):
        calibrate_depth(router, model, [toy.prompts()], depth=9)
    assert router.skip_shift == 0.5
    with pytest.raises(ConfigError, match="there are 0 batches"):
        calibrate_depth(router, model, [], depth=2)


def test_a_saved_router_is_the_same(tmp_path):
    router = undecided_router(torch.float32, seed=4)
    router.skip_shift, router.base = 0.75, fingerprint(toy.shared())
    assert router.save(tmp_path / "router") == tmp_path / "router"
    loaded = Router.load(tmp_path / "router")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in router.state_dict().items())
    assert (loaded.skip_shift, loaded.base, loaded.windows, loaded.bottleneck) == (0.75, router.base, 4, 8)
    assert plans_of(loaded, toy.shared(), [toy.prompts()]) == plans_of(router, toy.shared(), [toy.prompts()])
    with pytest.raises(ArtefactError, match="not empty"):
        router.save(tmp_path / "router")


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("router.safetensors", lambda whole: whole[: len(whole) // 2], "cannot be read as the weights"),
        ("router.safetensors", lambda whole: b"", "cannot be read as the weights"),
        ("router.json", lambda whole: whole[: len(whole) // 2], "is not valid JSON"),
        ("router.json", lambda whole: whole.replace(b'"version": 1', b'"version": 2'), "install a newer c2s"),
        ("router.json", lambda whole: whole.replace(b"c2s layer router", b"something"), "expected 'c2s layer router'"),
        ("router.json", lambda whole: whole.replace(b"windows", b"doors"), "it lacks 'windows'"),
        (
            "router.json",
            lambda whole: whole.replace(b'"n_layers": 4', b'"n_layers": 5'),
            "cannot be read as the weights",
        ),
        ("router.json", None, "no file"),
        ("router.safetensors", None, "cannot be read as the weights"),
    ],
)
def test_a_damaged_router_is_refused(tmp_path, name, damage, message):
    undecided_router(torch.float32).save(tmp_path / "router")
    path = tmp_path / "router" / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtefactError, match=message):
        Router.load(tmp_path / "router")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    router = undecided_router(torch.float32)
    with torch.no_grad():
        router.up[0, 0, 0] = torch.nan
    router.save(tmp_path / "router")
    with pytest.raises(ArtefactError, match="up with values that are not finite"):
        Router.load(tmp_path / "router")


def test_a_router_knows_its_model_with_and_without_adapters():
    from peft import LoraConfig, get_peft_model

    model, router = toy.model(), undecided_router(torch.float32)
    router.base = fingerprint(model)
    assert fingerprint(toy.model(dtype=torch.bfloat16)) == router.base
    assert json.dumps(router.base) != json.dumps(fingerprint(toy.model(seed=1)))
    plain = plans_of(router, model, [toy.prompts()])
    with torch.random.fork_rng():
        tuned = get_peft_model(model, LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj", "v_proj"]))
    with router.attached(tuned) as routing, torch.no_grad():
        tuned(**toy.prompts())
    assert len(routing.plans) == len(plain)
    merged = tuned.merge_and_unload()
    with pytest.raises(ModelError, match="Pass other_weights=True"), router.attached(merged):
        pass
    with router.attached(merged, other_weights=True):
        pass
    with (
        pytest.raises(ModelError, match="4 layers of width 32; the model has 3 of width 32"),
        router.attached(toy.model(num_hidden_layers=3)),
    ):
        pass


def test_prompts_in_parts_and_masks_that_hide_padding_are_refused():
    model, router = toy.shared("llama", torch.float64), undecided_router()
    with router.attached(model):
        with pytest.raises(ConfigError, match="prefill_chunk_size=4 reads a prompt in parts"):
            written(model, toy.prompts(), prefill_chunk_size=4)
        with pytest.raises(ModelError, match="the attention mask is"):
            model(toy.prompts()["input_ids"], attention_mask=torch.ones(3, 1, 9, 9, dtype=torch.bool))
    with routed(model, LayerPlan.parse("0212")):  # a plan that is fixed does not mind
        whole = written(model, toy.prompts())
        assert torch.equal(written(model, toy.prompts(), prefill_chunk_size=4), whole)


def test_sizes_are_positive():
    with pytest.raises(ConfigError, match="windows=0"):
        Router(2, 3, windows=0)
