"""Temperatures against brute force, thresholds against counting, labels of clusters against planted ones."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.models.annotation import label_table
from c2s.models.calibration import Calibration
from c2s.models.clusters import annotate_clusters
from c2s.sentences.corpus import CellSentences

NAMES = ["B", "T", "NK"]


def drawn(n=4000, *, sharpness=3.0, seed=0):
    """A table that is surer than it should be: labels are drawn from its probabilities at a third of the scores."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 3)) * 2
    true = scores / sharpness
    p = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    labels = [NAMES[rng.choice(3, p=row)] for row in p]
    return label_table(scores, NAMES, pd.RangeIndex(n).astype(str)), np.array(labels)


def test_the_temperature_that_made_the_labels_is_found():
    table, truth = drawn(20_000)
    calibration = Calibration.fit(table, truth)
    assert calibration.temperature == pytest.approx(3.0, rel=0.1)
    assert (calibration.threshold, calibration.coverage) == (0.0, 1.0)
    better = calibration.apply(table)
    assert (better["label"] == table["label"]).all()
    bins = pd.cut(better["probability"], np.linspace(0.33, 1, 6))
    gap = (better["label"] == truth).groupby(bins, observed=True).mean() - better["probability"].groupby(
        bins, observed=True
    ).mean()
    assert gap.abs().max() < 0.06
    np.testing.assert_allclose(better.filter(like="p(").sum(axis=1), 1)


@given(st.integers(0, 1000), st.sampled_from([0.5, 0.7, 0.85]))
def test_the_threshold_is_the_lowest_that_is_right_often_enough(seed, target):
    table, truth = drawn(60, seed=seed)
    truth = np.where(np.arange(60) % 7 == 0, "other", truth)
    right = (table["label"] == truth).to_numpy()
    calibration = Calibration.fit(table, truth)
    best = calibration.apply(table)["probability"].to_numpy()
    reached = [t for t in np.sort(best) if right[best >= t].mean() >= target]
    if not reached:
        with pytest.raises(ConfigError, match="no threshold gives"):
            Calibration.fit(table, truth, target_accuracy=target)
        return
    found = Calibration.fit(table, truth, target_accuracy=target)
    assert found.threshold == pytest.approx(reached[0])
    named = found.apply(table)
    kept = (named["label"] != "unknown").to_numpy()
    assert kept.mean() == pytest.approx(found.coverage)
    assert right[kept].mean() == pytest.approx(found.accuracy)
    assert found.accuracy >= target


def test_calibrations_are_written_and_read(tmp_path):
    table, truth = drawn(100)
    calibration = Calibration.fit(table, truth, target_accuracy=0.4)
    calibration.write(tmp_path / "c.json")
    assert Calibration.read(tmp_path / "c.json") == calibration
    (tmp_path / "c.json").write_text('{"format": "other"}')
    with pytest.raises(ArtefactError):
        Calibration.read(tmp_path / "c.json")


def test_bad_tables_and_truths():
    table, truth = drawn(20)
    with pytest.raises(DataError, match="19 true labels for 20 cells"):
        Calibration.fit(table, truth[1:])
    with pytest.raises(DataError, match="none of the true labels"):
        Calibration.fit(table, ["x"] * 20)
    with pytest.raises(DataError, match="expected p"):
        Calibration.fit(table[["label"]], truth)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        Calibration.fit(table, truth, target_accuracy=95)


def clustered():
    rng = np.random.default_rng(0)
    vocabulary = GeneVocabulary(tuple(f"G{i}" for i in range(60)))
    clusters = np.repeat(["c1", "c2", "c3"], 20)
    planted = {"c1": [0, 1, 2], "c2": [10, 11, 12], "c3": [20, 21, 22]}
    lists = [[*planted[name], *(30 + rng.permutation(30)[:10])] for name in clusters]
    sentences = CellSentences.from_lists(lists, vocabulary)
    scores = rng.normal(size=(60, 3)) + 2 * np.eye(3)[np.repeat([0, 1, 2], 20)]
    return label_table(scores, NAMES, sentences.obs.index), clusters, sentences


def test_clusters_get_the_label_of_their_cells_and_their_genes():
    table, clusters, sentences = clustered()
    found = annotate_clusters(table, clusters, sentences, markers={"B": ["G1", "G59"], "T": ["G0"]}, n_markers=3)
    assert found["label"].tolist() == NAMES
    assert [set(genes) for genes in found["genes"]] == [
        {"G0", "G1", "G2"},
        {"G10", "G11", "G12"},
        {"G20", "G21", "G22"},
    ]
    assert found["evidence"].tolist() == [("G1",), (), ()]
    assert found["n_cells"].tolist() == [20, 20, 20]
    for name, label in zip(found.index, NAMES):
        here = clusters == name
        assert found.loc[name, "probability"] == pytest.approx(table.loc[here, f"p({label})"].mean())
        assert found.loc[name, "agreement"] == pytest.approx((table.loc[here, "label"] == label).mean())


def test_clusters_of_other_cells_are_refused():
    table, clusters, sentences = clustered()
    for wrong in ((table, clusters[1:], sentences), (table[::-1], clusters, sentences)):
        with pytest.raises(DataError, match="same cells in order"):
            annotate_clusters(*wrong)
    with pytest.raises(ConfigError, match="n_markers=0"):
        annotate_clusters(table, clusters, sentences, n_markers=0)


@pytest.mark.parametrize("change", [{"temperature": -1}, {"temperature": None}, {"threshold": 2}, {"temperature": "x"}])
def test_a_calibration_that_cannot_be_one_is_refused(tmp_path, change):
    table, truth = drawn(100)
    Calibration.fit(table, truth).write(tmp_path / "c.json")
    record = json.loads((tmp_path / "c.json").read_text())
    (tmp_path / "c.json").write_text(json.dumps({**record, **change}))
    with pytest.raises(ArtefactError, match="holds no calibration"):
        Calibration.read(tmp_path / "c.json")
