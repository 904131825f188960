"""Searches against all 729 plans of six layers; what they count, where they end, what they refuse."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.searching import SearchResult, search
from c2s.engines.layer_routing.uct import UctSearcher
from c2s.errors import ConfigError, DataError
from tests.engines.layer_routing.toy import ToyReward

PENALTY = 0.6
ALL = [LayerPlan(actions) for actions in itertools.product(range(3), repeat=6)]
HELD_OUT = range(
    7000, 7050
)  # the constants of uct.py were chosen on toys 1000 to 1099 and, of 16 and 28 layers, 4000 to 4014


def test_uct_finds_the_optimum_of_toys_that_did_not_tune_it(capsys):
    near = dict.fromkeys(("uct", "random", "greedy"), 0)
    for seed in HELD_OUT:
        reward = ToyReward(seed)
        optimum = max(reward(plan) - PENALTY * plan.depth / 6 for plan in ALL)
        for method in near:
            found = search(ToyReward(seed), 6, budget=180, method=method, length_penalty=PENALTY, seed=seed)
            near[method] += found.value >= optimum - 0.01 * abs(optimum)
    with capsys.disabled():
        print(f"\nwithin 1 % of the optimum, of {len(HELD_OUT)} toys, 180 of 729 plans: {near}")
    assert near["uct"] >= 0.9 * len(HELD_OUT)
    assert near["random"] < near["uct"] and near["greedy"] < near["uct"]


@pytest.mark.parametrize("method", ["uct", "random", "greedy"])
def test_a_search_keeps_its_budget_tries_nothing_twice_and_is_its_seeds(method):
    rewards = [ToyReward(1) for _ in range(2)]
    one, other = (search(reward, 6, budget=60, method=method, length_penalty=PENALTY, seed=3) for reward in rewards)
    assert one == other
    plans = [plan for plan, _ in one.tried]
    assert plans[0] == LayerPlan.execute_all(6) and plans == rewards[0].asked
    assert len(set(plans)) == len(plans) == one.simulations <= 60
    assert one.executions == sum(plan.depth for plan in plans)
    assert one.value == pytest.approx(one.reward - PENALTY * one.best.depth / 6)
    assert one.value == max(reward - PENALTY * plan.depth / 6 for plan, reward in one.tried)
    assert SearchResult.restore(one.record()) == one
    if method != "greedy":
        assert one != search(ToyReward(1), 6, budget=60, method=method, length_penalty=PENALTY, seed=4)


def test_an_exhaustive_search_tries_all_plans():
    reward = ToyReward(0, 4)
    found = search(reward, 4, budget=81, method="exhaustive")
    assert found.simulations == 81 and found.reward == max(map(reward, {plan for plan, _ in found.tried}))


def test_uct_and_random_try_every_plan_once_and_end():
    for method in ("uct", "random"):
        found = search(ToyReward(0, 4), 4, budget=1000, method=method)
        assert found.simulations == 81 and len({plan for plan, _ in found.tried}) == 81


def test_children_of_a_node_are_one_more_edit_and_transpositions_are_one_node():
    searcher, reward = UctSearcher(4, np.random.default_rng(0)), ToyReward(5, 4)
    while (plan := searcher.ask()) is not None:
        searcher.tell(plan, reward(plan))
    for plan, node in searcher._nodes.items():
        assert all(
            child.edits() > plan.edits() and len(child.edits()) == len(plan.edits()) + 1 for child in node.children
        )
        assert len(node.children) == len(set(node.children)) == 2 * (4 - len(plan.edits()))
    assert len(searcher._nodes) == 81


def test_uct_prefers_what_is_good_and_shallow():
    def reward(plan):
        return 1.0 if plan[0] == 1 else 0.0  # every other layer is idle

    found = search(reward, 8, budget=120, length_penalty=0.5)
    assert found.best[0] == 1 and found.best.depth <= 2
    assert search(reward, 8, budget=120, length_penalty=0.0).best.depth < 8  # of equals the shallowest


def test_greedy_removal_drops_what_helps_most_until_nothing_helps():
    worth = np.array([3.0, -2.0, 1.0, -0.5, 0.25])
    asked = []

    def reward(plan):
        asked.append(str(plan))
        return float(worth @ plan.actions)

    found = search(reward, 5, budget=100, method="greedy")
    assert str(found.best) == "10101" and found.reward == pytest.approx(4.25)
    assert asked == [
        "11111", "01111", "10111", "11011", "11101", "11110", "00111", "10011", "10101", "10110", "00101", "10001", "10100",
    ]  # fmt: skip
    asked.clear()
    assert search(reward, 5, budget=7, method="greedy").simulations == 7


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"budget": 0}, "budget=0"),
        ({"budget": 5, "length_penalty": -1.0}, "length_penalty=-1.0"),
        ({"budget": 5, "length_penalty": float("nan")}, "length_penalty=nan"),
        ({"budget": 728, "method": "exhaustive"}, "6 layers have 729 plans"),
        ({"budget": 5, "method": "mcts"}, "'mcts' is none of"),
    ],
)
def test_settings_out_of_range_are_refused(told, message):
    with pytest.raises(ConfigError, match=message):
        search(ToyReward(0), 6, **told)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rewards_are_finite(bad):
    with pytest.raises(DataError, match="the reward of plan 111 is"):
        search(lambda plan: bad, 3, budget=2)
