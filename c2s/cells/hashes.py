"""Cells known by their values: the same cell is found again whatever it is called and however its genes are ordered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from c2s.artefacts import hash_of
from c2s.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData


def cell_hashes(adata: AnnData) -> list[str]:
    """Return a hash of each cell's genes and values (``X``, as float32); genes at 0 do not count."""
    order = np.argsort(adata.var_names.astype(str).to_numpy(), kind="stable")
    codes = np.array([int(hash_of(str(gene)), 16) for gene in adata.var_names[order]], dtype=np.uint64)
    matrix = sp.csr_matrix(adata.X)[:, order]
    matrix.eliminate_zeros()
    matrix.sort_indices()
    rows = [slice(*matrix.indptr[row : row + 2]) for row in range(matrix.shape[0])]
    return [hash_of(codes[matrix.indices[row]], matrix.data[row].astype("<f4")) for row in rows]


def refuse_shared_cells(training: AnnData, test: AnnData) -> None:
    """Raise a DataError where cells with genes occur in both; it names some of them.

    Raises
    ------
    DataError
        A test cell has the genes and values of a training cell.
    """
    nothing = hash_of(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype="<f4"))  # cells without genes are all alike
    known = {*cell_hashes(training)} - {nothing}
    shared = [name for name, key in zip(test.obs_names, cell_hashes(test)) if key in known]
    if shared:
        msg = f"{len(shared):,} of {test.n_obs:,} test cells are training cells ({', '.join(map(str, shared[:3]))}): split by cell before anything is fitted"
        raise DataError(msg)
