"""A router's table says what its parts say one by one; rivals have its depth; what was searched is no test."""

from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score

from c2s.baselines.routing import FULL, evaluate_routing
from c2s.baselines.routing_rivals import RoutingRivals
from c2s.engines.layer_routing import LayerPlan, RouterSettings, mean_depth
from c2s.errors import ConfigError, DataError, ModelError
from c2s.training.routing import train_router
from tests.training import routable


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    settings = RouterSettings(windows=4, bottleneck=8, epochs=20, learning_rate=1e-2)
    out = tmp_path_factory.mktemp("router") / "router"
    return train_router(routable.model(), routable.taught(), out, settings=settings, progress=False)


def evaluated(router, **changes):
    settings = {"labels_key": "cell_type", "training": routable.taught(), "draws": 1, "rounds": 1, "timed": 8}
    return evaluate_routing(routable.model(), routable.sentences(), router, progress=False, **{**settings, **changes})


@pytest.fixture(scope="module")
def found(router):
    return evaluated(router)


def test_scores_are_those_of_each_model_alone(router, found):
    lm, cells = routable.model(), routable.sentences()
    truth = cells.obs["cell_type"]
    for row, plans in ((FULL, None), ("router", router)):
        with lm.routed(plans):
            said = lm.annotate(cells)["label"]
        line = found.table.loc[row]
        assert line["accuracy"] == pytest.approx((said == truth).mean())
        assert line["macro F1"] == pytest.approx(f1_score(truth, said, average="macro", labels=truth.unique()))
    full = found.table.loc[FULL]
    assert (full["layers"], full["token-layers"], full["time"]) == (routable.N_LAYERS, 1.0, 1.0)
    with lm.routed(router):
        plans = lm.plans(cells)
    assert found.table.loc["router", "layers"] == pytest.approx(mean_depth(plans))
    runs = np.array([plan.actions for plan in plans])
    for label, line in found.decisions.iterrows():
        np.testing.assert_allclose(line, runs[(truth == label).to_numpy()].mean(0))


def test_rivals_have_the_routers_depth(found):
    depth = found.table.loc["router", "layers"]
    whole = min(int(np.ceil(depth)), routable.N_LAYERS)
    removed = [f"ShortGPT, {whole} layers", f"TALE, {whole} layers", f"random removal 1, {whole} layers"]
    assert found.table.loc[removed, "layers"].tolist() == [whole] * 3
    assert found.table.index.tolist()[:-1] == [FULL, "router", *removed]
    assert found.table.index[-1].startswith("early exit, ")


def test_early_exit_is_set_to_a_depth_on_training_cells():
    """Each cell leaves at one of four depths, so a threshold comes within one cell of any mean."""
    lm = routable.model()
    rivals = RoutingRivals(lm, routable.taught(), draws=0, seed=0)
    reached = []
    for depth in (1.0, 2.5, 4.0):
        found, told = rivals.early_exit(depth)
        with lm.routed(found):
            reached.append(mean_depth(lm.plans(routable.taught().sentences)))
        assert told == reached[-1]
    assert reached[0] == 1.0
    assert reached == sorted(reached)
    assert abs(reached[1] - 2.5) < 0.5


def test_early_exit_reaches_the_depth_of_a_model_that_is_sure_of_everything():
    """Probabilities near 1 are told apart by their log-odds."""
    lm = copy.deepcopy(routable.model())
    with torch.no_grad():
        lm.model.get_decoder().norm.weight *= 10
    _, told = RoutingRivals(lm, routable.taught(), draws=0, seed=0).early_exit(2.5)
    assert abs(told - 2.5) < 0.5


def test_tale_is_the_greedy_removal_by_labels():
    lm = routable.model()
    rivals = RoutingRivals(lm, routable.taught(), draws=0, seed=0)
    plans = dict(rivals.at(3.0))
    one_less = [LayerPlan.execute_all(4).with_action(layer, 0) for layer in range(4)]
    assert plans["TALE, 3 layers"] == max(one_less, key=rivals.reward)
    with lm.routed(one_less[1]):
        table = lm.annotate(routable.taught().sentences)
    right = [table[f"p({label})"].iloc[i] for i, label in enumerate(routable.taught().labels)]
    assert rivals.reward(one_less[1]) == pytest.approx(np.log(right).mean())


def test_a_curve_over_depths_leaves_the_router_as_it_was(router):
    before = router.skip_shift
    with_depths = evaluated(router, depths=[2.0, 3.0], draws=0)
    assert router.skip_shift == before
    layers = with_depths.table.loc[[f"router, asked for {depth} layers" for depth in (2, 3)], "layers"]
    assert layers.iloc[0] < layers.iloc[1]
    with pytest.raises(ConfigError, match=r"depth=11.0 is out of reach: .* layers on these prompts"):
        evaluated(router, depths=[11.0])


def test_what_is_written(found, tmp_path):
    found.write(tmp_path)
    assert pd.read_csv(tmp_path / "scores.csv", index_col=0).index.tolist() == found.table.index.tolist()
    record = json.loads((tmp_path / "results.json").read_text())
    assert (record["n_cells"], record["n_timed"], record["rounds"]) == (60, 8, 1)
    assert [line["row"] for line in record["results"]] == found.table.index.tolist()
    assert (tmp_path / "summary.md").read_text().count("\n") == 2 + len(found.table)
    with Image.open(tmp_path / "decisions.png") as image:
        assert image.format == "PNG"
    assert pd.read_csv(tmp_path / "decisions.csv", index_col=0).shape == (2, routable.N_LAYERS)


def test_what_is_refused(router):
    lm, searched = routable.model(), routable.taught()
    with pytest.raises(DataError, match=r"30 of 30 test cells were searched \(cell7_0\)"):
        evaluate_routing(lm, searched.sentences, router, labels_key="cell_type", training=searched)
    with pytest.raises(DataError, match="obs has no column 'type'"):
        evaluated(router, labels_key="type")
    with pytest.raises(ConfigError, match="rounds=0 and timed=8 must be at least 1"):
        evaluated(router, rounds=0)
    with lm.routed(router), pytest.raises(ModelError, match="comparisons are of the whole model"):
        evaluated(router)
