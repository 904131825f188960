"""A router learns plans that prompts decide, and is written with what it was taught."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from c2s.engines.layer_routing import LayerPlan, Router, RouterSettings, mean_depth
from c2s.errors import ArtefactError, ConfigError, ModelError
from c2s.training.plan_verdicts import Verdict
from c2s.training.routing import train_router
from c2s.training.searched_plans import SearchedPlans, plan_table
from tests.models.untrained import tiny_transformer
from tests.training import routable

SETTINGS = RouterSettings(windows=4, bottleneck=16, epochs=60, learning_rate=1e-2, focusing=0.0, class_balance=0.0)


@pytest.fixture(scope="module")
def taught():
    return routable.taught()


def test_it_decides_what_it_was_taught_and_is_the_same_again(taught, tmp_path):
    lm, before = routable.model(), copy.deepcopy(routable.model().model.state_dict())
    router = train_router(lm, taught, tmp_path / "router", settings=SETTINGS, progress=False)
    with lm.routed(router):
        assert lm.plans(taught.sentences) == taught.plans
    assert len(set(taught.plans)) == 2
    again = Router.load(tmp_path / "router")
    assert again.base == router.base == taught.base
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), router.state_dict().values()))
    assert all(torch.equal(before[name], each) for name, each in lm.model.state_dict().items())
    told = json.loads((tmp_path / "router" / "training.json").read_text())
    assert told["agreement"] == 1.0
    assert told["agreement_by_layer"] == [1.0] * routable.N_LAYERS
    assert told["taught"] == told["decided"]
    depths = [plan.depth for plan in taught.plans]
    assert told["taught"]["mean_layers"] == pytest.approx(sum(depths) / len(depths))
    with pytest.raises(ArtefactError, match="is not empty"):
        train_router(lm, taught, tmp_path / "router", settings=SETTINGS, progress=False)
    train_router(lm, taught, tmp_path / "router", settings=SETTINGS.with_(epochs=1), overwrite=True, progress=False)


def test_depth_is_calibrated_on_the_searched_cells(taught, tmp_path):
    lm = routable.model()
    router = train_router(lm, taught, tmp_path / "router", settings=SETTINGS, depth=2.5, progress=False)
    with lm.routed(Router.load(tmp_path / "router")):
        found = mean_depth(lm.plans(taught.sentences))
    assert abs(found - 2.5) <= 0.25
    assert router.skip_shift > 0
    assert json.loads((tmp_path / "router" / "training.json").read_text())["decided"]["mean_layers"] == pytest.approx(
        found
    )
    with pytest.raises(ConfigError, match="depth=9.0 is out of reach"):
        train_router(lm, taught, tmp_path / "none", settings=SETTINGS.with_(epochs=1), depth=9.0, progress=False)
    assert not (tmp_path / "none").exists()


def test_plans_of_other_weights_are_refused(taught, tmp_path):
    other = copy.copy(routable.model())
    other.model = tiny_transformer(len(other.tokens), num_hidden_layers=routable.N_LAYERS, seed=1)
    with pytest.raises(ModelError, match=f"searched for weights {taught.base}; these are .*c2s route search was given"):
        train_router(other, taught, tmp_path / "router", progress=False)
    assert not list(tmp_path.iterdir())


def test_a_table_of_searches_keeps_their_order():
    from c2s.engines.layer_routing import search

    found = [
        search(lambda plan, goal=goal: -abs(plan.depth - goal), 3, budget=27, method="exhaustive") for goal in (2, 4)
    ]
    said = [Verdict(str(each.best), str(each.best), 0.1, 0.01, 1) for each in found]
    table = plan_table(["a", "b"], ["x", "y"], found, said)
    assert [LayerPlan.parse(plan).depth for plan in table["plan"]] == [2, 4]
    assert table["full"].tolist() == [-1.0, -1.0]
    assert table.index.tolist() == ["a", "b"]
    assert isinstance(SearchedPlans(None, table, "k", "b", {}).summary(), str)
