"""How far decoded values err: a standard deviation by decoded level and gene, from training cells held out of a second fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numba
import numpy as np

N_LEVELS = 24  # bins of decoded value, with about equally many entries
SHRINKAGE = 20.0  # observations of the average gene added to each gene


@dataclass(frozen=True, eq=False)
class ErrorSpread:
    """Standard deviation ``sqrt(v(value) · q_gene)`` of the error of a decoded value, log1p CP10k.

    Parameters
    ----------
    levels : float64 (k,)
        Rising decoded values; v is linear between them and constant beyond.
    variances : float64 (k,)
        v at each, mean squared error of held-out entries.
    ratio : float32 (n_genes,)
        q, the gene's mean squared error over v, shrunk to 1 as if 20 more entries of average error had been seen.
    """

    levels: np.ndarray
    variances: np.ndarray
    ratio: np.ndarray

    @classmethod
    def fit(cls, genes: np.ndarray, decoded: np.ndarray, errors: np.ndarray, *, n_genes: int) -> Self:
        """Return the spread of held-out errors.

        Parameters
        ----------
        genes : int (m,)
        decoded : float (m,), values decoded by a fit that did not see these entries' cells
        errors : float (m,), true minus decoded
        """
        squared = errors.astype(np.float64) ** 2
        edges = np.unique(np.quantile(decoded, np.linspace(0, 1, N_LEVELS + 1)))
        part = np.searchsorted(edges[1:-1], decoded, side="right")
        n = np.bincount(part)
        kept = n > 0
        levels = np.bincount(part, decoded)[kept] / n[kept]
        variances = np.maximum(np.bincount(part, squared)[kept] / n[kept], 1e-12)
        relative = squared / np.interp(decoded, levels, variances)
        seen = np.bincount(genes, minlength=n_genes)
        ratio = (np.bincount(genes, relative, minlength=n_genes) + SHRINKAGE) / (seen + SHRINKAGE)
        return cls(levels, variances, ratio.astype(np.float32))

    def deviations(self, genes: np.ndarray, decoded: np.ndarray) -> np.ndarray:
        """Return the standard deviation of each entry, float32 (m,); ``genes`` may hold -1, a gene unknown here."""
        out = np.empty(len(genes), dtype=np.float32)
        _deviations(genes, decoded, self.levels, self.variances, self.ratio, out)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return all but the genes' ratios, for JSON."""
        return {"levels": self.levels.tolist(), "variances": self.variances.tolist()}

    @classmethod
    def from_dict(cls, record: dict[str, Any], ratio: np.ndarray) -> Self:
        """Return the spread of :meth:`to_dict` with its ratios, float32 (n_genes,)."""
        return cls(np.asarray(record["levels"]), np.asarray(record["variances"]), ratio)


@numba.njit(nogil=True, cache=True)
def _deviations(
    genes: np.ndarray,
    decoded: np.ndarray,
    levels: np.ndarray,
    variances: np.ndarray,
    ratio: np.ndarray,
    out: np.ndarray,
) -> None:
    for entry in range(len(genes)):
        value = decoded[entry]
        upper = np.searchsorted(levels, value)
        if upper == 0:
            variance = variances[0]
        elif upper == len(levels):
            variance = variances[upper - 1]
        else:
            share = (value - levels[upper - 1]) / (levels[upper] - levels[upper - 1])
            variance = variances[upper - 1] + share * (variances[upper] - variances[upper - 1])
        if genes[entry] >= 0:
            variance *= ratio[genes[entry]]
        out[entry] = np.sqrt(variance)
