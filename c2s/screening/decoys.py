"""Decoy drugs: made-up names on targets that do not move the programme, for the null of the split.

A decoy asks what the model says of a drug it has no reason to believe in. Decoys with *seen* targets take the targets of
a training perturbation whose observed response leaves the programme alone; decoys with *unseen* targets take genes that
no training perturbation acts on and that are not in the programme, matched to the library's unseen targets in how many
cells express them, because a model knows a common gene better than a rare one. A name is the beginning of one library name
and the end of another, each about half, because a model answers to pieces of names (``-nib``, ``-mab``) that training has shown it;
where the library has too few names, it is letters. Mechanism, dose and time are those of a library row.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from c2s.cells.library import Perturbation
from c2s.screening.programmes import Programme
from c2s.sentences.background import Background

logger = logging.getLogger(__name__)

UNSEEN_SHARE = 1 / 3  # of the decoys, where the library has drugs with unseen targets
NEAREST = 50  # genes to choose an unseen decoy target from
SPLICES = 20  # pairs of library names tried for a made-up one


def support_of(perturbation: Perturbation, trained: Sequence[Perturbation]) -> str:
    """Return how far a perturbation is from training: ``"seen"``, ``"seen target"`` or ``"unseen"``."""
    if perturbation.name in {row.name for row in trained}:
        return "seen"
    targets = {target for row in trained for target in row.targets}
    return "seen target" if targets & set(perturbation.targets) else "unseen"


def silent_perturbations(responses: pd.DataFrame, gene_ids: np.ndarray) -> set[str]:
    """Return the training perturbations whose observed response leaves the programme alone in every context.

    The programme's mean change (log1p CP10k) must lie within two noise levels of 0. The noise is the spread, over
    perturbations, of half the difference between the responses of two random halves of the cells. Where no perturbation
    has two cells the noise is not known, and none is called silent.

    Parameters
    ----------
    responses : DataFrame
        ``perturbation``, ``change`` and ``half_difference`` (arrays of shape (n_genes,)) of training.
    gene_ids : ndarray of int
        The programme.
    """
    if not len(responses):
        return set()
    change = np.stack(responses["change"].to_list())[:, gene_ids].mean(axis=1)
    half = np.stack(responses["half_difference"].to_list())[:, gene_ids].mean(axis=1)
    if np.isnan(half).all():
        return set()
    noise = np.sqrt(np.nanmean(np.square(half)))
    moved = responses["perturbation"][np.abs(change) > 2 * noise]
    return set(responses["perturbation"]) - set(moved)


def make_decoys(
    library: Sequence[Perturbation],
    trained: Sequence[Perturbation],
    *,
    silent: set[str],
    programme: Programme,
    background: Background,
    n: int,
    seed: int,
) -> list[Perturbation]:
    """Return ``n`` decoys; a third have unseen targets when the library has such drugs, or when none is silent.

    Parameters
    ----------
    library, trained : sequence of Perturbation
        The screened library and what the model was trained on.
    silent : set of str
        Names of :func:`silent_perturbations`.
    background : Background
        The model's genes, and the share of training cells that express each.
    """
    rng = np.random.default_rng([seed, 31])
    drugs = [row for row in library if row.role == "drug"]
    moving = {target for row in trained if row.role != "vehicle" and row.name not in silent for target in row.targets}
    donors = [
        row
        for row in trained
        if row.role != "vehicle" and row.name in silent and row.targets and not moving & set(row.targets)
    ]
    acted_on = {target for row in trained for target in row.targets}
    symbols, detection = background.vocabulary.symbols, background.detection
    novel = np.array([i for i, gene in enumerate(symbols) if gene not in acted_on and gene not in set(programme.genes)])
    if not len(novel):
        logger.warning(
            "every gene of the model is a target or in %s: decoys with unseen targets cannot be made", programme.name
        )
        n = n if donors else 0
    unseen = [row for row in drugs if support_of(row, trained) == "unseen"]
    templates = [ids for row in unseen if len(ids := background.vocabulary.ids(row.targets, missing="drop"))]
    n_unseen = n if not donors else round(n * UNSEEN_SHARE) if unseen and len(novel) else 0
    if n and not donors:
        logger.warning(
            "no training perturbation with targets leaves %s alone: all decoys have unseen targets", programme.name
        )
    names = [row.name for row in drugs]
    taken = {row.name for row in (*library, *trained)}
    decoys = []
    for number in range(n):
        name = _made_up(names, rng, taken)
        like = drugs[int(rng.integers(len(drugs)))] if drugs else Perturbation(name)
        if number < n_unseen:
            wanted = (
                templates[int(rng.integers(len(templates)))] if templates else novel[rng.integers(len(novel), size=1)]
            )
            targets = tuple(dict.fromkeys(symbols[_alike(gene, novel, detection, rng)] for gene in wanted))
        else:
            targets = donors[int(rng.integers(len(donors)))].targets
        decoys.append(replace(like, name=name, targets=targets, role="decoy", smiles="", parts=()))
    return decoys


def _alike(gene: int, novel: np.ndarray, detection: np.ndarray, rng: np.random.Generator) -> int:
    """Return one of the :data:`NEAREST` novel genes whose share of expressing cells is nearest to that of ``gene``."""
    order = np.argsort(np.abs(detection[novel] - detection[gene]), kind="stable")
    return int(novel[rng.choice(order[: min(NEAREST, len(order))])])


def _made_up(names: Sequence[str], rng: np.random.Generator, taken: set[str]) -> str:
    """Return a new name of the beginning of one and the end of another; of letters, where a few draws give none."""
    for _ in range(SPLICES if names else 0):
        one, other = (names[i] for i in rng.integers(len(names), size=2))
        first, second = rng.uniform(0.3, 0.7, size=2)
        name = one[: round(first * len(one))] + other[round(second * len(other)) :]
        if name and name not in taken:
            taken.add(name)
            return name
    return _letters(len(names[int(rng.integers(len(names)))]) if names else 8, rng, taken)


def _letters(length: int, rng: np.random.Generator, taken: set[str]) -> str:
    """Return a new word of consonants and vowels in turn."""
    while True:
        consonants, vowels = rng.choice(list("bcdfglmnprstvz"), size=length), rng.choice(list("aeiou"), size=length)
        name = "".join(c if i % 2 == 0 else v for i, (c, v) in enumerate(zip(consonants, vowels, strict=True)))
        length += 1  # longer words when the short ones are used up
        if name and name not in taken:
            taken.add(name)
            return name
