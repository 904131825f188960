"""A routed decoder is what its unrolled copy is: to the bit, cached or not, padded or not, row by row, beam by beam."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import DynamicCache

from c2s.engines.layer_routing import hooks, slots
from c2s.engines.layer_routing.hooks import routed
from c2s.engines.layer_routing.plan import LayerPlan
from c2s.errors import ConfigError, ModelError
from tests.engines.layer_routing import toy

MIXED = "0212"
PLANS = ["0212", "2110", "1111", "0021"]


def generate(model, inputs, **more):
    told = {"max_new_tokens": 6, "do_sample": False, "use_cache": True, "eos_token_id": None, **more}
    return model.generate(**inputs, **told, return_dict_in_generate=True, output_logits=True, output_scores=True)


def same(one, other) -> bool:
    return torch.equal(one.sequences, other.sequences) and all(
        torch.equal(a, b) for a, b in zip(one.logits, other.logits, strict=True)
    )


@pytest.mark.parametrize("family", [*toy.FAMILIES, "qwen2"])
def test_a_plan_that_executes_all_changes_no_bit(family):
    model, inputs = toy.shared(family), toy.prompts()
    with torch.no_grad():
        logits, written = model(**inputs).logits, generate(model, inputs)
        with routed(model, LayerPlan.execute_all(toy.N_LAYERS)) as routing:
            assert torch.equal(model(**inputs).logits, logits)
            assert same(generate(model, inputs), written)
        assert routing.executed == routing.whole
        assert torch.equal(model(**inputs).logits, logits)
    assert all("forward" not in layer.__dict__ for layer in model.base_model.layers)
    assert "generate" not in model.__dict__


@pytest.mark.parametrize("plan", [MIXED, "2012"])
@pytest.mark.parametrize("family", toy.FAMILIES)
def test_skipped_and_repeated_layers_equal_an_unrolled_copy(family, plan):
    model, inputs, plan = toy.shared(family), toy.prompts(), LayerPlan.parse(plan)
    copied = toy.unrolled(model, plan)
    with torch.no_grad():
        for use_cache in (True, False):
            expected = generate(copied, inputs, use_cache=use_cache)
            with routed(model, plan) as routing:
                assert same(generate(model, inputs, use_cache=use_cache), expected)
            assert routing.plans == [plan] * 3
            assert routing.executed * toy.N_LAYERS == routing.whole * plan.depth
        with routed(model, plan):
            assert torch.equal(model(**inputs).logits, copied(**inputs).logits)


def test_a_plan_of_no_layer_leaves_embeddings_and_head():
    model, inputs = toy.shared(), toy.prompts()
    with torch.no_grad(), routed(model, LayerPlan.parse("0000")) as routing:
        logits = model(**inputs).logits
        assert torch.equal(logits, routing.decoder.head(model.get_input_embeddings()(inputs["input_ids"])))
        cached, uncached = generate(model, inputs), generate(model, inputs, use_cache=False)
    assert torch.equal(cached.sequences, uncached.sequences)
    assert not routing.executed


@pytest.mark.parametrize("family", toy.FAMILIES)
def test_rows_with_different_plans_share_a_batch(family):
    model = toy.shared(family, torch.float64)
    inputs, plans = toy.prompts((9, 4, 7, 6)), [LayerPlan.parse(plan) for plan in PLANS]
    for use_cache in (True, False):
        with routed(model, plans) as routing:
            together = generate(model, inputs, use_cache=use_cache)
        assert routing.plans == plans
        for row, plan in enumerate(plans):
            with routed(model, plan):
                alone = generate(
                    model, {name: value[row : row + 1] for name, value in inputs.items()}, use_cache=use_cache
                )
            assert torch.equal(together.sequences[row], alone.sequences[0])
            for a, b in zip(together.logits, alone.logits, strict=True):
                assert (a[row] - b[0]).abs().max() < 1e-12


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_beams_follow_their_rows(family):
    model, inputs = toy.shared(family, torch.float64), toy.prompts((9, 4, 7, 6))
    plans, how = [LayerPlan.parse(plan) for plan in PLANS], {"num_beams": 3, "num_return_sequences": 2}
    with routed(model, plans):
        written = generate(model, inputs, **how)
    for row, plan in enumerate(plans):
        alone = {name: value[row : row + 1] for name, value in inputs.items()}
        expected = generate(toy.unrolled(model, plan), alone, **how)
        assert torch.equal(written.sequences[2 * row : 2 * row + 2], expected.sequences)
        assert (written.sequences_scores[2 * row : 2 * row + 2] - expected.sequences_scores).abs().max() < 1e-12


def test_one_plan_with_beams_equals_its_copy_to_the_bit():
    for family in toy.FAMILIES:
        model, inputs, plan = toy.shared(family), toy.prompts(), LayerPlan.parse(MIXED)
        expected = generate(toy.unrolled(model, plan), inputs, num_beams=4)
        with routed(model, plan):
            written = generate(model, inputs, num_beams=4)
        assert torch.equal(written.sequences, expected.sequences)
        assert torch.equal(written.sequences_scores, expected.sequences_scores)


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_samples_and_looked_up_drafts_equal_those_of_the_copy(family):
    model, plan = toy.shared(family), LayerPlan.parse(MIXED)
    copied = toy.unrolled(model, plan)
    for inputs, how in (
        (toy.prompts(), {"do_sample": True, "num_return_sequences": 2, "top_k": 5}),
        (toy.prompts((4,)), {"prompt_lookup_num_tokens": 2, "max_matching_ngram_size": 1, "max_new_tokens": 12}),
    ):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            expected = generate(copied, inputs, **how)
        with torch.random.fork_rng(), routed(model, plan):
            torch.manual_seed(0)
            assert torch.equal(generate(model, inputs, **how).sequences, expected.sequences)


def test_samples_of_a_row_have_its_plan():
    model, inputs = toy.shared("llama", torch.float64), toy.prompts((5, 8))
    plans = [LayerPlan.parse(plan) for plan in PLANS[:2]]
    with routed(model, plans) as routing:
        generate(model, inputs, do_sample=True, num_return_sequences=3)
    assert routing.plans == [plans[0]] * 3 + [plans[1]] * 3


def test_without_ghosts_lengths_are_wrong(monkeypatch):
    model, inputs, plan = toy.shared(), toy.prompts(), LayerPlan.parse(MIXED)
    expected = generate(toy.unrolled(model, plan), inputs)
    monkeypatch.setattr(hooks, "write_ghost", lambda *_: None)
    with routed(model, plan):
        assert not same(generate(model, inputs), expected)


def test_rows_of_a_cache_are_reordered_selected_and_repeated():
    model, inputs = toy.shared("gemma2", torch.float64), toy.prompts((9, 4, 7, 6))
    plans = [LayerPlan.parse(plan) for plan in PLANS]
    token = torch.tensor([[5], [9], [20], [31]])

    def follow(rows, change):
        with torch.no_grad(), routed(model, plans) as routing:
            cache = model(**inputs, use_cache=True).past_key_values
            change(cache)
            mask = torch.cat([inputs["attention_mask"], torch.ones(4, 1, dtype=torch.long)], 1)
            position = mask.sum(1, keepdim=True) - 1
            found = model(
                token[rows], attention_mask=mask[rows], position_ids=position[rows], past_key_values=cache
            ).logits
        assert routing.plans == [plans[row] for row in rows]
        return found

    whole = follow([0, 1, 2, 3], lambda cache: None)
    for rows in ([3, 1, 0, 2], [1, 1, 3, 3]):
        found = follow(rows, lambda cache, rows=rows: cache.reorder_cache(torch.tensor(rows)))
        assert (found - whole[rows]).abs().max() < 1e-12
    for rows in ([1], [2, 3], [0, 3], [1, 2]):  # layers that none of them runs are ghosts now, some that all run whole
        found = follow(rows, lambda cache, rows=rows: cache.batch_select_indices(torch.tensor(rows)))
        assert (found - whole[rows]).abs().max() < 1e-12
    rows = [0, 0, 1, 1, 2, 2, 3, 3]
    assert (
        follow(rows, lambda cache: cache.batch_repeat_interleave(2)) - whole[rows]
    ).abs().max() < 1e-12  # a prompt's cache, copied

    def copied(cache):
        other = copy.deepcopy(cache)
        cache.layers = other.layers

    assert (follow([0, 1, 2, 3], copied) - whole).abs().max() < 1e-12


def test_lora_is_routed_below_its_wrapper():
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(1)
        tuned = get_peft_model(
            toy.model(), LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj", "v_proj"])
        )
    tuned.eval()
    inputs, plan = toy.prompts(), LayerPlan.parse(MIXED)
    expected = generate(toy.unrolled(copy.deepcopy(tuned).merge_and_unload(), plan), inputs)
    with routed(tuned, plan):
        written = generate(tuned, inputs)
    assert torch.equal(written.sequences, expected.sequences)
    assert max((a - b).abs().max() for a, b in zip(written.logits, expected.logits)) < 1e-4


def test_the_model_is_as_before_after_an_exception():
    model, inputs = toy.shared(), toy.prompts()
    logits, own = model(**inputs).logits, model.base_model.layers[2].forward
    model.base_model.layers[2].forward = own  # such as accelerate sets
    with pytest.raises(RuntimeError, match="on purpose"), routed(model, LayerPlan.parse(MIXED)):
        raise RuntimeError("on purpose")
    assert model.base_model.layers[2].__dict__["forward"] is own
    assert "forward" not in model.base_model.layers[1].__dict__ and not model.base_model._forward_pre_hooks
    assert torch.equal(model(**inputs).logits, logits)


def test_what_does_not_fit_is_refused():
    model, inputs = toy.shared(), toy.prompts()
    plan = LayerPlan.parse(MIXED)
    with (
        pytest.raises(ConfigError, match="plan 11 is of 2 layers; the model has 4"),
        routed(model, LayerPlan.parse("11")),
    ):
        pass
    with pytest.raises(ConfigError, match="there is no plan"), routed(model, []):
        pass
    with routed(model, [plan, plan]) as routing:
        with pytest.raises(ModelError, match="no plan was decided"):
            _ = routing.plans
        for run in (lambda: model(**inputs), lambda: generate(model, inputs, num_beams=2)):
            with pytest.raises(ConfigError, match="there are 2 plans and 3 rows"):
                run()
        with pytest.raises(ModelError, match="under plans already"), routed(model, plan):
            pass
    read = model(**inputs, use_cache=True).past_key_values
    with routed(model, plan), pytest.raises(ModelError, match="9 tokens that were read under no plan"):
        model(inputs["input_ids"][:, :1], past_key_values=read)
    with routed(model, plan):
        read = model(**inputs, past_key_values=DynamicCache(), use_cache=True).past_key_values
        assert type(read.layers[4]) is slots.FrozenPlans
    with routed(model, LayerPlan.parse("1111")), pytest.raises(ModelError, match="filled under other plans"):
        model(inputs["input_ids"][:, :1], past_key_values=read)
    with routed(model, plan), pytest.raises(ModelError, match="decided for 3 rows, and 1 come now"):
        model(inputs["input_ids"][:1, :1], past_key_values=read)
    for kind in ("static", "offloaded"):
        with routed(model, plan), pytest.raises(ModelError, match="only a DynamicCache in place"):
            generate(model, inputs, cache_implementation=kind)
