"""Columns on disk become the rows of the same matrix, whatever blocks they are moved in."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from c2s.cells import columns
from c2s.cells.columns import Columns, turn
from c2s.errors import ArtefactError


def stored(matrix) -> Columns:
    group = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    return Columns(group, matrix.shape, matrix.nnz)


@pytest.fixture
def matrix():
    rng = np.random.default_rng(0)
    dense = rng.integers(1, 300, (83, 19)) * (rng.random((83, 19)) < 0.2)
    dense[10:30] = 0
    return sp.csc_matrix(dense.astype(np.int16))


@pytest.mark.parametrize("bucket", [1, 7, 83, 8192])
@pytest.mark.parametrize("at_once", [1, 13, 1 << 23])
def test_any_rows_can_be_read(tmp_path, monkeypatch, matrix, bucket, at_once):
    monkeypatch.setattr(columns, "BUCKET", bucket)
    monkeypatch.setattr(columns, "AT_ONCE", at_once)
    moved = []
    found = turn(stored(matrix), tmp_path / "rows", done=moved.append)
    assert sum(moved) == found.n_entries == matrix.nnz
    rows = matrix.tocsr()
    for start, stop in ((0, 83), (0, 1), (5, 41), (82, 83), (12, 20)):
        block = found.read(start, stop)
        assert block.dtype == np.int16
        assert (block != rows[start:stop]).nnz == 0
        assert block.has_canonical_format
    assert sum(path.stat().st_size for path in (tmp_path / "rows").glob("*.bin")) == stored(matrix).turned_bytes


def test_values_keep_their_type_except_halves(tmp_path):
    for kind, expected in (("f2", "f4"), ("f8", "f8"), ("?", "?"), ("u1", "u1")):
        dense = np.array([[0, 1], [1, 0], [1, 1]], dtype=kind)
        group = {"data": np.ones(4, dtype=kind), "indices": np.array([1, 2, 0, 2]), "indptr": np.array([0, 2, 4])}
        block = turn(Columns(group, (3, 2), 4), tmp_path / expected).read(0, 3)
        assert block.dtype == np.dtype(expected)
        np.testing.assert_array_equal(block.toarray(), dense)


def test_a_cut_turning_is_begun_again(tmp_path, monkeypatch, matrix):
    with monkeypatch.context() as patch:
        patch.setattr(columns, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            turn(stored(matrix), tmp_path / "rows")
    (tmp_path / "rows" / "values.bin").write_bytes(b"0" * 9999)
    found = turn(stored(matrix), tmp_path / "rows")
    assert (found.read(0, 83) != matrix.tocsr()).nnz == 0
    again = turn(SimpleNamespace(group=None), tmp_path / "rows")  # whole now: the columns are not read again
    assert (again.read(0, 83) != matrix.tocsr()).nnz == 0


def test_damaged_columns_are_an_error(tmp_path, matrix):
    for name, value, words in (
        ("indices", 83, "run from 0 to 83 in a matrix of 83 rows"),
        ("indptr", 9999, "do not fit it"),
    ):
        damaged = matrix.copy()
        getattr(damaged, name)[3] = value
        with pytest.raises(ArtefactError, match=words):
            turn(stored(damaged), tmp_path / name)
    with pytest.raises(ArtefactError, match="turn it first"):
        stored(matrix).read(0, 3)
