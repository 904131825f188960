"""Cells as ragged rows of gene tokens, with a value each: what the network baselines read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

PAD, CLS, FIRST_GENE = 0, 1, 2  # of networks trained here; a folder has its own vocabulary


@dataclass(frozen=True)
class Tokens:
    """Rows of tokens.

    Attributes
    ----------
    ids : ndarray, shape (total,), int64
    values : ndarray, shape (total,), float32
    offsets : ndarray, shape (n + 1,), int64
    pad : int
        Id that fills short rows of a batch.
    """

    ids: NDArray[np.int64]
    values: NDArray[np.float32]
    offsets: NDArray[np.int64]
    pad: int = PAD

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def batch(self, rows: NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids, values and the mask of what is no padding, each (n_rows, longest)."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        place = np.arange(int(lengths.max()))
        seen = place < lengths[:, None]
        source = np.where(seen, starts[:, None] + place, 0)
        ids = np.where(seen, self.ids[source], self.pad)
        values = np.where(seen, self.values[source], np.float32(0))
        return torch.from_numpy(ids), torch.from_numpy(values), torch.from_numpy(seen)

    def by_length(self) -> NDArray[np.intp]:
        """Return the rows from the shortest to the longest."""
        return np.argsort(np.diff(self.offsets), kind="stable")


def leading_tokens(
    matrix: sp.csr_matrix,
    order: NDArray[np.floating],
    values: NDArray[np.floating],
    gene_ids: NDArray[np.int64],
    *,
    max_len: int,
    cls: int,
    cls_value: float = 0.0,
    pad: int = PAD,
) -> Tokens:
    """Return a start token and the first genes of each cell by falling ``order``, equals by column.

    Parameters
    ----------
    matrix : CSR
        Whose entries are the genes of each cell; its values are not read.
    order, values : ndarray, shape (nnz,)
        What entries are ordered by, and what stands beside their tokens.
    gene_ids : ndarray, shape (n_genes,)
        Token of each column.
    max_len : int
        Tokens a cell at most, the start among them.
    """
    n = matrix.shape[0]
    cells = np.repeat(np.arange(n), np.diff(matrix.indptr))
    sorting = np.lexsort((matrix.indices, -order, cells))
    rank = np.arange(matrix.nnz) - matrix.indptr[cells]
    kept = rank < max_len - 1
    lengths = np.minimum(np.diff(matrix.indptr), max_len - 1).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths + 1)])
    ids = np.full(offsets[-1], cls, dtype=np.int64)
    found = np.full(offsets[-1], cls_value, dtype=np.float32)
    target = offsets[cells[kept]] + 1 + rank[kept]
    ids[target] = gene_ids[matrix.indices[sorting]][kept]
    found[target] = values[sorting][kept]
    return Tokens(ids, found, offsets, pad)


def binned(matrix: sp.csr_matrix, n_bins: int) -> NDArray[np.float32]:
    """Return each entry's bin, 1 to ``n_bins - 1``, by the quantiles of its own cell; 0 is left to absent genes.

    A value has the bin of the share of the cell's entries at or below it; scGPT (Cui et al. 2024) draws the bin of equal
    values at random, which here is the highest they reach.
    """
    out = np.empty(matrix.nnz, dtype=np.float32)
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:]):
        if stop > start:
            row = matrix.data[start:stop]
            share = np.searchsorted(np.sort(row), row, side="right") / (stop - start)
            out[start:stop] = np.ceil(share * (n_bins - 1))
    return out
