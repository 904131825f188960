"""``c2s evaluate``: what it prints and leaves, and what it refuses."""

from __future__ import annotations

import json

from c2s.metrics.road import SentenceRoad
from c2s.sentences.decode import RankDecoder
from tests.metrics.test_response_scores import REAL, TRAINING, cells


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


def test_road_donors_covariances_and_training_cells(c2s, tmp_path):
    decoder = RankDecoder.fit(TRAINING)
    decoder.write(tmp_path / "decoder")
    road = SentenceRoad(decoder, decoder.vocabulary, decoder.background)
    real = REAL.copy()
    real.obs["donor"] = ["one" if i % 2 else "two" for i in range(real.n_obs)]
    real.write_h5ad(tmp_path / "real.h5ad")
    TRAINING.write_h5ad(tmp_path / "training.h5ad")
    road(cells(60, strength=0.8, seed=1, control=False)).write_h5ad(tmp_path / "predicted.h5ad")
    out = tmp_path / "out"
    files = [tmp_path / "real.h5ad", tmp_path / "predicted.h5ad", out]
    asked = [
        "--perturbation-key",
        "drug",
        "--control",
        "ctrl",
        "--context-key",
        "type",
        "--no-intervals",
        "--overwrite",
    ]
    more = ["--road", tmp_path / "decoder", "--training", tmp_path / "training.h5ad", "--donor-key", "donor"]
    ran = c2s("evaluate", *files, *asked, *more, "--covariance", "shrunk")
    assert ran.code == 0, ran.err
    results = json.loads((out / "results.json").read_text())["results"]
    found = {row["metric"]: row for row in results}
    for name in ("scFID, all cells", "scFID of the road alone, all cells", "scFID between donors, all cells"):
        assert found[name]["space"].endswith("shrunk covariances")
        assert found[name]["value"] > 0
    assert found["copies of training cells"]["value"] == 0
    assert found["kNN accuracy, generated cells among real ones, k = 15"]["value"] > 1 / 6
    assert "generated cells that lie on a training cell" in found
    words = ran.out.split()
    assert {"road", "donors,", "kNN", "copies"} <= set(words)  # of the rows that are printed
    straight = c2s("evaluate", *files, *asked, "--training", tmp_path / "training.h5ad")
    assert straight.code == 0, straight.err
    apart = {row["metric"]: row["value"] for row in json.loads((out / "results.json").read_text())["results"]}
    assert found["MSE"]["value"] < apart["MSE"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no column 'patient'" in c2s("evaluate", *files, *asked, "--donor-key", "patient").error
    assert "holds no decoder.json" in c2s("evaluate", *files, *asked, "--road", empty).error
    assert (
        "360 of 360 test cells are training cells"
        in c2s("evaluate", *files, *asked, "--training", tmp_path / "real.h5ad").error
    )
