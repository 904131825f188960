"""Where a block of a sentence ends: the distribution of one rung's end, and its moments. Kernels of :mod:`c2s.sentences.ladder`."""

from __future__ import annotations

import numba
import numpy as np
from scipy.special import gammaln

N_TERMS = 7
N_ORDER_TERMS = 2
NEGLIGIBLE = 18.0  # natural log units below the likeliest end at which others are left out


def log_factorials(n: int) -> np.ndarray:
    """Return log k! for k = 0 … n, float64 (n + 1,)."""
    table: np.ndarray = gammaln(np.arange(n + 1) + 1.0)
    return table


def order_falls(ids: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return where a gene stands before the one ahead of it in tie order, bool (total,): only a lower count explains it.

    Parameters
    ----------
    ids : int32 (total,)
    place : int32 (n_genes,), each gene's place among equals (:meth:`Background.tie_ranks`)
    """
    at = place[ids]
    falls = np.zeros(len(ids), dtype=bool)
    np.less(at[1:], at[:-1], out=falls[1:])
    return falls


@numba.njit(nogil=True, cache=True)
def end_terms(
    genes: np.ndarray,
    falls: np.ndarray,
    rung: int,
    m: int,
    log_odds: np.ndarray,
    unseen: np.ndarray,
    log_factorial: np.ndarray,
    ordered: bool,
    terms: np.ndarray,
) -> float:
    """Fill ``terms[b]``, b = 0 … m, with L_b, log C(m, b), b²/m, the order falling at b, its falls beyond; return L_m/m.

    ``genes`` and ``falls`` are those of one sentence; the last two terms are left alone unless ``ordered``.
    """
    total = 0.0
    for b in range(m + 1):
        terms[b, 0] = total
        terms[b, 1] = log_factorial[m] - log_factorial[b] - log_factorial[m - b]
        terms[b, 2] = b * b / m
        if b < m:
            total += log_odds[genes[b], rung] if genes[b] >= 0 else unseen[rung]
    if ordered:
        beyond = 0
        for b in range(m, -1, -1):
            fall = b == 0 or b == len(genes) or falls[b]
            terms[b, 3] = fall
            terms[b, 4] = beyond
            if fall and b < m:
                beyond += 1
    return total / m


@numba.njit(nogil=True, cache=True)
def end_scores(
    terms: np.ndarray, m: int, covariates: np.ndarray, weights: np.ndarray, ordered: bool, scores: np.ndarray
) -> float:
    """Fill ``scores[b]`` with w · terms, natural log and unnormalised; return the largest.

    ``covariates`` (4,) are what b is multiplied by, for weights 3 to 6.
    """
    slope = 0.0
    for k in range(4):
        slope += weights[3 + k] * covariates[k]
    best = -np.inf
    for b in range(m + 1):
        score = weights[0] * terms[b, 0] + weights[1] * terms[b, 1] + weights[2] * terms[b, 2] + slope * b
        if ordered:
            score += weights[7] * terms[b, 3] + weights[8] * terms[b, 4]
        scores[b] = score
        best = max(best, score)
    return best


@numba.njit(nogil=True, cache=True)
def end_beyond(scores: np.ndarray, m: int, best: float, beyond: np.ndarray) -> float:
    """Fill ``beyond[r]``, r = 0 … m − 1, with P(b > r), turn ``scores`` into weights of p(b), and return E b."""
    total = 0.0
    for b in range(m + 1):
        scores[b] = np.exp(scores[b] - best) if scores[b] > best - NEGLIGIBLE else 0.0
        total += scores[b]
    mean, share = 0.0, 0.0
    for r in range(m - 1, -1, -1):
        share += scores[r + 1] / total
        beyond[r] = min(share, 1.0)
        mean += beyond[r]
    return mean


@numba.njit(nogil=True, cache=True)
def end_covariates(z: float, n: int, m: int, mean_odds: float, out: np.ndarray) -> None:
    """Fill ``out`` with (1, z, y, L_m/m), y = log((m + 1)/(n + 1))."""
    out[0] = 1.0
    out[1] = z
    out[2] = np.log((m + 1.0) / (n + 1.0))
    out[3] = mean_odds


@numba.njit(nogil=True, cache=True)
def end_moments(
    ids: np.ndarray,
    offsets: np.ndarray,
    rows: np.ndarray,
    z: np.ndarray,
    rung: int,
    reached: np.ndarray,
    ends: np.ndarray,
    log_odds: np.ndarray,
    unseen: np.ndarray,
    log_factorial: np.ndarray,
    falls: np.ndarray,
    weights: np.ndarray,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Return the log likelihood of true ends, its gradient and negative curvature in the weights, and each cell's E b.

    Parameters
    ----------
    rows : int64 (k,), the cells
    z, reached : float64, int64 (k,)
        Size and m of each.
    ends : int64 (n,), true ends of all cells
    weights : float64 (7,), or (9,) to read ``falls``
    """
    n_terms = len(weights)
    ordered = n_terms > N_TERMS
    likelihood = 0.0
    gradient, curvature = np.zeros(n_terms), np.zeros((n_terms, n_terms))
    means = np.zeros(len(rows))
    covariates, point, origin, first = np.empty(4), np.empty(n_terms), np.empty(n_terms), np.empty(n_terms)
    second = np.empty((n_terms, n_terms))
    longest = len(log_factorial)
    terms, scores, beyond = np.empty((longest, 5)), np.empty(longest), np.empty(longest)
    for case in range(len(rows)):
        m = reached[case]
        if m < 1:
            continue
        start, stop = offsets[rows[case]], offsets[rows[case] + 1]
        mean_odds = end_terms(
            ids[start:stop], falls[start:stop], rung, m, log_odds, unseen, log_factorial, ordered, terms
        )
        end_covariates(z[case], stop - start, m, mean_odds, covariates)
        best = end_scores(terms, m, covariates, weights, ordered, scores)
        end = min(ends[rows[case]], m)
        likelihood += scores[end] - best
        means[case] = end_beyond(scores, m, best, beyond)
        total = 0.0
        first[:], second[:] = 0.0, 0.0
        for step in range(-1, m + 1):  # first the true end, about which the moments are taken
            b = end if step < 0 else step
            if step >= 0 and scores[b] == 0.0:
                continue
            point[:3] = terms[b, :3]
            for k in range(4):
                point[3 + k] = b * covariates[k]
            if ordered:
                point[7:] = terms[b, 3:]
            if step < 0:
                origin[:] = point
                continue
            total += scores[b]
            for i in range(n_terms):
                point[i] -= origin[i]
                first[i] += scores[b] * point[i]
                for k in range(i + 1):
                    second[i, k] += scores[b] * point[i] * point[k]
        likelihood -= np.log(total)
        for i in range(n_terms):
            gradient[i] -= first[i] / total
            for k in range(i + 1):
                spread = second[i, k] / total - first[i] * first[k] / total**2
                curvature[i, k] += spread
                if k < i:
                    curvature[k, i] += spread
    return likelihood, gradient, curvature, means
