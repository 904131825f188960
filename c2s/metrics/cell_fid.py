"""scFID: the Fréchet distance of real and generated cells in the space of an embedder, by group, beside what real cells give.

As in C2S-Scale (Rizvi et al., 2025) in what is measured; the estimate differs: its bias is taken out, it has an interval, and its floors
stand beside it (:mod:`c2s.metrics.frechet`). Two runs compare only with the same embedder, dimensions and estimator, which each row names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from c2s.cells.reading import complete_column
from c2s.errors import ConfigError, DataError
from c2s.metrics.frechet import MIN_CELLS, N_RESAMPLES, Covariance, frechet_distance, most_dimensions
from c2s.metrics.road import Embedder, name_of
from c2s.results import Result
from c2s.stats import Interval

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.sentences.corpus import CellSentences

Array = NDArray[np.float64]
POOLED = "all cells"


@dataclass(frozen=True)
class Group:
    """Vectors of one group's cells."""

    name: str
    real: Array
    generated: Array
    donors: NDArray[Any] | None  # of the real cells
    raw: Array | None  # of the real cells, before the road


def scfid(
    real: AnnData | CellSentences,
    generated: AnnData | CellSentences,
    *,
    embedder: Embedder,
    groupby: str | Sequence[str] = (),
    donor_key: str | None = None,
    road: Callable[[Any], AnnData] | None = None,
    covariance: Covariance = "plain",
    n_dimensions: int | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> list[Result]:
    """Return scFID of each group, its mean over groups, that of all cells, and the floors of each.

    Parameters
    ----------
    real, generated : AnnData or CellSentences
        What ``embedder`` takes, or ``road`` does.
    embedder : callable
        Cells in, vectors (n, d) out; frozen, fitted on no test cell, and no ancestor of the model that generated. Its ``name`` stands in
        the results.
    groupby : str or sequence of str
        Columns of ``obs``, such as cell type and perturbation; their combinations are the groups.
    donor_key : str, optional
        Column of the real cells' ``obs``; donors are then held against each other.
    road : callable, optional
        Such as :class:`~c2s.metrics.road.SentenceRoad`: brings the real cells to what a model's sentences can tell, and generated
        sentences to expression; a generated AnnData has come that way. What the road alone costs is a row of its own.
    covariance : {"plain", "shrunk"}
        See :func:`~c2s.metrics.frechet.frechet_distance`.
    n_dimensions : int, optional
        The vectors are projected to so many principal components of the group's real cells. None with plain covariances: a tenth of the
        cells of the smallest sample (half the real cells counts as one), never more than the embedder's; with shrunk ones all.
    n_resamples : int
        0 gives no intervals.
    seed : int

    Returns
    -------
    list of Result
        ``scFID, <group>``; ``scFID between halves of the real cells, <group>``, ``scFID between donors, <group>`` (mean over pairs),
        ``scFID of the road alone, <group>`` (one half raw, the other by the road); last the mean of each over groups, ``scFID, mean of groups`` first, without those that
        have none. NaN with the reason where a sample has under 50 cells.

    Raises
    ------
    DataError
        No cells, columns missing, no group in both, or an embedder whose output is no finite matrix of one row a cell.
    ConfigError
        ``n_dimensions`` is below 1.
    """
    if n_dimensions is not None and n_dimensions < 1:
        msg = f"n_dimensions={n_dimensions}; it must be at least 1"
        raise ConfigError(msg)
    columns = [groupby] if isinstance(groupby, str) else list(groupby)
    groups = _groups(real, generated, embedder, columns, donor_key, road)
    found: list[Result] = []
    values: dict[str, list[float]] = {}  # of the groups, by what was measured
    for group in groups:
        rows = _of_group(group, name_of(embedder), covariance, n_dimensions, n_resamples, seed)
        found += rows
        if group.name != POOLED:
            for row in rows:
                values.setdefault(row.metric.removesuffix(f", {group.name}"), []).append(row.value)
    n = len(groups) - 1
    for metric, each in values.items():
        kept = [value for value in each if not np.isnan(value)]
        left = f"{n - len(kept)} of {n} groups have none" if len(kept) < n else None
        mean = float(np.mean(kept)) if kept else float("nan")
        found.append(
            Result(f"{metric}, mean of groups", mean, n=len(kept), space=name_of(embedder), seed=seed, reason=left)
        )
    return found


def _groups(
    real: Any,
    generated: Any,
    embedder: Embedder,
    columns: list[str],
    donor_key: str | None,
    road: Callable[[Any], AnnData] | None,
) -> list[Group]:
    from c2s.sentences.corpus import CellSentences

    keys = [_keys(cells.obs, columns) for cells in (real, generated)]
    donors = None if donor_key is None else complete_column(real.obs, donor_key, "donor_key")
    raw = None if road is None or isinstance(real, CellSentences) else _vectors(embedder, real, "real")
    if road is not None:
        real = road(real)
        generated = road(generated) if isinstance(generated, CellSentences) else generated
    vectors = _vectors(embedder, real, "real"), _vectors(embedder, generated, "generated")
    if vectors[0].shape[1] != vectors[1].shape[1]:
        msg = f"the embedder gives {vectors[0].shape[1]} dimensions for real and {vectors[1].shape[1]} for generated cells"
        raise DataError(msg)
    names = sorted(set(keys[0]) | set(keys[1])) if columns else []
    if columns and not set(keys[0]) & set(keys[1]):
        msg = f"no group is in both: real cells are {', '.join(sorted(set(keys[0]))[:4])}; generated ones {', '.join(sorted(set(keys[1]))[:4])}"
        raise DataError(msg)

    def chosen(name: str) -> Group:
        one, other = (slice(None), slice(None)) if name == POOLED else (keys[0] == name, keys[1] == name)
        return Group(
            name,
            vectors[0][one],
            vectors[1][other],
            None if donors is None else donors[one],
            None if raw is None else raw[one],
        )

    return [chosen(name) for name in (*names, POOLED)]


def _of_group(
    group: Group, embedder: str, covariance: Covariance, n_dimensions: int | None, n_resamples: int, seed: int
) -> list[Result]:
    samples = [len(group.real), len(group.generated)]
    if min(samples) < MIN_CELLS:
        reason = f"{samples[0]} real and {samples[1]} generated cells; at least {MIN_CELLS} of each are needed"
        return [
            Result(
                f"scFID, {group.name}",
                float("nan"),
                n=min(samples),
                space=embedder,
                reference="real cells",
                reason=reason,
            )
        ]
    halved = len(group.real) // 2 >= MIN_CELLS
    fewest = min(len(group.real) // 2 if halved else len(group.real), len(group.generated))
    d = group.real.shape[1] if n_dimensions is None else min(n_dimensions, group.real.shape[1])
    if covariance == "plain":
        d = min(d, most_dimensions(fewest))
    project = _projection(group.real, d)
    space = f"{embedder}, {d} dimensions, " + ("extrapolated" if covariance == "plain" else "shrunk covariances")
    settings: dict[str, Any] = {"covariance": covariance, "n_resamples": n_resamples, "seed": seed}

    def row(metric: str, interval: Interval, n: int) -> Result:
        low, high = (None, None) if np.isnan(interval.low) else (float(interval.low), float(interval.high))
        return Result(
            f"{metric}, {group.name}",
            float(interval.value),
            low,
            high,
            n=n,
            space=space,
            reference="real cells",
            seed=seed,
        )

    real = project(group.real)
    rows = [row("scFID", frechet_distance(real, project(group.generated), **settings), min(samples))]
    if group.donors is not None:
        rows.append(_between_donors(group, real, space, covariance, seed))
    if halved:  # samples of the same cells would not be independent, and the bias that is taken out not theirs
        order = np.random.default_rng(seed).permutation(len(real))
        first, second = order[: len(real) // 2], order[len(real) // 2 :]
        floor = frechet_distance(real[first], real[second], **settings)
        rows.append(row("scFID between halves of the real cells", floor, len(first)))
        if group.raw is not None:
            cost = frechet_distance(project(group.raw[first]), real[second], **settings)
            rows.append(row("scFID of the road alone", cost, len(first)))
    return rows


def _between_donors(group: Group, real: Array, space: str, covariance: Covariance, seed: int) -> Result:
    """Return the mean distance of two donors' real cells; pairs stand for one another, so that there is no interval of cells."""
    name = f"scFID between donors, {group.name}"
    least = max(MIN_CELLS, 10 * real.shape[1] if covariance == "plain" else 0)
    donors = np.asarray(group.donors)
    kept = [donor for donor in np.unique(donors) if (donors == donor).sum() >= least]
    if len(kept) < 2:
        return Result(
            name, float("nan"), n=len(kept), space=space, reason=f"fewer than two donors have {least} real cells"
        )
    values = [
        frechet_distance(
            real[donors == one], real[donors == other], covariance=covariance, n_resamples=0, seed=seed
        ).value
        for one, other in combinations(kept, 2)
    ]
    return Result(
        name, float(np.mean(values)), n=len(kept), space=space, reference="real cells of other donors", seed=seed
    )


def _projection(vectors: Array, d: int) -> Callable[[Array], Array]:
    """Return what projects to the first ``d`` principal components of the vectors; all of them are left as they are."""
    if d == vectors.shape[1]:
        return lambda each: each
    centre = vectors.mean(0)
    axes = np.linalg.eigh((vectors - centre).T @ (vectors - centre))[1][:, ::-1][:, :d]
    return lambda each: (each - centre) @ axes


def _vectors(embedder: Embedder, cells: Any, side: str) -> Array:
    n = len(cells.obs)
    if not n:
        msg = f"there are no {side} cells"
        raise DataError(msg)
    found = np.asarray(embedder(cells), dtype=np.float64)
    if found.ndim != 2 or len(found) != n or not np.isfinite(found).all():
        msg = f"{name_of(embedder)} gave an array of shape {found.shape} for {n} {side} cells; expected finite vectors, a row a cell"
        raise DataError(msg)
    return found


def _keys(obs: pd.DataFrame, columns: list[str]) -> NDArray[Any]:
    values = [complete_column(obs, column, "groupby") for column in columns]
    return np.array([" | ".join(each) for each in zip(*values)]) if columns else np.full(len(obs), POOLED)
