"""Cells under plans of their own equal, one by one, unrolled copies of the weights; the batch is shared all the same."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from c2s.engines.layer_routing import LayerPlan, Router, plans_of
from c2s.engines.layer_routing.decisions import FixedPlans
from c2s.engines.layer_routing.fingerprint import fingerprint
from c2s.errors import ConfigError, ModelError
from c2s.models.batching import left_padded
from c2s.models.prefix import PrefixDecoder
from c2s.models.routed_prefix import RoutedPrefixDecoder
from c2s.perturbation.swap import swap_gaps
from tests.engines.layer_routing import toy
from tests.models.untrained import DRUGS, cells_of, tiny_transformer, untrained
from tests.training import routable

L = 4


def deep(**changes):
    """Return an untrained CellLM of four layers."""
    lm = untrained()
    lm.model = tiny_transformer(len(lm.tokens), num_hidden_layers=L, **changes)
    return lm


@pytest.fixture(scope="module")
def lm():
    return deep()


@pytest.fixture(scope="module")
def router(lm):
    """Return a router that decides differently from cell to cell."""
    made = Router(L, 32, windows=3, bottleneck=8, seed=3)
    made.base = fingerprint(lm.model)
    with torch.no_grad():
        made.up.mul_(30)  # or most cells agree
    return made


@pytest.fixture(scope="module")
def cells(lm):
    return cells_of(lm, 9)


def unrolled(model, plan):
    """Return a copy of the weights that runs them by a plan; its layers ask one configuration how to attend."""
    made = toy.unrolled(model, plan)
    for module in made.modules():
        if hasattr(module, "config"):
            module.config = made.config
    return made


def around(lm, plan):
    """Return a CellLM around a copy of the weights in which the layers of a plan stand one after the other."""
    made = copy.copy(lm)
    made.model, made.routing = unrolled(lm.model, plan), None
    return made


def annotation_plans(lm, router, cells):
    prompts = [torch.tensor([passage.ids]) for passage in lm.passages(cells)]
    return plans_of(
        router, lm.model, [{"input_ids": each, "attention_mask": torch.ones_like(each)} for each in prompts]
    )


def test_plans_are_the_ones_of_plain_transformers_and_differ(lm, router, cells):
    with lm.routed(router):
        found = lm.plans(cells)
    assert found == annotation_plans(lm, router, cells)
    assert len(set(found)) > 3
    assert {action for plan in found for action in plan} == {0, 1, 2}


def test_a_plan_that_runs_all_is_the_model_bit_for_bit(lm, cells):
    with lm.routed(LayerPlan.execute_all(L)):
        labels, written = lm.annotate(cells), lm.generate(n=5, cell_type="B cell")
        changed = lm.perturb(cells, DRUGS, n_samples=2)
        assert lm.routing_cost.share == 1.0
    pd.testing.assert_frame_equal(labels, lm.annotate(cells), check_exact=True)
    assert np.array_equal(written.ids, lm.generate(n=5, cell_type="B cell").ids)
    assert np.array_equal(changed.ids, lm.perturb(cells, DRUGS, n_samples=2).ids)
    assert lm.cost() == ""


def test_labels_equal_those_of_unrolled_weights_cell_by_cell(lm, router, cells):
    with lm.routed(router):
        found = lm.annotate(cells, batch_size=4)
    for i, plan in enumerate(annotation_plans(lm, router, cells)):
        alone = around(lm, plan).annotate(cells[[i]])
        assert found["label"].iloc[i] == alone["label"].iloc[0]
        np.testing.assert_allclose(found.filter(like="p(").iloc[i], alone.filter(like="p(").iloc[0], atol=1e-5)


def test_perturbed_cells_equal_those_of_unrolled_weights_cell_by_cell(lm, router, cells):
    """All drugs of a cell have the plan of its prefix; answers of unequal length are dropped from the batch meanwhile."""
    with lm.routed(router):
        found = lm.perturb(cells, DRUGS, n_samples=3)
    each = len(DRUGS) * 3
    spec, plans = lm.task("perturbation_response"), []
    for i in range(len(cells)):
        prefix = torch.tensor([lm.tokens.render(spec.prefix(cells.row(i)))])
        plans += plans_of(router, lm.model, [{"input_ids": prefix, "attention_mask": torch.ones_like(prefix)}])
        alone = around(lm, plans[i]).perturb(cells[[i]], DRUGS, n_samples=3)
        assert all(np.array_equal(found.row(i * each + j), alone.row(j)) for j in range(each))
    assert len(set(plans)) > 3
    assert not np.array_equal(found.ids, lm.perturb(cells, DRUGS, n_samples=3).ids)


def test_generated_cells_equal_those_of_unrolled_weights(lm, router):
    conditions = {"cell_type": "CD4 T cell", "tissue": "blood"}
    with lm.routed(router):
        found = lm.generate(n=4, conditions=conditions)
        (plan,) = set(lm.routing_cost.plans)
    assert plan != LayerPlan.execute_all(L)
    assert np.array_equal(found.ids, around(lm, plan).generate(n=4, conditions=conditions).ids)


def test_a_cells_answer_does_not_depend_on_its_batch_mates(lm, router, cells):
    with lm.routed(router):
        together = lm.annotate(cells).filter(like="p(")
        apart = pd.concat([lm.annotate(cells[[i]]) for i in range(len(cells))]).filter(like="p(")
    np.testing.assert_allclose(together, apart, atol=1e-5)


PLANS = [LayerPlan.parse(text) for text in ("1111", "0120", "2012", "0000", "1012")]


@pytest.mark.parametrize("family", toy.FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["32", "64"])
def test_rows_of_each_family_equal_unrolled_weights(family, dtype, tolerance):
    """Five cells of unequal prompts, two rows each, repeated as for samples, of which some are taken away later."""
    model, draw = toy.model(family, dtype=dtype), np.random.default_rng(0)
    prefixes = [draw.integers(3, toy.VOCABULARY, n).tolist() for n in (7, 3, 5, 1, 6)]
    suffixes = [draw.integers(3, toy.VOCABULARY, n).tolist() for n in (2, 4, 1, 3, 2, 2, 5, 1, 3, 3)]
    later = torch.from_numpy(draw.integers(3, toy.VOCABULARY, (5, 4, 2)))

    def run(decoder, cells):
        rows, cells = [2 * cell + row for cell in cells for row in (0, 1)], list(cells)
        with decoder.attached():
            prefix = decoder.prefill([prefixes[cell] for cell in cells], pad=toy.PAD)
            ids, seen = left_padded([suffixes[row] for row in rows], toy.PAD, decoder.device)
            cache = decoder.row_cache(12)
            hidden = [decoder.extend(prefix, cache, ids, seen)[:, -1]]
            new = later[cells].flatten(0, 1)
            for step, chosen in enumerate(
                (torch.arange(len(rows)).repeat_interleave(2), torch.arange(1, 2 * len(rows), 2))
            ):
                cache.select(chosen)
                seen, new = seen[chosen], new if step == 0 else new[chosen]
                seen = torch.cat([seen, torch.ones(len(seen), 1, dtype=torch.bool)], 1)
                hidden.append(decoder.extend(prefix, cache, new[:, step : step + 1], seen)[:, -1])
        return [prefix.last, *hidden]

    routed = RoutedPrefixDecoder(model, FixedPlans(PLANS))
    together = run(routed, range(5))
    assert routed.cost.plans == PLANS
    tokens = [len(prefixes[c]) + len(suffixes[2 * c]) + len(suffixes[2 * c + 1]) + 6 for c in range(5)]
    assert routed.cost.executed == sum(n * plan.depth for n, plan in zip(tokens, PLANS))
    assert routed.cost.whole == sum(tokens) * L
    for cell, plan in enumerate(PLANS):
        if not plan.depth:
            continue  # transformers builds no model without layers
        alone = run(PrefixDecoder(unrolled(model, plan)), [cell])
        for found, expected in zip(together, alone):
            each = len(expected)
            torch.testing.assert_close(found[each * cell : each * (cell + 1)], expected, rtol=0, atol=tolerance)


def test_a_layer_is_run_on_the_cells_that_run_it_and_no_others(lm):
    plans = [LayerPlan.parse(text) for text in ("1011", "2011", "1012")]
    decoder, shapes = RoutedPrefixDecoder(lm.model, FixedPlans(plans)), []
    handles = [
        layer.self_attn.register_forward_pre_hook(
            lambda module, args, named, index=index: shapes.append((index, len(named["hidden_states"]))), with_kwargs=True
        )
        for index, layer in enumerate(lm.model.model.layers)
    ]  # fmt: skip
    try:
        with decoder.attached():
            decoder.prefill([[5, 6], [7, 8, 9], [4]], pad=0)
    finally:
        for handle in handles:
            handle.remove()
    assert shapes == [(0, 3), (0, 1), (2, 3), (3, 3), (3, 1)]
    assert str(decoder.cost) == "3.67 of 4 layers a prompt, 22 of 24 token-layers (91.7%)"


def test_a_common_beginning_is_read_by_each_cell_under_its_own_plan(lm, router):
    prompts = [list(range(20)) + [cell] * 70 for cell in (30, 31, 32, 33)]
    decoder = RoutedPrefixDecoder(lm.model, router)
    assert PrefixDecoder(lm.model).common(prompts) == 20
    with decoder.attached():
        together = decoder.prefill(prompts, pad=0)
        alone = [decoder.prefill([prompt], pad=0) for prompt in prompts]
    assert together.plans == [each.plans[0] for each in alone]
    assert len(set(together.plans)) > 1
    torch.testing.assert_close(together.last, torch.cat([each.last for each in alone]), rtol=0, atol=1e-5)
    assert decoder.cost.whole == 2 * 4 * 90 * L


def test_cells_without_a_prefix_run_all_layers(lm, router):
    decoder = RoutedPrefixDecoder(lm.model, router)
    with decoder.attached():
        found = decoder.prefill([[], [5, 6, 7], []], pad=0).plans
        assert decoder.prefill([[], []], pad=0).plans == [LayerPlan.execute_all(L)] * 2
    assert found[0] == found[2] == LayerPlan.execute_all(L) != found[1]


def test_the_model_is_as_before_when_the_block_is_left(lm, router, cells):
    before = lm.annotate(cells)
    with pytest.raises(RuntimeError, match="stop"), RoutedPrefixDecoder(lm.model, router).attached():
        assert all("forward" in layer.__dict__ for layer in lm.model.model.layers)
        raise RuntimeError("stop")
    assert not any("forward" in layer.__dict__ for layer in lm.model.model.layers)
    with pytest.raises(RuntimeError), lm.routed(router):
        raise RuntimeError
    assert lm.routing is None
    pd.testing.assert_frame_equal(before, lm.annotate(cells), check_exact=True)


def test_what_is_refused_and_why(lm, router, cells):
    with lm.routed(router):
        with pytest.raises(ModelError, match="vectors are of the whole model, .*load it without routing="):
            lm.embed(cells)
        with pytest.raises(ModelError, match="attributions are of the whole model"):
            lm.attribute(cells, 0, label="B cell")
    with pytest.raises(ConfigError, match="load it with routing= to have plans"):
        lm.plans(cells)
    with pytest.raises(ConfigError, match="plan 11 is of 2 layers; the model has 4"):
        RoutedPrefixDecoder(lm.model, LayerPlan.parse("11"))
    with pytest.raises(ModelError, match="the router is of 4 layers of width 32; the model has 2 of width 32"):
        RoutedPrefixDecoder(untrained().model, router)
    with pytest.raises(ModelError, match=f"trained on weights {router.base}; these are [0-9a-f]{{16}}. Give the model"):
        RoutedPrefixDecoder(deep(seed=1).model, router)


def test_routing_that_would_be_ignored_or_misread_is_refused():
    lm = routable.model()
    with (
        pytest.raises(ConfigError, match="2 plans in order, and cells are read in batches of like lengths"),
        lm.routed(FixedPlans(PLANS[:2])),
    ):
        pass
    with lm.routed(PLANS[0]), pytest.raises(ModelError, match="swap gaps are of the whole model"):
        swap_gaps(lm, None)
