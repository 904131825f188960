"""What the values are, told from the values: every transform of simulated counts, whole and as a choice of genes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from c2s.cells import scale as scale_module
from c2s.cells.normalise import counts_to_log1p_cp10k, to_log1p_cp10k
from c2s.cells.scale import NAMES, Scale, scale_of
from c2s.errors import DataError

LOGS = {"log1p": np.log1p, "log2": lambda x: np.log2(1 + x), "log10": lambda x: np.log10(1 + x), "sqrt": np.sqrt}
TOTALS = {"cp10k": 1e4, "median": None, "cpm": 1e6, "shares": 1.0}


def counts(n=60, g=300, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    depth, abundance = np.exp(rng.normal(0, 0.5, (n, 1))), np.exp(rng.normal(-1, 1.2, g))
    found = rng.poisson(depth * abundance)
    found[:, 0] += 1  # no cell is empty
    return found.astype(np.float64)


def normalised(values, total) -> np.ndarray:
    sums = values.sum(axis=1, keepdims=True)
    return (values * ((np.median(sums) if total is None else total) / sums)).astype(np.float32)


def csr(values) -> sp.csr_matrix:
    return sp.csr_matrix(values, dtype=np.float32)


@pytest.mark.parametrize("chosen", [slice(None), slice(0, 120)], ids=["all genes", "some genes"])
@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("name", ["normalised", *LOGS])
def test_normalised_values_and_their_logarithms_are_told_with_the_base(name, total, chosen):
    values = normalised(counts(), TOTALS[total])
    assert scale_of(csr(LOGS.get(name, np.asarray)(values)[:, chosen])) == name


@pytest.mark.parametrize("name", LOGS)
def test_logarithms_of_counts_are_told(name):
    assert scale_of(csr(LOGS[name](counts()))) == name


@pytest.mark.parametrize("decimals", [2, 3, 4])
@pytest.mark.parametrize("name", ["normalised", *LOGS])
def test_rounded_values_are_told_as_exact_ones_are(name, decimals):
    values = LOGS.get(name, np.asarray)(normalised(counts(), 1e4)[:, :120])
    assert scale_of(csr(np.round(values, decimals))) == name


def test_values_that_are_no_multiples_are_not_taken_for_rounded_ones():
    corrected = normalised(counts() * np.random.default_rng(1).uniform(0.5, 1, (60, 300)), 1e4)
    for decimals in (2, 3, 4):
        assert scale_of(csr(np.round(np.log1p(corrected)[:, :120], decimals))) == "log"


def test_corrected_values_without_whole_multiples_are_told_by_their_totals():
    corrected = normalised(counts() * np.random.default_rng(1).uniform(0.5, 1, (60, 300)), 1e4)
    assert scale_of(csr(corrected)) == "normalised"
    for name in ("log1p", "log2", "log10"):
        assert scale_of(csr(LOGS[name](corrected))) == name
    assert scale_of(csr(np.log1p(corrected)[:, :120])) == "log"  # neither is left: no base can be told
    assert scale_of(csr(1e3 * counts() * np.random.default_rng(1).uniform(0.5, 1, (60, 300)))) == "linear"


def logged() -> np.ndarray:
    values = np.log1p(normalised(counts(400), 1e4))
    return values[:, (values > 0).mean(axis=0) > 0.1]


SCALED = {
    "centred": lambda x: (x - x.mean(0)) / x.std(0),
    "one at most in each gene": lambda x: x / x.max(0),
    "unit variance, cut off at 3": lambda x: np.minimum(x / x.std(0), 3),
    "cut off at 2": lambda x: np.minimum(x * np.random.default_rng(0).uniform(0.5, 2, x.shape[1]), 2),
}


@pytest.mark.parametrize("name", SCALED)
def test_scaled_values_are_told_also_without_negative_ones(name):
    scaled = csr(SCALED[name](logged()))
    assert scale_of(scaled) == "scaled"
    with pytest.raises(DataError, match="values that look scaled gene by gene; log1p CP10k cannot be made of them"):
        to_log1p_cp10k(scaled)


def test_small_cases():
    assert scale_of(sp.csr_matrix((2, 2))) == "counts"
    assert scale_of(sp.csr_matrix((0, 2))) == "counts"
    assert scale_of(sp.csr_matrix(np.array([[True, False]]))) == "counts"
    assert scale_of(sp.csr_matrix(np.array([[2**40, 3]]))) == "counts"
    assert scale_of(sp.csr_matrix(np.array([[-1, 2]]))) == "scaled"
    assert scale_of(sp.csr_matrix(np.array([[0.5, 8.0]]))) == "log"
    assert scale_of(sp.csr_matrix(np.array([[0.5, 800.0]]))) == "linear"
    assert scale_of(sp.csr_matrix(np.array([[0.25, 0.75]]))) == "normalised"  # one cell of total one
    assert scale_of(sp.csr_matrix(np.array([[np.nan, 2.0]]))) == "counts"  # what is no number says nothing


def test_cells_on_two_scales_are_told_and_not_brought_to_one():
    dense = counts()
    for name in LOGS:
        mixed = csr(np.vstack([dense[:20], LOGS[name](normalised(dense, 1e4))[20:]]))
        assert scale_of(mixed) == "mixed"
        with pytest.raises(DataError, match="counts in some cells and logarithms or square roots in others"):
            to_log1p_cp10k(mixed)
    both = csr(np.vstack([dense[:20], normalised(dense, 1e4)[20:]]))  # these become one scale by themselves
    np.testing.assert_allclose(
        to_log1p_cp10k(both)[0].toarray(), counts_to_log1p_cp10k(csr(dense)).toarray(), rtol=1e-4, atol=1e-5
    )
    shallow = np.log2(1 + np.where(np.arange(60)[:, None] < 30, np.minimum(dense, 1), dense))
    assert scale_of(csr(shallow)) == "log2"  # log2(1 + 1) = 1 is whole, yet no count


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("name", ["normalised", *LOGS])
def test_every_scale_becomes_log1p_cp10k(name, total):
    values = LOGS.get(name, np.asarray)(normalised(counts(), TOTALS[total]))
    found, scale = to_log1p_cp10k(csr(values))
    assert scale == name
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), counts_to_log1p_cp10k(csr(counts())).toarray(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LOGS)
def test_logarithms_of_counts_are_normalised_too(name):
    found, _ = to_log1p_cp10k(csr(LOGS[name](counts())))
    np.testing.assert_allclose(found.toarray(), counts_to_log1p_cp10k(csr(counts())).toarray(), rtol=1e-3, atol=1e-4)


def test_some_genes_keep_the_total_that_all_had():
    values = normalised(counts(), 1e4)[:, :120]
    for name in LOGS:
        found, _ = to_log1p_cp10k(csr(LOGS[name](values)))
        np.testing.assert_allclose(found.toarray(), np.log1p(values), rtol=1e-4, atol=1e-5)


def test_the_sample_is_bounded_and_spread_over_the_cells():
    lengths = np.random.default_rng(0).integers(500, 2000, 3000)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    genes = np.concatenate([np.arange(size) for size in lengths]).astype(np.int32)
    matrix = sp.csr_matrix((np.ones(offsets[-1], np.float32), genes, offsets), (3000, 2000))
    assert scale_module._sample(matrix).size <= 48 * 2000
    matrix.data[offsets[1500] :] = 1.5
    assert scale_of(matrix) != "counts"


def test_every_scale_has_a_name():
    assert set(NAMES) == set(Scale.__args__)
