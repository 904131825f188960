"""Cells known by their values, and training cells found among test cells."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from c2s.cells.hashes import cell_hashes, refuse_shared_cells, shared_cells
from c2s.errors import DataError


def cells(n: int, seed: int, n_genes: int = 60) -> ad.AnnData:
    counts = np.random.default_rng(seed).poisson(1.0, size=(n, n_genes)).astype(np.float32)
    return ad.AnnData(sp.csr_matrix(counts), var=pd.DataFrame(index=[f"GENE{i}" for i in range(n_genes)]))


def test_a_cell_is_known_under_another_name_and_order_of_genes():
    one = cells(10, 0)
    other = one[::-1, ::-1].copy()
    other.obs_names = [f"x{i}" for i in range(10)]
    assert cell_hashes(one) == cell_hashes(other)[::-1]
    with pytest.raises(DataError, match="2 of 5 test cells are training cells .4, 5."):
        refuse_shared_cells(one[:6], one[4:9])
    refuse_shared_cells(one[:5], one[5:])


def test_genes_of_one_side_only_do_not_hide_a_cell():
    one = cells(10, 0)
    wider = ad.AnnData(
        sp.hstack([one.X, cells(10, 1, 5).X]).tocsr(), var=pd.DataFrame(index=[*one.var_names, *"ABCDE"])
    )
    assert shared_cells(wider, one[:4]).all()
    assert shared_cells(one[:4], wider).tolist() == [True] * 4 + [False] * 6
    changed = one.copy()
    changed.X[0, 0] += 1
    assert shared_cells(one, changed).tolist() == [False] + [True] * 9


def test_cells_of_few_genes_are_alike_by_chance_and_do_not_count():
    one = cells(6, 0)
    few = one.copy()
    few.X = sp.csr_matrix(np.where(np.arange(60) < 9, 1.0, 0.0) * np.ones((6, 1)))
    enough = one.copy()
    enough.X = sp.csr_matrix(np.where(np.arange(60) < 10, 1.0, 0.0) * np.ones((6, 1)))
    assert not shared_cells(few, few).any()
    assert shared_cells(enough, enough).all()
    empty = ad.AnnData(sp.csr_matrix((2, 60), dtype=np.float32), var=one.var)
    refuse_shared_cells(empty, empty)
    other = one.copy()
    other.var_names = [f"X{i}" for i in range(60)]
    assert not shared_cells(one, other).any()
