"""Planted numbers, and the words and endings they must lead to."""

from __future__ import annotations

import json
import math

import pytest
import torch

from c2s.engines.rl.dashboard import write_dashboard
from c2s.engines.rl.health import Health, cause_of_death, from_logs, sentence, unanimous

FINE = {
    "reward": 0.5,
    "loss": 0.1,
    "grad_norm": 1.0,
    "entropy": 1.0,
    "truncated": 0.0,
    "flat": 0.2,
    "all_right": 0.1,
    "all_wrong": 0.1,
}


def steps(n=10, **changes):
    return [Health(step=i, **{**FINE, **changes}) for i in range(1, n + 1)]


def test_trl_names_are_found():
    logs = {
        "loss": 0.1, "grad_norm": 2.0, "reward": 0.25, "entropy": 0.7, "cut_off": 0.1, "flat_groups": 0.5,
        "groups_all_right": 0.25, "groups_all_wrong": 0.125, "interrupted": 0.0, "cispo_clip_ratio": 0.01, "lag": 1.5,
        "completions/mean_length": 4.0, "kl": None,
    }  # fmt: skip
    now = from_logs(3, logs, chance=0.25)
    assert now == Health(3, 0.25, 0.25, 0.25, 0.125, 0.5, 0.1, 0.0, 0.01, 0.7, 2.0, 0.1, 4.0, 1.5)
    said = sentence(now)
    assert said == (
        "step 3 | reward 0.250 (chance 0.250, no better) | prompts 25 % all right, 12 % all wrong, 50 % flat | 10.0 % cut off | "
        "1.0 % of tokens clipped | entropy 0.70 | 1.5 updates behind"
    )
    assert from_logs(1, {"loss": 0.0, "clip_ratio/region_mean": 0.2}).clipped == 0.2
    assert json.loads(json.dumps(Health(1).record()))["reward"] is None


@pytest.mark.parametrize(("last", "word"), [(0.5, "falling"), (1.5, "rising"), (1.05, "steady")])
def test_the_trend_of_entropy_is_said(last, word):
    now = Health(step=11, **{**FINE, "entropy": last})
    assert f"entropy {last:.2f}, {word}" in sentence(now, steps())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grad_norm": 0.0, "all_right": 1.0, "flat": 1.0}, "every answer is right"),
        ({"grad_norm": 0.0, "all_wrong": 1.0, "flat": 1.0}, "no answer is right"),
        ({"grad_norm": 0.0, "all_right": math.nan, "all_wrong": math.nan, "flat": 1.0}, "all rewarded alike"),
        ({"truncated": 0.16}, "more than 15 % of answers were cut off"),
        ({"entropy": 0.0}, "no longer varies"),
    ],
)
def test_death_has_a_cause_once_it_lasts(changes, said):
    assert said in cause_of_death(steps(**changes))
    assert cause_of_death(steps(9, **changes)) is None
    assert cause_of_death([*steps(9, **changes), *steps(1)]) is None
    assert said in cause_of_death([*steps(5), *steps(**changes)])


@pytest.mark.parametrize("changes", [{"loss": math.nan}, {"loss": math.inf}, {"grad_norm": math.nan}])
def test_what_is_not_finite_ends_a_run_at_once(changes):
    assert "lower learning_rate" in cause_of_death([*steps(1), *steps(1, **changes)])
    assert cause_of_death(steps()) is None and cause_of_death([]) is None
    assert "loss is not finite" in sentence(Health(step=1, **{**FINE, "loss": math.nan}))
    assert "no gradient" in sentence(Health(step=1, **{**FINE, "grad_norm": 0.0}))


def test_unanimous_prompts_are_counted_among_those_with_a_verdict():
    nan = math.nan
    verdicts = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 0.0, nan, nan, 1.0, nan])
    groups = torch.arange(10) // 2
    assert unanimous(verdicts, groups) == (0.5, 0.25)
    assert all(map(math.isnan, unanimous(torch.full((2,), nan), torch.zeros(2, dtype=torch.long))))


def test_the_dashboard_is_a_picture(tmp_path):
    history = [*steps(3, chance=0.2, lag=1.0), Health(step=4)]
    write_dashboard(tmp_path / "d.png", history, [{"step": 0, "mean": 0.1}, {"step": 4, "mean": 0.4}])
    assert (tmp_path / "d.png").read_bytes()[:4] == b"\x89PNG"


def test_a_policy_that_stops_calling_raises_the_alarm():
    before, now = Health(step=1, **FINE, calls=1.5, call_success=0.5), Health(step=2, **FINE, calls=0.0)
    assert "1.5 calls an episode, 50 % carried out" in sentence(before)
    assert "ALARM: no tool is called any more" in sentence(now, [before])
    assert "ALARM" not in sentence(now) and "calls" not in sentence(Health(step=1, **FINE))
