"""Fitness of K562 cells with two genes activated, foretold for pairs that were not trained on: what is known, what is asked, and the truth.

The map of Norman et al. (Science 2019) holds phenotypes, no transcriptomes, so no cell takes part. A row is given :class:`Known`, in which the fitness of a
pair of the test cannot be found: the scores of genetic interaction that come with the map were fitted to whole rows of it and are left alone. A gene's
own fitness, from its pairs with guides that have no target, is always known.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.perturbation.worlds import DATA
from c2s.cells.library import Perturbation, combined
from c2s.perturbation.datasets import load_norman_maps
from c2s.perturbation.splits import unseen_combination

NAME = "norman pairs"
TIERS = ("seen 0", "seen 1", "seen 2")  # of the two genes, how many training has in other pairs
HIDDEN, TEST, VALIDATION = 0.2, 0.2, 0.1  # shares of the genes that no training pair has, and of the other pairs
NEGATIVE = "negative"

Pairs = NDArray[np.int64]
Values = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Known:
    """What a row may look at.

    Attributes
    ----------
    genes : tuple of str
    single : ndarray, shape (n_genes,)
        Fitness of each gene activated alone.
    training, validation, asked : ndarray, int64, shapes (n, 2)
        Pairs as places in ``genes``, the smaller first; each pair is in one of the three, once.
    fitness, validation_fitness : ndarray, shapes (n,)
        Of the training and of the validation pairs.
    """

    genes: tuple[str, ...]
    single: Values
    training: Pairs
    fitness: Values
    validation: Pairs
    validation_fitness: Values
    asked: Pairs


@dataclass(frozen=True, eq=False)
class PairWorld:
    """One seed of the map.

    Attributes
    ----------
    known : Known
    truth : ndarray, shape (n_asked,)
        Fitness of the asked pairs.
    tiers : ndarray of str, shape (n_asked,)
    replicate : ndarray, shape (n_asked,)
        The same by one guide a gene, NaN where it was not measured.
    """

    known: Known
    truth: Values
    tiers: NDArray[np.str_]
    replicate: Values


def norman(seed: int) -> PairWorld:
    """Return the pairs of 112 genes, a fifth of the genes hidden and a fifth of the other pairs held out, by the seed."""
    place = os.environ.get(DATA)
    if not place:
        msg = f"set {DATA} to the folder that holds norman_gi/"
        raise SystemExit(msg)
    folder = Path(place) / "norman_gi"
    table, by_one_guide = (
        load_norman_maps(folder / f"processed_{name}fitnesses.csv.gz", folder / f"processed_{name}emap.csv.gz")
        for name in ("", "perturbseq_")
    )
    return world_of(table, by_one_guide, seed)


def world_of(table: pd.DataFrame, by_one_guide: pd.DataFrame, seed: int) -> PairWorld:
    """Return the world of two tables of :func:`c2s.perturbation.datasets.load_norman_maps`, the second of one guide a gene."""
    single = {**dict(zip(table["b"], table["fitness_b"])), **dict(zip(table["a"], table["fitness_a"]))}
    genes = tuple(sorted(single))
    place = {gene: i for i, gene in enumerate(genes)}
    fitness = _by_pair(table)
    # alone is where the split looks for genes that are seen; what it hides is their pairs: their own fitness stays known
    pairs = {each.name: each for each in (combined(*map(Perturbation, pair)) for pair in sorted(fitness))}
    library = [Perturbation(NEGATIVE, role="vehicle"), *map(Perturbation, genes), *pairs.values()]
    names = [row.name for row in library]
    split = unseen_combination(
        pd.DataFrame({"pair": names}, index=names), library=library, perturbation_key="pair", control=NEGATIVE,
        hide_share=HIDDEN, test_share=TEST, validation_share=VALIDATION, seed=seed,
    )  # fmt: skip
    sides = []
    for mask in (split.train, split.validation, split.test):
        held = [tuple(sorted(pairs[name].parts)) for name, inside in zip(names, mask) if inside and name in pairs]
        sides.append((held, np.array([[place[a], place[b]] for a, b in held], dtype=np.int64)))
    (training, trained), (validation, validated), (test, asked) = sides
    replicate = _by_pair(by_one_guide)
    tier_of = dict(zip(names, split.tier))
    known = Known(
        genes, np.array([single[gene] for gene in genes]), trained, np.array([fitness[pair] for pair in training]), validated,
        np.array([fitness[pair] for pair in validation]), asked,
    )  # fmt: skip
    return PairWorld(
        known, np.array([fitness[pair] for pair in test]), np.array([tier_of[" + ".join(pair)] for pair in test]),
        np.array([replicate.get(pair, np.nan) for pair in test]),
    )  # fmt: skip


def additive(single: Values, pairs: Pairs) -> Values:
    """Return the sum of the single fitnesses of each pair, shape (n,)."""
    return single[pairs].sum(axis=1)


@dataclass(frozen=True, eq=False)
class Surface:
    """The symmetric polynomial of second degree in the two single fitnesses that fits the training pairs best.

    ``f(a, b) = c0 + c1 (a + b) + c2 (a + b)² + c3 a b``: cells that are sick already cannot become twice as sick, so a sum alone expects too little
    fitness of most pairs, and what is beyond it would be called an interaction.

    Attributes
    ----------
    coefficients : ndarray, shape (4,)
    """

    coefficients: Values

    @classmethod
    def of(cls, known: Known) -> Surface:
        """Return the least-squares fit to the training pairs."""
        return cls(np.linalg.lstsq(features(known.single, known.training), known.fitness, rcond=None)[0])

    def __call__(self, single: Values, pairs: Pairs) -> Values:
        """Return the fitness expected of each pair, shape (n,)."""
        return features(single, pairs) @ self.coefficients


def features(single: Values, pairs: Pairs) -> Values:
    """Return 1, the sum, its square and the product of the single fitnesses of each pair, shape (n, 4)."""
    total = additive(single, pairs)
    return np.column_stack([np.ones(len(pairs)), total, total**2, single[pairs].prod(axis=1)])


def shuffled(known: Known, seed: int) -> Known:
    """Return what is known with the fitness of training pairs, and that of validation pairs, dealt out anew among them."""
    rng = np.random.default_rng(seed)
    return replace(
        known, fitness=rng.permutation(known.fitness), validation_fitness=rng.permutation(known.validation_fitness)
    )


def shuffled_beyond(known: Known, seed: int) -> Known:
    """Return the same with only that dealt out anew by which the pairs differ from :class:`Surface`: fitness can be foretold, interactions cannot."""
    surface = Surface.of(known)
    fitness, validation = (surface(known.single, pairs) for pairs in (known.training, known.validation))
    drawn = shuffled(
        replace(known, fitness=known.fitness - fitness, validation_fitness=known.validation_fitness - validation), seed
    )
    return replace(known, fitness=drawn.fitness + fitness, validation_fitness=drawn.validation_fitness + validation)


def _by_pair(table: pd.DataFrame) -> dict[tuple[str, ...], float]:
    """Return the fitness of each pair by its genes in alphabetical order."""
    rows: Any = zip(table["a"], table["b"], table["fitness_ab"])
    return {(a, b) if a < b else (b, a): float(value) for a, b, value in rows}
