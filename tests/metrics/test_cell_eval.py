"""Our response metrics against those of cell-eval, on the pair of files that ``cell_eval_pair`` makes (extra ``metrics``)."""

from __future__ import annotations

import pytest

from c2s.metrics import response_scores
from c2s.metrics.response_files import cell_eval_pair
from tests.metrics.test_response_scores import REAL, cells

cell_eval = pytest.importorskip("cell_eval", reason="cell-eval is not installed: pip install 'c2s[metrics]'")

SAME = {  # ours: theirs
    "Pearson delta": "pearson_delta",
    "MSE": "mse",
    "MAE": "mae",
    "discrimination, L1": "discrimination_score_l1",
    "discrimination, cosine": "discrimination_score_cosine",
    "responding genes found": "overlap_at_N",
    "responding genes, recall": "de_sig_genes_recall",
    "responding genes, direction": "de_direction_match",
}
ALIKE = {  # ours by |z| and change of logarithms, theirs by q, cut at 1e-10, and logarithm of the fold change: near, not equal
    "responding genes, ROC AUC": "roc_auc",
    "responding genes, PR AUC": "pr_auc",
    "responding genes, Spearman of changes": "de_spearman_lfc_sig",
}


def test_values_are_those_of_cell_eval(tmp_path):
    real = REAL[REAL.obs["type"] == "B"].copy()
    predicted = cells(60, strength=0.6, seed=1, control=False)
    predicted = predicted[predicted.obs["type"] == "B"].copy()
    predicted.obs["drug"] = predicted.obs["drug"].replace({"a": "b", "b": "a"})  # so that not all is discriminated
    truth, answer = cell_eval_pair(real, predicted, perturbation_key="drug", control="ctrl")
    evaluator = cell_eval.MetricsEvaluator(
        adata_pred=answer, adata_real=truth, control_pert="ctrl", pert_col="drug", num_threads=1, outdir=str(tmp_path)
    )
    table, _ = evaluator.compute(skip_metrics=["clustering_agreement"], write_csv=False, break_on_error=True)
    theirs = {row["perturbation"]: row for row in table.to_dicts()}
    scores = response_scores(
        real, predicted, perturbation_key="drug", control="ctrl", families=["profiles", "genes"]
    ).pivot(index="drug", columns="metric", values="value")
    assert set(theirs) == set(scores.index) == {"a", "b", "c"}
    assert scores["discrimination, L1"].min() < 1
    for drug, row in theirs.items():
        for ours, name in SAME.items():
            assert scores.loc[drug, ours] == pytest.approx(row[name], rel=1e-5, abs=1e-6), (drug, ours)
        for ours, name in ALIKE.items():
            assert scores.loc[drug, ours] == pytest.approx(row[name], abs=0.15), (drug, ours)
