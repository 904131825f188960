"""What was observed, what was predicted, and what the form of the answer could reach, on the same scale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from benchmarks.real.kang import CONTEXTS, HALLMARK, INTERFERON, LIBRARY, VEHICLE
from c2s.cells.normalise import to_log1p_cp10k
from c2s.cells.reading import expression
from c2s.models.cell_lm import CellLM
from c2s.screening.config import ScreenConfig
from c2s.screening.measure import gather
from c2s.screening.plan import make_plan
from c2s.screening.scores import u_statistic
from c2s.screening.screen import screen
from c2s.sentences.corpus import CellSentences
from c2s.sentences.delta import DeltaRule
from c2s.sentences.encode import encode
from c2s.training.config import TrainConfig
from c2s.training.perturbation_data import prepare

LEVEL = 0.95
N_RESAMPLES = 1999


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval (NaN where there is none) and the number of cells it rests on."""

    value: float
    low: float = np.nan
    high: float = np.nan
    n: int = 0


@dataclass(frozen=True)
class Comparison:
    """One programme in one context, effect of interferon beta on U."""

    programme: str
    context: str
    predicted: Estimate
    vehicle: Estimate
    observed: Estimate
    training: Estimate
    reach: float
    decoys: float


def compare(
    model: CellLM,
    *,
    training: AnnData,
    controls: AnnData,
    held_out: AnnData,
    programme: str,
    gmt: Path,
    out: Path,
    settings: dict[str, Any],
    config: TrainConfig,
    progress: bool = True,
) -> tuple[list[Comparison], pd.DataFrame]:
    """Screen ``controls`` and set the prediction beside what ``held_out`` cells of both treatments show.

    Parameters
    ----------
    training, held_out : AnnData
        Cells of both treatments the model was trained on, and cells it has not seen.
    controls : AnnData
        Those of ``held_out`` that are screened.
    settings : dict
        Of the screen.
    config : TrainConfig
        Of the model, for :func:`reach_of_deltas`.

    Returns
    -------
    list of Comparison
        One per context.
    DataFrame
        The screen's table; ``attrs["record"]`` is what ``screen.json`` holds.
    """
    chosen = ScreenConfig(
        context_key="lineage", contexts=CONTEXTS, programme=programme, gmt=str(gmt) if programme == HALLMARK else None,
        cells_per_unit=controls.n_obs, n_samples=1, n_reference=0, alpha=(1 - LEVEL) / 2, **settings,
    )  # fmt: skip
    table = screen(model, controls, LIBRARY, out, config=chosen, overwrite=True, progress=progress)
    plan = make_plan(model, controls, LIBRARY, chosen)
    effects, _ = gather(plan, out)
    gates = {gate["name"]: gate["values"] for gate in table.attrs["record"]["gates"]}
    row = table.set_index("perturbation").loc[INTERFERON.name]
    is_decoy = (effects.rows["set"] == "decoy").to_numpy()
    seen = encode(training, vocabulary=model.vocabulary, background=model.background)
    new = encode(held_out, vocabulary=model.vocabulary, background=model.background)
    u_seen, u_new = (u_statistic(cells, plan.gene_ids, max_rank=plan.max_rank) for cells in (seen, new))
    reach = reach_of_deltas(model, new, held_out, config, plan.gene_ids, plan.max_rank)
    out_rows = []
    for context, side in zip(CONTEXTS, ("first", "second")):
        here = (effects.cells["context"] == context).to_numpy()
        mix = controls.obs.loc[controls.obs["lineage"] == context, "cell_type"].value_counts(normalize=True)
        vehicle = gates["vehicle"][context]
        value, low, high = (float(row[f"effect_{side}{end}"]) for end in ("", "_low", "_high"))
        out_rows.append(
            Comparison(
                programme, context,
                predicted=Estimate(value, low, high, n=int(here.sum())),
                vehicle=Estimate(vehicle["effect"], vehicle["low"], vehicle["high"], n=int(here.sum())),
                observed=mean_difference(u_new, new.obs, mix), training=mean_difference(u_seen, seen.obs, mix),
                reach=reach[context],
                decoys=float(effects.effect["u"][np.ix_(is_decoy, here)].mean()) if is_decoy.any() else float("nan"),
            )
        )  # fmt: skip
    return out_rows, table


def mean_difference(values: np.ndarray, obs: pd.DataFrame, mix: pd.Series, *, seed: int = 0) -> Estimate:
    """Return mean after interferon minus mean of controls, at a fixed mix of cell types, with a bootstrap of cells.

    Parameters
    ----------
    values : ndarray, shape (n_cells,)
    obs : DataFrame
        ``treatment`` and ``cell_type`` of the cells.
    mix : Series
        Share of each cell type, so that treated and control cells are compared like for like. A type that one
        treatment lacks is left out and the other shares are scaled up.
    """
    rng = np.random.default_rng([seed, 47])
    total, draws, weight, n = 0.0, np.zeros(N_RESAMPLES), 0.0, 0
    for cell_type, share in mix.items():
        of_type = (obs["cell_type"] == cell_type).to_numpy()
        sides = [values[of_type & (obs["treatment"] == name).to_numpy()] for name in (INTERFERON.name, VEHICLE.name)]
        if min(map(len, sides)) == 0:
            continue
        weight += share
        n += len(sides[0]) + len(sides[1])
        for sign, side in zip((1, -1), sides):
            total += sign * share * side.mean()
            draws += sign * share * rng.choice(side, (N_RESAMPLES, len(side))).mean(axis=1)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws / weight, [tail, 1 - tail])
    return Estimate(float(total / weight), float(low), float(high), n)


def reach_of_deltas(
    model: CellLM, sentences: CellSentences, cells: AnnData, config: TrainConfig, gene_ids: np.ndarray, max_rank: int
) -> dict[str, float]:
    """Return the effect on U per context when the model's answer is the truth: the cells' own deltas, applied by its rule.

    No model can do better in this form than it does by luck: a delta lists a limited number of genes and moves each by
    the median of its place.
    """
    details = model.settings.perturbation
    if details is None or details.delta_rule is None:
        return dict.fromkeys(CONTEXTS, float("nan"))
    values = to_log1p_cp10k(expression(cells)[0])[0]
    data = prepare(sentences, values, LIBRARY, config)
    rng = np.random.default_rng([config.seed, 53])
    rows = data.rows(validation=False)
    pools = data.pool(rows, rng)
    matches = data.match(rows, pools, rng)
    rule = DeltaRule.from_dict(details.delta_rule)
    up, down = rule.read(values, pools, matches)
    ids, offsets = rule.apply(sentences, matches[:, 0], up, down)
    after = CellSentences(
        ids=ids, offsets=offsets, n_expressed=np.diff(offsets).astype(np.int32), vocabulary=sentences.vocabulary,
        obs=sentences.obs.iloc[rows], encoding=sentences.encoding, background=sentences.background,
    )  # fmt: skip
    u = u_statistic(after, gene_ids, max_rank=max_rank)
    lineage, treatment = after.obs["lineage"].to_numpy(), after.obs["treatment"].to_numpy()
    means = {
        (c, t): u[(lineage == c) & (treatment == t)].mean() for c in CONTEXTS for t in (INTERFERON.name, VEHICLE.name)
    }
    return {c: float(means[c, INTERFERON.name] - means[c, VEHICLE.name]) for c in CONTEXTS}


def gene_changes(
    model: CellLM, *, training: AnnData, controls: AnnData, held_out: AnnData, seed: int
) -> dict[str, dict[str, float]]:
    """Return, per context, Pearson's r over genes of the observed mean change with the model's and the training cells'.

    Changes are differences of mean log1p CP10k; the model's are decoded from its sentences. Genes that none of the
    held-out cells express are left out. NaN where every gene is predicted to change alike, as by a model that answers
    interferon and vehicle with the same words.
    """
    sentences = encode(controls, vocabulary=model.vocabulary, background=model.background)
    after = model.perturb(sentences, LIBRARY, seed=seed)
    decoded = sp.csr_matrix(model.decoder.decode(after).X)
    lineage, which = after.obs["lineage"].to_numpy(), after.obs["perturbation"].to_numpy()
    out = {}
    for context in CONTEXTS:
        here = lineage == context
        predicted = _mean(decoded, here & (which == INTERFERON.name)) - _mean(decoded, here & (which == VEHICLE.name))
        observed, expressed = _observed_change(held_out, context)
        baseline, _ = _observed_change(training, context)
        out[context] = {
            "model": correlation(predicted[expressed], observed[expressed]),
            "training": correlation(baseline[expressed], observed[expressed]),
            "genes": int(expressed.sum()),
        }
    return out


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Pearson's r of two vectors; NaN where either is constant."""
    return float(np.corrcoef(one, other)[0, 1]) if np.ptp(one) > 0 and np.ptp(other) > 0 else float("nan")


def _observed_change(cells: AnnData, context: str) -> tuple[np.ndarray, np.ndarray]:
    values = to_log1p_cp10k(expression(cells)[0])[0]
    here = (cells.obs["lineage"] == context).to_numpy()
    treated = (cells.obs["treatment"] == INTERFERON.name).to_numpy()
    return _mean(values, here & treated) - _mean(values, here & ~treated), values[here].getnnz(axis=0) > 0


def _mean(matrix: sp.csr_matrix, rows: np.ndarray) -> np.ndarray:
    return np.asarray(matrix[np.flatnonzero(rows)].mean(axis=0)).ravel()
