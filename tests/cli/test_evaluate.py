"""``c2s evaluate``: what it prints and leaves, and what it refuses."""

from __future__ import annotations

import json

from tests.metrics.test_response_scores import REAL, cells


def test_files_table_and_refusals(c2s, tmp_path):
    REAL.write_h5ad(tmp_path / "real.h5ad")
    cells(60, strength=0.8, seed=1, control=False).write_h5ad(tmp_path / "predicted.h5ad")
    (tmp_path / "off.txt").write_text("G40\nG41\nG42\n")
    out = tmp_path / "out"
    files = [tmp_path / "real.h5ad", tmp_path / "predicted.h5ad", out]
    asked = ["--perturbation-key", "drug", "--control", "ctrl", "--context-key", "type", "--no-intervals"]
    ran = c2s("evaluate", *files, *asked, "--off-programme", tmp_path / "off.txt", "--cell-eval")
    assert ran.code == 0, ran.err
    assert "Means over 6 conditions" in ran.out and "Pearson delta" in ran.out
    assert {path.name for path in out.iterdir()} == {
        "scores.csv", "results.json", "summary.md", "changes.png", "real.h5ad", "predicted.h5ad",
    }  # fmt: skip
    record = json.loads((out / "results.json").read_text())
    named = {row["metric"] for row in record["results"]}
    assert {"scFID, B | a", "scFID, mean of groups", "Pearson delta", "energy distance, off-programme genes"} <= named
    assert "Pearson delta" in (out / "summary.md").read_text()
    assert "not empty" in c2s("evaluate", *files, *asked).error
    assert c2s("evaluate", *files, *asked, "--overwrite").code == 0
    assert not (out / "real.h5ad").exists()
    assert "no column 'dose'" in c2s("evaluate", *files, "--perturbation-key", "dose", "--overwrite").error
    assert (out / "scores.csv").exists()  # a refusal takes nothing away
