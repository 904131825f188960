"""How rare each gene is, and the order it gives to equals."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ArtefactError, DataError
from c2s.sentences.background import Background, hash_of_names
from c2s.sentences.encode import encode

DENSE = np.array([[1, 0, 2, 0], [3, 1, 0, 0], [1, 0, 0, 0], [9, 5, 1, 0]])


def adata_of(values, genes="ABCD"):
    return ad.AnnData(
        values, pd.DataFrame(index=[f"c{i}" for i in range(len(values))]), pd.DataFrame(index=list(genes))
    )


def test_fit_is_the_share_of_expressing_cells():
    background = Background.fit(adata_of(DENSE))
    np.testing.assert_array_equal(background.detection, (DENSE > 0).mean(axis=0))
    assert background.n_cells == 4
    assert background.vocabulary.symbols == tuple("ABCD")


def test_rarer_genes_come_first_and_equals_in_vocabulary_order():
    background = Background(GeneVocabulary(tuple("ABCDE")), np.array([1.0, 0.5, 0.5, 0.0, 0.25]), 4)
    assert background.tie_ranks(background.vocabulary).tolist() == [4, 2, 3, 0, 1]


def test_unknown_genes_come_first():
    background = Background(GeneVocabulary(tuple("ABC")), np.array([0.9, 0.0, 0.5]), 10)
    other = GeneVocabulary(("X", "C", "Y", "A", "B"))
    ranks = dict(zip(other.symbols, background.tie_ranks(other), strict=True))
    assert {ranks["X"], ranks["Y"]} == {0, 1}
    assert (ranks["B"], ranks["C"], ranks["A"]) == (2, 3, 4)
    hashes = dict(zip("XY", hash_of_names("XY"), strict=True))
    assert (ranks["X"] < ranks["Y"]) == (hashes["X"] < hashes["Y"])


@given(st.permutations("ABCDEFXYZ"), st.lists(st.sampled_from([0.0, 0.1, 0.5]), min_size=6, max_size=6))
def test_the_order_of_two_genes_does_not_depend_on_the_others(order, detection):
    background = Background(GeneVocabulary(tuple("ABCDEF")), np.array(detection), 10)
    whole, part = GeneVocabulary(tuple(order)), GeneVocabulary(tuple(order[:4]))
    in_whole = sorted(part.symbols, key=lambda s: background.tie_ranks(whole)[whole.index(s)])
    in_part = sorted(part.symbols, key=lambda s: background.tie_ranks(part)[part.index(s)])
    assert in_whole == in_part
    assert sorted(background.tie_ranks(whole).tolist()) == list(range(len(whole)))


def test_files_and_corpora(tmp_path):
    background = Background.fit(adata_of(DENSE))
    background.write(tmp_path / "background.json")
    assert Background.read(tmp_path / "background.json") == background
    assert hash(Background.from_dict(background.to_dict())) == hash(background)
    encode(adata_of(DENSE)).write(tmp_path / "corpus")
    assert Background.read(tmp_path / "corpus") == background
    encode(adata_of(DENSE), ties="hash").write(tmp_path / "hashed")
    with pytest.raises(ArtefactError, match="holds no background"):
        Background.read(tmp_path / "hashed")
    with pytest.raises(ArtefactError, match="no file"):
        Background.read(tmp_path / "absent.json")


def test_hash_depends_on_each_part():
    one = Background(GeneVocabulary(("A", "B")), np.array([0.5, 1.0]), 4)
    others = [
        Background(GeneVocabulary(("A", "C")), np.array([0.5, 1.0]), 4),
        Background(GeneVocabulary(("A", "B")), np.array([0.5, 0.75]), 4),
        Background(GeneVocabulary(("A", "B")), np.array([0.5, 1.0]), 8),
    ]
    assert one not in others
    assert len({one.hash, *(other.hash for other in others)}) == 4


@pytest.mark.parametrize(
    ("detection", "match"), [([0.1], "shape"), ([0.1, 2.0], "outside 0 to 1"), ([np.nan, 0.1], "outside")]
)
def test_detection_that_cannot_be(detection, match):
    with pytest.raises(DataError, match=match):
        Background(GeneVocabulary(("A", "B")), np.array(detection), 4)


def test_hashes_do_not_depend_on_order_and_do_on_seed():
    names = ["AAAC-1", "AAAG-1", "TTTT-1"]
    forward, backward = hash_of_names(names), hash_of_names(names[::-1])
    np.testing.assert_array_equal(forward, backward[::-1])
    assert not np.any(forward == hash_of_names(names, seed=1))
    assert forward.dtype == np.uint64
