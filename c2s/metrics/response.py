"""The three families of response metrics, condition by condition: mean profiles, responding genes, distributions of cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from c2s.cells.hashes import shared_cells
from c2s.errors import DataError
from c2s.metrics import differential as de
from c2s.metrics import distances as far
from c2s.metrics import profiles as mean
from c2s.metrics.conditions import Condition, mean_profile
from c2s.metrics.road import Embedder, dense, name_of
from c2s.sentences.ranking import usable_threads

Array = NDArray[np.float64]
Tests = list[tuple[de.GeneTests, de.GeneTests]]  # of the true and of the predicted cells of each condition
TOP = (20, 50)
EXPRESSION = "log1p CP10k"
BOUNDS: dict[str, tuple[float, float]] = {  # by the beginning of a metric's name; the first that fits
    "Pearson": (-1, 1),
    "responding genes, Spearman": (-1, 1),
    "responding genes": (0, 1),
    "discrimination": (0, 1),
    "centroid accuracy": (0, 1),
    "two-sample accuracy": (0, 1),
    "coverage": (0, 1),
    "copies": (0, 1),
}
MEAN_PERTURBATION = "real controls + mean change of training perturbations"


def of_profiles(
    conditions: list[Condition],
    tests: list[tuple[de.GeneTests, de.GeneTests]],
    keys: list[str],
    genes: pd.Index,
    known: Array | None,
    targets: Mapping[str, Sequence[str]] | None,
) -> Iterator[dict[str, Any]]:
    """Yield what is measured on mean profiles.

    ``known`` is the mean change of training perturbations (:func:`~c2s.metrics.conditions.mean_change`), or None.
    """
    truth, predicted, control = (
        np.stack([mean_profile(getattr(each, side)) for each in conditions])
        for side in ("real", "predicted", "control")
    )
    z = np.stack([true.z for true, _ in tests])
    weights = mean.weights_of(z)
    reference = "real controls"
    values: dict[str, tuple[Array | None, str | None, int]] = {
        "Pearson delta": (mean.correlation_of_changes(truth, predicted, control), reference, len(genes)),
        "Pearson of profiles": (mean.correlation_of_changes(truth, predicted, 0.0), None, len(genes)),
        "MSE": (mean.squared_error(truth, predicted), None, len(genes)),
        "MAE": (mean.absolute_error(truth, predicted), None, len(genes)),
        "weighted MSE, w = z²/Σz²": (mean.squared_error(truth, predicted, weights), None, len(genes)),
    }
    for k in TOP:
        if k < len(genes):
            top = mean.top_genes(z, k)
            chosen = [mean.on_genes(each, top) for each in (truth, predicted, control)]
            values[f"Pearson delta, {k} genes of largest true |z|"] = (
                mean.correlation_of_changes(*chosen),
                reference,
                k,
            )
            values[f"MSE, {k} genes of largest true |z|"] = (mean.squared_error(chosen[0], chosen[1]), None, k)
    moved = None if known is None else control + known
    left = None if moved is None else mean.correlation_of_changes(truth, predicted, moved)
    values["Pearson delta against the mean perturbation"] = (left, MEAN_PERTURBATION, len(genes))
    r2 = None if moved is None else mean.weighted_r2(truth, predicted, weights, moved)
    values["weighted R², w = z²/Σz²"] = (r2, MEAN_PERTURBATION, len(genes))
    for name, found in _within_context(conditions, truth, predicted, control, genes, targets).items():
        values[name] = (found, reference if "cosine" in name or "L1" in name else None, len(genes))
    for name, (column, against, n) in values.items():
        for place, condition in enumerate(conditions):
            value = float("nan") if column is None else float(column[place])
            reason = None
            if np.isnan(value):
                reason = (
                    "no training cells were given"
                    if column is None
                    else "there is no other condition in its context, or the truth does not vary"
                )
            yield row_of(condition, keys, name, value, genes=n, space=EXPRESSION, reference=against, reason=reason)


def _within_context(
    conditions: list[Condition],
    truth: Array,
    predicted: Array,
    control: Array,
    genes: pd.Index,
    targets: Mapping[str, Sequence[str]] | None,
) -> dict[str, Array]:
    """Return the scores that tell a perturbation from the others of its context."""
    n = len(conditions)
    found = {name: np.full(n, np.nan) for name in ("discrimination, L1", "discrimination, cosine", "centroid accuracy")}
    index = {gene: place for place, gene in enumerate(genes)}
    contexts = np.array([" | ".join(each.key[:-1]) for each in conditions])
    for context in np.unique(contexts):
        rows = np.flatnonzero(contexts == context)
        if len(rows) < 2:
            continue
        left_out = np.zeros((len(rows), len(genes)), dtype=bool)
        for place, row in enumerate(rows):
            name = conditions[row].key[-1]
            own = (name,) if targets is None else targets.get(name, ())
            left_out[place, [index[gene] for gene in own if gene in index]] = True
        one, other = truth[rows] - control[rows], predicted[rows] - control[rows]
        found["discrimination, L1"][rows] = mean.discrimination(one, other, left_out=left_out)
        moved = np.abs(other).sum(1) > 0
        cosine = np.full(len(rows), 0.5 + 0.5 / len(rows))  # a prediction without change points nowhere: a guess
        if moved.any():
            scored = mean.discrimination(one, np.where(moved[:, None], other, 1.0), metric="cosine", left_out=left_out)
            cosine[moved] = scored[moved]
        found["discrimination, cosine"][rows] = cosine
        found["centroid accuracy"][rows] = mean.centroid_accuracy(truth[rows], predicted[rows])
    return found


def of_genes(
    conditions: list[Condition], tests: list[tuple[de.GeneTests, de.GeneTests]], keys: list[str], n_genes: int
) -> Iterator[dict[str, Any]]:
    """Yield how the lists of responding genes agree."""
    measures: dict[str, Callable[[de.GeneTests, de.GeneTests], float]] = {
        "responding genes found": de.de_overlap,
        "responding genes, precision": de.de_precision,
        "responding genes, recall": de.de_recall,
        "responding genes, direction": de.de_direction,
        "responding genes, Spearman of changes": de.de_spearman,
        "responding genes, ROC AUC": lambda true, said: de.de_auc(true, said)[0],
        "responding genes, PR AUC": lambda true, said: de.de_auc(true, said)[1],
    }
    for name, measure in measures.items():
        for condition, (true, said) in zip(conditions, tests):
            value = measure(true, said)
            reason = (
                f"{int(true.significant.sum())} genes truly respond, {int(said.significant.sum())} are predicted to"
                if np.isnan(value)
                else None
            )
            yield row_of(
                condition,
                keys,
                name,
                value,
                genes=n_genes,
                space="Wilcoxon, FDR 0.05",
                reference="real controls",
                reason=reason,
            )


def of_distributions(
    conditions: list[Condition],
    keys: list[str],
    genes: pd.Index,
    space: Embedder,
    off_programme: Sequence[str],
    max_cells: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield how far the cells lie from one another in ``space``, and on the off-programme genes without one."""
    off = np.flatnonzero(genes.isin([str(gene) for gene in off_programme]))
    if off_programme and not len(off):
        msg = f"none of the {len(off_programme)} off-programme genes is among the {len(genes):,} genes of the cells"
        raise DataError(msg)
    measures: dict[str, Callable[[Any, Any], float]] = {
        "MMD², unbiased": far.mmd,
        "energy distance": far.energy_distance,
        "Sinkhorn divergence": far.sinkhorn_divergence,
        "sliced Wasserstein": lambda one, other: far.sliced_wasserstein(one, other, seed=seed),
        "two-sample accuracy": lambda one, other: far.two_sample_accuracy(one, other, seed=seed),
        "coverage": far.coverage,
        "variance ratio": far.variance_ratio,
    }

    def cut(side: sp.csr_matrix) -> sp.csr_matrix:
        return side[np.sort(np.random.default_rng(seed).permutation(side.shape[0])[:max_cells])]

    sides = [[cut(each.real), cut(each.predicted)] for each in conditions]
    vectors = [[_placed(space, side, genes) for side in both] for both in sides]  # embedders need not bear threads

    def of_one(place: int) -> list[dict[str, Any]]:
        condition, both = conditions[place], sides[place]
        n = both[0].shape[0]
        told: dict[str, Any] = {"n": n, "space": name_of(space)}
        rows = [_measured(condition, keys, name, measure, vectors[place], **told) for name, measure in measures.items()]
        told = {"n": n, "space": EXPRESSION, "genes": len(genes)}
        values = [dense(side) for side in both]
        rows.append(_measured(condition, keys, "Wasserstein of single genes", far.gene_wasserstein, values, **told))
        if len(off):
            there = [each[:, off] for each in values]
            for name in ("MMD², unbiased", "energy distance"):
                told["genes"] = len(off)
                rows.append(_measured(condition, keys, f"{name}, off-programme genes", measures[name], there, **told))
        return rows

    with ThreadPoolExecutor(usable_threads()) as pool:
        for rows in pool.map(of_one, range(len(conditions))):
            yield from rows


def of_copies(
    conditions: list[Condition], keys: list[str], genes: pd.Index, training: Sequence[ad.AnnData]
) -> Iterator[dict[str, Any]]:
    """Yield the share of predicted cells with the genes and values of a training cell, in any form in which those are given."""
    predicted = ad.AnnData(sp.vstack([each.predicted for each in conditions]).tocsr(), var=pd.DataFrame(index=genes))
    copied = np.zeros(predicted.n_obs, dtype=bool)
    for cells in training:
        copied |= shared_cells(cells, predicted)
    ends = np.cumsum([each.predicted.shape[0] for each in conditions])
    for condition, flags in zip(conditions, np.split(copied, ends[:-1])):
        value, reason = (float(flags.mean()), None) if training else (float("nan"), "no training cells were given")
        yield row_of(
            condition, keys, "copies of training cells", value, n=len(flags), genes=len(genes), space=EXPRESSION, reference="training cells",
            reason=reason,
        )  # fmt: skip


def _measured(
    condition: Condition,
    keys: list[str],
    name: str,
    measure: Callable[[Any, Any], float],
    sides: list[Any],
    **told: Any,
) -> dict[str, Any]:
    try:
        return row_of(condition, keys, name, measure(*sides), **told)
    except DataError as error:
        return row_of(condition, keys, name, float("nan"), reason=str(error), **told)


def row_of(condition: Condition, keys: list[str], metric: str, value: float, **told: Any) -> dict[str, Any]:
    """Return a row of the table of scores."""
    row = {
        **dict(zip(keys, condition.key)),
        "metric": metric,
        "value": value,
        "n": condition.real.shape[0],
        "genes": None,
    }
    return {**row, "space": None, "reference": None, "reason": None, **told}


def _placed(space: Embedder, matrix: sp.csr_matrix, genes: pd.Index) -> Any:
    return space(ad.AnnData(matrix, var=pd.DataFrame(index=genes)))
