"""How well mean profiles of perturbed cells are foretold: one value a condition, each against a stated reference.

A profile is the mean over cells of log1p CP10k; ``truth`` and ``predicted`` hold one a condition. What is measured against control takes
the real control cells for both sides: a prediction that brings controls of its own could otherwise gain by moving them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from c2s.errors import DataError

Array = NDArray[np.float64]
Genes = NDArray[np.intp]


def correlation_of_changes(truth: ArrayLike, predicted: ArrayLike, reference: ArrayLike) -> Array:
    """Return Pearson's r between ``truth - reference`` and ``predicted - reference``, for each condition.

    Parameters
    ----------
    truth, predicted : array-like, shape (n_conditions, n_genes)
    reference : array-like, shape (n_genes,) or (n_conditions, n_genes)
        Mean of control cells (Pearson delta), or of perturbed training cells, which takes out what all perturbations have in common and
        scores a constant prediction 0 (Systema; Viñas Torné et al., Nature Biotechnology 2025).

    Returns
    -------
    ndarray, shape (n_conditions,)
        0 where no change is predicted; nan where there is none to predict.
    """
    one, other = _pair(truth, predicted)
    base = np.asarray(reference, dtype=np.float64)
    one, other = one - base, other - base
    flat, nothing = np.ptp(one, axis=1) == 0, np.ptp(other, axis=1) == 0
    one, other = one - one.mean(1, keepdims=True), other - other.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (one * other).sum(1) / np.sqrt((one**2).sum(1) * (other**2).sum(1))
    return np.where(flat, np.nan, np.where(nothing, 0.0, r))


def top_genes(scores: ArrayLike, k: int) -> Genes:
    """Return the ``k`` genes of largest absolute score of each condition, shape (n_conditions, k); the earlier gene of a tie."""
    values = np.abs(np.asarray(scores, dtype=np.float64))
    return np.argsort(-values, axis=1, kind="stable")[:, : min(k, values.shape[1])]


def on_genes(profiles: ArrayLike, genes: Genes) -> Array:
    """Return the values of each condition's own genes, shape (n_conditions, k)."""
    return np.take_along_axis(np.asarray(profiles, dtype=np.float64), genes, axis=1)


def squared_error(truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Return the mean squared error over genes, or ``Σ w (x - x̂)²`` with weights that sum to 1 over the genes."""
    one, other = _pair(truth, predicted)
    square = (one - other) ** 2
    return square.mean(1) if weights is None else (square * np.asarray(weights)).sum(1)


def absolute_error(truth: ArrayLike, predicted: ArrayLike) -> Array:
    """Return the mean absolute error over genes. Most genes hardly move, so that a mean profile scores well."""
    one, other = _pair(truth, predicted)
    return np.abs(one - other).mean(1)


def weights_of(scores: ArrayLike) -> Array:
    """Return ``z² / Σ z²`` over the genes of each condition, from scores of differential expression; equal ones where all are 0."""
    square = np.asarray(scores, dtype=np.float64) ** 2
    total = square.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, square / total, 1 / square.shape[1])


def weighted_r2(truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike, mean: ArrayLike) -> Array:
    """Return ``1 - Σ w (x - x̂)² / Σ w (x - m)²``: 0 for the mean perturbation ``m``, below 0 for worse; nan where the truth is ``m``.

    (In the spirit of Mejia et al., 2025: genes weigh by how much they respond, and what counts is the gain over a mean.)
    """
    left, all_of_it = (
        squared_error(truth, predicted, weights),
        squared_error(truth, np.broadcast_to(mean, np.shape(truth)), weights),
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(all_of_it > 0, 1 - left / all_of_it, np.nan)


def discrimination(
    truth: ArrayLike, predicted: ArrayLike, *, metric: str = "cityblock", left_out: NDArray[np.bool_] | None = None
) -> Array:
    """Return how near a prediction is to its own truth among all truths: ``1 - rank / n``, rank 0 is nearest, ties share theirs.

    Parameters
    ----------
    truth, predicted : array-like, shape (n_conditions, n_genes)
        Profiles or changes, of at least two conditions.
    metric : str
        Distance of scikit-learn: ``cityblock`` is the Virtual Cell Challenge's perturbation discrimination score; ``euclidean``, ``cosine``.
    left_out : ndarray of bool, shape (n_conditions, n_genes), optional
        Genes that a condition is not judged by, such as the target of a knock-down, which gives it away.

    Notes
    -----
    A guess gives 1/2 + 1/(2n), the worst prediction 1/n. A prediction that is the same for all has the value of a guess on average; with
    ranks by order instead of shared ones its score would depend on the order of the conditions.
    """
    from sklearn.metrics import pairwise_distances

    one, other = _pair(truth, predicted)
    n = _several(one)
    score = np.empty(n)
    for p in range(n):
        kept = slice(None) if left_out is None else ~left_out[p]
        distance = pairwise_distances(other[p : p + 1, kept], one[:, kept], metric=metric)[0]
        slack = 1e-9 * max(float(distance.max()), 1e-300)
        nearer = np.count_nonzero(distance < distance[p] - slack)
        tied = np.count_nonzero(np.abs(distance - distance[p]) <= slack) - 1
        score[p] = 1 - (nearer + tied / 2) / n
    return score


def centroid_accuracy(truth: ArrayLike, predicted: ArrayLike) -> Array:
    """Return the share of the other true profiles that are farther from a prediction than its own, Euclidean; ties count half.

    (Systema; a guess gives 1/2, whatever the number of conditions.)
    """
    n = _several(_pair(truth, predicted)[0])
    return (discrimination(truth, predicted, metric="euclidean") * n - 1) / (n - 1)


def _several(truth: Array) -> int:
    if len(truth) < 2:
        msg = "one condition cannot be told from others; give at least two"
        raise DataError(msg)
    return len(truth)


def _pair(truth: ArrayLike, predicted: ArrayLike) -> tuple[Array, Array]:
    one, other = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if one.ndim != 2 or one.shape != other.shape or one.shape[1] < 2:
        msg = f"profiles have shapes {one.shape} and {other.shape}; expected (conditions, genes) in both, with at least two genes"
        raise DataError(msg)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        msg = "profiles hold values that are not finite"
        raise DataError(msg)
    return one, other
