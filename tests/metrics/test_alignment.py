import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from c2s.errors import ConfigError, DataError
from c2s.metrics.alignment import foscttm, foscttm_per_sample


def brute_force(x, y, metric):
    d = cdist(x, y, metric)
    n = len(x)
    total = 0.0
    for i in range(n):
        total += sum(d[i, j] < d[i, i] for j in range(n)) / (n - 1)
        total += sum(d[j, i] < d[i, i] for j in range(n)) / (n - 1)
    return total / (2 * n)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 30),
    st.integers(2, 6),
    st.integers(0, 10**6),
    st.sampled_from(["cosine", "euclidean"]),
    st.integers(1, 40),
)
def test_against_brute_force(n, d, seed, metric, block_size):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    y = x + rng.normal(size=(n, d))
    assert foscttm(x, y, metric=metric, block_size=block_size) == pytest.approx(brute_force(x, y, metric), abs=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_perfect_random_and_collapsed(metric):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 10))
    assert foscttm(x, x, metric=metric) == 0
    assert foscttm(x, rng.normal(size=x.shape), metric=metric) == pytest.approx(0.5, abs=0.03)
    assert foscttm(x, np.ones_like(x), metric=metric) == pytest.approx(0.5, abs=0.01)
    assert foscttm(np.ones_like(x), np.ones_like(x), metric=metric) == 0.5


def test_turning_both_or_scaling_one_changes_nothing():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 60, 5))
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    assert foscttm(x @ turn, y @ turn, metric="euclidean") == pytest.approx(foscttm(x, y, metric="euclidean"))
    assert foscttm(x * rng.uniform(1, 9, (60, 1)), y) == pytest.approx(foscttm(x, y))
    assert foscttm(x, y) == pytest.approx(foscttm(y, x))
    assert foscttm_per_sample(x, y).shape == (60, 2)


def test_what_is_refused():
    x = np.ones((3, 2))
    with pytest.raises(DataError, match="shape"):
        foscttm(x, np.ones((4, 2)))
    with pytest.raises(DataError, match="rows of zeros"):
        foscttm(x, np.zeros((3, 2)))
    with pytest.raises(DataError, match="not finite"):
        foscttm(x, np.full((3, 2), np.nan))
    with pytest.raises(DataError, match="at least 2"):
        foscttm(x[:1], x[:1])
    with pytest.raises(ConfigError, match="cosine and euclidean"):
        foscttm(x, x, metric="l1")
