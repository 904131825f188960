"""Labels, priors and scores that are none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from c2s.errors import ConfigError, ModelError
from c2s.models.annotation import checked_labels, label_table, log_prior


@pytest.mark.parametrize("labels", ["AB", ["A"], ["A", "A "], ["A", float("nan")], ["A", None], ["A", " "], []])
def test_what_is_no_list_of_names_is_refused(labels):
    with pytest.raises(ConfigError, match="at least two different names"):
        checked_labels(labels)


def test_names_stay_as_they_are():
    assert checked_labels(("B cell", "A")) == ["B cell", "A"]


@pytest.mark.parametrize("value", [float("nan"), 0.0, -1.0, float("inf")])
def test_a_prior_is_a_number_above_0(value):
    with pytest.raises(ConfigError, match="above 0"):
        log_prior(["A", "B"], {"A": 1.0, "B": value})


@pytest.mark.parametrize("row", [[np.nan, 0.0], [np.nan, np.nan], [-np.inf, -np.inf], [np.inf, 0.0]])
def test_scores_that_are_no_numbers_name_no_type(row):
    with pytest.raises(ModelError, match="scores of 1 of 2 cells are no numbers"):
        label_table(np.array([row, [0.0, 1.0]]), ["A", "B"], pd.Index(["x", "y"]))


def test_an_impossible_label_has_probability_0():
    table = label_table(np.array([[-np.inf, 0.0]]), ["A", "B"], pd.Index(["x"]))
    assert table.loc["x", "label"] == "B" and table.loc["x", "p(A)"] == 0
