"""The gene-aware decoder's mathematics for whole sentences of counts: where the counts 1, 2, 3, … end, and how deep the cell is.

Counts are whole numbers that fall along a sentence, so a sentence is a ladder of blocks of equal counts. Rung j holds the counts
from c_j on (1, 2, …, 8, then a quarter higher each). Of the first m genes, which reach rung j, the first b reach rung j + 1. The
end b has the probability

    p(b) ∝ exp( w · [L_b, log C(m, b), b²/m, b, b·z, b·y, b·L_m/m] ),   z = log n − 7,   y = log((m + 1)/(n + 1)),

with n the length of the sentence and L_b the sum, over its first b genes, of each gene's own log odds of a count of c_{j+1} or
more. The binomial coefficient says that the order within a block is arbitrary. w is a conditional logit fitted to the ends in
training cells, with log odds of the other cells; m is the expected end of the rung below, rounded up. Where a background broke
the ties two more terms count: whether the tie order falls at b, as it does where a block ends, and how often between b and m.

A gene's count reaches rung j + 1 with probability P(b > its rank), which falls along the sentence by itself. The total of the
cell is a ridge regression on n and the expected ends; a gene's value is the mean of log(1 + 1e4 · count / total) over the rungs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numba
import numpy as np

from c2s.sentences.ends import (
    N_ORDER_TERMS,
    N_TERMS,
    end_beyond,
    end_covariates,
    end_moments,
    end_scores,
    end_terms,
    log_factorials,
)

N_UNIT_RUNGS = 8  # rungs one count apart; above, the next is a quarter higher
MIN_REACHED = 50  # entries of training cells that reach the last rung
SHRINKAGE = 4.0  # observations of the average gene added to each gene's odds
MAX_CELLS = 1500  # training cells whose ends fit the weights
FOLDS = 5
PRIOR_SPREAD = 3.0  # of a weight around its value for independent genes: 1 for the first two, 0 for the others
DEPTH_RIDGE = 1e-3  # of the regression of the total, relative to the number of cells
MAX_STEPS = 60  # of Newton's method; about ten are needed


@dataclass(frozen=True, eq=False)
class Reading:
    """How ends and the total are read off a sentence.

    Parameters
    ----------
    weights : float64 (J, 7), or (J, 9) where the tie order is read
        w of each rung.
    depth : float64 (J + 5,)
        Coefficients of log(total / n) on (1, z, z², log((E b_j + ½)/n) for each j, log(S/n), log²(S/n)), where S is the
        expected sum of counts.
    """

    weights: np.ndarray
    depth: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"weights": self.weights.tolist(), "depth": self.depth.tolist()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Return the reading of :meth:`to_dict`."""
        return cls(np.asarray(record["weights"], dtype=np.float64), np.asarray(record["depth"], dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Ladder:
    """Fitted values of a ladder with J + 1 rungs.

    Parameters
    ----------
    rungs : int64 (J + 1,), smallest count of each
    counts : float64 (J + 1,), geometric mean of the counts on each
    size_range : float64 (2,)
        Smallest and largest z in training; z is cut off there.
    plain : Reading
        Without the tie order.
    ordered : Reading or None
        With it; None where no background broke the ties of the training sentences.
    unseen : float64 (J,), log odds of the average gene, for genes that are unknown here
    log_odds : float32 (n_genes, J), of reaching rung j + 1
    """

    rungs: np.ndarray
    counts: np.ndarray
    size_range: np.ndarray
    plain: Reading
    ordered: Reading | None
    unseen: np.ndarray
    log_odds: np.ndarray

    @classmethod
    def fit(
        cls,
        ids: np.ndarray,
        offsets: np.ndarray,
        counts: np.ndarray,
        totals: np.ndarray,
        *,
        n_genes: int,
        falls: np.ndarray | None = None,
    ) -> Self | None:
        """Return the ladder fitted to whole training sentences, or None where under 50 counts are above 1.

        Parameters
        ----------
        ids : int32 (total,)
        offsets : int64 (n + 1,)
        counts : float (total,), whole, at least 1, falling along each sentence
        totals : float (n,), counts of each cell
        falls : bool (total,) or None
            Where the tie order falls (:func:`c2s.sentences.ends.order_falls`), if a background broke the ties.
        """
        rungs = _rungs(counts)
        if len(rungs) < 2:
            return None
        lengths = np.diff(offsets)
        cells = np.repeat(np.arange(len(lengths)), lengths)
        level = np.searchsorted(rungs, counts, side="right") - 1
        fold = np.arange(len(lengths)) % FOLDS
        index = (fold[cells] * len(rungs) + level) * n_genes + ids
        seen = np.bincount(index, minlength=FOLDS * len(rungs) * n_genes).reshape(FOLDS, len(rungs), n_genes)
        whole = seen.sum(axis=0)
        typical = np.exp(np.bincount(level, np.log(counts), minlength=len(rungs)) / np.maximum(np.bincount(level), 1))
        chosen = np.unique(np.linspace(0, len(lengths) - 1, MAX_CELLS).astype(np.int64))
        chosen = chosen[lengths[chosen] > 0]
        ends = np.stack([np.bincount(cells[level > j], minlength=len(lengths)) for j in range(len(rungs) - 1)])
        parts = [
            _Part(ids, offsets, falls, chosen[fold[chosen] == f], ends, *_log_odds(whole - seen[f]))
            for f in range(FOLDS)
        ]
        z = np.log(lengths[lengths > 0]) - 7.0
        log_odds, unseen = _log_odds(whole)
        return cls(
            rungs,
            typical,
            np.array([z.min(), z.max()]),
            _fit_reading(parts, typical, totals, ordered=False),
            None if falls is None else _fit_reading(parts, typical, totals, ordered=True),
            unseen,
            log_odds,
        )

    def decode(
        self, ids: np.ndarray, offsets: np.ndarray, rows: np.ndarray, falls: np.ndarray | None, out: np.ndarray
    ) -> None:
        """Write the decoded values of some rows of ``ids`` (-1: a gene unknown here) into ``out``, float32.

        Parameters
        ----------
        rows : int64 (k,)
            Whole sentences: the i-th is ``ids[offsets[i]:offsets[i + 1]]``.
        falls : bool (total,) or None
            Where the tie order falls; None reads the sentences without it. Needs an ``ordered`` reading.
        """
        reading = self.plain if falls is None else self.ordered
        assert reading is not None
        longest = int((offsets[rows + 1] - offsets[rows]).max(initial=0))
        _decode_rows(
            ids, offsets, rows, ids[:0] > 0 if falls is None else falls, falls is not None, self.log_odds, self.unseen,
            self.counts, self.size_range, reading.weights, reading.depth, log_factorials(longest), out,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return all but the log odds, for JSON."""
        return {
            **{name: getattr(self, name).tolist() for name in _PLAIN},
            "plain": self.plain.to_dict(),
            "ordered": None if self.ordered is None else self.ordered.to_dict(),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any], log_odds: np.ndarray) -> Self:
        """Return the ladder of :meth:`to_dict` with its log odds, float32 (n_genes, J)."""
        return cls(
            **{name: np.asarray(record[name], dtype=dtype) for name, dtype in _PLAIN.items()},
            plain=Reading.from_dict(record["plain"]),
            ordered=None if record["ordered"] is None else Reading.from_dict(record["ordered"]),
            log_odds=log_odds,
        )


_PLAIN = {"rungs": np.int64, "counts": np.float64, "size_range": np.float64, "unseen": np.float64}


@dataclass(frozen=True)
class _Part:
    """Training cells of one fold, with the log odds that the other folds give each gene."""

    ids: np.ndarray
    offsets: np.ndarray
    falls: np.ndarray | None
    rows: np.ndarray
    ends: np.ndarray  # (J, n), true ends of all cells
    log_odds: np.ndarray
    unseen: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        sizes: np.ndarray = self.offsets[self.rows + 1] - self.offsets[self.rows]
        return sizes

    def moments(self, rung: int, reached: np.ndarray, weights: np.ndarray) -> tuple[Any, ...]:
        """Return what :func:`c2s.sentences.ends.end_moments` does, of these cells."""
        falls = self.falls if self.falls is not None and len(weights) > N_TERMS else self.ids[:0] > 0
        table = log_factorials(int(self.sizes.max(initial=0)))
        return end_moments(
            self.ids, self.offsets, self.rows, np.log(self.sizes) - 7.0, rung, reached, self.ends[rung], self.log_odds,
            self.unseen, table, falls, weights,
        )  # fmt: skip


def _rungs(counts: np.ndarray) -> np.ndarray:
    """Return the smallest count of each rung, int64, up to the last that 50 entries reach."""
    highest = np.sort(counts)[-MIN_REACHED] if len(counts) >= MIN_REACHED else 1
    rungs = list(range(1, N_UNIT_RUNGS + 1))
    while rungs[-1] < highest:
        rungs.append(-(-5 * rungs[-1] // 4))
    return np.array([rung for rung in rungs if rung <= highest], dtype=np.int64)


def _log_odds(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log odds of reaching each further rung, of genes float32 (n_genes, J) and of the average gene (J,).

    ``seen`` (J + 1, n_genes) counts entries by rung and gene.
    """
    below = np.cumsum(seen, axis=0)[:-1].astype(np.float64)
    above = seen.sum(axis=0) - below
    share = (above.sum(axis=1) + 1.0) / (seen.sum() + 2.0)
    prior = SHRINKAGE * share[:, None]
    odds = np.log(above + prior) - np.log(below + SHRINKAGE - prior)
    return np.ascontiguousarray(odds.T, dtype=np.float32), np.log(share) - np.log1p(-share)


def _fit_reading(parts: list[_Part], counts: np.ndarray, totals: np.ndarray, *, ordered: bool) -> Reading:
    """Return weights and depth. Each rung is fitted given the expected end of the rung below, as it is met in decoding."""
    n_rungs = len(parts[0].ends)
    weights = np.zeros((n_rungs, N_TERMS + N_ORDER_TERMS * ordered))
    reached, expected = [part.sizes for part in parts], []
    for rung in range(n_rungs):
        weights[rung] = _newton(parts, rung, reached, weights.shape[1])
        means = [part.moments(rung, m, weights[rung])[3] for part, m in zip(parts, reached, strict=True)]
        expected.append(np.concatenate(means))
        reached = [np.ceil(mean).astype(np.int64) for mean in means]
    n = np.concatenate([part.sizes for part in parts]).astype(np.float64)
    x = np.empty((len(n), n_rungs + 5))
    for case, means in enumerate(np.stack(expected, axis=1)):
        _depth_terms(n[case], np.log(n[case]) - 7.0, means, counts, x[case])
    y = np.log(totals[np.concatenate([part.rows for part in parts])] / n)
    ridge = DEPTH_RIDGE * len(x) * np.eye(x.shape[1])
    ridge[0, 0] = 0.0
    return Reading(weights, np.linalg.solve(x.T @ x + ridge, x.T @ y))


def _newton(parts: list[_Part], rung: int, reached: list[np.ndarray], n_terms: int) -> np.ndarray:
    """Return the weights of greatest posterior density, by damped Newton steps (the problem is concave)."""
    start = np.zeros(n_terms)
    start[:2] = 1.0
    n_cells = sum(map(len, reached))
    best, at, weights, damping = -np.inf, start, start, 1e-6
    for _ in range(MAX_STEPS):
        found = [part.moments(rung, m, weights) for part, m in zip(parts, reached, strict=True)]
        density = sum(f[0] for f in found) - np.sum((weights - start) ** 2) / (2 * PRIOR_SPREAD**2)
        if density < best:
            damping = max(10 * damping, 1e-3)
        else:
            gain = density - best
            best, at, damping = density, weights, damping / 10
            if gain < 1e-4 * n_cells:
                break
            gradient = sum(f[1] for f in found) - (weights - start) / PRIOR_SPREAD**2
            curvature = sum(f[2] for f in found) + np.eye(n_terms) / PRIOR_SPREAD**2
        weights = at + np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), gradient)
    return at


@numba.njit(nogil=True, cache=True)
def _depth_terms(n: float, z: float, means: np.ndarray, counts: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` (J + 5,) with the terms of :class:`Reading`'s depth."""
    n_rungs = len(means)
    out[0], out[1], out[2] = 1.0, z, z * z
    total = n * counts[0]
    for j in range(n_rungs):
        out[3 + j] = np.log((means[j] + 0.5) / n)
        total += means[j] * (counts[j + 1] - counts[j])
    out[n_rungs + 3] = np.log(total / n)
    out[n_rungs + 4] = np.log(total / n) ** 2


@numba.njit(nogil=True, cache=True)
def _decode_rows(
    ids: np.ndarray,
    offsets: np.ndarray,
    rows: np.ndarray,
    falls: np.ndarray,
    ordered: bool,
    log_odds: np.ndarray,
    unseen: np.ndarray,
    counts: np.ndarray,
    size_range: np.ndarray,
    weights: np.ndarray,
    depth: np.ndarray,
    log_factorial: np.ndarray,
    out: np.ndarray,
) -> None:
    n_rungs, longest = len(weights), len(log_factorial)
    terms, scores, beyond = np.empty((longest, 5)), np.empty(longest), np.empty((n_rungs, longest))
    means, reached, covariates = np.empty(n_rungs), np.empty(n_rungs, dtype=np.int64), np.empty(4)
    depth_terms = np.empty(n_rungs + 5)
    for row in rows:
        start, stop = offsets[row], offsets[row + 1]
        n = stop - start
        if n == 0:
            continue
        z = min(max(np.log(n) - 7.0, size_range[0]), size_range[1])
        m = n
        for rung in range(n_rungs):
            reached[rung], means[rung] = m, 0.0
            if m < 1:
                continue
            mean_odds = end_terms(
                ids[start:stop], falls[start:stop], rung, m, log_odds, unseen, log_factorial, ordered, terms
            )
            end_covariates(z, n, m, mean_odds, covariates)
            best = end_scores(terms, m, covariates, weights[rung], ordered, scores)
            means[rung] = end_beyond(scores, m, best, beyond[rung])
            m = int(np.ceil(means[rung]))
        _depth_terms(n, z, means, counts, depth_terms)
        log_scale = np.log(1e4 / n)
        for i in range(n_rungs + 5):
            log_scale -= depth[i] * depth_terms[i]
        scale = np.exp(log_scale)
        below = np.log1p(counts[0] * scale)
        for r in range(n):
            scores[r] = below
        for rung in range(n_rungs):
            value = np.log1p(counts[rung + 1] * scale)
            for r in range(reached[rung]):
                scores[r] += (value - below) * beyond[rung, r]
            below = value
        for r in range(n):
            out[start + r] = scores[r]
