"""Credit of each sample against brute force, closed forms, and what a reward must not buy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from c2s.errors import DataError
from c2s.metrics.distances import energy_distance
from c2s.perturbation.energy import energy_rewards, kendall_taus, squared_errors


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 9), m=st.integers(2, 12), d=st.integers(1, 5))
def test_credit_is_what_is_lost_without_the_sample(seed, n, m, d):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(1.0, 2.0, size=(m, d))
    spread = np.mean([np.linalg.norm(y[i] - y[j]) for i in range(m) for j in range(m) if i != j])
    whole = energy_distance(y, x)
    left = np.array([energy_distance(y, np.delete(x, i, axis=0)) for i in range(n)])
    expected = (-whole + (n - 1) / 2 * (left - whole)) / spread
    found = energy_rewards(x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert found.mean() == pytest.approx(-whole / spread)
    np.testing.assert_allclose(energy_rewards(7 * x + 3, 7 * y + 3), found, rtol=1e-6, atol=1e-9)  # no unit, no origin


@pytest.mark.parametrize("k", [2, 5])
def test_changes_of_the_same_controls_are_held_against_cells_of_other_controls(k):
    rng = np.random.default_rng(k)
    n, real = 5, rng.normal(size=(9, 3))
    cells = rng.normal(size=(1, k, 3)) + rng.normal(size=(n, 1, 3))

    def distance(kept):
        apart = [
            np.linalg.norm(cells[i, a] - cells[j, b]) for i in kept for j in kept for a in range(k) for b in range(k) if i != j and a != b
        ]  # fmt: skip
        to_real = np.mean([np.linalg.norm(cells[i, a] - y) for i in kept for a in range(k) for y in real])
        return 2 * to_real - np.mean(apart)

    spread = np.mean([np.linalg.norm(a - b) for i, a in enumerate(real) for j, b in enumerate(real) if i != j])
    whole = distance(range(n))
    left = np.array([distance([i for i in range(n) if i != out]) for out in range(n)])
    expected = (-(whole - spread) + (n - 1) / 2 * (left - whole)) / spread
    np.testing.assert_allclose(energy_rewards(cells, real), expected)


def test_controls_changed_as_real_cells_are_earn_nothing_on_average():
    """Without the rule on controls the group would seem too narrow, and be paid for changes that are noise."""
    rng = np.random.default_rng(4)
    draws = [
        energy_rewards(rng.normal(size=(1, 12, 3)) + np.zeros((6, 1, 3)) + 2.0, rng.normal(2.0, size=(60, 3))).mean()
        for _ in range(400)
    ]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(len(draws)) + 1e-3


def test_samples_of_the_same_distribution_earn_nothing_on_average():
    rng = np.random.default_rng(0)
    draws = [energy_rewards(rng.normal(size=(8, 4)), rng.normal(size=(40, 4))).mean() for _ in range(600)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(len(draws)) + 1e-3


def test_collapse_onto_the_mean_is_bought_by_squared_error_and_not_by_energy():
    rng = np.random.default_rng(1)
    real = rng.normal(size=(400, 6))
    honest, collapsed = rng.normal(size=(12, 6)), np.zeros((12, 6)) + rng.normal(0, 1e-3, size=(12, 6))
    pairs = real[:12]
    assert squared_errors(collapsed, pairs).mean() > squared_errors(honest, pairs).mean()
    assert energy_rewards(honest, real).mean() > energy_rewards(collapsed, real).mean() + 0.1


def test_ascending_the_credit_brings_a_group_to_the_real_cells():
    """The credit is the gradient's: moving samples along its numerical gradient lowers the energy distance."""
    rng = np.random.default_rng(2)
    real, x = rng.normal(3.0, 1.0, size=(200, 1)), rng.normal(0.0, 0.2, size=(10, 1))
    before = energy_distance(real, x)
    for _ in range(60):
        step = np.zeros_like(x)
        for i in range(len(x)):
            up, down = x.copy(), x.copy()
            up[i] += 1e-4
            down[i] -= 1e-4
            step[i] = (energy_rewards(up, real)[i] - energy_rewards(down, real)[i]) / 2e-4
        x = x + 0.3 * step
    assert energy_distance(real, x) < 0.1 * before


def test_kendall_is_scipys_with_ties_and_zero_without_order():
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 4, size=(5, 12)).astype(float), rng.integers(0, 4, size=(5, 12)).astype(float)
    np.testing.assert_allclose(kendall_taus(x, y), [kendalltau(a, b).statistic for a, b in zip(x, y)])
    assert kendall_taus(np.ones((1, 4)), np.arange(4.0)[None]) == [0.0]


@pytest.mark.parametrize(
    "samples, real, said",
    [
        (np.zeros((2, 2)), np.eye(2), "at least 3 and 2"),
        (np.zeros((4, 2)), np.eye(2)[:1], "at least 3 and 2"),
        (np.zeros((4, 2)), np.zeros((5, 2)), "all alike"),
        (np.zeros((4, 2)), np.zeros((5, 3)), r"expected \(n, d\)"),
        (np.full((4, 2), np.nan), np.eye(2), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(samples, real, said):
    with pytest.raises(DataError, match=said):
        energy_rewards(samples, real)


def test_a_pair_for_each_sample():
    with pytest.raises(DataError, match="one real cell a sample"):
        squared_errors(np.zeros((3, 2)), np.zeros((2, 2)))
    with pytest.raises(DataError, match="one real cell a sample"):
        kendall_taus(np.zeros((3, 2)), np.zeros((2, 2)))
