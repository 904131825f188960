"""The decoder's mathematics for any sentence: a smooth surface over (relative rank, number of genes), and a line for each gene.

In a sentence of a cell with n expressed genes, gene g at 0-based rank r is given the value

    f(u, z) + a_g + b_g · (f(u, z) − f̄),      u = log((r + 1) / (n + 1)),  z = log n,

where f is bilinear between knots (penalised least squares) and a, b are ridge regressions of its residuals on each gene,
shrunk to 0 as if five more observations of none were seen. Values then become the nearest falling sequence along the
sentence (pool adjacent violators): true values fall along it, so this can only lower the squared error, and it restores
blocks of equal counts. Without the lines (a = b = 0) it is the depth-aware decoder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numba
import numpy as np
import scipy.sparse as sp

N_RANK_KNOTS = 48
N_SIZE_KNOTS = 12
SHRINKAGE = 5.0  # observations of no deviation added to each gene
ROUGHNESS = 1e-3  # weight of the penalty, relative to the mean weight of a knot
LEADING = 50  # genes of a sentence by which a ladder is judged
TRUSTED, DISTRUSTED = 0.3, 0.8  # log1p CP10k below the surface, on average over them, between which it gives way
MAX_SURFACE_ENTRIES = 500_000  # evenly spaced entries the surface is fitted to; the lines are fitted to all


@dataclass(frozen=True, eq=False)
class Surface:
    """Fitted values. Knots are in natural-log units, values in log1p CP10k.

    Parameters
    ----------
    rank_knots : float64 (p,), evenly spaced u
    size_knots : float64 (q,), rising z
    values : float64 (p, q), f at the knots
    centre : float
        Mean of f over the training entries.
    floor : float
        Smallest value in training; a gene in a sentence is expressed, so it never decodes below.
    gene_offset, gene_slope : float32 (n_genes,)
        a and b; 0 for genes not seen in training.
    """

    rank_knots: np.ndarray
    size_knots: np.ndarray
    values: np.ndarray
    centre: float
    floor: float
    gene_offset: np.ndarray
    gene_slope: np.ndarray

    @classmethod
    def fit(cls, genes: np.ndarray, ranks: np.ndarray, sizes: np.ndarray, values: np.ndarray, *, n_genes: int) -> Self:
        """Return the surface fitted to entries of training sentences.

        Parameters
        ----------
        genes : int (m,)
        ranks : int (m,), 0-based
        sizes : int (m,), expressed genes of the entry's cell
        values : float (m,), log1p CP10k
        """
        u, z = np.log((ranks + 1.0) / (sizes + 1.0)), np.log(sizes.astype(np.float64))
        rank_knots = np.linspace(min(u.min(), -1.0), 0.0, N_RANK_KNOTS)
        size_knots = np.unique(np.quantile(np.unique(z), np.linspace(0, 1, N_SIZE_KNOTS)))
        if len(size_knots) < 2:
            size_knots = size_knots[0] + np.array([-0.01, 0.01])
        basis = _hat_basis(u, z, rank_knots, size_knots)
        step = -(-len(u) // MAX_SURFACE_ENTRIES)
        some = basis[::step]
        weight = ROUGHNESS * some.shape[0] / basis.shape[1]
        system = (some.T @ some).toarray() + weight * _penalty(len(rank_knots), len(size_knots))
        knots = np.linalg.solve(system, some.T @ values[::step])
        fitted = basis @ knots
        centre = float(fitted.mean())
        offset, slope = _gene_lines(genes, fitted - centre, values - fitted, n_genes)
        return cls(
            rank_knots, size_knots, knots.reshape(len(rank_knots), -1), centre, float(values.min()), offset, slope
        )

    def without_genes(self) -> Self:
        """Return the surface alone: every gene's line is 0."""
        return replace(self, gene_offset=np.zeros_like(self.gene_offset), gene_slope=np.zeros_like(self.gene_slope))

    def decode(
        self, ids: np.ndarray, offsets: np.ndarray, sizes: np.ndarray, rows: np.ndarray, out: np.ndarray
    ) -> None:
        """Write the decoded values of some rows of ``ids`` (-1: a gene unknown here) into ``out``, float32.

        Parameters
        ----------
        sizes : int32 (n,), expressed genes of each cell
        rows : int64 (k,)
            The i-th sentence is ``ids[offsets[i]:offsets[i + 1]]``.
        """
        _decode_rows(
            ids, offsets, sizes, rows, self.rank_knots, self.size_knots, self.values, self.centre, self.floor,
            self.gene_offset, self.gene_slope, out,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return all but the gene lines, for JSON."""
        return {
            "rank_knots": self.rank_knots.tolist(),
            "size_knots": self.size_knots.tolist(),
            "values": self.values.tolist(),
            "centre": self.centre,
            "floor": self.floor,
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any], gene_lines: np.ndarray) -> Self:
        """Return the surface of :meth:`to_dict` with its gene lines, float32 (2, n_genes)."""
        return cls(
            rank_knots=np.asarray(record["rank_knots"], dtype=np.float64),
            size_knots=np.asarray(record["size_knots"], dtype=np.float64),
            values=np.asarray(record["values"], dtype=np.float64),
            centre=float(record["centre"]),
            floor=float(record["floor"]),
            gene_offset=gene_lines[0].copy(),
            gene_slope=gene_lines[1].copy(),
        )


def _hat_basis(u: np.ndarray, z: np.ndarray, rank_knots: np.ndarray, size_knots: np.ndarray) -> sp.csr_matrix:
    """Return the bilinear weights of the four knots around each point, CSR (m, p · q)."""
    q = len(size_knots)
    (i, right), (j, upper) = _cell(u, rank_knots), _cell(z, size_knots)
    columns = np.stack([i * q + j, i * q + j + 1, (i + 1) * q + j, (i + 1) * q + j + 1], axis=1).ravel()
    left, lower = 1 - right, 1 - upper
    weights = np.stack([left * lower, left * upper, right * lower, right * upper], axis=1).ravel()
    return sp.csr_matrix((weights, columns, np.arange(0, len(columns) + 1, 4)), shape=(len(u), len(rank_knots) * q))


def _cell(x: np.ndarray, knots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)
    return left, np.clip((x - knots[left]) / (knots[left + 1] - knots[left]), 0.0, 1.0)


def _penalty(p: int, q: int) -> np.ndarray:
    """Return squared second differences along rank plus first differences along size, (p · q, p · q)."""
    bend = np.diff(np.eye(p), n=2, axis=0)
    step = np.diff(np.eye(q), n=1, axis=0)
    total: np.ndarray = np.kron(bend.T @ bend, np.eye(q)) + np.kron(np.eye(p), step.T @ step)
    return total


def _gene_lines(
    genes: np.ndarray, height: np.ndarray, residual: np.ndarray, n_genes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return each gene's ridge regression of ``residual`` on (1, ``height``): offsets and slopes, float32 (n_genes,)."""

    def per_gene(weights: np.ndarray) -> np.ndarray:
        return np.bincount(genes, weights, minlength=n_genes)

    spread = max(float(height.var()), 1e-12)
    s11 = per_gene(np.ones_like(height)) + SHRINKAGE
    s12 = per_gene(height)
    s22 = per_gene(height**2) + SHRINKAGE * spread
    t1, t2 = per_gene(residual), per_gene(residual * height)
    determinant = s11 * s22 - s12**2
    return (
        ((s22 * t1 - s12 * t2) / determinant).astype(np.float32),
        ((s11 * t2 - s12 * t1) / determinant).astype(np.float32),
    )


@numba.njit(nogil=True, cache=True)
def give_way(values: np.ndarray, surface: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> None:
    """Move the ``values`` of some rows to those of the ``surface``, where they lead far below it.

    The share of the surface is 0 where the first 50 values of a row are on average at most 0.3 below it and 1 from 0.8 on.
    Both fall along the row, so what comes out does.
    """
    for row in rows:
        start, stop = offsets[row], offsets[row + 1]
        leading = min(stop - start, LEADING)
        below = 0.0
        for entry in range(start, start + leading):
            below += surface[entry] - values[entry]
        share = min(max((below / max(leading, 1) - TRUSTED) / (DISTRUSTED - TRUSTED), 0.0), 1.0)
        for entry in range(start, stop):
            values[entry] = (1.0 - share) * values[entry] + share * surface[entry]


@numba.njit(nogil=True, cache=True)
def _decode_rows(
    ids: np.ndarray,
    offsets: np.ndarray,
    sizes: np.ndarray,
    rows: np.ndarray,
    rank_knots: np.ndarray,
    size_knots: np.ndarray,
    surface: np.ndarray,
    centre: float,
    floor: float,
    gene_offset: np.ndarray,
    gene_slope: np.ndarray,
    out: np.ndarray,
) -> None:
    p, q = surface.shape
    spacing = rank_knots[1] - rank_knots[0]
    for row in rows:
        start, length = offsets[row], offsets[row + 1] - offsets[row]
        n = max(sizes[row], length)
        z = np.log(max(n, 1))
        j = 0
        while j < q - 2 and z >= size_knots[j + 1]:
            j += 1
        upper = min(max((z - size_knots[j]) / (size_knots[j + 1] - size_knots[j]), 0.0), 1.0)
        mean = np.empty(length)
        weight = np.empty(length, dtype=np.int64)
        blocks = 0
        for position in range(length):
            x = (np.log((position + 1.0) / (n + 1.0)) - rank_knots[0]) / spacing
            i = min(max(int(np.floor(x)), 0), p - 2)
            right = min(max(x - i, 0.0), 1.0)
            low = (1 - right) * surface[i, j] + right * surface[i + 1, j]
            high = (1 - right) * surface[i, j + 1] + right * surface[i + 1, j + 1]
            value = (1 - upper) * low + upper * high
            gene = ids[start + position]
            if gene >= 0:
                value += gene_offset[gene] + gene_slope[gene] * (value - centre)
            mean[blocks] = value
            weight[blocks] = 1
            blocks += 1
            while blocks > 1 and mean[blocks - 2] < mean[blocks - 1]:
                share = weight[blocks - 1] / (weight[blocks - 2] + weight[blocks - 1])
                mean[blocks - 2] += share * (mean[blocks - 1] - mean[blocks - 2])
                weight[blocks - 2] += weight[blocks - 1]
                blocks -= 1
        position = start
        for block in range(blocks):
            for _ in range(weight[block]):
                out[position] = max(mean[block], floor)
                position += 1
