"""Scores of foretold pairs: fitness, what is beyond two expectations of it, and its sign; under weights, so that resamples cost little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.perturbation.norman import TIERS, Values

UNIT = 1e4  # what is kept are whole ten-thousandths
TOP = 0.1  # share of the pairs, those furthest from what is expected, whose sign is asked for
FEW = 5  # pairs of either sign, at least, for an AUC
EXPECTED = ("the sum", "the surface")  # what an interaction is beyond


def scored(run: dict[str, Any], truth: dict[str, Any], *, resamples: int = 0) -> list[dict[str, Any]]:
    """Return the metrics of a run, a dict a tier, with the pairs that count (``n``); with ``resamples``, arrays that begin with the metric itself.

    Resamples of a tier are the same ones for every row that answers the same pairs, so that rows can be compared resample by resample.
    """
    told, fitness, *expected = (
        np.array(values, dtype=float) / UNIT
        for values in (run["told"], truth["fitness"], truth["sum"], truth["surface"])
    )
    tiers = np.array(truth["tiers"])
    found = []
    for place, tier in enumerate(TIERS):
        rows = np.flatnonzero((tiers == place) & np.isfinite(told))
        weights = np.ones((1 + resamples, len(rows)))
        rng = np.random.default_rng([run["seed"], place])
        weights[1:] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=resamples)
        values = of_pairs(told[rows], fitness[rows], [each[rows] for each in expected], weights)
        found.append(
            {
                "tier": tier,
                "n": len(rows),
                **{name: each if resamples else float(each[0]) for name, each in values.items()},
            }
        )
    return found


def of_pairs(told: Values, fitness: Values, expected: Sequence[Values], weights: Values) -> dict[str, Values]:
    """Return each metric, shape (n_weights,), NaN where it cannot be had: of pairs that count as often as each row of ``weights`` says."""
    out = {
        "Pearson, fitness": correlations(told, fitness, weights),
        "Spearman, fitness": rank_correlations(told, fitness, weights),
        "mean absolute error": weights @ np.abs(told - fitness) / weights.sum(axis=1),
    }
    for name, base in zip(EXPECTED, expected):
        predicted, true = told - base, fitness - base
        out[f"Pearson, beyond {name}"] = correlations(predicted, true, weights)
        out[f"Spearman, beyond {name}"] = rank_correlations(predicted, true, weights)
        top = np.abs(true) >= np.quantile(np.abs(true), 1 - TOP)
        out[f"AUC of the sign beyond {name}"] = areas(predicted[top], true[top] > 0, weights[:, top])
    return out


def correlations(one: Values, other: Values, weights: Values) -> Values:
    """Return Pearson's correlation under each row of weights; the values are of one row, (n,), or of each, (n_weights, n)."""
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sides = [each - ((weights * each).sum(axis=1) / total)[:, None] for each in (one, other)]
        spreads = [(weights * each**2).sum(axis=1) for each in sides]
        found = (weights * sides[0] * sides[1]).sum(axis=1) / np.sqrt(spreads[0] * spreads[1])
    constant = np.ptp(np.atleast_2d(one), axis=1).min() == 0 or np.ptp(np.atleast_2d(other), axis=1).min() == 0
    return np.full(len(weights), np.nan) if constant else found


def rank_correlations(one: Values, other: Values, weights: Values) -> Values:
    """Return Spearman's correlation under each row of whole weights: Pearson's of mean ranks, in which a pair that counts twice stands twice."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return np.full(len(weights), np.nan)
    return correlations(ranks(one, weights), ranks(other, weights), weights)


def ranks(values: Values, weights: Values) -> Values:
    """Return the mean rank of each value under each row of weights, shape (n_weights, n), from 1."""
    kinds, place = np.unique(values, return_inverse=True)
    hot = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[hot], np.arange(len(kinds)))
    held = np.add.reduceat(weights[:, hot], starts, axis=1)
    return (np.cumsum(held, axis=1) - held + (held + 1) / 2)[:, place]


def areas(values: Values, positive: NDArray[np.bool_], weights: Values) -> Values:
    """Return the area under the ROC curve under each row of weights; NaN with fewer than five pairs of either sign, or values that are all the same."""
    if min(positive.sum(), (~positive).sum()) < FEW or np.ptp(values) == 0:
        return np.full(len(weights), np.nan)
    n, m = weights[:, positive].sum(axis=1), weights[:, ~positive].sum(axis=1)
    total = (ranks(values, weights) * weights)[:, positive].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total - n * (n + 1) / 2) / (n * m)
