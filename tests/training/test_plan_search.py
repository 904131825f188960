"""What a search finds by luck does not hold on fresh cells, what is planted does; a killed search goes on to the same plans."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from c2s.engines.layer_routing import LayerPlan, search
from c2s.errors import ArtefactError, ConfigError, DataError, ModelError
from c2s.training import label_rewards, plan_search
from c2s.training.plan_search import search_plans
from c2s.training.plan_settings import PlanSearchConfig
from c2s.training.plan_verdicts import verdicts
from c2s.training.searched_plans import SearchedPlans
from tests.training import routable

L = routable.N_LAYERS
FULL = LayerPlan.execute_all(L)
NOBODY = [np.array([], dtype=int)]  # of other types
SMALL = PlanSearchConfig(n_cells=6, budget=12, n_fresh=6, candidates=2, length_penalty=0.2, pool=30)


class Noise:
    """Rewards drawn anew for each cell and plan, but for one plan that is better by ``gain`` everywhere."""

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def reward(self, cell, plan):
        drawn = np.random.default_rng([cell, *plan.actions]).normal()
        return float(drawn + self.gain * (plan == routable.PLANTED))


def judged(gain, tmp_path, *, n=150):
    noise = Noise(gain)
    found = [search(lambda plan, cell=cell: noise.reward(cell, plan), L, budget=20, seed=cell) for cell in range(n)]
    alike = [np.arange(1000 + 8 * cell, 1008 + 8 * cell) for cell in range(n)]
    config = PlanSearchConfig(margin=0.0, length_penalty=0.0)
    return found, verdicts(noise, found, alike, NOBODY * n, tmp_path / "tests.jsonl", config, progress=False)


def test_luck_does_not_hold_and_a_gain_does(tmp_path):
    """Chance of accepting any of four lucky plans is alpha at most; three binomial deviations are allowed."""
    for name in "ab":
        (tmp_path / name).mkdir()
    found, lucky = judged(0.0, tmp_path / "a")
    assert np.mean([each.reward - each.tried[0][1] for each in found]) > 1.0  # so much luck there is
    accepted = np.mean([LayerPlan.parse(each.plan) != FULL for each in lucky])
    assert accepted <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)
    found, real = judged(6.0, tmp_path / "b", n=60)
    tried = [routable.PLANTED in dict(each.tried) for each in found]
    held = [each.plan == str(routable.PLANTED) for each in real]
    assert sum(tried) > 20
    assert np.mean(held) > 0.9 * np.mean(tried)


def test_a_plan_that_gives_all_cells_one_label_is_not_kept(tmp_path):
    """It is right for the cell searched and for all of its type, whatever their genes."""

    class OneLabel:
        def reward(self, cell, plan):
            says_it_to_all = str(plan) == "0000"
            return -0.01 if says_it_to_all and cell < 9 else -8.0 if says_it_to_all else -0.1

    found = [search(lambda plan: OneLabel().reward(0, plan), L, budget=81, method="exhaustive", length_penalty=0.3)]
    assert str(found[0].best) == "0000"
    config = PlanSearchConfig(candidates=1)
    args = (OneLabel(), found, [np.arange(1, 9)])
    (kept,) = verdicts(*args, NOBODY, tmp_path / "a.jsonl", config, progress=False)
    (refused,) = verdicts(*args, [np.arange(9, 17)], tmp_path / "b.jsonl", config, progress=False)
    assert kept.plan == refused.candidate == "0000"
    assert refused.plan != "0000"
    assert refused.blind == 1


def test_a_plan_that_saves_nothing_must_gain(tmp_path):
    """Equal rewards everywhere: a margin lets the shallower plan through, and never one that is as deep."""

    class Flat:
        def reward(self, cell, plan):
            return 0.0 if cell or plan == FULL else 1.0

    for text, holds in (("1110", True), ("2011", False), ("2111", False)):
        plan = LayerPlan.parse(text)
        found = [search(lambda each, plan=plan: float(each == plan), L, budget=81, method="exhaustive")]
        assert found[0].best == plan
        config = PlanSearchConfig(candidates=1, length_penalty=0.0)
        (verdict,) = verdicts(
            Flat(), found, [np.arange(1, 9)], NOBODY, tmp_path / f"{text}.jsonl", config, progress=False
        )
        assert (verdict.plan == text) is holds
        assert (verdict.candidate, verdict.difference, verdict.tested) == (text, 0.0, 1)


def test_the_next_best_plan_is_tried_where_the_best_does_not_hold(tmp_path):
    class Known:
        def reward(self, cell, plan):
            return {"0111": 3.0 if cell == 0 else -1.0, "1101": 2.0}.get(str(plan), 0.0)

    found = [search(lambda plan: Known().reward(0, plan), L, budget=81, method="exhaustive")]
    config = PlanSearchConfig(length_penalty=0.0)
    (verdict,) = verdicts(Known(), found, [np.arange(1, 9)], NOBODY, tmp_path / "a.jsonl", config, progress=False)
    assert (verdict.plan, verdict.candidate, verdict.difference, verdict.tested) == ("1101", "0111", 2.0, 2)
    assert verdict.p == 0.5**8
    (verdict,) = verdicts(
        Known(), found, [np.arange(1, 9)], NOBODY, tmp_path / "b.jsonl", config.with_(candidates=1), progress=False
    )
    assert (verdict.plan, verdict.candidate, verdict.difference, verdict.tested) == ("1111", "0111", -1.0, 1)


def test_plans_are_tested_on_the_most_alike_of_the_type_but_not_on_the_cell_itself(tmp_path, monkeypatch):
    lm, cells, seen = routable.model(), routable.sentences(), []

    def spied(rewards, found, alike, *args, **named):
        seen.extend(alike)
        return verdicts(rewards, found, alike, *args, **named)

    monkeypatch.setattr(plan_search, "verdicts", spied)
    found = search_plans(
        lm, cells, tmp_path / "out", labels_key="cell_type", config=SMALL.with_(budget=2, pool=100), progress=False
    )
    labels, vectors = cells.obs["cell_type"].to_numpy(), lm.embed(cells)
    for cell, alike in zip(cells.obs.index.get_indexer(found.table.index), seen, strict=True):
        others = [i for i in np.flatnonzero(labels == labels[cell]) if i != cell]
        near = NearestNeighbors(n_neighbors=6, metric="cosine").fit(vectors[others]).kneighbors(vectors[[cell]])[1][0]
        assert set(alike) == {others[i] for i in near}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    out = tmp_path_factory.mktemp("plans") / "plans"
    found = search_plans(
        routable.model(), routable.sentences(), out, labels_key="cell_type", config=SMALL, progress=False
    )
    return found, out


def test_the_folder_holds_what_was_returned(searched):
    found, out = searched
    again = SearchedPlans.read(out)
    pd.testing.assert_frame_equal(again.table, found.table)
    assert again.plans == found.plans
    assert (again.labels_key, again.base, again.config) == (found.labels_key, found.base, found.config)
    assert [again.sentences.row(i).tolist() for i in range(6)] == [found.sentences.row(i).tolist() for i in range(6)]
    assert sorted(path.name for path in out.iterdir()) == ["cells", "plans.csv", "plans.json", "search"]
    assert pd.read_csv(out / "plans.csv", dtype={"plan": str})["plan"].tolist() == found.table["plan"].tolist()
    assert found.table["label"].tolist() == found.sentences.obs["cell_type"].tolist()
    assert set(found.table["label"]) == set(routable.sentences().obs["cell_type"])  # alike many of each
    assert found.table["simulations"].tolist() == [12] * 6
    assert (found.table["tested"] <= 2).all()
    assert found.summary().startswith("6 cells, ")


def test_a_killed_search_goes_on_to_the_same_plans(searched, tmp_path, monkeypatch):
    found, _ = searched
    asked, limit = [], {}
    reward = label_rewards.LabelRewards.reward

    def counted(self, cell, plan):
        if len(asked) == limit["asked"]:
            raise KeyboardInterrupt
        asked.append((cell, plan))
        return reward(self, cell, plan)

    monkeypatch.setattr(label_rewards.LabelRewards, "reward", counted)
    for limit["asked"] in (30, 78):  # in a search, and in a test
        with pytest.raises(KeyboardInterrupt):
            search_plans(routable.model(), routable.sentences(), tmp_path / "out", labels_key="cell_type", config=SMALL, progress=False)  # fmt: skip
        assert not (tmp_path / "out").exists()
        asked.clear()
    limit["asked"] = -1
    again = search_plans(routable.model(), routable.sentences(), tmp_path / "out", labels_key="cell_type", config=SMALL, progress=False)  # fmt: skip
    pd.testing.assert_frame_equal(again.table, found.table)
    assert len({cell for cell, _ in asked[:12]}) > 1  # no search is begun again: only tests are left


def run(out, sentences=None, **changes):
    known = routable.sentences() if sentences is None else sentences
    key = changes.pop("labels_key", "cell_type")
    return search_plans(routable.model(), known, out, labels_key=key, config=SMALL.with_(**changes), progress=False)


def test_what_is_refused_before_any_search(searched, tmp_path):
    cells = routable.sentences()
    with pytest.raises(DataError, match="obs has no column 'type'"):
        run(tmp_path / "out", labels_key="type")
    elf = cells.with_obs(cells.obs.assign(cell_type="elf"))
    with pytest.raises(DataError, match="holds elf, which the model was not trained on; it knows"):
        run(tmp_path / "out", elf)
    with pytest.raises(DataError, match="no type has more than n_fresh=6 cells .*; give more cells"):
        run(tmp_path / "out", cells[:4])
    with pytest.raises(ArtefactError, match="is not empty; name another folder"):
        run(searched[1])
    with pytest.raises(
        ConfigError, match="n_fresh=2 must be below pool=30, and at least 6 to test 2 candidates at alpha=0.05"
    ):
        SMALL.with_(n_fresh=2)
    with routable.model().routed(routable.PLANTED), pytest.raises(ModelError, match="searched plans are of the whole"):
        run(tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("change", "message"), [
    (lambda record: record.pop("base"), "is damaged .it lacks 'base'"),
    (lambda record: record["plans"]["plan"].__setitem__(0, "13"), "is damaged|no plan"),
    (lambda record: record["plans"].update({k: v[:3] for k, v in record["plans"].items()}), "holds 3 plans of 6 cells; search again"),
    (lambda record: record["plans"]["plan"].__setitem__(0, "11"), "holds plans of 2, 4 layers; search again"),
    (lambda record: record.update(format="else"), "expected 'c2s plans of cells'"),
])  # fmt: skip
def test_damaged_plans(searched, tmp_path, change, message):
    found, _ = searched
    found.write(tmp_path)
    record = json.loads((tmp_path / "plans.json").read_text())
    change(record)
    (tmp_path / "plans.json").write_text(json.dumps(record))
    with pytest.raises((ArtefactError, ConfigError), match=message):
        SearchedPlans.read(tmp_path)
