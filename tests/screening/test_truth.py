"""A screen against its planted truth, counted by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from c2s.screening.truth import score_against_truth

COLUMNS = [
    "perturbation",
    "role",
    "planted_class",
    "support",
    "split",
    "ridge_split",
    "knn_split",
    "hit",
    "refused_because",
]
ROWS = [
    ("amp1", "drug", "amplifier", "seen target", 0.9, 0.1, 0.5, True, ""),
    ("amp2", "drug", "amplifier", "seen target", 0.4, 0.2, 0.5, False, ""),
    ("amp3", "drug", "amplifier", "unseen", 0.1, 0.0, 0.5, True, ""),
    ("act1", "drug", "activator", "seen target", 0.5, 0.3, 0.5, True, ""),
    ("floor", "drug", "floor", "seen", 0.2, 0.4, 0.5, False, "floor: B2M"),
    ("inert", "drug", "inert", "seen target", 0.0, 0.5, 0.5, False, ""),
    ("inert2", "drug", "inert", "unseen", 0.2, 0.0, 0.5, False, ""),
    ("control", "positive_control", "activator", "seen", 9.0, 9.0, 9.0, True, "ceiling"),
]


def table(rows=ROWS, columns=COLUMNS) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)[columns]


def test_by_hand():
    scores = score_against_truth(table())
    # seen amplifiers 0.9, 0.4 against 0.5, 0.2, 0.0: five of six pairs in order
    assert scores["auc"]["model"] == pytest.approx(5 / 6)
    assert scores["auc"]["ridge"] == pytest.approx(0)
    assert scores["auc"]["knn"] == pytest.approx(0.5)
    assert scores["auc_unseen"]["model"] == pytest.approx(0)
    assert scores["auc_unseen"]["ridge"] == pytest.approx(0.5)
    assert scores["precision"] == pytest.approx(2 / 3)  # amp1, amp3 of three hits; a control is no hit
    assert scores["recall"] == pytest.approx(1 / 2)  # amp1 of the two with seen targets
    assert scores["hits"] == 3
    assert scores["hits_by_class"] == {"amplifier": 2, "activator": 1}
    assert scores["refused_by_class"] == {"floor": 1}


def test_without_hits_precision_is_not_a_number():
    frame = table().assign(hit=False)
    scores = score_against_truth(frame)
    assert math.isnan(scores["precision"])
    assert scores["recall"] == 0
    assert scores["hits_by_class"] == {}


def test_without_rivals_or_without_both_kinds():
    scores = score_against_truth(table(columns=[c for c in COLUMNS if c not in ("ridge_split", "knn_split")]))
    assert math.isnan(scores["auc"]["ridge"])
    assert scores["auc"]["model"] == pytest.approx(5 / 6)
    only = score_against_truth(table([row for row in ROWS if row[2] != "amplifier"]))
    assert math.isnan(only["auc"]["model"])
    assert math.isnan(only["recall"])
