"""Scores of mean profiles: closed forms, scipy, and the traps that each is known for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr

from c2s.errors import DataError
from c2s.metrics import profiles as mean

RNG = np.random.default_rng(0)
CONTROL = RNG.gamma(1, 1, size=30)
TRUTH = CONTROL + RNG.normal(0, 1, size=(6, 30))


def test_correlation_is_scipys_and_zero_for_no_change():
    predicted = TRUTH + RNG.normal(0, 1, size=TRUTH.shape)
    found = mean.correlation_of_changes(TRUTH, predicted, CONTROL)
    expected = [pearsonr(one - CONTROL, other - CONTROL).statistic for one, other in zip(TRUTH, predicted)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    still = np.broadcast_to(CONTROL, TRUTH.shape)
    np.testing.assert_array_equal(mean.correlation_of_changes(TRUTH, still, CONTROL), 0)
    assert np.isnan(mean.correlation_of_changes(still, TRUTH, CONTROL)).all()


def test_a_shift_that_all_perturbations_share_gains_nothing_against_the_mean_perturbation():
    shared = CONTROL + 3 * RNG.normal(size=30)
    truth = shared + 0.3 * RNG.normal(size=(40, 30))
    predicted = np.broadcast_to(truth.mean(0), truth.shape)
    assert mean.correlation_of_changes(truth, predicted, CONTROL).mean() > 0.95
    np.testing.assert_array_equal(mean.correlation_of_changes(truth, predicted, truth.mean(0)), 0)


def test_errors_are_those_of_the_definition():
    other = TRUTH + 0.5
    np.testing.assert_allclose(mean.squared_error(TRUTH, other), 0.25)
    np.testing.assert_allclose(mean.absolute_error(TRUTH, other), 0.5)
    weights = mean.weights_of(TRUTH - CONTROL)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(mean.squared_error(TRUTH, other, weights), 0.25)
    np.testing.assert_allclose(mean.weights_of(np.zeros((2, 4))), 0.25)


def test_weighted_r2_is_one_for_the_truth_zero_for_the_mean_and_below_for_worse():
    weights, middle = mean.weights_of(TRUTH - CONTROL), TRUTH.mean(0)
    np.testing.assert_allclose(mean.weighted_r2(TRUTH, TRUTH, weights, middle), 1)
    np.testing.assert_allclose(mean.weighted_r2(TRUTH, np.broadcast_to(middle, TRUTH.shape), weights, middle), 0)
    assert (mean.weighted_r2(TRUTH, 2 * middle - TRUTH, weights, middle) < 0).all()
    assert np.isnan(mean.weighted_r2(middle[None], middle[None], weights[:1], middle)).all()


def test_top_genes_are_those_of_largest_score_whatever_its_sign():
    scores = np.array([[1.0, -5.0, 3.0, 0.0], [0.0, 0.0, 0.0, 2.0]])
    np.testing.assert_array_equal(mean.top_genes(scores, 2), [[1, 2], [3, 0]])
    np.testing.assert_array_equal(mean.on_genes(scores, mean.top_genes(scores, 2)), [[-5, 3], [2, 0]])


@pytest.mark.parametrize("metric", ["cityblock", "euclidean", "cosine"])
def test_discrimination_of_the_truth_of_a_guess_and_of_the_worst(metric):
    changes = np.eye(6) + 0.1
    np.testing.assert_allclose(mean.discrimination(changes, changes, metric=metric), 1)
    constant = np.ones((6, 6))
    np.testing.assert_allclose(mean.discrimination(changes, constant, metric=metric), 0.5 + 1 / 12)
    lines = np.arange(6.0)[:, None] * np.ones((6, 3))
    assert mean.discrimination(lines, lines[::-1])[[0, -1]] == pytest.approx([1 / 6, 1 / 6])


def test_discrimination_does_not_depend_on_the_order_of_conditions():
    predicted = np.broadcast_to(TRUTH.mean(0), TRUTH.shape)
    order = np.random.default_rng(1).permutation(len(TRUTH))
    np.testing.assert_allclose(
        mean.discrimination(TRUTH, predicted)[order], mean.discrimination(TRUTH[order], predicted)
    )


def test_genes_left_out_do_not_give_a_condition_away():
    truth = np.zeros((3, 4))
    truth[np.arange(3), np.arange(3)] = -9  # each knocks its own target down, and nothing else happens
    left_out = truth < 0
    assert (mean.discrimination(truth, truth) == 1).all()
    blind = np.where(left_out, 0.0, truth)
    assert (mean.discrimination(truth, blind, left_out=left_out) == 1).all()
    assert mean.discrimination(truth, blind).max() < 1


def test_centroid_accuracy_counts_the_others_that_are_farther():
    truth = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    predicted = np.array([[0.9, 0.0], [1.0, 0.0], [2.9, 0.0]])
    np.testing.assert_allclose(mean.centroid_accuracy(truth, predicted), [0.5, 1, 0.5])
    np.testing.assert_allclose(mean.centroid_accuracy(truth, np.full((3, 2), 9.0))[2], 1)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(DataError, match="shapes"):
        mean.squared_error(TRUTH, TRUTH[:2])
    with pytest.raises(DataError, match="not finite"):
        mean.absolute_error(TRUTH, TRUTH * np.nan)
    with pytest.raises(DataError, match="at least two"):
        mean.discrimination(TRUTH[:1], TRUTH[:1])
