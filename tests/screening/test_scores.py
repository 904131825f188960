from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from c2s.cells.genes import GeneVocabulary
from c2s.errors import DataError
from c2s.screening.scores import largest_u, logit_u, mean_log_expression, programme_scores, u_statistic
from c2s.sentences.corpus import CellSentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode

SYMBOLS = tuple(f"G{i}" for i in range(12))
VOCABULARY = GeneVocabulary(SYMBOLS)


def sentences_of(*rows: list[int]) -> CellSentences:
    return CellSentences.from_lists(list(rows), VOCABULARY)


class LengthDecoder:
    """Decodes a gene at rank r as 1 / r, absent as 0."""

    def values(self, sentences, gene_ids):
        ranks = sentences.ranks(gene_ids, absent=1000).astype(np.float32)
        return np.where(ranks < 1000, 1 / ranks, 0).astype(np.float32)


def test_u_runs_from_absent_to_leading():
    sentences = sentences_of([5, 6, 7, 8], [1, 0, 7, 8], [], [8, 7, 1, 0])
    u = u_statistic(sentences, [0, 1], max_rank=4)
    # both absent: 0; both leading: 1; ranks 4 and 3: 1 - (7 - 3) / (10 - 3)
    np.testing.assert_allclose(u, [0.0, 1.0, 0.0, 3 / 7])


def test_u_is_the_scaled_mann_whitney_statistic():
    # within a full sentence of n genes, sum of ranks - k (k + 1) / 2 is the U of the programme's ranks
    rng = np.random.default_rng(0)
    genes = [0, 3, 7]
    for _ in range(5):
        row = rng.permutation(12).tolist()
        ranks = np.array([row.index(g) + 1 for g in range(12)])
        expected = mannwhitneyu(ranks[genes], np.delete(ranks, genes)).statistic
        u = u_statistic(sentences_of(row), genes, max_rank=12)[0]
        np.testing.assert_allclose((1 - u) * largest_u(3, max_rank=12), expected)


def test_ranks_below_the_cut_are_absent():
    long = u_statistic(sentences_of([5, 6, 7, 0]), [0], max_rank=3)
    np.testing.assert_array_equal(long, [0.0])


@settings(max_examples=50)
@given(st.permutations(range(12)), st.sets(st.integers(0, 11), min_size=1, max_size=6), st.integers(6, 12))
def test_u_is_bounded_and_ignores_the_order_of_the_programme(row, genes, max_rank):
    sentences = sentences_of(list(row))
    u = u_statistic(sentences, sorted(genes), max_rank=max_rank)
    np.testing.assert_allclose(u, u_statistic(sentences, sorted(genes)[::-1], max_rank=max_rank))
    assert 0 <= u[0] <= 1


@settings(max_examples=50)
@given(st.permutations(range(12)), st.integers(1, 11))
def test_a_programme_gene_that_rises_never_lowers_u(row, position):
    raised = list(row)
    raised[position - 1], raised[position] = raised[position], raised[position - 1]
    before, after = u_statistic(sentences_of(list(row), raised), [row[position]], max_rank=12)
    assert after > before


def test_logit_is_finite_at_the_ends_and_odd_about_one_half():
    u = np.array([0.0, 0.3, 0.5, 0.7, 1.0])
    logit = logit_u(u, n_genes=4, max_rank=20)
    assert np.isfinite(logit).all()
    np.testing.assert_allclose(logit, -logit[::-1], atol=1e-12)
    largest = largest_u(4, max_rank=20)
    share = (u * largest + 0.5) / (largest + 1)
    np.testing.assert_allclose(logit, np.log(share / (1 - share)))


def test_the_three_scores_come_together():
    sentences = sentences_of([0, 5, 1], [5, 6])
    scores = programme_scores(sentences, [0, 1], max_rank=5, decoder=LengthDecoder())
    u = u_statistic(sentences, [0, 1], max_rank=5)
    np.testing.assert_allclose(scores["u"], u)
    np.testing.assert_allclose(scores["logit_u"], logit_u(u, n_genes=2, max_rank=5))
    np.testing.assert_allclose(scores["log_expression"], [(1 + 1 / 3) / 2, 0.0], rtol=1e-6)
    np.testing.assert_allclose(scores["log_expression"], mean_log_expression(sentences, [0, 1], LengthDecoder()))


@pytest.mark.parametrize(
    ("genes", "max_rank", "message"),
    [([], 5, "distinct genes"), ([1, 1], 5, "distinct genes"), ([0, 1, 2], 2, "3 genes cannot all stand in 2 ranks")],
)
def test_impossible_programmes_are_refused(genes, max_rank, message):
    with pytest.raises(DataError, match=message):
        u_statistic(sentences_of([0, 1]), genes, max_rank=max_rank)


def test_log_expression_is_the_mean_over_decoded_cells():
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1.0, 3.0, size=12), size=(60, 12)).astype(np.float32)
    adata = AnnData(counts, var=pd.DataFrame(index=list(SYMBOLS)))
    sentences, decoder = encode(adata), RankDecoder.fit(adata)
    decoded = decoder.decode(sentences)[:, ["G3", "G1"]].X.toarray()
    np.testing.assert_allclose(mean_log_expression(sentences, [3, 1], decoder), decoded.mean(axis=1), rtol=1e-5)
