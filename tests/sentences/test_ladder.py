"""The ladder of counts: its distribution by brute force, its gradient by differences, and what it makes of planted counts."""

from __future__ import annotations

from itertools import combinations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import c2s
from c2s.cells.normalise import to_log1p_cp10k
from c2s.sentences.corpus import UNKNOWN, CellSentences
from c2s.sentences.ends import (
    end_beyond,
    end_covariates,
    end_moments,
    end_scores,
    end_terms,
    log_factorials,
    order_falls,
)
from c2s.sentences.ladder import Ladder


def planted(n=300, g=200, seed=0):
    """Counts of cells of three kinds and varying depth: negative binomial around each kind's profile."""
    rng = np.random.default_rng(seed)
    profiles = np.exp(rng.normal(size=(3, g)) * 0.7 + rng.normal(size=g) * 1.3)
    profiles /= profiles.sum(axis=1, keepdims=True)
    depth = np.exp(rng.normal(np.log(500), 0.4, n))
    counts = rng.poisson(profiles[rng.integers(3, size=n)] * depth[:, None] * rng.gamma(4, 0.25, (n, g)))
    cells = ad.AnnData(sp.csr_matrix(counts.astype(np.float32)))
    cells.obs_names = [f"c{seed}-{i}" for i in range(n)]
    cells.var_names = [f"GENE{i}" for i in range(g)]
    return cells


@pytest.fixture(scope="module")
def train():
    return planted()


@pytest.fixture(scope="module")
def background(train):
    return c2s.Background.fit(train)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(0, 99))
def test_the_end_has_the_probability_of_independent_genes_given_their_number(m, seed):
    """With weights 1, 1, 0, …: each gene reaches the next rung on its own, and sentences list those that do, first, at random."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(size=m).astype(np.float32)
    terms, scores, beyond = np.empty((m + 1, 5)), np.empty(m + 1), np.empty(m)
    arguments = (np.arange(m, dtype=np.int32), np.zeros(m, bool), 0, m, odds[:, None], np.zeros(1), log_factorials(m))
    end_terms(*arguments, False, terms)
    weights = np.array([1.0, 1.0, 0, 0, 0, 0, 0])
    best = end_scores(terms, m, np.zeros(4), weights, False, scores)
    mean = end_beyond(scores, m, best, beyond)
    # the first b genes and no other reach the rung, times the number of ways to choose which b of m come first
    likelihood = np.array([np.exp(odds[:b].sum()) * len(list(combinations(range(m), b))) for b in range(m + 1)])
    p = likelihood / likelihood.sum()
    np.testing.assert_allclose(beyond, 1 - np.cumsum(p)[:-1], atol=1e-6)
    assert mean == pytest.approx(np.sum(p * np.arange(m + 1)), abs=1e-5)
    assert np.all(np.diff(beyond) <= 0)


@pytest.mark.parametrize("n_terms", [7, 9])
def test_gradient_and_curvature_are_those_of_the_likelihood(n_terms):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, 20)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(-1, 30, offsets[-1]).astype(np.int32)
    falls = rng.random(len(ids)) < 0.4
    rows, ends = np.arange(20), np.minimum(rng.integers(0, 12, 20), lengths)
    z, reached = np.log(lengths) - 2.0, lengths.copy()
    odds, unseen = rng.normal(size=(30, 1)).astype(np.float32), np.array([0.3])
    table = log_factorials(12)

    def moments(weights):
        return end_moments(ids, offsets, rows, z, 0, reached, ends, odds, unseen, table, falls, weights)

    weights = rng.normal(size=n_terms) * 0.1
    value, gradient, curvature, means = moments(weights)
    step = 1e-5
    for k in range(n_terms):
        ahead, back = weights.copy(), weights.copy()
        ahead[k] += step
        back[k] -= step
        upper, lower = moments(ahead), moments(back)
        assert (upper[0] - lower[0]) / (2 * step) == pytest.approx(gradient[k], abs=1e-4)
        np.testing.assert_allclose((upper[1] - lower[1]) / (2 * step), -curvature[k], atol=1e-3)
    assert value < 0
    assert np.all((means >= 0) & (means <= lengths))


def test_covariates():
    out = np.empty(4)
    end_covariates(0.5, 9, 4, -0.2, out)
    np.testing.assert_allclose(out, [1.0, 0.5, np.log(5 / 10), -0.2])


def test_falls_of_the_tie_order():
    place = np.array([2, 0, 1, 3], dtype=np.int32)
    np.testing.assert_array_equal(
        order_falls(np.array([1, 2, 0, 3, 1], np.int32), place), [False, False, False, False, True]
    )


@pytest.mark.parametrize("ties", ["hash", "background"])
def test_planted_counts_come_back(train, ties):
    """Held-out cells of the same kinds: nearer than the surface, total within a few per cent, falling, above 0."""
    cells, held_out = train[:220].copy(), train[220:].copy()
    background = c2s.Background.fit(cells) if ties == "background" else None
    decoder = c2s.RankDecoder.fit(cells, ties=ties, background=background)
    assert decoder.ladder is not None
    assert (decoder.ladder.ordered is not None) == (ties == "background")
    sentences = c2s.encode(held_out, ties=ties, background=background)
    truth = to_log1p_cp10k(sp.csr_matrix(held_out.X))[0].sorted_indices()
    ladder, surface = (
        sp.csr_matrix(each.decode(sentences).X).sorted_indices()
        for each in (decoder, c2s.RankDecoder.fit(cells, ties=ties, background=background, model="depth_aware"))
    )
    error, other = (float(np.mean((truth.data - each.data) ** 2)) for each in (ladder, surface))
    assert error < (0.9 if ties == "hash" else 0.8) * other
    totals = np.asarray(ladder.expm1().sum(axis=1)).ravel()
    assert abs(np.median(totals) / 1e4 - 1) < 0.04
    for i in range(len(sentences)):
        values = np.asarray(ladder[i].toarray()).ravel()[sentences.row(i)]
        assert np.all(np.diff(values) <= 1e-6)
        assert np.all(values > 0)


def test_the_tie_order_is_read_of_encoded_sentences_only(train, background):
    decoder = c2s.RankDecoder.fit(train, background=background)
    sentences = c2s.encode(train, background=background)
    read = decoder.decode(sentences).X
    hashed = decoder.decode(c2s.encode(train, ties="hash")).X
    truth = to_log1p_cp10k(sp.csr_matrix(train.X))[0]
    assert np.mean((read - truth).data ** 2) < 0.8 * np.mean((hashed - truth).data ** 2)
    generated = CellSentences.from_lists([sentences.row(0)], sentences.vocabulary, background=background)
    assert generated.n_expressed[0] == UNKNOWN
    flat = decoder._flat(generated, None)
    size = np.array([decoder.median_n_expressed], dtype=np.int32)
    expected = np.empty_like(flat)
    decoder.surface.decode(generated.ids, generated.offsets, size, np.array([0]), expected)
    np.testing.assert_array_equal(flat, expected)


def test_ones_alone_give_no_ladder():
    ids = np.arange(40, dtype=np.int32) % 10
    offsets = np.array([0, 10, 20, 30, 40])
    assert Ladder.fit(ids, offsets, np.ones(40), np.full(4, 10.0), n_genes=10) is None


def test_stated_deviations_are_those_of_held_out_cells():
    cells = planted(900)
    decoder = c2s.RankDecoder.fit(cells[:500].copy(), ties="hash")
    held_out = cells[500:].copy()
    cells = decoder.decode(c2s.encode(held_out, ties="hash"), uncertainty=True)
    truth = to_log1p_cp10k(sp.csr_matrix(held_out.X))[0].sorted_indices()
    decoded, spread = (sp.csr_matrix(each).sorted_indices() for each in (cells.X, cells.layers["sd"]))
    np.testing.assert_array_equal(spread.indices, decoded.indices)
    ratios = (truth.data - decoded.data) / spread.data
    assert np.mean(ratios**2) == pytest.approx(1, abs=0.15)
    # and they tell small errors from large ones
    small = spread.data < np.median(spread.data)
    errors = (truth.data - decoded.data) ** 2
    assert errors[small].mean() < 0.8 * errors[~small].mean()


def test_deviations_of_a_gene_that_errs_more():
    from c2s.sentences.uncertainty import ErrorSpread

    rng = np.random.default_rng(0)
    genes = rng.integers(0, 4, 40_000)
    decoded = rng.uniform(0, 4, 40_000)
    true_spread = (0.2 + 0.2 * decoded) * np.where(genes == 3, 2.0, 1.0)
    errors = true_spread * rng.normal(size=40_000)
    spread = ErrorSpread.fit(genes, decoded, errors, n_genes=6)
    stated = spread.deviations(np.array([0, 3, 0, 5, -1], np.int32), np.array([1.0, 1.0, 3.0, 1.0, 1.0], np.float32))
    average = np.sqrt((3 + 4) / 4) * 0.4  # over the genes, at 1
    np.testing.assert_allclose(stated, [0.4, 0.8, 0.8, average, average], rtol=0.06)
