"""Cells to sentences: the order, ties that do not depend on position, and input that is refused."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ConfigError, DataError
from c2s.sentences.background import Background
from c2s.sentences.encode import encode

G = 12
counts = hnp.arrays(np.int32, st.tuples(st.integers(2, 6), st.just(G)), elements=st.integers(0, 3)).filter(
    lambda m: m.any()
)
every_tie = pytest.mark.parametrize("ties", ["background", "hash", "vocabulary"])
quick = settings(deadline=None, max_examples=25)


def adata_of(values, genes=None, cells=None):
    n, g = values.shape
    obs = pd.DataFrame({"row": np.arange(n)}, index=cells or [f"cell{i}" for i in range(n)])
    return ad.AnnData(values, obs, pd.DataFrame(index=genes or [f"GENE{i}" for i in range(g)]))


def texts(sentences):
    return {cell: sentences.text(i) for i, cell in enumerate(sentences.obs.index)}


def settings_of(ties, adata):
    return {"ties": ties, "background": Background.fit(adata) if ties == "background" else None}


def test_a_cell_by_hand():
    adata = adata_of(np.array([[0, 2, 1, 2, 1], [1, 0, 0, 0, 0], [0, 0, 0, 1, 1]]), list("ABCDE"))
    # detected in 1, 1, 1, 2, 2 cells: among equals the rarer first, then the vocabulary's order
    assert texts(encode(adata)) == {"cell0": "B D C E", "cell1": "A", "cell2": "D E"}
    assert texts(encode(adata, ties="vocabulary")) == {"cell0": "B D C E", "cell1": "A", "cell2": "D E"}
    background = Background(GeneVocabulary(tuple("ABCDE")), np.array([0.1, 0.9, 0.9, 0.2, 0.1]), 10)
    assert texts(encode(adata, background=background)) == {"cell0": "D B E C", "cell1": "A", "cell2": "E D"}


@quick
@given(counts)
def test_without_ties_it_is_the_sorted_order(dense):
    distinct = np.argsort(np.argsort(dense + np.linspace(0, 0.5, G), axis=1), axis=1)
    sentences = encode(adata_of(distinct))
    for i, row in enumerate(distinct):
        assert sentences.row(i).tolist() == np.argsort(-row)[: G - 1].tolist()  # the last one is 0: not expressed


@every_tie
@quick
@given(dense=counts)
def test_values_never_rise_along_a_sentence_and_every_expressed_gene_is_there_once(ties, dense):
    sentences = encode(adata_of(dense), ties=ties)
    for i, row in enumerate(dense):
        ids = sentences.row(i)
        assert np.all(np.diff(row[ids]) <= 0)
        assert sorted(ids.tolist()) == np.flatnonzero(row).tolist()
        assert sentences.n_expressed[i] == np.count_nonzero(row)


@every_tie
@quick
@given(dense=counts, seed=st.integers(0, 99), data=st.data())
def test_a_sentence_does_not_depend_on_the_other_cells(ties, dense, seed, data):
    adata = adata_of(dense)
    options = settings_of(ties, adata)
    whole = texts(encode(adata, seed=seed, **options))
    order = data.draw(st.permutations(range(len(dense))))
    shuffled = texts(encode(adata[order].copy(), seed=seed, **options))
    assert shuffled == whole
    rows = list(order[: max(1, len(order) // 2)])
    if dense[rows].any():
        part = texts(encode(adata[rows].copy(), seed=seed, **options))
        assert part == {cell: whole[cell] for cell in part}


@pytest.mark.parametrize("ties", ["background", "hash"])
@quick
@given(dense=counts, order=st.permutations(range(G)))
def test_a_sentence_does_not_depend_on_the_order_of_the_genes(ties, dense, order):
    adata = adata_of(dense)
    options = settings_of(ties, adata)
    assert texts(encode(adata[:, order].copy(), **options)) == texts(encode(adata, **options))


@every_tie
@quick
@given(dense=counts)
def test_containers_types_and_monotone_transforms_agree(ties, dense):
    adata = adata_of(dense)
    options = settings_of(ties, adata)
    expected = texts(encode(adata, **options))
    zeros = sp.csr_matrix(dense)
    zeros.data = zeros.data.copy()
    stored = sp.csr_matrix((np.append(zeros.data, []), zeros.indices, zeros.indptr), zeros.shape)
    if dense[-1, -1] == 0:  # one stored zero behind the last entry
        stored = sp.csr_matrix(
            (np.append(zeros.data, 0), np.append(zeros.indices, G - 1), np.append(zeros.indptr[:-1], zeros.nnz + 1)),
            zeros.shape,
        )
    depth = np.maximum(dense.sum(axis=1, keepdims=True), 1)
    for other in (
        zeros, stored, sp.csc_matrix(dense), dense.astype(np.uint8), dense.astype(np.float64),
        np.log1p(dense), dense * 1000, sp.csr_matrix(np.log1p(dense / depth * 1e4)), np.sqrt(dense).astype(np.float32),
    ):  # fmt: skip
        assert texts(encode(adata_of(other), **options)) == expected


@quick
@given(counts, st.integers(1, G))
def test_n_genes_cuts_the_end_and_keeps_the_number(dense, n_genes):
    whole, cut = encode(adata_of(dense)), encode(adata_of(dense), n_genes=n_genes)
    for i in range(len(dense)):
        assert cut.row(i).tolist() == whole.row(i).tolist()[:n_genes]
    assert cut.n_expressed.tolist() == whole.n_expressed.tolist()
    assert cut.encoding.n_genes == n_genes
    truncated = whole.truncate(n_genes)
    np.testing.assert_array_equal(truncated.ids, cut.ids)
    assert truncated.encoding.n_genes == n_genes


def test_hash_ties_depend_on_seed_and_cell_but_not_on_slicing():
    dense = np.ones((40, 30), np.int32)
    one, other = encode(adata_of(dense), ties="hash"), encode(adata_of(dense), ties="hash", seed=1)
    assert one.text(0) != other.text(0)
    assert len(set(texts(one).values())) == 40
    assert encode(adata_of(dense), ties="hash").ids.tolist() == one.ids.tolist()
    assert one.background is None
    assert one.encoding.background_hash is None


def test_a_background_is_reused_and_recorded():
    rng = np.random.default_rng(0)
    training, held_out = (adata_of(rng.poisson(0.4, (30, G))) for _ in range(2))
    background = Background.fit(training)
    sentences = encode(held_out, background=background)
    assert sentences.background == background
    assert sentences.encoding.background_hash == background.hash
    own = encode(held_out)
    assert own.background == Background.fit(held_out) != background
    assert own.ids.tolist() != sentences.ids.tolist()


def test_a_vocabulary_maps_by_symbol_and_counts_only_its_genes(caplog):
    adata = adata_of(np.array([[3, 2, 1, 5], [0, 1, 0, 0]]), ["A", "B", "C", "D"])
    vocabulary = GeneVocabulary(("X", "C", "A", "B"), "human")
    with caplog.at_level("INFO"):
        sentences = encode(adata, vocabulary=vocabulary)
    assert "1 expressed genes are not in the vocabulary and are dropped: D" in caplog.text
    assert [sentences.genes(i) for i in range(2)] == [["A", "B", "C"], ["B"]]
    assert sentences.n_expressed.tolist() == [3, 1]
    assert sentences.vocabulary is vocabulary
    for ties in ("hash", "vocabulary"):
        assert encode(adata, vocabulary=vocabulary, ties=ties).genes(0) == ["A", "B", "C"]


def test_foreign_vocabularies_are_refused():
    adata = adata_of(np.ones((2, 4)), ["CD4", "CD8A", "B2M", "TAP1"])
    with pytest.raises(DataError, match=r"holds 1 of the 4 genes these cells express .*lacks CD8A, B2M, TAP1"):
        encode(adata, vocabulary=GeneVocabulary(("CD4", "STAT1"), "human"))
    with pytest.raises(DataError, match="cells look human, the vocabulary is mouse"):
        encode(adata, vocabulary=GeneVocabulary(("Cd4", "Cd8a", "B2m", "Tap1"), "mouse"))


def test_obs_and_empty_cells_are_kept():
    adata = adata_of(np.array([[0, 0], [1, 2]]))
    sentences = encode(adata)
    assert sentences.text(0) == ""
    assert sentences.n_expressed.tolist() == [0, 2]
    pd.testing.assert_frame_equal(sentences.obs, adata.obs)


def test_layers():
    adata = adata_of(np.array([[1.0, 2.0], [2.0, 1.0]]))
    adata.raw = adata
    adata.layers["counts"] = np.array([[1, 3], [5, 1]])
    adata.X = adata.X - 1.5
    with pytest.raises(DataError, match=r"negative values \(smallest -0.5\).*Try layer=\"raw\" or layer=\"counts\""):
        encode(adata)
    assert encode(adata, layer="raw").genes(0) == ["GENE1", "GENE0"]
    assert encode(adata, layer="counts").encoding.layer == "counts"


def test_source_hash_names_the_matrix():
    dense = np.random.default_rng(0).poisson(0.5, (20, 10))
    one = encode(adata_of(dense)).encoding.source_hash
    assert encode(adata_of(sp.csc_matrix(dense))).encoding.source_hash == one
    changed = dense.copy()
    changed[3, 3] += 1
    assert encode(adata_of(changed)).encoding.source_hash != one


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_input_that_is_refused():
    good = adata_of(np.ones((2, 2)))
    with pytest.raises(ConfigError, match="n_genes=0; pass at least 1"):
        encode(good, n_genes=0)
    with pytest.raises(ConfigError, match="choose 'background', 'hash', 'vocabulary'"):
        encode(good, ties="random")
    with pytest.raises(ConfigError, match="ties='hash' does not read it"):
        encode(good, ties="hash", background=Background.fit(good))
    with pytest.raises(DataError, match="1 cell names occur more than once: a"):
        encode(adata_of(np.ones((2, 2)), cells=["a", "a"]))


def test_the_caller_keeps_data_and_random_state():
    adata = adata_of(sp.csr_matrix(np.random.default_rng(0).poisson(0.5, (10, 8)).astype(np.float32)))
    before, state = adata.X.copy(), np.random.get_state()[1].copy()
    encode(adata)
    encode(adata, ties="hash")
    np.testing.assert_array_equal(adata.X.data, before.data)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.real
def test_pbmc3k(data_dir):
    adata = ad.read_h5ad(data_dir / "pbmc3k" / "pbmc3k_counts.h5ad")[:300].copy()
    sentences = encode(adata, n_genes=100)
    assert len(sentences) == 300
    assert sentences.vocabulary.species == "human"
    assert np.all(sentences.lengths == 100)
    top = {gene for i in range(300) for gene in sentences.genes(i)[:30]}
    assert {"MALAT1", "B2M", "RPL10", "TMSB4X"} <= top


@pytest.mark.parametrize("kind", [np.int32, np.int64])
@every_tie
def test_counts_of_eight_digits_are_no_ties(kind, ties):
    dense = np.array([[2**24 + 1, 2**24, 2**24 + 2, 3], [2**24, 2**24 + 2, 1, 2]], dtype=np.int64)
    if kind == np.int64:
        dense[1, 0] = 2**40
    genes = [encode(adata_of(dense.astype(kind)), ties=ties).row(i).tolist() for i in range(2)]
    assert genes == [np.argsort(-row, kind="stable").tolist() for row in dense]
