"""The rank-sum test against scipy's, and scores of lists of responding genes against what they are defined as."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from c2s.errors import DataError
from c2s.metrics import differential as de
from c2s.metrics.wilcoxon import rank_sum


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 30), m=st.integers(2, 30))
def test_rank_sums_are_scipys(seed, n, m):
    rng = np.random.default_rng(seed)
    one, other = rng.poisson(0.8, size=(n, 12)).astype(float), rng.poisson(1.2, size=(m, 12)).astype(float)
    one[:, 0], other[:, 0] = 0, 0
    one[:, 1], other[:, 1] = 3, 3
    z, p = rank_sum(sp.csc_matrix(one), sp.csc_matrix(other))
    expected = mannwhitneyu(one[:, 2:], other[:, 2:], axis=0, method="asymptotic")
    usable = np.isfinite(expected.pvalue)
    np.testing.assert_allclose(p[2:][usable], expected.pvalue[usable], rtol=1e-9)
    np.testing.assert_array_equal(np.sign(z[2:]), np.sign(z[2:]) * (expected.statistic != n * m / 2))
    assert (z[:2] == 0).all()
    assert (p[:2] == 1).all()


def test_stored_zeros_are_zeros():
    one = sp.csc_matrix(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]]))
    stored = one.copy()
    stored.data[0] = 0.0
    shown = sp.csc_matrix(stored.toarray())
    for found, expected in zip(rank_sum(stored, one), rank_sum(shown, one)):
        np.testing.assert_array_equal(found, expected)


def test_values_below_zero_and_other_genes_are_refused():
    cells = sp.csc_matrix(np.eye(3))
    with pytest.raises(DataError, match="negative"):
        rank_sum(-cells, cells)
    with pytest.raises(DataError, match="as many genes"):
        rank_sum(cells, cells[:, :2])


def of(z: list[float], q: list[float], change: list[float]) -> de.GeneTests:
    """Return tests with the values given."""
    return de.GeneTests(np.array(z), np.array(q), np.array(change))


TRUE = of([9, -8, 4, 0, 0, 0], [0.01, 0.01, 0.01, 0.9, 0.9, 0.9], [2, -2, 1, 0.1, 0, 0])


def test_the_truth_scores_one():
    assert de.de_overlap(TRUE, TRUE) == de.de_precision(TRUE, TRUE) == de.de_recall(TRUE, TRUE) == 1
    assert de.de_direction(TRUE, TRUE) == 1
    assert de.de_spearman(TRUE, TRUE) == pytest.approx(1)
    assert de.de_auc(TRUE, TRUE) == (1, 1)


def test_lists_are_cut_at_the_number_that_truly_respond():
    said = of([5, 0, 0, 6, 6, 6], [0.01, 0.9, 0.9, 0.01, 0.01, 0.01], [0.5, -1, 0, 3, 3, 3])
    assert de.de_overlap(TRUE, said) == 0  # the three of largest change are all wrong
    assert de.de_precision(TRUE, said) == 1 / 4
    assert de.de_recall(TRUE, said) == 1 / 3
    assert de.de_direction(TRUE, said) == 2 / 3  # a change of 0 has no direction
    assert de.de_auc(TRUE, said)[0] == pytest.approx(roc_auc_score([1, 1, 1, 0, 0, 0], [5, 0, 0, 6, 6, 6]))


def test_no_predicted_responder_scores_zero_and_no_true_one_has_no_score():
    still = of([0] * 6, [1] * 6, [0] * 6)
    assert de.de_overlap(TRUE, still) == de.de_recall(TRUE, still) == de.de_direction(TRUE, still) == 0
    assert de.de_spearman(TRUE, still) == 0
    assert np.isnan(de.de_precision(TRUE, still))
    for measure in (de.de_overlap, de.de_recall, de.de_direction, de.de_spearman):
        assert np.isnan(measure(still, TRUE))
    assert np.isnan(de.de_auc(still, TRUE)).all()


def test_planted_responders_are_found():
    rng = np.random.default_rng(0)
    rates = np.ones(50)
    moved = rates * np.where(np.arange(50) < 10, 4.0, 1.0)
    controls, cells = (
        sp.csr_matrix(np.log1p(rng.poisson(rate, size=(200, 50))).astype(np.float32)) for rate in (rates, moved)
    )
    found = de.gene_tests(cells, controls)
    assert found.significant[:10].all()
    assert found.significant[10:].mean() < 0.1
    assert (found.change[:10] > 0.5).all()
