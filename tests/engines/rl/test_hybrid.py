"""HERO: order, ties and gaps of the strata; weights act where they are put, and cancel where the paper puts them."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.engines.rl.advantages import group_advantages
from c2s.engines.rl.hybrid import HybridConfig, SpreadWeights, hybrid_rewards, loudness
from c2s.errors import ConfigError, DataError

NAN = float("nan")
GROUP = torch.zeros(4, dtype=torch.long)


def test_bands_by_hand():
    verdicts = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 0.0])
    scores = torch.tensor([3.0, 5.0, 4.0, -7.0, -6.0, 9.0], dtype=torch.float64)
    groups = torch.tensor([1, 1, 1, 1, 1, 0])
    found = hybrid_rewards(verdicts, scores, groups, HybridConfig(wrong_band=0.1, right_band=0.2))
    torch.testing.assert_close(found, torch.tensor([-0.1, 0.1, 0.0, 0.8, 1.2, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("verdicts", "scores", "expected"),
    [
        ([0, 0, 1, 1], [2.0, 2.0, 5.0, 5.0], [0.0, 0.0, 1.0, 1.0]),  # ties
        ([0, 1, 1, 1], [2.0, 1.0, 2.0, 3.0], [0.0, 0.95, 1.0, 1.05]),  # one alone
        ([0, 0, 1, 1], [1.0, NAN, NAN, 3.0], [0.0, 0.0, 1.0, 1.0]),  # without a score: the verdict
        ([0, 0, NAN, 1], [1.0, 2.0, 99.0, 3.0], [-0.05, 0.05, NAN, 1.0]),  # without a verdict: no reward, no vote
        ([0, 0, 0, 1], [0.1, 0.1 + 1e-9, 0.1, 3.0], [0.0, 0.0, 0.0, 1.0]),  # rounding is a tie
    ],
)
def test_where_the_score_cannot_rank_the_verdict_stands(verdicts, scores, expected):
    found = hybrid_rewards(
        torch.tensor(verdicts, dtype=torch.float64), torch.tensor(scores, dtype=torch.float64), GROUP
    )
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), equal_nan=True)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_order_and_freedom_of_unit(data):
    n = data.draw(st.integers(1, 10))

    def column(values):
        return torch.tensor(data.draw(st.lists(values, min_size=n, max_size=n)), dtype=torch.float64)

    verdicts, scores = column(st.integers(0, 1)), column(st.integers(-50, 50))
    groups = column(st.integers(0, 2)).long()
    alpha = data.draw(st.floats(0, 0.9))
    config = HybridConfig(wrong_band=alpha, right_band=0.99 * (1 - alpha))
    found = hybrid_rewards(verdicts, scores, groups, config)
    if (verdicts == 0).any() and (verdicts == 1).any():
        assert found[verdicts == 0].max() < found[verdicts == 1].min()
    for i in range(n):
        for j in range(n):
            if groups[i] == groups[j] and verdicts[i] == verdicts[j]:
                assert (found[i] - found[j]) * (scores[i] - scores[j]) >= 0
    unit = hybrid_rewards(verdicts, 3.0 * scores + 7.0 * groups, groups, config)
    torch.testing.assert_close(unit, found)


def test_weights_by_hand_and_after_the_warm_up():
    weigh = SpreadWeights(HybridConfig(warm_up=2))
    groups = torch.tensor([0, 0, 1, 1])
    assert weigh(torch.tensor([0.0, 2.0, 0.0, 6.0]), groups).tolist() == [1.0] * 4  # spreads 1 and 3: the usual is 2
    found = weigh(torch.tensor([0.0, 8.0, 5.0, NAN]), torch.tensor([7, 7, 9, 9]))  # spread 4; one score alone
    assert found.tolist() == pytest.approx([0.5 + 1.5 / (1 + math.exp(-5))] * 2 + [1.0] * 2)
    assert weigh.n_prompts == 3 and weigh.usual == pytest.approx(8 / 3)
    low, high = weigh(torch.tensor([1.0, 1.0, 0.0, 1e6]), groups)[[0, 2]].tolist()
    assert low == pytest.approx(0.5 + 1.5 / (1 + math.exp(5))) and high == pytest.approx(2.0)


def test_weights_do_not_know_the_unit_of_the_score():
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(24, generator=generator, dtype=torch.float64) for _ in range(4)]
    groups = torch.arange(6).repeat_interleave(4)
    one, other = SpreadWeights(HybridConfig(warm_up=6)), SpreadWeights(HybridConfig(warm_up=6))
    for batch in batches:
        torch.testing.assert_close(one(batch, groups), other(250.0 * batch - 40.0, groups))


def test_flat_scores_never_divide_by_zero():
    weigh = SpreadWeights(HybridConfig(warm_up=1))
    for _ in range(3):
        assert weigh(torch.full((4,), 0.1), GROUP).tolist() == [1.0] * 4
    assert weigh.usual == 0.0


def test_state_goes_through_json():
    generator = torch.Generator().manual_seed(1)
    groups = torch.arange(10).repeat_interleave(4)
    first, second = SpreadWeights(), SpreadWeights()
    for _ in range(5):
        first(torch.randn(40, generator=generator), groups)
    second.restore(json.loads(json.dumps(first.state())))
    batch = torch.randn(40, generator=generator)
    assert torch.equal(first(batch, groups), second(batch, groups)) and first.state() == second.state()


@pytest.fixture
def two_prompts():
    """Two prompts with the same verdicts; the scores of the second differ ten times as much."""
    verdicts = torch.tensor([0.0, 0.0, 1.0, 1.0] * 2, dtype=torch.float64)
    scores = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    groups = torch.tensor([0] * 4 + [1] * 4)
    weigh = SpreadWeights(HybridConfig(warm_up=1))
    weigh(scores, groups)
    return hybrid_rewards(verdicts, scores, groups), weigh(scores, groups), groups


def test_a_weight_on_rewards_cancels_under_group_scaling_and_ours_does_not(two_prompts):
    rewards, weights, groups = two_prompts
    assert weights[4] / weights[0] > 2
    plain = group_advantages(rewards, groups, scale="group").values
    papers = group_advantages(weights * rewards, groups, scale="group").values
    ours = weights * plain
    torch.testing.assert_close(papers, plain, rtol=2e-3, atol=0)  # all that is left is the 1e-4 beside the divisor
    torch.testing.assert_close(ours[4:] / ours[:4], (plain[4:] / plain[:4]) * weights[4:] / weights[:4])
    assert (ours[4:] / ours[:4]).min() > 2


def test_under_batch_scaling_the_band_makes_alike_prompts_quiet():
    verdicts = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    groups = torch.tensor([0] * 4 + [1] * 4)
    scores = torch.arange(8, dtype=torch.float64)
    rewards = hybrid_rewards(verdicts, scores, groups)
    quiet = group_advantages(rewards, groups, scale="batch", flat_groups="hybrid", verdicts=verdicts).values
    loud = group_advantages(rewards, groups, scale="group").values
    assert loudness(quiet, verdicts, groups).alike < 0.1 * loudness(quiet, verdicts, groups).split
    assert loudness(loud, verdicts, groups).alike > 0.8 * loudness(loud, verdicts, groups).split
    assert math.isnan(loudness(quiet[:4], verdicts[:4], groups[:4]).split)


def test_what_is_refused():
    with pytest.raises(ConfigError, match="wrong answers can beat right ones"):
        HybridConfig(wrong_band=0.5, right_band=0.5)
    with pytest.raises(ConfigError, match="above high_weight"):
        HybridConfig(low_weight=3.0)
    with pytest.raises(DataError, match="0, 1 or NaN"):
        hybrid_rewards(torch.full((4,), 0.5), torch.zeros(4), GROUP)
    with pytest.raises(DataError, match="infinite"):
        hybrid_rewards(torch.zeros(4), torch.full((4,), torch.inf), GROUP)
    with pytest.raises(DataError, match="one of each"):
        SpreadWeights()(torch.zeros(3), GROUP)
