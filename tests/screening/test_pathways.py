"""Pathway changes: the sign, the order of rows, what is left out, and what is refused."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from c2s.errors import DataError
from c2s.screening.pathways import _without_ties, pathway_changes

pytest.importorskip("gseapy")

GENES = [f"G{i:03d}" for i in range(200)]
SETS = {"up": GENES[:6], "down": GENES[6:12], "still": GENES[100:110], "tiny": GENES[:2], "absent": ["X", "Y", "Z"]}


@pytest.fixture
def shift() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    values = rng.normal(0.0, 1.0, (200, 2))
    values[:6, 0] += 4.0
    values[6:12, 0] -= 4.0
    values[:, 1] = -values[:, 0]
    return pd.DataFrame(values, index=GENES, columns=["drug", "mirror"])


def test_planted_sets_have_the_right_sign_and_unplanted_is_not_significant(shift):
    table = pathway_changes(shift, SETS, seed=1)["drug"].set_index("term")
    assert set(table.index) == {"up", "down", "still"}
    assert table.loc["up", "nes"] > 1.5
    assert table.loc["down", "nes"] < -1.5
    assert table.loc["up", "q_value"] < 0.05
    assert table.loc["still", "q_value"] > 0.05
    assert set(table.loc["up", "leading_genes"].split("|")) <= set(SETS["up"])
    assert table.loc["up", "n_genes"] == 6


def test_mirrored_shift_mirrors_the_enrichment_score(shift):
    changes = pathway_changes(shift, SETS, seed=1)
    drug, mirror = (changes[name].set_index("term")["es"] for name in ("drug", "mirror"))
    np.testing.assert_allclose(drug, -mirror.loc[drug.index], atol=1e-6)


def test_p_is_never_zero_and_left_out_sets_are_named(shift):
    table = pathway_changes(shift, SETS, seed=1, n_permutations=200)["drug"]
    assert table["p_value"].min() >= 1 / 201
    assert table.attrs["left_out"] == {"tiny": 2, "absent": 0}


def test_result_does_not_depend_on_row_order_with_many_ties(shift):
    tied = shift.round(0)
    mixed = tied.iloc[np.random.default_rng(3).permutation(len(tied))]
    first, second = pathway_changes(tied, SETS, seed=2)["drug"], pathway_changes(mixed, SETS, seed=2)["drug"]
    pd.testing.assert_frame_equal(first, second)


def test_ties_are_split_without_moving_values():
    values = pd.Series([0.0, 0.0, 0.0, 2.0, -2.0], index=list("abcde"))
    ranked = _without_ties(values)
    assert ranked.is_unique
    assert ranked.is_monotonic_decreasing
    np.testing.assert_allclose(ranked.loc[values.index], values, atol=1e-8)


def test_still_column_and_unusable_sets_give_a_reason_and_no_numbers(shift):
    still = pathway_changes(shift.assign(none=0.0), SETS)["none"]
    assert still.empty
    assert still.attrs["reason"] == "no gene moves"
    unusable = pathway_changes(shift, {"absent": ["X", "Y", "Z"]})["drug"]
    assert unusable.empty
    assert "none of the 1 gene sets" in unusable.attrs["reason"]


def test_bad_shift_is_refused(shift):
    with pytest.raises(DataError, match="names a gene twice: G000"):
        pathway_changes(pd.concat([shift, shift.iloc[:1]]), SETS)
    with pytest.raises(DataError, match="not finite"):
        pathway_changes(shift.mask(shift > 3), SETS)
    with pytest.raises(DataError, match="at least two genes"):
        pathway_changes(shift.iloc[:, :0], SETS)


def test_logging_level_is_left_as_it_was(shift, caplog):
    before = logging.root.manager.disable
    with caplog.at_level(logging.WARNING):
        pathway_changes(shift.round(0), SETS)
    assert logging.root.manager.disable == before
    assert not caplog.records
