"""A lucky plan does not pass its re-test, a better one does, a shorter one does within its margin."""

from __future__ import annotations

import numpy as np
import pytest

from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.rewards import retest
from c2s.engines.layer_routing.searching import search
from c2s.errors import ConfigError, DataError

BASE = LayerPlan.execute_all(4)


def fresh(gains, seed=0, n=24):
    """Right or wrong, with a chance that depends on the plan."""

    def reward_of(draw):
        return lambda plan: float(np.random.default_rng([seed, draw, *plan.actions]).random() < gains(plan))

    return [reward_of(draw) for draw in range(n)]


def test_luck_is_found_out():
    """Of 60 plans that are all right in one of four questions the best is right in its own, and then no better than any other."""
    lucky = 0
    for seed in range(20):
        draws = fresh(lambda plan: 0.25, seed, n=25)
        best = search(draws[0], 4, budget=60, method="random", seed=seed).best
        assert draws[0](best) == 1.0
        lucky += retest(best, draws[1:]).holds
    assert lucky <= 3  # 1 is expected at alpha 0.05


def test_a_better_plan_holds():
    plan = LayerPlan.parse("1210")
    found = retest(plan, fresh(lambda each: 0.9 if each == plan else 0.1))
    assert found.holds and found.difference > 0.5 and found.n == 24 and found.against == BASE
    assert not retest(BASE, fresh(lambda each: 0.9 if each == plan else 0.1), against=plan).holds


def test_signs_tossed_give_the_closed_form():
    found = retest(LayerPlan.parse("0111"), [lambda plan: float(4 - plan.depth)] * 6)
    assert found.p == pytest.approx(2**-6) and found.difference == 1.0
    assert retest(LayerPlan.parse("0111"), [lambda plan: 1.0] * 6).p == 1.0  # no difference is no improvement


def test_a_margin_lets_shorter_plans_pass():
    worse = [lambda plan: 0.98 if plan == BASE else 0.97] * 8
    plan = LayerPlan.parse("1101")
    assert not retest(plan, worse).holds
    assert retest(plan, worse, margin=0.02).holds
    assert not retest(plan, worse, margin=0.005).holds


def test_what_cannot_be_told_is_refused():
    plan = LayerPlan.parse("1101")
    with pytest.raises(ConfigError, match="4 fresh draws cannot tell.*at least 5"):
        retest(plan, [lambda plan: 1.0] * 4)
    with pytest.raises(ConfigError, match="0 fresh draws"):
        retest(plan, [])
    with pytest.raises(ConfigError, match="margin=-1"):
        retest(plan, [lambda plan: 1.0] * 8, margin=-1)
    with pytest.raises(DataError, match="fresh draw 0 is not finite"):
        retest(plan, [lambda plan: float("nan")] * 8)
