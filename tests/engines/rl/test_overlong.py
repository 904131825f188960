"""Boundary tables, and that calls never beat a right answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2s.engines.rl.overlong import overlong_penalty, tool_bonus
from c2s.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 0.0), (15, 0.0), (16, 0.0), (17, -0.25), (18, -0.5), (19, -0.75), (20, -1.0), (21, -1.0), (99, -1.0)],
)
def test_penalty_at_its_boundaries(length, expected):
    assert overlong_penalty([length], limit=20, cache=4).tolist() == [expected]


def test_no_cache_is_a_step_that_costs_nothing_within_the_limit():
    assert overlong_penalty([0, 19, 20, 21], limit=20, cache=0).tolist() == [0.0, 0.0, 0.0, -1.0]
    assert overlong_penalty([0, 10, 20], limit=20, cache=20).tolist() == [0.0, -0.5, -1.0]


@given(st.integers(1, 50), st.data())
def test_penalty_falls_with_length_between_0_and_minus_1(limit, data):
    found = overlong_penalty(np.arange(2 * limit), limit=limit, cache=data.draw(st.integers(0, limit)))
    assert (np.diff(found) <= 0).all() and found[0] == 0 and found[-1] == (-1 if limit > 1 else found[-1])


def test_bonus_table():
    found = tool_bonus([0, 1, 3, 4, 50, 3, 3], [0, 0, 0, 0, 0, 1, np.nan])
    np.testing.assert_allclose(found, [0, 0.1, 0.3, 0.4, 0.4, 0, 0])
    assert tool_bonus([2], [False]).tolist() == [0.2]


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_no_number_of_calls_beats_a_right_answer(wrong_calls, right_calls):
    rewards = np.array([-1.0, 1.0]) + tool_bonus([wrong_calls, right_calls], [0, 1])
    assert rewards[0] <= -0.6 < rewards[1] == 1.0


def test_what_is_refused():
    for knobs in ({"limit": 4, "cache": 5}, {"limit": 4, "cache": -1}, {"limit": 0, "cache": 0}):
        with pytest.raises(ConfigError, match="0 <= cache <= limit"):
            overlong_penalty([1], **knobs)
    with pytest.raises(DataError, match="lengths are counts"):
        overlong_penalty([-1], limit=4, cache=1)
    with pytest.raises(DataError, match="verdicts are 0, 1 or NaN"):
        tool_bonus([1], [0.5])
    with pytest.raises(DataError, match="calls are counts"):
        tool_bonus([np.nan], [0])
    with pytest.raises(ConfigError, match="negative"):
        tool_bonus([1], [0], cap=-1.0)
