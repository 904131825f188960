import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from c2s.errors import ConfigError, DataError
from c2s.metrics.generation import gene_overlap, rank_biased_overlap, rank_kendall, top_k_jaccard, validity

SENTENCES = st.lists(st.integers(0, 30), unique=True, max_size=25)


def rbo_by_hand(one, other, p):
    """Equation 32, with sets at every depth."""
    short, long = sorted((one, other), key=len)
    s, n = len(short), len(long)
    x = [len(set(short[:d]) & set(long[:d])) for d in range(n + 1)]
    first = sum(x[d] / d * p**d for d in range(1, n + 1))
    second = sum(x[s] * (d - s) / (s * d) * p**d for d in range(s + 1, n + 1))
    return (1 - p) / p * (first + second) + ((x[n] - x[s]) / n + x[s] / s) * p**n


def tau_b_by_hand(a, b):
    concordant = discordant = ties_a = ties_b = 0
    for i, j in itertools.combinations(range(len(a)), 2):
        product = (a[i] - a[j]) * (b[i] - b[j])
        concordant += product > 0
        discordant += product < 0
        ties_a += a[i] == a[j]
        ties_b += b[i] == b[j]
    pairs = len(a) * (len(a) - 1) / 2
    return (concordant - discordant) / np.sqrt((pairs - ties_a) * (pairs - ties_b))


@settings(max_examples=150, deadline=None)
@given(SENTENCES, SENTENCES, st.sampled_from([0.5, 0.9, 0.98]))
def test_against_brute_force(one, other, p):
    if one and other:
        value = rank_biased_overlap(one, other, p=p)
        assert value == pytest.approx(rbo_by_hand(one, other, p), abs=1e-12)
        assert -1e-12 <= value <= 1 + 1e-12
        assert value == pytest.approx(rank_biased_overlap(other, one, p=p))
        assert gene_overlap(one, other) == 100 * len(set(one) & set(other)) / len(one)
    genes = sorted({*one, *other})
    ranks = [[s.index(g) + 1 if g in s else len(s) + 1 for g in genes] for s in (one, other)]
    if len(genes) > 1 and min(len(set(r)) for r in ranks) > 1:
        assert rank_kendall(one, other) == pytest.approx(tau_b_by_hand(*ranks))
    for k in (1, 5):
        a, b = set(one[:k]), set(other[:k])
        if a | b:
            assert top_k_jaccard(one, other, k=k) == len(a & b) / len(a | b)


def test_closed_forms():
    abc = list("ABCDEF")
    assert rank_biased_overlap(abc, abc) == pytest.approx(1)
    assert rank_biased_overlap(abc, list("UVWXYZ")) == 0
    assert rank_biased_overlap([], abc) == 0
    assert rank_biased_overlap(["A"], ["A", "B"], p=0.5) == pytest.approx(1)  # what follows is taken to agree as well
    assert rank_kendall(abc, abc) == pytest.approx(1)
    assert rank_kendall(abc, abc[::-1]) == pytest.approx(-1)
    assert rank_kendall(abc, list("UVWXYZ")) < 0
    assert rank_kendall(abc, ["Z", "A"], genes=["A", "B", "C"]) == pytest.approx(
        kendalltau([1, 2, 3], [2, 3, 3]).statistic
    )
    for value in (rank_kendall([], []), rank_biased_overlap([], []), gene_overlap([], abc), top_k_jaccard([], [], k=3)):
        assert np.isnan(value)


def test_shares_of_valid_sentences():
    known = set("ABCD")
    found = validity(["AB", "AB", "", "AA", "AZ", "ABC"], known=known, n_genes=2, training=["AB"])
    assert (found.valid, found.unique, found.novel, found.n) == (2 / 6, 5 / 6, 4 / 6, 6)
    assert (found.empty, found.foreign, found.repeated, found.wrong_length) == (1 / 6, 1 / 6, 1 / 6, 2 / 6)
    assert np.isnan(validity([], known=known).valid)
    assert np.isnan(validity(["A"], known=known).novel)


def test_what_is_refused():
    for measure in (gene_overlap, rank_biased_overlap, rank_kendall):
        with pytest.raises(DataError, match="twice .A."):
            measure("AAB", "AB")
    with pytest.raises(ConfigError, match="p=1"):
        rank_biased_overlap("AB", "AB", p=1)
    with pytest.raises(ConfigError, match="k=0"):
        top_k_jaccard("AB", "AB", k=0)
