from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from c2s.stats import (
    Interval,
    benjamini_hochberg,
    bootstrap_interval,
    difference_interval,
    empirical_p,
    mean_interval,
    one_sided_p,
    proportion_interval,
    sign_flip_p,
    studentise,
    tost_p,
)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_mean_interval_is_scipys_t_interval_in_every_row(rng):
    values = rng.normal(1.0, 2.0, size=(3, 8))
    interval = mean_interval(values, level=0.9)
    for row in range(3):
        expected = reference.ttest_1samp(values[row], 0.0).confidence_interval(0.9)
        np.testing.assert_allclose((interval.low[row], interval.high[row]), expected)
    np.testing.assert_allclose(interval.value, values.mean(axis=1))


def test_one_value_has_no_interval():
    interval = mean_interval([3.0])
    assert interval.value == 3.0
    assert np.isnan([interval.low, interval.high, one_sided_p(interval), tost_p(interval, margin=5.0)]).all()


def test_one_sided_p_is_scipys_t_test(rng):
    values = rng.normal(0.3, 1.0, size=(4, 9))
    expected = reference.ttest_1samp(values, 0.2, axis=1, alternative="greater").pvalue
    np.testing.assert_allclose(one_sided_p(mean_interval(values), above=0.2), expected)


def test_tost_is_the_larger_of_two_t_tests(rng):
    values = rng.normal(0.1, 0.3, size=10)
    above = reference.ttest_1samp(values, -0.5, alternative="greater").pvalue
    below = reference.ttest_1samp(values, 0.5, alternative="less").pvalue
    np.testing.assert_allclose(tost_p(mean_interval(values), margin=0.5), max(above, below))


@pytest.mark.parametrize("kind", ["t", "bootstrap"])
def test_p_values_agree_with_the_ends_of_the_interval(rng, kind):
    values = rng.normal(0.3, 1.0, size=(200, 12))
    interval = mean_interval(values, level=0.9) if kind == "t" else bootstrap_interval(values, level=0.9)
    clear = np.abs(one_sided_p(interval, above=0.1) - 0.05) > 0.002
    assert ((one_sided_p(interval, above=0.1) < 0.05) == (interval.low > 0.1))[clear].all()
    inside = (interval.low > -0.8) & (interval.high < 0.8)
    clear = np.abs(tost_p(interval, margin=0.8) - 0.05) > 0.002
    assert ((tost_p(interval, margin=0.8) < 0.05) == inside)[clear].all()
    assert 0 < inside.sum() < 200


def test_no_spread_gives_certainty_away_from_the_bound():
    interval = mean_interval([[0.2] * 4, [0.0] * 4, [0.1] * 4])
    np.testing.assert_allclose(one_sided_p(interval, above=0.1), [0.0, 1.0, 0.5])


def test_difference_interval_is_scipys_welch_test(rng):
    first, second = rng.normal(1.0, 1.0, 7), rng.normal(0.0, 3.0, 11)
    welch = reference.ttest_ind(first, second, equal_var=False, alternative="greater")
    both = reference.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    difference = difference_interval(mean_interval(first), mean_interval(second))
    np.testing.assert_allclose(one_sided_p(difference), welch.pvalue)
    np.testing.assert_allclose((difference.low, difference.high), both)
    np.testing.assert_allclose(difference.df, welch.df)


def test_difference_of_estimates_without_spread():
    difference = difference_interval(mean_interval([1.0, 1.0, 1.0]), mean_interval([0.5, 0.5]))
    assert (difference.value, difference.low, difference.high) == (0.5, 0.5, 0.5)


def test_difference_of_bootstraps_has_the_joint_error(rng):
    first, second = rng.normal(1.0, 1.0, 40), rng.normal(0.0, 2.0, 30)
    parts = [bootstrap_interval(values, n_resamples=4000, seed=seed) for seed, values in enumerate((first, second))]
    difference = difference_interval(*parts)
    expected = np.sqrt(first.var(ddof=1) / 40 + second.var(ddof=1) / 30)
    np.testing.assert_allclose(difference.se, expected)
    np.testing.assert_allclose(difference.samples.std(), expected, rtol=0.05)


def test_bootstrap_agrees_with_scipy(rng):
    values = rng.exponential(size=40)
    ours = bootstrap_interval(values, n_resamples=8000, level=0.9, seed=1)
    theirs = reference.bootstrap((values,), np.mean, n_resamples=8000, confidence_level=0.9, method="percentile", rng=0)
    np.testing.assert_allclose((ours.low, ours.high), theirs.confidence_interval, atol=0.02)
    np.testing.assert_allclose(ours.se, values.std(ddof=1) / np.sqrt(40))


def test_stratified_bootstrap_is_the_mean_of_stratum_means_and_ignores_differences_between_strata(rng):
    strata = np.repeat(["a", "b"], [4, 16])
    values = rng.normal(size=20) + np.where(strata == "a", 100.0, 0.0)
    interval = bootstrap_interval(values, strata=strata, n_resamples=4000)
    first, second = values[:4], values[4:]
    np.testing.assert_allclose(interval.value, (first.mean() + second.mean()) / 2)
    np.testing.assert_allclose(interval.se, np.sqrt(first.var(ddof=1) / 4 + second.var(ddof=1) / 16) / 2)
    np.testing.assert_allclose(interval.samples.std(), interval.se, rtol=0.05)


def test_strata_of_one_value_are_resampled_together():
    apart = bootstrap_interval([0.0, 1.0, 2.0], strata=["a", "b", "c"], n_resamples=500)
    plain = bootstrap_interval([0.0, 1.0, 2.0], n_resamples=500)
    np.testing.assert_allclose((apart.value, apart.se), (plain.value, plain.se))
    lone = bootstrap_interval([0.0, 0.0, 0.0, 3.0], strata=["a", "a", "a", "b"], n_resamples=20_000)
    np.testing.assert_allclose(lone.value, 1.5)
    assert lone.se > 0.5
    np.testing.assert_allclose(lone.samples.mean(), 1.5, atol=0.03)


def test_one_value_alone_cannot_be_resampled():
    interval = bootstrap_interval([[1.0], [2.0]])
    assert np.isnan(np.stack([interval.low, interval.high, interval.se, one_sided_p(interval)])).all()


def test_bootstrap_depends_on_the_seed_alone(rng):
    values = rng.normal(size=(5, 30))
    first, again, other = (bootstrap_interval(values, seed=seed) for seed in (3, 3, 4))
    one_row = bootstrap_interval(values[2], seed=3)
    np.testing.assert_array_equal(first.low, again.low)
    np.testing.assert_allclose(first.low[2], one_row.low, rtol=1e-5)
    assert (first.low != other.low).any()


def test_intervals_cover_the_truth_as_often_as_they_say(rng):
    values = rng.normal(size=(2000, 6))
    t = mean_interval(values, level=0.9)
    assert 0.88 < ((t.low < 0) & (t.high > 0)).mean() < 0.92
    many = rng.normal(size=(500, 60))
    boot = bootstrap_interval(many, level=0.9)
    assert 0.85 < ((boot.low < 0) & (boot.high > 0)).mean() < 0.94


@pytest.mark.parametrize(("successes", "trials"), [(0, 20), (3, 100), (20, 20), (7, 9)])
def test_proportion_interval_is_scipys_exact_one(successes, trials):
    interval = proportion_interval(successes, trials)
    expected = reference.binomtest(successes, trials).proportion_ci(0.95, method="exact")
    np.testing.assert_allclose((interval.low, interval.high), expected)
    assert interval.value == successes / trials


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_is_scipys(p_values):
    np.testing.assert_allclose(benjamini_hochberg(p_values), reference.false_discovery_control(p_values))


def test_benjamini_hochberg_leaves_out_what_was_not_tested():
    q = benjamini_hochberg([0.01, np.nan, 0.04])
    np.testing.assert_allclose(q, [0.02, np.nan, 0.04])
    assert np.isnan(benjamini_hochberg([np.nan])).all()


def test_sign_flip_p_matches_all_sign_vectors(rng):
    contributions = rng.normal(0.5, 1.0, size=8)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1)
    exact = (contributions @ signs >= contributions.sum() - 1e-12).mean()
    np.testing.assert_allclose(sign_flip_p(contributions, n_flips=20_000), exact, atol=0.015)


def test_sign_flip_p_of_nothing_is_one():
    np.testing.assert_array_equal(sign_flip_p(np.zeros((2, 5)), n_flips=99), [1.0, 1.0])


@settings(max_examples=50)
@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=20),
    st.lists(st.floats(-5, 5), min_size=1, max_size=20),
)
def test_empirical_p_counts(statistic, null):
    expected = [(1 + sum(d >= t for d in null)) / (1 + len(null)) for t in statistic]
    np.testing.assert_allclose(empirical_p(statistic, null), expected)


def test_empirical_p_of_nan_is_nan():
    np.testing.assert_array_equal(empirical_p([np.nan, 1.0], [0.0]), [np.nan, 0.5])


def test_studentise_adds_a_floor_to_every_error():
    se = np.linspace(1.0, 2.0, 11)  # 10th percentile 1.1
    np.testing.assert_allclose(studentise(np.ones(11), se), 1 / (se + 1.1))
    np.testing.assert_array_equal(studentise([0.0, 1.0, -1.0], [0.0, 0.0, 0.0]), [0.0, np.inf, -np.inf])
    assert np.isnan(studentise([1.0], [np.nan])).all()


def test_interval_holds_what_it_is_given():
    interval = Interval(1.0, 0.5, 1.5, 0.9, 0.3)
    assert interval.samples is None
    assert np.isnan(interval.df)
