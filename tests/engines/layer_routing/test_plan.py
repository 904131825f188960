"""Plans print, parse, hash and count; what is no plan is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2s.engines.layer_routing.plan import LayerPlan
from c2s.errors import ConfigError


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40))
def test_a_plan_survives_print_and_parse(actions):
    plan = LayerPlan(actions)
    assert LayerPlan.parse(str(plan)) == plan and hash(LayerPlan.parse(str(plan))) == hash(plan)
    assert plan.depth == sum(actions) and list(plan) == actions and len(plan) == len(actions)
    rebuilt = LayerPlan.execute_all(len(plan))
    for layer, action in plan.edits():
        rebuilt = rebuilt.with_action(layer, action)
    assert rebuilt == plan


@pytest.mark.parametrize(
    ("bad", "message"), [([], "has no layers"), ([1, 3], "holds 3"), ([1, -1], "holds -1"), ([0.5], "holds 0.5")]
)
def test_actions_are_0_1_or_2(bad, message):
    with pytest.raises(ConfigError, match=message):
        LayerPlan(bad)


@pytest.mark.parametrize("text", ["", "11a", "1 1", "13", "-1"])
def test_only_digits_are_parsed(text):
    with pytest.raises(ConfigError, match="is no plan"):
        LayerPlan.parse(text)
