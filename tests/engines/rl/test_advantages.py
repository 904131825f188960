"""Advantages against plain loops; flat groups, missing rewards and masked answers."""

from __future__ import annotations

import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.engines.rl.advantages import group_advantages
from c2s.errors import ConfigError, DataError

NAN = float("nan")


@pytest.mark.parametrize("scale", ["none", "group", "batch"])
def test_equals_plain_loops(scale):
    rewards, groups = [1.0, 0.0, 0.5, 3.0, 4.0, 2.5, 2.0], [4, 4, 4, 1, 1, 1, 1]
    found = group_advantages(torch.tensor(rewards, dtype=torch.float64), torch.tensor(groups), scale=scale)
    own = {g: [r for r, h in zip(rewards, groups) if h == g] for g in groups}
    centred = [r - statistics.mean(own[g]) for r, g in zip(rewards, groups)]
    divisor = {
        "none": lambda g: 1.0,
        "group": lambda g: statistics.stdev(own[g]) + 1e-4,
        "batch": lambda g: statistics.stdev(centred) + 1e-4,
    }[scale]
    expected = [a / divisor(g) for a, g in zip(centred, groups)]
    torch.testing.assert_close(found.values, torch.tensor(expected, dtype=torch.float64))
    assert found.kept.all() and not found.flat.any() and found.flat_share == 0.0


def test_spread_of_the_batch_is_that_of_centred_rewards():
    """Pass rates 0, 0, .1, .9, 1, 1: raw rewards spread by 0.50, centred ones by a third of it."""
    rates = [0.0, 0.0, 0.1, 0.9, 1.0, 1.0]
    rewards = torch.tensor([float(k < round(10 * p)) for p in rates for k in range(10)])
    groups = torch.arange(6).repeat_interleave(10)
    raw = rewards - torch.tensor(rates).repeat_interleave(10)
    found = group_advantages(rewards, groups, scale="batch").values
    divisor = (raw[20] / found[20]).item()
    assert rewards.std().item() == pytest.approx(0.504, abs=2e-3)
    assert divisor == pytest.approx(raw.std().item(), abs=2e-4) == pytest.approx(0.175, abs=1e-3)


@pytest.mark.parametrize("scale", ["none", "group", "batch"])
def test_equal_rewards_are_exactly_zero_whatever_the_rounding(scale):
    rewards = torch.tensor([0.1, 0.1 + 1e-8, 0.1, 1e6, 1e6 + 0.06, 1e6, 1e-9, 2e-9, 3e-9])
    found = group_advantages(rewards, torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]), scale=scale)
    assert (found.values[:6] == 0).all() and found.flat.tolist() == [True] * 6 + [False] * 3
    assert found.values[8] > 0 > found.values[6]
    assert found.flat_share == pytest.approx(2 / 3)


def test_flat_groups_leave_or_stay():
    rewards, groups = torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.tensor([0, 0, 1, 1])
    kept = group_advantages(rewards, groups, scale="batch", flat_groups="keep")
    dropped = group_advantages(rewards, groups, scale="batch", flat_groups="drop")
    assert kept.kept.tolist() == [True] * 4 and dropped.kept.tolist() == [False, False, True, True]
    assert kept.values[3] == pytest.approx(0.5 / (0.5 / 3) ** 0.5, rel=1e-3)
    assert dropped.values[3] == pytest.approx(0.5 / 0.5**0.5, rel=1e-3)


def test_hybrid_keeps_what_only_the_dense_reward_tells_apart():
    rewards = torch.tensor([-0.05, 0.05, 1.0, 1.0, 0.0, 1.0])
    verdicts = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    groups = torch.tensor([0, 0, 1, 1, 2, 2])
    hybrid = group_advantages(rewards, groups, scale="none", flat_groups="hybrid", verdicts=verdicts)
    drop = group_advantages(rewards, groups, scale="none", flat_groups="drop", verdicts=verdicts)
    assert hybrid.kept.tolist() == [True, True, False, False, True, True]
    assert drop.kept.tolist() == [False] * 4 + [True] * 2
    torch.testing.assert_close(hybrid.values, torch.tensor([-0.05, 0.05, 0, 0, -0.5, 0.5]))
    assert hybrid.flat_share == drop.flat_share == pytest.approx(2 / 3)


def test_missing_and_masked_answers_do_not_vote():
    groups = torch.zeros(4, dtype=torch.long)
    for rewards, counted in (
        ([NAN, 0.0, 1.0, 2.0], None),
        ([9.0, 0.0, 1.0, 2.0], torch.tensor([False, True, True, True])),
    ):
        found = group_advantages(torch.tensor(rewards), groups, scale="none", counted=counted)
        assert found.values.tolist() == [0.0, -1.0, 0.0, 1.0] and found.kept.tolist() == [False, True, True, True]


def test_nothing_left_is_no_error():
    found = group_advantages(torch.tensor([NAN, NAN]), torch.tensor([0, 0]), scale="batch", flat_groups="drop")
    assert found.values.tolist() == [0.0, 0.0] and not found.kept.any() and found.flat_share != found.flat_share
    lone = group_advantages(torch.tensor([1.0]), torch.tensor([0]), scale="group")
    assert lone.values.tolist() == [0.0] and lone.flat.tolist() == [True]


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_sum_to_zero_and_follow_order_shift_and_scale(data):
    n = data.draw(st.integers(2, 12))
    rewards = torch.tensor(data.draw(st.lists(st.integers(-8, 8), min_size=n, max_size=n)), dtype=torch.float64)
    groups = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    scale = data.draw(st.sampled_from(["none", "group", "batch"]))
    mode = data.draw(st.sampled_from(["drop", "keep"]))
    found = group_advantages(rewards, groups, scale=scale, flat_groups=mode)
    for g in groups.unique():
        assert abs(float(found.values[groups == g].sum())) < 1e-9
    order = torch.tensor(data.draw(st.permutations(range(n))))
    moved = group_advantages(rewards[order], groups[order] + 5, scale=scale, flat_groups=mode)
    torch.testing.assert_close(moved.values, found.values[order])
    assert torch.equal(moved.kept, found.kept[order])
    shifted = group_advantages(
        rewards + 3.0 * groups, groups, scale=scale, flat_groups=mode
    )  # every prompt its own shift
    torch.testing.assert_close(shifted.values, found.values)
    if scale == "none":
        twice = group_advantages(2 * rewards, groups, scale=scale, flat_groups=mode)
        torch.testing.assert_close(twice.values, 2 * found.values)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"flat_groups": "hybrid", "scale": "batch"}, "needs verdicts"),
        ({"flat_groups": "hybrid", "scale": "group", "verdicts": torch.zeros(2)}, "as loud as"),
        ({"scale": "std"}, "found 'std'"),
    ],
)
def test_contradictions_are_refused(knobs, message):
    with pytest.raises(ConfigError, match=message):
        group_advantages(torch.zeros(2), torch.zeros(2, dtype=torch.long), **knobs)


def test_infinite_rewards_and_other_lengths_are_refused():
    with pytest.raises(DataError, match="infinite"):
        group_advantages(torch.tensor([torch.inf, 0.0]), torch.tensor([0, 0]))
    with pytest.raises(DataError, match="one of each"):
        group_advantages(torch.zeros(2), torch.zeros(3, dtype=torch.long))
