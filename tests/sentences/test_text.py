"""Sentences as text and back: nothing lost, generated text repaired as plain references do it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ConfigError, DataError
from c2s.sentences import text
from c2s.sentences.corpus import CellSentences
from c2s.sentences.text import read_texts, write_texts

GENES = GeneVocabulary(("A", "B", "C", "D", "E", "HLA-A"))
WORDS = st.lists(st.sampled_from([*GENES.symbols, "x", "NOT", "a"]), max_size=12)


def words_of(sentences) -> list[list[str]]:
    return [sentences.genes(i) for i in range(len(sentences))]


def first_kept(words: list[str]) -> list[str]:
    return list(dict.fromkeys(word for word in words if word in GENES))


def mean_rank_kept(words: list[str]) -> list[str]:
    """The rule of the papers, word by word."""
    out = list(words)
    for gene in dict.fromkeys(word for word in words if word in GENES):
        places = [place for place, word in enumerate(out) if word == gene]
        if len(places) > 1:
            out = [word for word in out if word != gene]
            out.insert(sum(places) // len(places), gene)
    return [word for word in out if word in GENES]


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.lists(st.integers(0, 5), unique=True, max_size=6), max_size=8),
    st.integers(1, 20),
    st.sampled_from([" ", ", ", "\t"]),
)
def test_rendering_is_each_sentence_joined_whatever_is_rendered_at_once(lists, size, delimiter):
    sentences = CellSentences.from_lists(lists, GENES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_WORDS", size)
        rendered = write_texts(sentences, delimiter=delimiter)
    assert rendered.to_pylist() == [delimiter.join(GENES.symbols[gene] for gene in row) for row in lists]


@settings(deadline=None, max_examples=80)
@given(st.lists(st.lists(st.integers(0, 5), unique=True, max_size=6), max_size=8))
def test_text_and_back(lists):
    sentences = CellSentences.from_lists(lists, GENES)
    again = read_texts(write_texts(sentences), GENES)
    np.testing.assert_array_equal(again.ids, sentences.ids)
    np.testing.assert_array_equal(again.offsets, sentences.offsets)
    assert again.obs["n_words"].tolist() == sentences.lengths.tolist()
    assert not again.obs[["n_unknown", "n_repeated"]].to_numpy().any()
    assert (again.n_expressed == -1).all()


@settings(deadline=None, max_examples=150)
@given(st.lists(WORDS, max_size=6), st.integers(1, 40))
def test_repairs_against_plain_references(lists, size):
    texts = [" ".join(words) for words in lists]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_WORDS", size)
        for repair, reference in (("first", first_kept), ("mean_rank", mean_rank_kept)):
            found = read_texts(texts, GENES, repair=repair)
            assert words_of(found) == [reference(words) for words in lists]
            known = [[word for word in words if word in GENES] for words in lists]
            assert found.obs["n_repeated"].tolist() == [len(words) - len(set(words)) for words in known]
            if repair == "first":
                assert found.obs["n_words"].tolist() == [len(words) for words in lists]
                assert found.obs["n_unknown"].tolist() == [
                    len(words) - len(kept) for words, kept in zip(lists, known, strict=True)
                ]


def test_the_case_of_the_papers():
    assert words_of(read_texts(["A B C A D"], GENES, repair="mean_rank")) == [["B", "A", "C", "D"]]
    assert words_of(read_texts(["A B C A D"], GENES)) == [["A", "B", "C", "D"]]


def test_white_space_and_the_last_full_stop_are_no_words():
    found = read_texts(["  A\n B \t C. ", "", "   ", ".", "A . B"], GENES)
    assert words_of(found) == [["A", "B", "C"], [], [], [], ["A", "B"]]
    assert found.obs["n_words"].tolist() == [3, 0, 0, 0, 3]
    taken = read_texts(["A  C.", "a"], GENES, repair="mean_rank")
    assert words_of(taken) == [["A"], []]
    assert taken.obs["n_unknown"].tolist() == [2, 1]


@pytest.mark.parametrize(
    "kind", [list, pa.array, lambda x: pa.chunked_array([x[:1], x[1:]]), lambda x: pd.Series(x).to_numpy()]
)
def test_strings_of_any_kind(kind):
    obs = pd.DataFrame({"donor": ["d1", "d2"]}, index=["x", "y"])
    found = read_texts(kind(["A B", "HLA-A"]), GENES, obs=obs)
    assert words_of(found) == [["A", "B"], ["HLA-A"]]
    assert found.obs.loc["y", "donor"] == "d2"


def test_bad_input():
    with pytest.raises(DataError, match="1 of 2 texts are missing"):
        read_texts(["A", None], GENES)
    with pytest.raises(DataError, match="2 texts, but obs has 1 rows"):
        read_texts(["A", "B"], GENES, obs=pd.DataFrame(index=["x"]))
    with pytest.raises(ConfigError, match="repair='best'; choose 'first', 'mean_rank'"):
        read_texts(["A"], GENES, repair="best")
    spaced = CellSentences.from_lists([[0]], GeneVocabulary(("A B", "C")))
    with pytest.raises(DataError, match="genes A B hold the delimiter ' '"):
        write_texts(spaced)
    assert write_texts(spaced, delimiter="|").to_pylist() == ["A B"]
