"""Annotation scores against scikit-learn, closed forms, and coverage of the intervals."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from c2s.errors import DataError
from c2s.metrics.annotation import annotation_scores

CLASSES = ["B", "NK", "T", "mono"]


def scores(truth, predicted, **settings_):
    return {row.metric.partition(",")[0]: row for row in
            annotation_scores(truth, predicted, **{"classes": CLASSES, "seed": 0, **settings_})}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(CLASSES[:3]), st.sampled_from([*CLASSES, "?"])), min_size=2, max_size=40))
def test_equals_scikit_learn(pairs):
    truth, said = map(list, zip(*pairs))
    found = scores(truth, said)
    present = sorted(set(truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        balanced = balanced_accuracy_score(truth, said)
        macro = f1_score(truth, said, labels=present, average="macro", zero_division=0)
    assert found["accuracy"].value == pytest.approx(accuracy_score(truth, said))
    assert found["balanced accuracy"].value == pytest.approx(balanced)
    assert found["macro F1"].value == pytest.approx(macro)
    assert found["macro F1"].low <= found["macro F1"].high


def test_unparsed_answers_are_wrong_and_counted():
    truth = ["B", "B", "T", "T"]
    found = scores(truth, ["B", None, "T", "T"])
    assert found["accuracy"].value == 0.75 and found["parse rate"].value == 0.75
    masked = scores(truth, ["B", "B", "T", "T"], parsed=[True, False, True, True])
    assert masked["accuracy"].value == 0.75 and masked["macro F1"].value == pytest.approx((2 / 3 + 1) / 2)
    assert scores(truth, ["B", "else", "T", "T"])["parse rate"].value == 1


def probabilities(rng, n, sharpness):
    raw = rng.dirichlet(np.ones(4) * sharpness, size=n)
    return pd.DataFrame(raw, columns=CLASSES)


def test_a_row_of_zeros_was_not_parsed():
    table = pd.DataFrame({"a": [0.0, 1.0, 0.0, 0.0], "b": [0.0, 0.0, 1.0, 0.0]})
    rows = {row.metric: row.value for row in annotation_scores(["a", "a", "b", "b"], table, classes=["a", "b"], seed=0)}
    assert rows["parse rate"] == rows["accuracy"] == 0.5
    assert rows["expected calibration error, 10 bins of equal width"] == 0.0  # certain and right, or silent


def test_calibration_error_of_its_definition():
    rng = np.random.default_rng(0)
    table = probabilities(rng, 300, 0.7)
    truth = rng.choice(CLASSES, size=300)
    top, right = table.max(axis=1).to_numpy(), (table.idxmax(axis=1).to_numpy() == truth)
    expected = 0.0
    for low in np.arange(10) / 10:
        inside = (top >= low) & (top < low + 0.1)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - top[inside].mean())
    assert scores(truth, table)["expected calibration error"].value == pytest.approx(expected)


def test_calibrated_probabilities_have_a_small_error_and_sharpened_ones_a_large_one():
    rng = np.random.default_rng(1)
    table = probabilities(rng, 4000, 1.0)
    truth = [CLASSES[rng.choice(4, p=row)] for row in table.to_numpy()]
    sharp = table**4
    sharp = sharp.div(sharp.sum(axis=1), axis=0)
    assert scores(truth, table)["expected calibration error"].value < 0.03
    assert scores(truth, sharp)["expected calibration error"].value > 0.15


def test_labels_have_no_calibration_and_say_why():
    row = scores(["B", "T"], ["B", "T"])["expected calibration error"]
    assert np.isnan(row.value) and "no probabilities" in row.reason


def test_macro_f1_interval_covers_the_truth():
    confusion = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.05, 0.05, 0.9]])
    sizes = np.array([60, 30, 90])
    joint = confusion * sizes[:, None]
    true_f1 = np.mean(2 * np.diag(joint) / (joint.sum(0) + joint.sum(1)))
    rng = np.random.default_rng(2)
    truth = np.repeat(CLASSES[:3], sizes)
    covered = 0
    for seed in range(100):
        said = np.concatenate([rng.choice(CLASSES[:3], size=n, p=p) for n, p in zip(sizes, confusion)])
        row = scores(truth, said, seed=seed)["macro F1"]
        covered += row.low <= true_f1 <= row.high
    assert covered >= 87


def test_equal_seeds_give_equal_rows():
    rng = np.random.default_rng(3)
    truth, said = rng.choice(CLASSES, 50), rng.choice(CLASSES, 50)
    assert annotation_scores(truth, said, classes=CLASSES, seed=4)[:4] == annotation_scores(
        truth, said, classes=CLASSES, seed=4
    )[:4]  # fmt: skip


def test_refusals():
    with pytest.raises(DataError, match="platelet"):
        scores(["B", "platelet"], ["B", "B"])
    with pytest.raises(DataError, match="rows for 2"):
        scores(["B", "T"], ["B"])
    with pytest.raises(DataError, match="no probabilities"):
        scores(["B"], pd.DataFrame([[0.9, 0.9]], columns=["B", "T"]))
    with pytest.raises(DataError, match="columns"):
        scores(["B"], pd.DataFrame([[1.0]], columns=["else"]))
    with pytest.raises(DataError, match="one label a cell"):
        scores([], [])
