"""Who foretells the fitness of pairs: sums, curves, low rank, ridge, neighbours, a language model; a replicate for the ceiling, shuffled labels for the floor."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.perturbation.norman import (
    Known,
    Pairs,
    PairWorld,
    Surface,
    Values,
    additive,
    features,
    shuffled,
    shuffled_beyond,
)
from benchmarks.perturbation.norman_model import language_model

ALPHAS = tuple(float(alpha) for alpha in 10.0 ** np.arange(-3, 3.1, 0.5))
RANKS = (1, 2, 3, 5, 8, 12)
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
NEIGHBOURS = (3, 5, 10, 20, 40)
ROUNDS = 30  # of alternating least squares
SHARED = 10  # partners that two genes must share to be compared


@dataclass(frozen=True)
class Told:
    """What a row answers with: fitness of the asked pairs, and what was chosen on validation."""

    fitness: Values
    record: dict[str, Any]


Rows = NDArray[np.intp]
Foretell = Callable[[Pairs], Values]


def mean(known: Known, seed: int) -> Told:
    """Return the mean of the training pairs."""
    return Told(np.full(len(known.asked), known.fitness.mean()), {})


def sum_of_singles(known: Known, seed: int) -> Told:
    """Return the sum of the single fitnesses."""
    return Told(additive(known.single, known.asked), {})


def quadratic(known: Known, seed: int) -> Told:
    """Return what one surface over the single fitnesses expects."""
    return Told(Surface.of(known)(known.single, known.asked), {})


def quadratic_by_gene(known: Known, seed: int) -> Told:
    """Return the mean of the two genes' own curves over their partners' single fitness (as Horlbeck et al., Cell 2018, draw them).

    A curve is one of what pairs are beyond the surface; a squared penalty on it is chosen on validation, and a gene without training pairs has the surface.
    """
    surface, beyond = _beyond(known)

    def at(penalty: float) -> Foretell:
        curves = np.zeros((len(known.genes), 3))
        for gene in range(len(known.genes)):
            rows, partner = _partners(known.training, gene)
            x = _powers(known.single[partner])
            curves[gene] = np.linalg.solve(x.T @ x + penalty * np.eye(3), x.T @ beyond[rows])

        def foretell(pairs: Pairs) -> Values:
            sides = [
                (_powers(known.single[pairs[:, 1 - side]]) * curves[pairs[:, side]]).sum(axis=1) for side in (0, 1)
            ]
            return surface(known.single, pairs) + np.mean(sides, axis=0)

        return foretell

    return _best(known, ({"penalty": penalty} for penalty in ALPHAS), at)


def bilinear(known: Known, seed: int) -> Told:
    """Return the surface plus ``u_i·v_j + u_j·v_i`` halved, by alternating least squares over the training pairs (:func:`factors`).

    A gene without training pairs has factors 0. Rank and penalty are chosen on validation.
    """
    surface, beyond = _beyond(known)

    def at(rank: int, penalty: float) -> Foretell:
        left, right = factors(len(known.genes), known.training, beyond, rank=rank, penalty=penalty, seed=seed)

        def foretell(pairs: Pairs) -> Values:
            one, other = pairs.T
            both = [(left[i] * right[j]).sum(axis=1) for i, j in ((one, other), (other, one))]
            return surface(known.single, pairs) + np.mean(both, axis=0)

        return foretell

    return _best(known, ({"rank": rank, "penalty": penalty} for rank in RANKS for penalty in PENALTIES), at)


def factors(
    n_genes: int, pairs: Pairs, values: Values, *, rank: int, penalty: float, seed: int
) -> tuple[Values, Values]:
    """Return u and v, shapes (n_genes, rank + 2), whose products are nearest to the values of the pairs in both orders.

    Besides the ``rank`` free columns, one of u and another of v are ones, so that either gene has an effect whatever its partner.
    """
    rng = np.random.default_rng(seed)
    table, seen = np.zeros((n_genes, n_genes)), np.zeros((n_genes, n_genes))
    for one, other in (pairs.T, pairs.T[::-1]):
        table[one, other], seen[one, other] = values, 1.0
    left, right = (np.zeros((n_genes, rank + 2)) for _ in range(2))
    right[:, :rank] = 0.1 * rng.standard_normal((n_genes, rank))
    left[:, rank], right[:, rank + 1] = 1.0, 1.0

    def solved(fixed: Values, own: Values, ones: int) -> Values:
        free = [column for column in range(rank + 2) if column != ones]
        x, given = fixed[:, free], table - np.outer(own[:, ones], fixed[:, ones])
        square = np.einsum("ij,jk,jl->ikl", seen, x, x) + penalty * np.eye(len(free))
        out = own.copy()
        out[:, free] = np.linalg.solve(square, ((given * seen) @ x)[..., None])[..., 0]
        return out

    for _ in range(ROUNDS):
        left = solved(right, left, rank)
        right = solved(left, right, rank + 1)
    return left, right


def ridge(known: Known, seed: int) -> Told:
    """Return ridge regression on which genes a pair has and on the terms of the surface; the penalty is chosen on validation."""
    from sklearn.linear_model import Ridge

    terms = features(known.single, known.training)[:, 1:]
    centre, spread = terms.mean(axis=0), terms.std(axis=0)

    def read(pairs: Pairs) -> Values:
        hot = np.zeros((len(pairs), len(known.genes)))
        for side in (0, 1):
            hot[np.arange(len(pairs)), pairs[:, side]] = 1.0
        return np.hstack([hot, 10 * (features(known.single, pairs)[:, 1:] - centre) / spread])

    def at(alpha: float) -> Foretell:
        fitted = Ridge(alpha=alpha).fit(read(known.training), known.fitness)
        return lambda pairs: np.asarray(fitted.predict(read(pairs)))

    return _best(known, ({"alpha": alpha} for alpha in ALPHAS), at)


def neighbours(known: Known, seed: int) -> Told:
    """Return the surface plus what pairs of the genes most alike are beyond it; genes are alike whose training pairs are beyond it with the same partners.

    Likeness is the correlation over partners that both have; the mean over the k most alike (weighted by it, 0 where it is negative) that were trained on
    with the pair's other gene answers, for either gene, and the two answers are averaged. Where none is, the mean of the other gene's training pairs does. k is chosen on validation.
    """
    surface, beyond = _beyond(known)
    n = len(known.genes)
    table = np.full((n, n), np.nan)
    for one, other in (known.training.T, known.training.T[::-1]):
        table[one, other] = beyond
    alike = likeness(table)
    alone = [float(np.nanmean(row)) if np.isfinite(row).any() else 0.0 for row in table]

    def at(k: int) -> Foretell:
        def of(gene: int, partner: int) -> float:
            weights = np.where(np.isnan(table[:, partner]), 0.0, alike[gene])
            nearest = np.argsort(-weights, kind="stable")[:k]
            total = weights[nearest].sum()
            if total == 0:
                return alone[partner]
            return float(weights[nearest] @ np.nan_to_num(table[nearest, partner]) / total)

        return lambda pairs: (
            surface(known.single, pairs) + np.array([(of(a, b) + of(b, a)) / 2 for a, b in pairs.tolist()])
        )

    return _best(known, ({"k": k} for k in NEIGHBOURS), at)


def likeness(table: Values) -> Values:
    """Return the correlation of each two rows over the columns both have, negative ones as 0; 0 with itself and under ten shared columns."""
    seen = (~np.isnan(table)).astype(float)
    x = np.nan_to_num(table)
    shared = seen @ seen.T
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_one, mean_other = (x @ seen.T) / shared, (seen @ x.T) / shared
        covariance = x @ x.T / shared - mean_one * mean_other
        spread = ((x**2) @ seen.T / shared - mean_one**2) * (seen @ (x**2).T / shared - mean_other**2)
        found = covariance / np.sqrt(spread)
    found[(shared < SHARED) | ~np.isfinite(found)] = 0.0
    np.fill_diagonal(found, 0.0)
    return np.maximum(found, 0.0)


def told_by(row: str, world: PairWorld, seed: int) -> Told:
    """Return what a row of :data:`ROWS` answers."""
    if row == REPLICATE:
        return Told(world.replicate, {})
    return _ROWS[row](world.known, seed)


def _language_model(known: Known, seed: int) -> Told:
    return Told(*language_model(known, seed))


def _shuffled(
    row: Callable[[Known, int], Told], shuffle: Callable[[Known, int], Known], known: Known, seed: int
) -> Told:
    return row(shuffle(known, seed), seed)


def _beyond(known: Known) -> tuple[Surface, Values]:
    surface = Surface.of(known)
    return surface, known.fitness - surface(known.single, known.training)


def _partners(pairs: Pairs, gene: int) -> tuple[Rows, Rows]:
    """Return the rows of the pairs that hold a gene, and its partners in them."""
    rows = np.flatnonzero((pairs == gene).any(axis=1))
    return rows, pairs[rows].sum(axis=1) - gene


def _powers(values: Values) -> Values:
    return np.column_stack([np.ones(len(values)), values, values**2])


def _best(known: Known, choices: Iterable[dict[str, Any]], at: Callable[..., Foretell]) -> Told:
    """Return the answers of the choice with the least squared error over the validation pairs."""
    found = []
    for choice in choices:
        foretell = at(**choice)
        error = float(((foretell(known.validation) - known.validation_fitness) ** 2).mean())
        found.append((error, choice, foretell))
    error, choice, foretell = min(found, key=lambda each: each[0])
    return Told(foretell(known.asked), {**choice, "validation_mse": error})


REPLICATE = "one guide a gene"
_ROWS: dict[str, Callable[[Known, int], Told]] = {
    "mean of training pairs": mean,
    "sum of single fitnesses": sum_of_singles,
    "quadratic surface of single fitnesses": quadratic,
    "quadratic curve of each gene": quadratic_by_gene,
    "low rank": bilinear,
    "ridge on genes and singles": ridge,
    "neighbours by interaction profile": neighbours,
    "language model": _language_model,
    "ridge, labels shuffled": functools.partial(_shuffled, ridge, shuffled),
    "low rank, interactions shuffled": functools.partial(_shuffled, bilinear, shuffled_beyond),
}
ROWS = (*_ROWS, REPLICATE)
