"""Measures of texts against brute force and closed forms."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2s.errors import DataError
from c2s.metrics.text import rouge_l, text_similarity, token_f1, words

TEXTS = st.lists(st.sampled_from("a b c d e".split()), min_size=1, max_size=12).map(" ".join)


def subsequence(one, other):
    """The textbook's table of the longest common subsequence."""
    table = np.zeros((len(one) + 1, len(other) + 1), dtype=int)
    for i, x in enumerate(one):
        for j, y in enumerate(other):
            table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
    return table[-1, -1]


def embedder(texts):
    """Each word its own vector, decided by its letters."""
    return [
        np.array([np.random.default_rng([ord(c) for c in word]).normal(size=5) for word in text.split()], dtype=np.float32)
        for text in texts
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CD14+ monocytes, 12.5 % of 1,024 cells.", ["cd14+", "monocytes", "12.5", "of", "1,024", "cells"]),
        ("HLA-DRA HLA‑DRA; RP11-34P13.7.", ["hla-dra", "hla-dra", "rp11-34p13.7"]),
        ("CD3- and CD4+CD8-positive a,b", ["cd3-", "and", "cd4+", "cd8-positive", "a", "b"]),
        ("β-cell’s end.", ["β-cell’s", "end"]),
        ("…!", []),
        (None, []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@given(TEXTS, TEXTS)
def test_word_measures_are_those_of_brute_force(one, other):
    a, b = one.split(), other.split()
    shared = sum(min(n, Counter(b)[word]) for word, n in Counter(a).items())
    for score, common in ((token_f1, shared), (rouge_l, subsequence(a, b))):
        precision, recall = common / len(b), common / len(a)
        expected = 2 * precision * recall / (precision + recall) if common else 0.0
        assert score(one, other) == pytest.approx(expected)
        assert score(other, one) == pytest.approx(expected)
    assert rouge_l(one, other) <= token_f1(one, other)


def test_word_measures_at_their_ends():
    assert rouge_l("B cells, 40 %.", "b CELLS 40") == token_f1("B cells, 40 %.", "b CELLS 40") == 1
    assert token_f1("a b c", "c b a") == 1
    assert rouge_l("a b c", "c b a") == pytest.approx(1 / 3)
    for score in (rouge_l, token_f1):
        assert score("a", None) == score("a", " ") == score("a", "b") == 0
        assert np.isnan(score(" ", "a"))


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
def test_similarity_is_that_of_two_loops(pairs):
    found = text_similarity([one for one, _ in pairs], [other for _, other in pairs], embedder=embedder)
    for i, (one, other) in enumerate(pairs):
        x, y = (np.asarray(each, dtype=float) for each in embedder([one, other]))
        cosine = np.array([[p @ q / np.linalg.norm(p) / np.linalg.norm(q) for q in y] for p in x])
        recall = np.mean([max(row) for row in cosine])
        precision = np.mean([max(column) for column in cosine.T])
        assert found.recall[i] == pytest.approx(recall)
        assert found.precision[i] == pytest.approx(precision)
        if precision + recall > 0:
            assert found.f1[i] == pytest.approx(2 * precision * recall / (precision + recall))
        mean = x.mean(axis=0) @ y.mean(axis=0) / np.linalg.norm(x.mean(axis=0)) / np.linalg.norm(y.mean(axis=0))
        assert found.cosine[i] == pytest.approx(mean)


def test_similarity_of_a_text_with_itself_and_of_orthogonal_texts():
    axes = {"x": [1.0, 0], "y": [0, 2.0], "-x": [-3.0, 0], "0": [0.0, 0]}
    found = text_similarity(
        ["x y", "x", "x", "x", "x x y"], ["x y", "y", "-x", "0", "x"],
        embedder=lambda texts: [np.array([axes[word] for word in text.split()], np.float32) for text in texts],
    )  # fmt: skip
    np.testing.assert_allclose(found.precision, [1, 0, -1, 0, 1])
    np.testing.assert_allclose(found.recall, [1, 0, -1, 0, 2 / 3])
    np.testing.assert_allclose(found.f1, [1, 0, 0, 0, 0.8])
    np.testing.assert_allclose(found.cosine[:4], [1, 0, -1, 0])
    assert not found.reasons


def test_an_empty_text_has_no_similarity_and_a_reason():
    asked = []

    def embed(texts):
        asked.extend(texts)
        return [np.ones((0 if text == "blank" else 2, 3), np.float32) for text in texts]

    found = text_similarity(["a", "a", " ", "blank", ""], ["b", None, "b", "b", ""], embedder=embed)
    assert asked == ["a", "b", "blank"]
    assert found.reasons == {
        1: "the prediction is empty", 2: "the truth is empty", 3: "the truth is empty", 4: "the truth and the prediction are empty",
    }  # fmt: skip
    for each in (found.precision, found.recall, found.f1, found.cosine):
        np.testing.assert_array_equal(np.isnan(each), [False, True, True, True, True])
    assert np.isnan(text_similarity([""], [None], embedder=embed).f1).all()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([], "0 arrays for 2 texts"),
        ([np.ones(3), np.ones(3)], r"shape \(3,\) for 'a'"),
        ([np.ones((1, 3)), np.ones((1, 2))], r"shape \(1, 2\) for 'b'"),
        ([np.ones((1, 2)), np.array([[np.inf, 1]])], "not finite"),
    ],
)
def test_an_embedder_that_returns_something_else_is_named(returned, message):
    with pytest.raises(DataError, match=message):
        text_similarity(["a"], ["b"], embedder=lambda texts: returned)


def test_lengths_must_agree():
    with pytest.raises(DataError, match="2 true texts and 1"):
        text_similarity(["a", "b"], ["a"], embedder=embedder)
