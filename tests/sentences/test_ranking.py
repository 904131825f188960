"""The kernels against a sort in plain Python."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from c2s.sentences.packed import mixed
from c2s.sentences.ranking import on_one_thread, over_rows, rank_by_hash, rank_by_order, sort_rows

WIDEST = 2**24 - 1  # the counts of 129 to 256 genes that 32-bit keys hold end here
values = st.one_of(
    st.just(0), st.integers(0, 4), st.integers(30, 34), st.integers(WIDEST - 3, WIDEST + 2), st.integers(0, 2**31 - 1)
)
matrices = hnp.arrays(np.int32, st.tuples(st.integers(1, 5), st.integers(1, 140)), elements=values)


def brute(dense, columns, place, n_genes):
    rows = []
    for row in dense:
        kept = [(-row[j], place[columns[j]], columns[j]) for j in np.flatnonzero(row) if columns[j] >= 0]
        rows.append([gene for _, _, gene in sorted(kept)])
    return [row[:n_genes] for row in rows], [len(row) for row in rows]


def split(ids, offsets):
    return [ids[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]


@settings(deadline=None, max_examples=60)
@given(matrices, st.one_of(st.none(), st.integers(1, 150)), st.booleans(), st.integers(0, 99))
def test_counts_and_floats_follow_value_then_place(dense, n_genes, drop, seed):
    rng = np.random.default_rng(seed)
    g = dense.shape[1]
    columns = rng.permutation(g + 3)[:g].astype(np.int32)  # a vocabulary that is larger and in another order
    if drop:
        columns[rng.random(g) < 0.4] = -1
    place = rng.permutation(g + 3).astype(np.int32)
    matrix = sp.csr_matrix(dense)
    expected, n_expressed = brute(dense, columns, place, n_genes)
    ids, offsets, found = rank_by_order(matrix.data, matrix.indices, matrix.indptr, columns, place, n_genes)
    assert split(ids, offsets) == expected
    assert found.tolist() == n_expressed
    assert (ids.dtype, offsets.dtype, found.dtype) == (np.int32, np.int64, np.int32)
    counts = sp.csr_matrix(np.minimum(dense, 2**24).astype(np.float32))
    expected, _ = brute(np.minimum(dense, 2**24), columns, place, n_genes)
    ids, offsets, _ = rank_by_order(counts.data, matrix.indices, matrix.indptr, columns, place, n_genes, whole=True)
    assert split(ids, offsets) == expected
    rounded = dense.astype(np.float32)
    expected, _ = brute(rounded, columns, place, n_genes)
    ids, offsets, _ = rank_by_order(sp.csr_matrix(rounded).data, matrix.indices, matrix.indptr, columns, place, n_genes)
    assert split(ids, offsets) == expected


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.float32, (3, 30), elements=st.floats(0, 2.0**100, width=32)))
def test_tiny_and_huge_floats_are_ordered(dense):
    matrix = sp.csr_matrix(dense)
    columns = place = np.arange(30, dtype=np.int32)
    ids, offsets, _ = rank_by_order(matrix.data, matrix.indices, matrix.indptr, columns, place, None)
    assert split(ids, offsets) == brute(dense, columns, place, None)[0]


def test_many_rows_on_threads_and_64_bit_indices():
    rng = np.random.default_rng(0)
    dense = rng.poisson(0.3, (700, 130)).astype(np.int32)
    matrix = sp.csr_matrix(dense)
    columns, place = np.arange(130, dtype=np.int32), rng.permutation(130).astype(np.int32)
    expected, _ = brute(dense, columns, place, None)
    for kind in (np.int32, np.int64):
        ids, offsets, _ = rank_by_order(
            matrix.data, matrix.indices.astype(kind), matrix.indptr.astype(kind), columns, place, None
        )
        assert split(ids, offsets) == expected


@pytest.mark.parametrize("n_genes", [None, 1, 20, 200])
@pytest.mark.parametrize("genes", [300, 70_000])
def test_rows_of_all_lengths_and_more_genes_than_sixteen_bits(genes, n_genes):
    rng = np.random.default_rng(0)
    sizes = np.concatenate([[0, 1, genes], rng.integers(0, 300, 97)])
    rows = [np.sort(rng.choice(genes, size, replace=False)) for size in sizes]
    dense = np.zeros((len(rows), genes), np.int32)
    for row, chosen in zip(dense, rows, strict=True):
        row[chosen] = rng.geometric(0.5, len(chosen)) + (rng.random(len(chosen)) < 0.01) * 100_000
    matrix = sp.csr_matrix(dense)
    columns, place = np.arange(genes, dtype=np.int32), rng.permutation(genes).astype(np.int32)
    ids, offsets, _ = rank_by_order(matrix.data, matrix.indices, matrix.indptr, columns, place, n_genes)
    assert split(ids, offsets) == brute(dense, columns, place, n_genes)[0]


def test_calls_from_several_threads_do_not_disturb_each_other():
    rng = np.random.default_rng(0)
    matrix = sp.csr_matrix(rng.poisson(0.5, (400, 60)).astype(np.int32))
    columns = place = np.arange(60, dtype=np.int32)
    arguments = (matrix.data, matrix.indices, matrix.indptr, columns, place, None)
    expected = rank_by_order(*arguments)[0]
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: rank_by_order(*arguments)[0], range(8)):
            np.testing.assert_array_equal(result, expected)


def test_hash_orders_by_value_and_is_even_among_equals():
    rng = np.random.default_rng(0)
    n, g = 4000, 6
    matrix = sp.csr_matrix(np.tile(np.array([1, 1, 1, 1, 1, 2], np.int32), (n, 1)))
    cells, genes = (rng.integers(0, 2**63, size, dtype=np.uint64) for size in (n, g))
    columns = np.arange(g, dtype=np.int32)
    ids, offsets, _ = rank_by_hash(matrix.data, matrix.indices, matrix.indptr, columns, genes, cells, None)
    rows = ids.reshape(n, g)
    assert np.all(rows[:, 0] == 5)
    assert np.all(np.sort(rows, axis=1) == np.arange(g))
    share = np.bincount(rows[:, 1], minlength=g)[:5] / n
    assert np.all(np.abs(share - 0.2) < 0.03)  # five standard errors of a fifth at n = 4000
    assert split(ids, offsets)[7] == rows[7].tolist()


@settings(deadline=None, max_examples=40)
@given(matrices, st.one_of(st.none(), st.integers(1, 150)), st.booleans(), st.integers(0, 99))
def test_hash_order_is_that_of_a_sort_by_value_hash_and_id(dense, n_genes, drop, seed):
    rng = np.random.default_rng(seed)
    dense = np.minimum(dense, 2**24)  # what a float32 can count
    n, g = dense.shape
    columns = rng.permutation(g + 3)[:g].astype(np.int32)
    if drop:
        columns[rng.random(g) < 0.4] = -1
    genes = rng.integers(0, 2**63, g + 3, dtype=np.uint64)
    genes[: g // 2] = genes[0]  # equal hashes
    cells = rng.integers(0, 2**63, n, dtype=np.uint64)
    expected = [
        [gene for *_, gene in sorted((-row[j], int(mixed(genes[columns[j]], cells[i])), columns[j]) for j in np.flatnonzero(row) if columns[j] >= 0)]
        for i, row in enumerate(dense)
    ]  # fmt: skip
    for kind in (np.int32, np.float32):
        matrix = sp.csr_matrix(dense.astype(kind))
        ids, offsets, _ = rank_by_hash(
            matrix.data, matrix.indices, matrix.indptr, columns, genes, cells, n_genes, whole=kind == np.int32
        )
        assert split(ids, offsets) == [row[:n_genes] for row in expected]


def test_rows_sorted_by_id_keep_their_values():
    rng = np.random.default_rng(0)
    lengths = np.concatenate([[0, 1], rng.integers(0, 90, 600)])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([rng.permutation(90)[:n] for n in lengths]).astype(np.int32)
    values = rng.normal(size=len(ids)).astype(np.float32)  # negative ones too
    expected = sp.csr_matrix((values.copy(), ids.copy(), offsets), (len(lengths), 90))
    expected.sort_indices()
    indices, data = sort_rows(ids, values, offsets)
    np.testing.assert_array_equal(indices, expected.indices)
    np.testing.assert_array_equal(data, expected.data)


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 5000])
def test_chunks_cover_every_row_once(n):
    seen = np.zeros(n, dtype=int)

    def work(start, stop):
        seen[start:stop] += 1

    over_rows(work, n)
    assert np.all(seen == 1)


def test_one_thread_is_the_callers():
    threads = set()
    with on_one_thread():
        over_rows(lambda start, stop: threads.add(threading.get_ident()), 5000)
    assert threads == {threading.get_ident()}


def test_errors_in_a_chunk_reach_the_caller():
    def work(start, stop):
        if start > 0:
            msg = "row"
            raise KeyError(msg)

    with pytest.raises(KeyError):
        over_rows(work, 5000)
