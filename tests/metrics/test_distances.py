"""Distances of clouds against brute force, closed forms, scipy and POT, and what each is to see."""

from __future__ import annotations

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from c2s.errors import DataError
from c2s.metrics import distances as far

ALL = (
    far.mmd, far.energy_distance, far.sinkhorn_divergence, far.sliced_wasserstein, far.gene_wasserstein, far.two_sample_accuracy,
    far.coverage, far.variance_ratio,
)  # fmt: skip


@pytest.fixture
def clouds() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 3)), rng.normal(size=(30, 3)) * 1.5 + 0.5


def test_mmd_is_the_mean_over_pairs(clouds):
    one, other = clouds
    median = np.median([np.linalg.norm(a - b) for i, a in enumerate(one) for b in one[:i]])
    expected = 0.0
    for factor in far.BANDWIDTHS:

        def kernel(a, b, sigma=factor * median):
            return np.exp(-((a - b) ** 2).sum() / (2 * sigma**2))

        within = np.mean([kernel(a, b) for i, a in enumerate(one) for j, b in enumerate(one) if i != j])
        others = np.mean([kernel(a, b) for i, a in enumerate(other) for j, b in enumerate(other) if i != j])
        expected += (within + others - 2 * np.mean([kernel(a, b) for a in one for b in other])) / len(far.BANDWIDTHS)
    assert far.mmd(one, other) == pytest.approx(expected, rel=1e-9)


def test_energy_distance_is_the_mean_over_pairs(clouds):
    one, other = clouds

    def within(cells):
        return np.mean([np.linalg.norm(a - b) for i, a in enumerate(cells) for j, b in enumerate(cells) if i != j])

    between = np.mean([np.linalg.norm(a - b) for a in one for b in other])
    assert far.energy_distance(one, other) == pytest.approx(2 * between - within(one) - within(other), rel=1e-9)


@pytest.mark.parametrize("distance", [far.mmd, far.energy_distance])
def test_unbiased_distances_of_one_distribution_are_zero_on_average(distance):
    rng = np.random.default_rng(1)
    values = np.array([distance(rng.normal(size=(20, 4)), rng.normal(size=(25, 4))) for _ in range(300)])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(300)
    assert (values < 0).any()


def test_energy_distance_of_points_far_apart():
    one, other = np.array([[0.0], [0.0]]), np.array([[5.0], [5.0]])
    assert far.energy_distance(one, other) == pytest.approx(10)


def test_sinkhorn_divergence_is_that_of_pot_solved_apart(clouds):
    one, other = clouds
    square = ot.dist(one, one)
    epsilon = 0.5 * np.median(square[np.triu_indices(len(one), 1)])

    def cost(a, b):
        solved = ot.solve(ot.dist(a, b), reg=epsilon, reg_type="KL", max_iter=20_000, tol=1e-12)
        return solved.value

    expected = cost(one, other) - (cost(one, one) + cost(other, other)) / 2
    assert far.sinkhorn_divergence(one, other) == pytest.approx(expected, rel=1e-5)


def test_sinkhorn_divergence_of_a_shift_is_its_square():
    one = np.random.default_rng(2).normal(size=(50, 2))
    assert far.sinkhorn_divergence(one, one + np.array([3.0, 4.0])) == pytest.approx(25, rel=1e-3)
    assert far.sinkhorn_divergence(one, one) == pytest.approx(0, abs=1e-6)


def test_transport_to_a_far_outlier_says_that_it_did_not_converge():
    one = np.random.default_rng(2).normal(size=(50, 2))
    other = np.vstack([one[1:], [[200.0, 0.0]]])
    with pytest.raises(DataError, match="larger blur"):
        far.sinkhorn_divergence(one, other)
    assert far.sinkhorn_divergence(one, other, blur=500) > 100


def test_sliced_wasserstein_of_one_dimension_is_the_ordered_one():
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(50, 1)), rng.normal(size=(50, 1)) + 2
    expected = np.sqrt(np.mean((np.sort(one[:, 0]) - np.sort(other[:, 0])) ** 2))
    assert far.sliced_wasserstein(one, other) == pytest.approx(expected, rel=1e-9)
    assert far.sliced_wasserstein(one, other, seed=4) == far.sliced_wasserstein(one, other, seed=4)


@pytest.mark.parametrize("n", [40, 25])
def test_gene_wasserstein_is_the_mean_of_scipy(n, clouds):
    one, other = clouds[0], np.random.default_rng(5).normal(size=(n, 3)) + 1
    expected = np.mean([wasserstein_distance(one[:, gene], other[:, gene]) for gene in range(3)])
    assert far.gene_wasserstein(one, other) == pytest.approx(expected, rel=1e-9)


def test_neighbours_tell_clouds_apart_or_not():
    rng = np.random.default_rng(6)
    one = rng.normal(size=(200, 3))
    assert far.two_sample_accuracy(one, one + 50) == 1
    assert far.two_sample_accuracy(one, rng.normal(size=(300, 3))) == pytest.approx(0.5, abs=0.08)


def test_coverage_of_one_distribution_of_a_mean_and_of_elsewhere():
    rng = np.random.default_rng(7)
    one, other = rng.normal(size=(400, 3)), rng.normal(size=(400, 3))
    assert far.coverage(one, other) == pytest.approx(1 - 2**-5, abs=0.03)
    assert far.coverage(one, np.zeros((400, 3)) + one.mean(0)) < 0.1
    assert far.coverage(one, other + 100) == 0


def test_variance_ratio_sees_collapse():
    one = np.random.default_rng(8).normal(size=(100, 3))
    assert far.variance_ratio(one, one) == pytest.approx(1)
    assert far.variance_ratio(one, one / 2 + 7) == pytest.approx(0.25)
    assert far.variance_ratio(one, np.zeros((5, 3))) == 0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
@pytest.mark.parametrize(
    "distance", [far.energy_distance, far.gene_wasserstein, far.coverage, far.variance_ratio, far.two_sample_accuracy]
)
def test_a_shift_of_both_and_another_order_change_nothing(distance, seed):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(30, 3)), rng.normal(size=(30, 3)) + 1
    here = distance(one, other)
    assert distance(one + 3, other + 3) == pytest.approx(here, rel=1e-6, abs=1e-9)
    assert distance(one[::-1], other[::-1]) == pytest.approx(here, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("distance", ALL)
def test_what_cannot_be_measured_is_refused(distance):
    cells = np.random.default_rng(0).normal(size=(10, 2))
    with pytest.raises(DataError, match="at least two"):
        distance(cells[:1], cells)
    with pytest.raises(DataError, match="dimensions"):
        distance(cells, cells[:, :1])
    with pytest.raises(DataError, match="not finite"):
        distance(cells, np.full((10, 2), np.nan))


@pytest.mark.parametrize("distance", [far.mmd, far.sinkhorn_divergence, far.variance_ratio])
def test_real_cells_that_are_all_alike_give_no_scale(distance):
    with pytest.raises(DataError, match="same vector"):
        distance(np.ones((10, 2)), np.random.default_rng(0).normal(size=(10, 2)))
