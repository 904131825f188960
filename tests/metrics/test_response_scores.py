"""Scores of predicted cells as a whole: planted responses, trivial predictions, and what is refused."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from c2s.errors import ConfigError, DataError
from c2s.metrics.perturbation import UNSCORED, response_scores, summarised
from c2s.metrics.response_files import cell_eval_pair
from c2s.metrics.road import SentenceRoad
from c2s.sentences.decode import RankDecoder

N_GENES, PERTURBATIONS, TYPES = 80, ("a", "b", "c"), ("B", "T")


def cells(n: int, *, strength: float, seed: int, control: bool) -> ad.AnnData:
    """Return cells of two types whose ten genes of a perturbation rise by ``strength``."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(7).gamma(0.6, 1.0, size=N_GENES)
    parts, rows = [], []
    for kind in TYPES:
        for name in (*(("ctrl",) if control else ()), *PERTURBATIONS):
            rate = base * (3.0 if kind == "T" else 1.0) ** (np.arange(N_GENES) >= 60)
            if name != "ctrl":
                first = 10 * PERTURBATIONS.index(name)
                rate = rate * np.exp(strength * ((np.arange(N_GENES) >= first) & (np.arange(N_GENES) < first + 10)))
            counts = rng.poisson(rate * rng.gamma(6, 1 / 6, size=(n, 1)) * 3)
            parts.append(np.log1p(1e4 * counts / np.maximum(counts.sum(1, keepdims=True), 1)))
            rows += [(kind, name)] * n
    obs = pd.DataFrame(rows, columns=["type", "drug"], index=[f"{seed}:{i}" for i in range(len(rows))])
    var = pd.DataFrame(index=[f"G{i}" for i in range(N_GENES)])
    return ad.AnnData(sp.csr_matrix(np.vstack(parts).astype(np.float32)), obs=obs, var=var)


KEYS = {"perturbation_key": "drug", "control": "ctrl", "context_keys": ("type",)}
REAL = cells(60, strength=1.2, seed=0, control=True)
TRAINING = cells(60, strength=1.2, seed=5, control=True)


def values(predicted: ad.AnnData, **more) -> dict[str, float]:
    found = summarised(response_scores(REAL, predicted, **KEYS, **more), n_resamples=99)
    return {row.metric: row.value for row in found}


def test_a_replicate_beats_a_weak_prediction_and_no_change():
    off = [f"G{i}" for i in range(30, 60)]
    good, weak, still = (
        values(cells(60, strength=s, seed=1, control=False), training=TRAINING, off_programme=off)
        for s in (1.2, 0.5, 0.0)
    )
    for metric in ("Pearson delta", "responding genes found", "responding genes, ROC AUC", "weighted R², w = z²/Σz²"):
        assert good[metric] > weak[metric] > still[metric], metric
    for metric in (
        "MSE",
        "MMD², unbiased",
        "energy distance",
        "Sinkhorn divergence",
        "sliced Wasserstein",
        "Wasserstein of single genes",
    ):
        assert good[metric] < weak[metric] < still[metric], metric
    assert good["discrimination, L1"] == good["centroid accuracy"] == pytest.approx(1)
    assert (
        abs(still["Pearson delta against the mean perturbation"]) < good["Pearson delta against the mean perturbation"]
    )
    assert good["variance ratio"] == pytest.approx(1, abs=0.1)
    assert abs(good["energy distance, off-programme genes"]) < 0.15
    assert good["two-sample accuracy"] == pytest.approx(0.5, abs=0.1)


def test_rows_say_what_they_were_measured_on():
    table = response_scores(REAL, cells(20, strength=1.2, seed=1, control=False), **KEYS)
    assert list(table.columns) == ["type", "drug", "metric", "value", "n", "genes", "space", "reference", "reason"]
    assert len(table[table["metric"] == "Pearson delta"]) == 6
    delta = table[table["metric"] == "Pearson delta"].iloc[0]
    assert (delta["reference"], delta["genes"], delta["space"], delta["n"]) == (
        "real controls",
        N_GENES,
        "log1p CP10k",
        60,
    )
    assert set(table.loc[table["metric"] == "MMD², unbiased", "space"]) == {"PCA(50) of real controls"}
    missing = table[table["value"].isna()]
    assert missing["reason"].notna().all()
    assert "no training cells" in missing.loc[missing["metric"] == "weighted R², w = z²/Σz²", "reason"].iloc[0]


def test_conditions_that_cannot_be_scored_are_told_and_not_dropped():
    predicted = cells(20, strength=1.2, seed=1, control=False)
    predicted = predicted[~((predicted.obs["type"] == "B") & (predicted.obs["drug"] == "a"))].copy()
    table = response_scores(REAL, predicted, **KEYS, families=["profiles"])
    assert table.loc[table["metric"] == UNSCORED, ["type", "drug"]].to_numpy().tolist() == [["B", "a"]]
    row = summarised(table)[0]
    assert row.n == 5
    assert "1 of 6 conditions have none: 0 predicted cells" in row.reason


def test_intervals_stay_within_what_a_metric_can_be():
    rows = summarised(response_scores(REAL, cells(60, strength=1.2, seed=1, control=False), **KEYS))
    for row in rows:
        if row.low is not None and row.metric.startswith(("responding", "Pearson", "discrimination", "coverage")):
            assert -1 <= row.low <= row.high <= 1


def test_a_knocked_down_target_does_not_give_a_prediction_away():
    real, predicted = REAL.copy(), cells(20, strength=0.0, seed=1, control=False)
    for name, gene in zip(PERTURBATIONS, ("G70", "G71", "G72")):
        for each in (real, predicted):
            matrix = each.X.tolil()
            matrix[np.flatnonzero((each.obs["drug"] == name).to_numpy()), each.var_names.get_loc(gene)] = 0
            each.X = matrix.tocsr()
    targets = dict(zip(PERTURBATIONS, (["G70"], ["G71"], ["G72"])))
    known = response_scores(real, predicted, **KEYS, families=["profiles"])
    blind = response_scores(real, predicted, **KEYS, families=["profiles"], targets=targets)
    mean = [table.loc[table["metric"] == "discrimination, L1", "value"].mean() for table in (known, blind)]
    assert mean[1] < mean[0]


def test_trained_on_cells_are_refused_and_shared_controls_are_not():
    predicted = cells(20, strength=1.2, seed=1, control=False)
    treated = REAL[REAL.obs["drug"] != "ctrl"]
    training = ad.concat([TRAINING, treated[:5]])
    with pytest.raises(DataError, match="5 of 360 test cells are training cells .0:60, 0:61, 0:62."):
        response_scores(REAL, predicted, **KEYS, training=training, families=["profiles"])
    controls = ad.concat([TRAINING[TRAINING.obs["drug"] != "ctrl"], REAL[REAL.obs["drug"] == "ctrl"]])
    response_scores(REAL, predicted, **KEYS, training=controls, families=["profiles"])
    fewer = training[:, ::-1][:, :70].copy()  # a choice of genes in another order hides nothing
    with pytest.raises(DataError, match="5 of 360"):
        response_scores(REAL, predicted, **KEYS, training=fewer, families=["genes"])


def test_copies_of_training_cells_are_counted_by_condition():
    predicted = cells(20, strength=1.2, seed=1, control=False)
    matrix = predicted.X.tolil()
    matrix[:5] = TRAINING.X[[60, 61, 62, 63, 64]]
    predicted.X = matrix.tocsr()
    table = response_scores(REAL, predicted, **KEYS, training=TRAINING, families=["genes"])
    copies = table[table["metric"] == "copies of training cells"].set_index(["type", "drug"])
    assert copies.loc[("B", "a"), "value"] == 0.25
    assert copies["value"].sum() == 0.25
    assert (copies["n"] == 20).all()
    (row,) = (row for row in summarised(table) if row.metric == "copies of training cells")
    assert row.value == pytest.approx(0.25 / 6)
    assert 0 <= row.low <= row.high
    blind = summarised(response_scores(REAL, predicted, **KEYS, families=["genes"]))[-1]
    assert np.isnan(blind.value)
    assert "no training cells were given" in blind.reason


def test_real_and_training_cells_take_the_road_and_a_written_copy_is_found():
    decoder = RankDecoder.fit(TRAINING)
    road = SentenceRoad(decoder, decoder.vocabulary, decoder.background, n_genes=15)
    raw = cells(40, strength=1.2, seed=1, control=False)
    predicted = road(raw)
    predicted.X = sp.vstack([road(TRAINING[60:70]).X, predicted.X[10:]]).tocsr()
    asked = {**KEYS, "training": TRAINING, "families": ["profiles"]}
    found = response_scores(REAL, predicted, **asked, road=road)
    by_hand = response_scores(road(REAL), predicted, **KEYS, training=road(TRAINING), families=["profiles"])
    pd.testing.assert_frame_equal(found, by_hand)
    copies = found[found["metric"] == "copies of training cells"]
    assert copies["value"].tolist() == [0.25, 0, 0, 0, 0, 0]
    apart = response_scores(REAL, predicted, **asked)
    error = [table.loc[table["metric"] == "MSE", "value"].mean() for table in (found, apart)]
    assert error[0] < error[1]


def test_what_cannot_be_scored_is_refused():
    predicted = cells(20, strength=1.2, seed=1, control=False)
    with pytest.raises(ConfigError, match="families magic"):
        response_scores(REAL, predicted, **KEYS, families=["magic"])
    with pytest.raises(DataError, match="lack 40 of the 80 genes"):
        response_scores(REAL, predicted[:, :40].copy(), **KEYS)
    with pytest.raises(DataError, match="no real cell has drug == 'DMSO'"):
        response_scores(REAL, predicted, perturbation_key="drug", control="DMSO")
    with pytest.raises(DataError, match="no column 'dose'"):
        response_scores(REAL, predicted, perturbation_key="dose", control="ctrl")
    counts = REAL.copy()
    counts.X = sp.csr_matrix(np.round(np.expm1(REAL.X.toarray())))
    with pytest.raises(DataError, match="real cells hold counts"):
        response_scores(counts, predicted, **KEYS)
    with pytest.raises(DataError, match="none of the 1 off-programme genes"):
        response_scores(REAL, predicted, **KEYS, off_programme=["X"])


def test_cell_eval_gets_the_same_controls_and_genes_in_both():
    predicted = cells(20, strength=1.2, seed=1, control=True)[:, ::-1].copy()
    one, other = cell_eval_pair(REAL, predicted, perturbation_key="drug", control="ctrl")
    assert list(one.var_names) == list(other.var_names) == list(REAL.var_names)
    controls = [each[each.obs["drug"] == "ctrl"].X.toarray() for each in (one, other)]
    np.testing.assert_array_equal(*controls)
    assert (other.obs["drug"] == "a").sum() == 40
    assert other.obs_names.is_unique
