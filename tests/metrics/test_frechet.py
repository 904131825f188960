"""The Fréchet distance: closed forms, the bias that is taken out, intervals that cover, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.errors import ConfigError, DataError
from c2s.metrics.frechet import _carried, _end, frechet_distance, gaussian_frechet, sample_frechet


def spd(rng: np.random.Generator, d: int) -> np.ndarray:
    """Return a covariance."""
    root = rng.normal(size=(d, 2 * d))
    return root @ root.T / d


def test_gaussians_of_one_dimension_have_the_distance_of_their_means_and_deviations():
    assert gaussian_frechet([1.0], [[4.0]], [3.0], [[9.0]]) == pytest.approx(4 + 1, abs=1e-12)


def test_matrix_square_root_of_scipy_gives_the_same():
    rng = np.random.default_rng(0)
    first, second, shift = spd(rng, 8), spd(rng, 8), rng.normal(size=8)
    root = np.real(scipy.linalg.sqrtm(first @ second))
    expected = shift @ shift + np.trace(first + second - 2 * root)
    assert gaussian_frechet(np.zeros(8), first, shift, second) == pytest.approx(expected, abs=1e-9)


def test_singular_covariances_that_commute():
    one, other = np.diag([4.0, 1.0, 0.0, 0.0]), np.diag([1.0, 0.0, 9.0, 0.0])
    assert gaussian_frechet(np.zeros(4), one, np.zeros(4), other) == pytest.approx(1 + 1 + 9, abs=1e-6)
    assert gaussian_frechet(np.zeros(4), one, np.zeros(4), one) == pytest.approx(0, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_distance_is_symmetric_and_does_not_change_with_a_rotation(seed):
    rng = np.random.default_rng(seed)
    first, second, shift = spd(rng, 5), spd(rng, 5), rng.normal(size=5)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    here = gaussian_frechet(np.zeros(5), first, shift, second)
    assert gaussian_frechet(shift, second, np.zeros(5), first) == pytest.approx(here, rel=1e-9, abs=1e-9)
    turned = gaussian_frechet(np.zeros(5), turn @ first @ turn.T, turn @ shift, turn @ second @ turn.T)
    assert turned == pytest.approx(here, rel=1e-9, abs=1e-9)


def test_whole_samples_without_extrapolation_are_the_plug_in_distance():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(80, 3)), rng.normal(size=(90, 3)) + 1
    expected = gaussian_frechet(one.mean(0), np.cov(one.T), other.mean(0), np.cov(other.T))
    assert sample_frechet(one, other, "plain") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("moved", [False, True])
def test_extrapolation_takes_out_nine_tenths_of_the_bias(moved):
    rng = np.random.default_rng(2)
    n, d, draws = 200, 20, 120
    scale = np.exp(-np.arange(d) / 10)
    wider, shift = (1.3, 0.2) if moved else (1.0, 0.0)
    truth = gaussian_frechet(np.zeros(d), np.diag(scale**2), np.full(d, shift), np.diag((wider * scale) ** 2))
    plain, ours = np.zeros(draws), np.zeros(draws)
    for draw in range(draws):
        one, other = rng.normal(size=(n, d)) * scale, rng.normal(size=(n, d)) * scale * wider + shift
        plain[draw] = sample_frechet(one, other, "plain") - truth
        ours[draw] = frechet_distance(one, other, n_resamples=0, seed=draw).value - truth
    standard_error = ours.std() / np.sqrt(draws)
    assert plain.mean() > 5 * standard_error  # there is a bias to take out
    assert abs(ours.mean()) < 0.1 * plain.mean() + 2 * standard_error


@pytest.mark.slow
def test_interval_of_two_halves_holds_zero_and_of_moved_cells_does_not():
    rng = np.random.default_rng(3)
    held = 0
    for draw in range(20):
        interval = frechet_distance(rng.normal(size=(150, 5)), rng.normal(size=(150, 5)), n_resamples=60, seed=draw)
        held += interval.low <= 0 <= interval.high
    assert held >= 17
    moved = frechet_distance(rng.normal(size=(150, 5)), rng.normal(size=(150, 5)) + 1, n_resamples=60)
    assert moved.low > 2
    assert moved.low < moved.value < moved.high


@pytest.mark.slow
@pytest.mark.parametrize(("wider", "moved"), [(1.0, 0.0), (1.1, 0.15)])
def test_intervals_are_as_wide_as_estimates_spread_near_zero_and_above(wider, moved):
    rng = np.random.default_rng(6)
    n, d, draws = 100, 3, 30
    truth = gaussian_frechet(np.zeros(d), np.eye(d), np.full(d, moved), wider**2 * np.eye(d))
    found = [
        frechet_distance(rng.normal(size=(n, d)), wider * rng.normal(size=(n, d)) + moved, n_resamples=40, seed=draw)
        for draw in range(draws)
    ]
    assert sum(each.low <= truth <= each.high for each in found) >= 26
    errors = np.sqrt(np.mean([each.se**2 for each in found]))
    assert errors == pytest.approx(np.std([each.value for each in found], ddof=1), rel=0.3)


def test_a_carried_sample_has_the_moments_it_is_carried_to():
    rng = np.random.default_rng(7)
    one, other = rng.normal(size=(80, 3)) @ spd(rng, 3) + 2, rng.normal(size=(60, 3))
    there = _carried(other, one)
    np.testing.assert_allclose(there.mean(0), one.mean(0), atol=1e-9)
    np.testing.assert_allclose(np.cov(there.T), np.cov(one.T), atol=1e-9)
    cost = (
        ((there - other) ** 2).sum(1).mean()
    )  # least among linear maps: the distance of the two Gaussians, with 1/n for 1/(n-1)
    assert cost == pytest.approx(sample_frechet(one, other), rel=0.05)
    flat = np.concatenate([other[:, :2], np.ones((60, 1))], axis=1)
    assert sample_frechet(flat, _carried(other[::-1] @ np.diag([1, 2, 0]), flat)) == pytest.approx(0, abs=1e-9)


def test_ends_are_the_distances_whose_estimates_miss_by_as_much():
    for value in (0.02, 0.2, 3.0):  # quantile² = 0.01 + 0.04 · distance / 2
        for side in (-1, 1):
            end = _end(value, 0.1, np.sqrt(0.05), 2.0, side)
            if end > 0:
                assert value - end == pytest.approx(-side * np.sqrt(0.01 + 0.02 * end), rel=1e-9)
            else:
                assert end == pytest.approx(value - 0.1)
    assert _end(-0.5, -0.1, -0.2, 1.0, 1) == pytest.approx(-0.4)
    assert _end(1.0, -0.2, -0.1, 1.0, 1) == pytest.approx(1.2)  # fewer resamples than it takes: no narrower far away


def test_equal_distributions_may_fall_below_zero():
    rng = np.random.default_rng(4)
    values = [
        frechet_distance(rng.normal(size=(60, 4)), rng.normal(size=(60, 4)), n_resamples=0).value for _ in range(20)
    ]
    assert min(values) < 0 < max(values)


def test_shrunk_covariances_take_more_dimensions_than_cells():
    rng = np.random.default_rng(5)
    one, other = rng.normal(size=(60, 100)), rng.normal(size=(60, 100)) + 1
    found = frechet_distance(one, other, covariance="shrunk", n_resamples=20)
    assert found.value == pytest.approx(100, rel=0.1)
    assert found.low < found.value < found.high


def test_what_cannot_be_measured_is_refused():
    cells = np.random.default_rng(0).normal(size=(100, 4))
    with pytest.raises(DataError, match="at least 50"):
        frechet_distance(cells[:49], cells)
    with pytest.raises(DataError, match="plain covariances take 5"):
        frechet_distance(np.ones((50, 6)), np.ones((60, 6)))
    with pytest.raises(DataError, match="1 generated vectors hold values that are not finite"):
        frechet_distance(cells, np.where(np.arange(100)[:, None] == 3, np.nan, cells))
    with pytest.raises(DataError, match="shapes"):
        frechet_distance(cells, cells[:, :2])
    with pytest.raises(ConfigError, match="plain"):
        frechet_distance(cells, cells, covariance="oas")
    with pytest.raises(ConfigError, match="n_resamples=3; 0 gives no interval"):
        frechet_distance(cells, cells, n_resamples=3)
