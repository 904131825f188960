"""Side by side with cell2sentence 1.2.0, where it is installed: the same rules, without its accidents.

``pip install --no-deps cell2sentence==1.2.0``; the tests are skipped without it.
"""

from __future__ import annotations

import sys
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import c2s
from c2s.sentences.text import read_texts, write_texts

GENES = [f"GENE{i}" for i in range(120)]


@pytest.fixture(scope="module")
def reference():
    drawing = sys.modules.get("plotnine")
    sys.modules["plotnine"] = drawing or mock.MagicMock()  # it draws what is not compared here
    try:
        return pytest.importorskip("cell2sentence.utils", reason="cell2sentence 1.2.0 is not installed")
    finally:
        if drawing is None:
            del sys.modules["plotnine"]


def cells(*, ties: bool, n: int = 40) -> ad.AnnData:
    rng = np.random.default_rng(5)
    if ties:
        counts = rng.poisson(rng.gamma(0.5, 2.0, size=(n, len(GENES))))
    else:
        counts = np.stack([rng.permutation(len(GENES)) + 1 for _ in range(n)])
        counts[rng.random(counts.shape) < 0.4] = 0
    obs = pd.DataFrame(index=[f"c{i}" for i in range(n)])
    return ad.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=pd.DataFrame(index=GENES))


def theirs_of(reference, adata) -> list[str]:
    return list(reference.generate_sentences(adata, reference.generate_vocabulary(adata)))


def test_without_ties_sentences_are_equal(reference):
    adata = cells(ties=False)
    assert write_texts(c2s.encode(adata)).to_pylist() == theirs_of(reference, adata)


@pytest.mark.parametrize("rule", ["background", "hash", "vocabulary"])
def test_with_ties_sentences_are_equal_up_to_the_order_of_equal_genes(reference, rule):
    adata = cells(ties=True)
    values = adata.to_df()
    for name, ours, theirs in zip(
        adata.obs_names, write_texts(c2s.encode(adata, ties=rule)).to_pylist(), theirs_of(reference, adata), strict=True
    ):
        row = values.loc[name]
        assert sorted(ours.split()) == sorted(theirs.split())
        assert row[ours.split()].tolist() == row[theirs.split()].tolist()


def test_the_line_decodes_alike(reference):
    adata = cells(ties=False)
    decoder = c2s.RankDecoder.fit(adata, model="log_rank", clip=False)
    sentences = c2s.encode(adata)
    ours = decoder.decode(sentences).X.toarray()
    for i in range(5):
        theirs = reference.reconstruct_expression_from_cell_sentence(
            cell_sentence_str=sentences.text(i),
            delimiter=" ",
            vocab_list=GENES,
            slope=decoder.slope,
            intercept=decoder.intercept,
        )
        np.testing.assert_allclose(ours[i], np.asarray(theirs).ravel(), atol=1e-6)


@pytest.mark.parametrize("base", [np.e, 10])
def test_the_line_is_fitted_alike(reference, base):
    """Theirs shuffles equals, which moves no value: the same line, over ranks below 999 of deeper cells."""
    rng = np.random.default_rng(1)
    counts = rng.poisson(rng.gamma(0.4, 3.0, size=(12, 2500)) + 0.3)
    assert (counts > 0).sum(axis=1).min() > 999
    normalised = counts * (1e4 / counts.sum(axis=1, keepdims=True))
    natural = sp.csr_matrix(np.log1p(normalised), dtype=np.float32)
    logs = natural / np.float32(np.log(base))
    names = pd.DataFrame(index=[f"GENE{i}" for i in range(2500)])
    decoder = c2s.RankDecoder.fit(ad.AnnData(logs, var=names), model="log_rank")
    assert decoder.normalised_from == {np.e: "log1p", 10: "log10"}[base]
    state = np.random.get_state()
    for seed in (0, 1):
        np.random.seed(seed)
        dense = natural.todense()  # our unit, whatever the base that came in
        table = reference.get_benchmark_df(dense, reference.sort_transcript_counts(dense))
        near = table[table["log_rank_normalized_expression"] < reference.BASE10_THRESHOLD]
        slope, intercept = np.polyfit(near["log_rank_normalized_expression"], near["normalized_expression"], 1)
        assert (decoder.slope, decoder.intercept) == pytest.approx((slope, intercept), rel=1e-4)
    np.random.set_state(state)


def test_the_case_of_the_papers_is_repaired_alike(reference):
    theirs, _ = reference.post_process_generated_cell_sentences("A B C A D", list("ABCD"), "NOT_A_GENE")
    ours = read_texts(["A B C A D"], c2s.GeneVocabulary(tuple("ABCD")), repair="mean_rank")
    assert ours.genes(0) == list(theirs) == list("BACD")


def test_generated_text_is_repaired_alike(reference):
    rng = np.random.default_rng(0)
    vocabulary = c2s.GeneVocabulary(tuple(GENES))
    words = [*GENES[:30], "NONSENSE", "GENE"]
    texts = [" ".join(rng.choice(words, size=rng.integers(1, 60))) for _ in range(200)]
    ours = read_texts(texts, vocabulary, repair="mean_rank")
    for i, text in enumerate(texts):
        theirs, replaced = reference.post_process_generated_cell_sentences(text, GENES, "NOT_A_GENE")
        assert ours.genes(i) == [word for word in theirs if word != "NOT_A_GENE"]
        assert ours.obs["n_unknown"].iloc[i] == replaced


def test_a_cell_does_not_depend_on_its_row_as_theirs_does(reference):
    """What is not copied: their ties change with the row a cell stands in."""
    adata = cells(ties=True)
    moved = adata[::-1].copy()
    background = c2s.Background.fit(adata)
    ours = [write_texts(c2s.encode(part, background=background)).to_pylist() for part in (adata, moved)]
    assert ours[1][::-1] == ours[0]
    assert theirs_of(reference, moved)[::-1] != theirs_of(reference, adata)
