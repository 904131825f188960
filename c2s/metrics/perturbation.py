"""How well predicted cells answer to perturbations: profiles, responding genes and distributions, condition by condition.

A condition is a perturbation in a context (such as a cell type). Every change is measured against the real control cells of the context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from c2s.cells.genes import listed
from c2s.cells.reading import complete_column
from c2s.errors import ConfigError, DataError
from c2s.metrics.comparison import Comparison
from c2s.metrics.conditions import mean_change
from c2s.metrics.differential import gene_tests
from c2s.metrics.response import BOUNDS, of_copies, of_distributions, of_genes, of_profiles, row_of
from c2s.metrics.road import Embedder, PCAEmbedder
from c2s.results import Result
from c2s.stats import bootstrap_interval

if TYPE_CHECKING:
    from anndata import AnnData

FAMILIES = ("profiles", "genes", "distributions")
N_COMPONENTS = 50
N_RESAMPLES = 999
UNSCORED = "all metrics"  # the metric's name in the row of a condition that cannot be scored


def response_scores(
    real: AnnData,
    predicted: AnnData,
    *,
    perturbation_key: str,
    control: str,
    context_keys: Sequence[str] = (),
    training: AnnData | None = None,
    road: Callable[[Any], AnnData] | None = None,
    embedder: Embedder | None = None,
    off_programme: Sequence[str] = (),
    targets: Mapping[str, Sequence[str]] | None = None,
    families: Sequence[str] = FAMILIES,
    max_cells: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Return every metric of every condition.

    Parameters
    ----------
    real, predicted : AnnData
        ``X`` log1p CP10k, genes of ``real`` all among those of ``predicted``. Real control cells are needed; predicted ones are not
        looked at.
    perturbation_key, control
        Column of ``obs`` that names the perturbation, and its value for control cells.
    context_keys : sequence of str
        Columns that name the context, such as cell type.
    training : AnnData, optional
        Training cells, controls and perturbed, for what is measured against the mean perturbation of training, for the space of
        distances, and to find predicted cells that are copies of them. No treated real cell may be among them; controls may.
    road : callable, optional
        Such as :class:`~c2s.metrics.road.SentenceRoad`: real and training cells are brought to what a model's sentences can tell, as
        the predicted ones have been.
    embedder : callable, optional
        Space of distances. None takes 50 principal components of ``training``, or of the real controls if there is none.
    off_programme : sequence of str
        Genes on which distances are also measured, without any embedder: those the model was not rewarded for.
    targets : mapping of str to sequence of str, optional
        Genes a perturbation acts on by itself (knock-down), left out of discrimination. None: its name, where that is a gene.
    families : sequence of str
        Of ``profiles``, ``genes``, ``distributions``.
    max_cells : int
        Most cells of a side in distances, drawn by ``seed``; the cost grows with its square.
    seed : int

    Returns
    -------
    DataFrame
        Columns: the context keys, the perturbation key, ``metric``, ``value`` (NaN where there is none), ``n`` (real cells), ``genes``,
        ``space``, ``reference``, ``reason``; ``n`` of "copies of training cells" counts predicted cells.

    Raises
    ------
    DataError
        Columns or controls are missing, no condition is in both, values are no logarithms, genes are missing, or treated real cells
        are training cells.
    ConfigError
        A family is not known.
    """
    compared = Comparison.of(
        real,
        predicted,
        perturbation_key=perturbation_key,
        control=control,
        context_keys=context_keys,
        training=training,
        road=road,
    )
    return scores_of(
        compared, embedder=embedder, off_programme=off_programme, targets=targets, families=families, max_cells=max_cells, seed=seed
    )  # fmt: skip


def scores_of(
    compared: Comparison,
    *,
    embedder: Embedder | None = None,
    off_programme: Sequence[str] = (),
    targets: Mapping[str, Sequence[str]] | None = None,
    families: Sequence[str] = FAMILIES,
    max_cells: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Return what :func:`response_scores` does, of cells that have been brought together."""
    if unknown := set(families) - set(FAMILIES):
        msg = f"families {listed(sorted(unknown))}; there are {', '.join(FAMILIES)}"
        raise ConfigError(msg)
    keys, genes, scored = list(compared.keys), compared.genes, compared.scored
    rows: list[dict[str, Any]] = [
        row_of(each, keys, UNSCORED, float("nan"), reason=each.reason) for each in compared.conditions if each.reason
    ]
    tests = [(gene_tests(each.real, each.control), gene_tests(each.predicted, each.control)) for each in scored]
    if "profiles" in families:
        training = compared.training
        known = None if training is None else mean_change(training, genes, keys, compared.control)
        rows += of_profiles(scored, tests, keys, genes, known, targets)
    if "genes" in families:
        rows += of_genes(scored, tests, keys, len(genes))
    if "distributions" in families:
        space = embedder or space_of(compared.real, compared.training, keys[-1], compared.control)
        rows += of_distributions(scored, keys, genes, space, off_programme, max_cells, seed)
    rows += of_copies(scored, keys, genes, compared.training_forms)
    return pd.DataFrame(rows, columns=[*keys, "metric", "value", "n", "genes", "space", "reference", "reason"])


def summarised(scores: pd.DataFrame, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> list[Result]:
    """Return the mean of each metric over conditions, with a 95 % bootstrap interval over conditions.

    Parameters
    ----------
    scores : DataFrame
        Of :func:`response_scores`.

    Returns
    -------
    list of Result
        ``n`` is the number of conditions with a value; where some have none, the reason says how many.
    """
    unscored = scores[scores["metric"] == UNSCORED]
    found = []
    for metric, rows in scores[scores["metric"] != UNSCORED].groupby("metric", sort=False):
        values, first = rows["value"].to_numpy(dtype=float), rows.iloc[0]
        kept = values[~np.isnan(values)]
        missing = [*rows["reason"].dropna(), *unscored["reason"]]
        reason = (
            f"{len(missing)} of {len(rows) + len(unscored)} conditions have none: {missing[0]}" if missing else None
        )
        value, low, high = float("nan"), None, None
        if len(kept) == 1:
            value, reason = float(kept[0]), "; ".join(filter(None, ["one condition cannot be resampled", reason]))
        elif len(kept):
            least, most = next(
                (ends for name, ends in BOUNDS.items() if str(metric).startswith(name)), (-np.inf, np.inf)
            )
            interval = bootstrap_interval(kept, n_resamples=n_resamples, seed=seed, within=(least, most))
            value, low, high = float(interval.value), float(interval.low), float(interval.high)
        found.append(
            Result(
                str(metric), value, low, high, n=len(kept), space=first["space"], reference=first["reference"], seed=seed,
                genes=None if pd.isna(first["genes"]) else int(first["genes"]), reason=reason,
            )
        )  # fmt: skip
    return found


def space_of(real: AnnData, training: AnnData | None, perturbation_key: str, control: str) -> PCAEmbedder:
    """Return principal components of the training cells, or of the real controls: where distances are measured by default."""
    cells = training
    if cells is None:
        cells = real[complete_column(real.obs, perturbation_key, "perturbation_key") == control]
    n = min(N_COMPONENTS, cells.n_obs - 1, cells.n_vars - 1)
    if n < 1:
        msg = f"{cells.n_obs} cells and {cells.n_vars} genes span no space; pass training cells, or check control="
        raise DataError(msg)
    found = PCAEmbedder.fit(cells, n_components=n, n_top_genes=None)
    return found if training is not None else replace(found, of="real controls")
