"""Which prompts are asked: every one once an epoch, mastered ones no more, the same after a resumption."""

from __future__ import annotations

import json

import numpy as np
import pytest

from c2s.engines.rl.schedule import Schedule
from c2s.errors import ConfigError


def test_every_prompt_once_an_epoch_in_an_order_of_the_seed():
    steps = [Schedule(12, 4, seed=seed) for seed in (0, 0, 1)]
    drawn = [[schedule.prompts(step) for step in range(6)] for schedule in steps]
    assert drawn[0] == drawn[1] != drawn[2]
    for epoch in (drawn[0][:3], drawn[0][3:]):
        assert sorted(sum(epoch, [])) == list(range(12))
    assert drawn[0][:3] != drawn[0][3:]


def test_mastered_prompts_are_not_asked_again():
    schedule = Schedule(8, 2, drop_mastered=0.9)
    for step in range(4):
        prompts = schedule.prompts(step)
        schedule.answered(step, [[1.0, 1.0] if number < 4 else [1.0, 0.0] for number in prompts])
    later = [number for step in range(4, 8) for number in schedule.prompts(step)]
    assert set(later) == {4, 5, 6, 7}
    ahead = Schedule(8, 2, drop_mastered=0.9)
    ahead.prompts(7)  # written ahead: what is drawn stays drawn
    for step in range(8):
        ahead.answered(step, np.ones((2, 2)))
    assert len(ahead.prompts(8)) == 2  # never none


def test_a_state_goes_through_json_with_what_was_drawn_ahead():
    one, other = Schedule(9, 2, drop_mastered=0.5, seed=3), Schedule(9, 2, drop_mastered=0.5, seed=3)
    for step in range(3):
        one.prompts(step)
        one.answered(step, [[1.0], [0.0]])
    one.prompts(5)
    other.restore(json.loads(json.dumps(one.state())))
    for step in range(3, 12):
        assert one.prompts(step) == other.prompts(step)
        for each in (one, other):
            each.answered(step, [[1.0], [np.nan]])
    with pytest.raises(KeyError):
        one.prompts(0)
    with pytest.raises(ConfigError, match="there are 3 prompts"):
        Schedule(3, 4)
