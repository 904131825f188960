"""Wilcoxon's rank-sum test of every gene at once, for sparse values that are never negative: only what is not zero is sorted."""

from __future__ import annotations

import numba
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy import special

from c2s.errors import DataError

Array = NDArray[np.float64]


def rank_sum(group: sp.csc_matrix, rest: sp.csc_matrix) -> tuple[Array, Array]:
    """Return z and the two-sided p-value of each gene, positive where ``group`` has the higher values.

    Parameters
    ----------
    group, rest : csc_matrix, shapes (n, n_genes) and (m, n_genes)
        Values at or above 0.

    Returns
    -------
    z, p : ndarray, shape (n_genes,)
        Normal approximation with the correction for ties and for continuity, as ``scipy.stats.mannwhitneyu`` has it (its tests are the
        reference here); 0 and 1 for a gene that is the same in all cells.

    Raises
    ------
    DataError
        Gene numbers differ, or values are negative or not finite.
    """
    if group.shape[1] != rest.shape[1] or not group.shape[0] or not rest.shape[0]:
        msg = f"cells × genes are {group.shape} and {rest.shape}; expected as many genes, and cells in both"
        raise DataError(msg)
    for each in (group, rest):
        if len(each.data) and not (np.isfinite(each.data).all() and each.data.min() >= 0):
            msg = "values are negative or not finite; expression is neither"
            raise DataError(msg)
    sides = [(np.asarray(each.data, dtype=np.float64), each.indptr.astype(np.int64)) for each in (group, rest)]
    u, ties = _statistics(*sides[0], *sides[1], group.shape[0], rest.shape[0])
    n, m = float(group.shape[0]), float(rest.shape[0])
    total = n + m
    spread = np.sqrt(n * m / 12 * ((total + 1) - ties / (total * (total - 1))))
    distance = u - n * m / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(spread > 0, np.sign(distance) * np.maximum(np.abs(distance) - 0.5, 0.0) / spread, 0.0)
    return z, np.minimum(2 * special.ndtr(-np.abs(z)), 1.0)


@numba.njit(parallel=True, cache=True, nogil=True)
def _statistics(data, starts, other, other_starts, n, m):  # type: ignore[no-untyped-def]
    """Return each gene's U of the first side, and its sum of t³ - t over ties."""
    n_genes = len(starts) - 1
    u, ties = np.zeros(n_genes), np.zeros(n_genes)
    for gene in numba.prange(n_genes):
        one = np.sort(data[starts[gene] : starts[gene + 1]])
        two = np.sort(other[other_starts[gene] : other_starts[gene + 1]])
        i, j = 0, 0
        while i < len(one) and one[i] == 0:
            i += 1
        while j < len(two) and two[j] == 0:
            j += 1
        zeros, zeros_of_rest = n - (len(one) - i), m - (len(two) - j)
        wins = 0.5 * zeros * zeros_of_rest
        t = float(zeros + zeros_of_rest)
        tied = t**3 - t
        below = float(zeros_of_rest)
        while i < len(one) or j < len(two):
            if j == len(two) or (i < len(one) and one[i] <= two[j]):
                value = one[i]
            else:
                value = two[j]
            first, second = 0, 0
            while i < len(one) and one[i] == value:
                first += 1
                i += 1
            while j < len(two) and two[j] == value:
                second += 1
                j += 1
            wins += first * (below + 0.5 * second)
            below += second
            t = float(first + second)
            tied += t**3 - t
        u[gene], ties[gene] = wins, tied
    return u, ties
