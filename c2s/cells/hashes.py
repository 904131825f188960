"""Cells known by their values: the same cell is found again whatever it is called and however its genes are ordered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from c2s.artefacts import hash_of
from c2s.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

MIN_GENES = 10  # that a cell expresses; with fewer, different cells are alike by chance


def cell_hashes(adata: AnnData) -> list[str]:
    """Return a hash of each cell's genes and values (``X``, as float32); genes at 0 do not count."""
    order = np.argsort(adata.var_names.astype(str).to_numpy(), kind="stable")
    codes = np.array([int(hash_of(str(gene)), 16) for gene in adata.var_names[order]], dtype=np.uint64)
    matrix = sp.csr_matrix(adata.X)[:, order]
    matrix.eliminate_zeros()
    matrix.sort_indices()
    rows = [slice(*matrix.indptr[row : row + 2]) for row in range(matrix.shape[0])]
    return [hash_of(codes[matrix.indices[row]], matrix.data[row].astype("<f4")) for row in rows]


def shared_cells(training: AnnData, test: AnnData) -> NDArray[np.bool_]:
    """Return which test cells have the genes and values of a training cell, shape (n_test,).

    Genes that only one of the two has are left out. A cell that expresses fewer than ten of the others is counted as not shared: too
    little is known of it.
    """
    genes = test.var_names[test.var_names.isin(training.var_names)]
    sides = [each[:, genes] for each in (training, test)]
    known = {*cell_hashes(sides[0])}
    enough = np.asarray((sides[1].X != 0).sum(axis=1)).ravel() >= MIN_GENES
    return enough & np.array([key in known for key in cell_hashes(sides[1])], dtype=bool)


def refuse_shared_cells(training: AnnData, test: AnnData) -> None:
    """Raise a DataError where cells occur in both (:func:`shared_cells`); it names some of them.

    Raises
    ------
    DataError
        A test cell has the genes and values of a training cell.
    """
    shared = test.obs_names[shared_cells(training, test)]
    if len(shared):
        msg = f"{len(shared):,} of {test.n_obs:,} test cells are training cells ({', '.join(map(str, shared[:3]))}): split by cell before anything is fitted"
        raise DataError(msg)
