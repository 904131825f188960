"""Forecasts on curves of their own form, and skill by hand."""

from __future__ import annotations

import numpy as np
import pytest

from c2s.engines.rl.forecast import FORECASTS, last_value, log_linear, power_law, skill
from c2s.errors import DataError

C = np.array([0.0, 1.0, 3.0, 10.0, 30.0, 100.0])


def test_each_form_is_continued():
    at = np.array([200.0, 1000.0])
    assert last_value(C[::-1], [5, 4, 3, 2, 1, 0], at).tolist() == [5, 5]
    assert last_value(C, [0, 1, 2, 3, 4, np.nan], at, n_last=2).tolist() == [3.5, 3.5]
    rewards = np.r_[9.0, 0.1 + 0.05 * np.log(C[1:])]
    np.testing.assert_allclose(log_linear(C, rewards, at), 0.1 + 0.05 * np.log(at))
    rewards = np.r_[9.0, 0.8 - 0.5 / C[1:] ** 0.4]
    np.testing.assert_allclose(power_law(C, rewards, at), 0.8 - 0.5 / at**0.4, rtol=2e-3)


def test_power_law_stops_at_the_ceiling():
    rewards = np.r_[np.nan, 0.05 * np.log(C[1:]) + 0.3]
    assert power_law(C, rewards, [1e12])[0] <= 1.0 + 1e-9
    assert power_law(C, rewards, [1e12], ceiling=0.6)[0] <= 0.6 + 1e-9


def test_skill_by_hand():
    assert skill([1, 2], [1, 2], [0, 0]) == 1.0
    assert skill([1, 2], [0, 0], [0, 0]) == 0.0
    assert skill([0, 0], [2, 2], [1, 1]) == -3.0
    assert np.isnan(skill([1, 2], [0, 0], [1, 2])) and np.isnan(skill([1, 2], [np.nan, 2], [0, 0]))


@pytest.mark.parametrize("name", FORECASTS)
def test_too_few_points_are_refused(name):
    with pytest.raises(DataError):
        FORECASTS[name]([0.0], [np.nan], [1.0])
    with pytest.raises(DataError, match="one reward for each"):
        FORECASTS[name]([1.0, 2.0], [0.5], [1.0])
