"""What may not change a sentence, for a given background: the other cells, threads and chunks, and how the matrix is held."""

from __future__ import annotations

from unittest import mock

import anndata as ad
import numba
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from c2s.sentences import ranking
from c2s.sentences.background import Background
from c2s.sentences.encode import encode
from c2s.sentences.stream import encode_file

G = 9
counts = hnp.arrays(np.uint8, st.tuples(st.integers(2, 7), st.just(G)), elements=st.integers(0, 4)).filter(np.any)
every_tie = pytest.mark.parametrize("ties", ["background", "hash", "vocabulary"])
quick = settings(deadline=None, max_examples=30)


def adata_of(values) -> ad.AnnData:
    n, g = values.shape
    return ad.AnnData(
        values, pd.DataFrame(index=[f"c{i}" for i in range(n)]), pd.DataFrame(index=[f"GENE{i}" for i in range(g)])
    )


def sentences_of(adata, ties, background) -> dict[str, list[str]]:
    sentences = encode(adata, ties=ties, background=background if ties == "background" else None)
    assert sentences.n_expressed.tolist() == sentences.lengths.tolist()
    return {name: sentences.genes(i) for i, name in enumerate(sentences.obs.index)}


def messy(dense, data) -> sp.csr_matrix:
    """Return the same matrix with columns in any order, entries in two parts and stored zeros."""
    rows = []
    for row in dense.astype(np.int64):
        entries = []
        for gene, value in enumerate(row):
            first = data.draw(st.integers(0, int(value)))
            parts = data.draw(st.sampled_from([(value,), (first, value - first)]))
            entries += [(gene, part) for part in parts if part or data.draw(st.booleans())]
        rows.append(data.draw(st.permutations(entries)))
    lengths = [len(row) for row in rows]
    flat = np.array([entry for row in rows for entry in row], dtype=np.int64).reshape(-1, 2)
    return sp.csr_matrix((flat[:, 1], flat[:, 0], np.concatenate([[0], np.cumsum(lengths)])), dense.shape)


@every_tie
@quick
@given(dense=counts, data=st.data())
def test_stored_zeros_unsorted_and_repeated_entries(ties, dense, data):
    background = Background.fit(adata_of(dense))
    expected = sentences_of(adata_of(dense), ties, background)
    matrix = messy(dense, data)
    for kind in (np.int64, np.uint8, np.float32, np.float64):
        assert sentences_of(adata_of(matrix.astype(kind)), ties, background) == expected
    assert sentences_of(adata_of(sp.csc_matrix(matrix)), ties, background) == expected


KINDS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float16, np.float32, np.float64)  # fmt: skip


@every_tie
@quick
@given(dense=counts, kind=st.sampled_from(KINDS))
def test_types_and_containers(ties, dense, kind):
    background = Background.fit(adata_of(dense))
    expected = sentences_of(adata_of(dense.astype(np.int32)), ties, background)
    values = dense.astype(kind)
    for held in (values, np.asfortranarray(values), values[::-1][::-1]):
        assert sentences_of(adata_of(held), ties, background) == expected
    if kind is not np.float16:  # scipy has no half precision
        for container in (sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array):
            assert sentences_of(adata_of(container(values)), ties, background) == expected
    switched = dense > 0
    ones = sentences_of(adata_of(switched.astype(np.int32)), ties, background)
    for held in (switched, sp.csr_matrix(switched), sp.csc_matrix(switched)):
        assert sentences_of(adata_of(held), ties, background) == ones


@every_tie
@quick
@given(dense=counts, data=st.data())
def test_slices_orders_and_chunks_of_cells(ties, dense, data):
    whole = adata_of(sp.csr_matrix(dense.astype(np.float32)))
    background = Background.fit(whole)
    expected = sentences_of(whole, ties, background)
    order = data.draw(st.permutations(range(len(dense))))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(dense) - 1))))
    found = {}
    for rows in np.split(np.array(order), cuts):
        if dense[rows].any():  # a part of zeros only is refused
            found |= sentences_of(whole[rows].copy(), ties, background)
    assert found == {name: genes for name, genes in expected.items() if name in found}
    assert {name for name, genes in expected.items() if genes} <= set(found)


def many_cells(n=700, g=60) -> ad.AnnData:
    rng = np.random.default_rng(0)
    return adata_of(sp.csr_matrix(rng.poisson(rng.gamma(0.5, 2.0, (n, g))).astype(np.float32)))


@every_tie
@pytest.mark.parametrize("values", ["counts", "log1p"])
def test_threads(ties, values, monkeypatch):
    adata = many_cells()
    if values == "log1p":
        adata.X.data = np.log1p(adata.X.data)
    background = Background.fit(adata)
    found = []
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    for threads in (1, 2, 3):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        with mock.patch.object(ranking, "ThreadPoolExecutor", wraps=ranking.ThreadPoolExecutor) as pool:
            found.append(sentences_of(adata, ties, background))
        assert pool.called == (threads > 1)  # or nothing was compared
    assert found[0] == found[1] == found[2]


@every_tie
@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
def test_blocks_of_a_stream(ties, block, tmp_path, monkeypatch):
    from c2s.sentences.corpus import read_sentences

    adata = many_cells(90, 30)
    background = Background.fit(adata) if ties == "background" else None
    expected = encode(adata, ties=ties, background=background)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setattr("c2s.sentences.stream.BLOCK", block)
    encode_file(tmp_path / "cells.h5ad", tmp_path / "out", ties=ties, background=background, progress=False)
    found = read_sentences(tmp_path / "out")
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    assert found.obs.index.tolist() == expected.obs.index.tolist()
