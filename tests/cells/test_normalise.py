"""Counts per 1e4, then log1p, natural."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from c2s.cells.normalise import counts_to_log1p_cp10k, looks_like_counts, to_log1p_cp10k
from c2s.errors import DataError

counts = hnp.arrays(np.int32, st.tuples(st.integers(1, 6), st.integers(1, 8)), elements=st.integers(0, 50))


@given(counts)
def test_each_cell_adds_up_to_ten_thousand(dense):
    result = counts_to_log1p_cp10k(sp.csr_matrix(dense))
    assert result.dtype == np.float32
    totals = np.expm1(result.toarray().astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(totals, np.where(dense.sum(axis=1) > 0, 1e4, 0), rtol=1e-4)


def test_closed_form_and_scanpy():
    dense = np.array([[1, 3, 0], [0, 0, 0], [2, 2, 4]])
    expected = np.log1p(dense / np.maximum(dense.sum(1, keepdims=True), 1) * 1e4)
    np.testing.assert_allclose(counts_to_log1p_cp10k(sp.csr_matrix(dense)).toarray(), expected, rtol=1e-6)
    import scanpy as sc

    adata = sc.AnnData(sp.csr_matrix(dense[[0, 2]].astype(np.float32)))
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    np.testing.assert_allclose(adata.X.toarray(), expected[[0, 2]], rtol=1e-6)


@given(counts, st.integers(2, 9))
def test_depth_of_a_cell_does_not_matter(dense, factor):
    one, other = (counts_to_log1p_cp10k(sp.csr_matrix(matrix)).toarray() for matrix in (dense, dense * factor))
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_the_input_is_left_alone():
    matrix = sp.csr_matrix(np.array([[1.0, 2.0]], np.float32))
    before = matrix.data.copy()
    counts_to_log1p_cp10k(matrix)
    np.testing.assert_array_equal(matrix.data, before)


def test_counts_are_whole_and_not_negative():
    whole = sp.csr_matrix(np.array([[1.0, 40.0]]))
    assert looks_like_counts(whole)
    assert looks_like_counts(sp.csr_matrix((2, 2)))
    assert looks_like_counts(sp.csr_matrix(np.array([[True, False]])))
    assert not looks_like_counts(sp.csr_matrix(np.array([[-1.0, 2.0]])))
    assert not looks_like_counts(sp.csr_matrix(np.array([[-1, 2]])))
    assert not looks_like_counts(sp.csr_matrix(np.array([[np.nan, 2.0]])))


def test_logarithms_are_kept_and_refused_as_counts(caplog):
    logs = sp.csr_matrix(np.array([[0.5, 8.25]]))
    kept, scale = to_log1p_cp10k(logs)
    assert scale == "log"
    assert "no known base, or other small fractions; they are taken for natural log1p CP10k" in caplog.text
    np.testing.assert_array_equal(kept.toarray(), logs.toarray())
    with pytest.raises(DataError, match=r"cannot normalise logarithms .*largest value 8.25\); pass counts"):
        counts_to_log1p_cp10k(logs)
    with pytest.raises(DataError, match=r"negative values \(smallest -2"):
        counts_to_log1p_cp10k(sp.csr_matrix(np.array([[-2.0, 8.25]])))
    linear, scale = to_log1p_cp10k(sp.csr_matrix(np.array([[0.5, 99.5], [0.1, 19.9]])))
    assert scale == "linear"
    np.testing.assert_allclose(np.expm1(linear.toarray()), [[50, 9950]] * 2, rtol=1e-5)
