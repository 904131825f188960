"""Planted curves come back, intervals cover, and data that cannot show a ceiling get a reason instead of one."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.optimize import curve_fit

from c2s.engines.rl.scaling_law import compare, fit_scaling_law
from c2s.errors import DataError


def sigmoid(c, start, top, midpoint, steepness):
    return start + (top - start) / (1 + (midpoint / np.maximum(c, 1e-12)) ** steepness)


def planted(seed, *, points=(20, 40)):
    """Return compute, reward and A of a noisy curve that ends between 1.5 and 12 C_mid."""
    rng = np.random.default_rng([seed, 1])
    n = int(rng.integers(points[0], points[1] + 1))
    start, top, midpoint = rng.uniform(0, 0.3), rng.uniform(0.45, 0.9), 10 ** rng.uniform(2.5, 4)
    steepness, reach, noise = rng.uniform(0.8, 2.5), rng.uniform(1.5, 12), rng.uniform(0.005, 0.03)
    c = np.linspace(0.02, 1, n) * reach * midpoint
    return c, sigmoid(c, start, top, midpoint, steepness) + noise * rng.standard_normal(n), top


def coverage(n_curves):
    """Return the share of fitted curves whose interval holds A, the reasons of the others, and CPU-seconds a curve."""
    covered, reasons, begun = [], [], time.process_time()
    for seed in range(n_curves):
        c, r, top = planted(seed)
        law = fit_scaling_law(c, r, level=0.9, seed=seed)
        if law.refusal:
            reasons.append(law.refusal)
        else:
            covered.append(law.asymptote.low <= top <= law.asymptote.high)
    return np.mean(covered), reasons, (time.process_time() - begun) / n_curves


@pytest.mark.parametrize(
    ("start", "top", "midpoint", "steepness"), [(0.1, 0.61, 2542.0, 1.92), (0.0, 0.9, 30.0, 0.8), (0.3, 0.5, 1e6, 4.0)]
)
def test_a_curve_without_noise_comes_back(start, top, midpoint, steepness):
    c = midpoint * np.geomspace(0.05, 6, 25)
    law = fit_scaling_law(np.r_[0.0, c], np.r_[start, sigmoid(c, start, top, midpoint, steepness)])
    found = [law.start.value, law.asymptote.value, law.midpoint.value, law.steepness.value]
    np.testing.assert_allclose(found, [start, top, midpoint, steepness], rtol=1e-4, atol=1e-6)
    ahead = law.predict([20 * midpoint])
    np.testing.assert_allclose(ahead.value, sigmoid(20 * midpoint, start, top, midpoint, steepness), rtol=1e-4)


def test_least_squares_are_scipys():
    c, r, _ = planted(11)
    law = fit_scaling_law(c, r)
    theirs, _ = curve_fit(sigmoid, c, r, p0=[r[0], r[-1], np.median(c), 1.5], maxfev=20000)
    ours = [law.start.value, law.asymptote.value, law.midpoint.value, law.steepness.value]
    assert ((r - sigmoid(c, *ours)) ** 2).sum() <= ((r - sigmoid(c, *theirs)) ** 2).sum() * (1 + 1e-6)
    np.testing.assert_allclose(ours, theirs, rtol=1e-2)


def test_intervals_cover_on_forty_curves():
    share, reasons, seconds = coverage(40)
    assert share >= 0.8 and len(reasons) < 20 and seconds < 1, (share, reasons, seconds)


@pytest.mark.slow
def test_intervals_cover_on_two_hundred_curves():
    share, reasons, seconds = coverage(200)
    assert 0.85 <= share <= 0.95 and len(reasons) < 80 and seconds < 1, (share, reasons, seconds)


def test_band_holds_the_rest_of_the_curve():
    inside = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        c = np.linspace(100, 20_000, 60)
        r = sigmoid(c, 0.1, 0.6, 1000.0, 1.5) + 0.01 * rng.standard_normal(60)
        law = fit_scaling_law(c[:20], r[:20], seed=seed, n_resamples=200)
        if law.refusal is None:
            band = law.predict(c[20:])
            inside.append(np.mean((r[20:] >= band.low) & (r[20:] <= band.high)))
    assert len(inside) >= 15 and np.mean(inside) >= 0.8


@pytest.mark.parametrize(
    ("c", "r", "reason"),
    [
        (np.arange(7), np.arange(7) / 10, "7 values of compute; a curve needs 8"),
        (np.repeat(np.arange(1, 5), 10), np.tile(np.arange(10) / 10, 4), "4 values of compute"),
        (np.arange(1, 21), np.full(20, 0.4), "the reward is 0.4 throughout"),
        (np.arange(1, 21), 0.4 + 0.01 * np.random.default_rng(0).standard_normal(20), "no rise above the noise"),
        (np.arange(1, 21), 0.8 - sigmoid(np.arange(1, 21), 0, 0.5, 4, 2), "no rise above the noise"),
        (np.linspace(20, 1000, 25), sigmoid(np.linspace(20, 1000, 25), 0.1, 0.7, 800, 2.0), "ends at 1.2 C_mid"),
        (np.r_[np.nan, np.arange(1, 21)][1:], np.where(np.arange(20) < 15, np.nan, 0.5), "5 values of compute"),
    ],
)
def test_what_cannot_show_a_ceiling_is_refused_with_the_reason(c, r, reason):
    law = fit_scaling_law(c, r)
    assert law.refusal is not None
    assert reason in law.refusal
    numbers = [law.asymptote.value, law.asymptote.low, law.steepness.high, law.noise, *law.predict([1.0, 9.0]).high]
    assert np.isnan(numbers).all()


def test_order_gaps_and_seed():
    c, r, _ = planted(3)
    law = fit_scaling_law(c, r, seed=4)
    order = np.random.default_rng(0).permutation(len(c))
    moved = fit_scaling_law(np.r_[c[order], 5.0], np.r_[r[order], np.nan], seed=4)
    assert (moved.asymptote.value, moved.asymptote.low) == (law.asymptote.value, law.asymptote.low)
    assert fit_scaling_law(c, r, seed=5).asymptote.low != law.asymptote.low
    unit = fit_scaling_law(c / 3600, r, seed=4)
    np.testing.assert_allclose(unit.asymptote.value, law.asymptote.value, rtol=1e-4)
    np.testing.assert_allclose(unit.midpoint.value * 3600, law.midpoint.value, rtol=1e-3)


def test_blocks_widen_the_interval_of_points_that_share_their_luck():
    rng = np.random.default_rng(2)
    c = np.linspace(50, 8000, 60)
    luck = np.zeros(60)
    for i in range(1, 60):
        luck[i] = 0.85 * luck[i - 1] + 0.01 * rng.standard_normal()
    r = sigmoid(c, 0.1, 0.6, 1000.0, 1.5) + luck
    single, block = fit_scaling_law(c, r), fit_scaling_law(c, r, block=10)
    assert single.autocorrelation > 0.4 and block.asymptote.se > 1.3 * single.asymptote.se


def made(top, steepness, seed):
    c = np.linspace(50, 10_000, 40)
    return fit_scaling_law(
        c, sigmoid(c, 0.1, top, 1200.0, steepness) + 0.008 * np.random.default_rng(seed).standard_normal(40)
    )


def test_ceilings_decide_before_steepness():
    slow_but_high, quick_but_low = made(0.75, 1.2, 0), made(0.55, 2.4, 1)
    found = compare(slow_but_high, quick_but_low)
    assert (found.better, found.decided_by) == ("first", "A") and found.asymptote.low > 0 > found.steepness.high
    assert compare(quick_but_low, slow_but_high).better == "second"
    steeper = compare(made(0.6, 1.3, 2), made(0.6, 2.4, 3))
    assert (steeper.better, steeper.decided_by) == ("second", "B")
    equal = compare(made(0.6, 1.6, 4), made(0.6, 1.6, 5))
    assert (equal.better, equal.decided_by) == ("neither", None)
    assert (
        compare(slow_but_high, slow_but_high).asymptote.low < 0 < compare(slow_but_high, slow_but_high).asymptote.high
    )
    refused = compare(slow_but_high, fit_scaling_law([1, 2], [0, 1]))
    assert refused.better == "unknown" and "second: 2 values" in refused.reason


def test_input_that_is_no_curve():
    with pytest.raises(DataError, match="one reward for each"):
        fit_scaling_law([1, 2, 3], [0.1, 0.2])
    with pytest.raises(DataError, match="at least 0"):
        fit_scaling_law([-1, 2], [0.1, 0.2])
    c, r, _ = planted(0)
    with pytest.raises(DataError, match="lies between 1 and"):
        fit_scaling_law(c, r, block=len(c))
