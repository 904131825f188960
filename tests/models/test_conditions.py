"""Conditions are those of training, or the user hears of it."""

from __future__ import annotations

import pytest

from c2s.errors import ConfigError
from c2s.models.conditions import checked_conditions

KNOWN = {"cell_type": ("B cell", "T cell"), "n": ("1", "2")}


def test_known_names_and_values_pass_in_silence(caplog):
    expected = {"cell_type": "B cell", "n": "2"}
    assert checked_conditions(None, expected, known=KNOWN) == expected
    assert (
        checked_conditions({"n": 2}, {"cell_type": "B cell"}, known=KNOWN) == expected
    )  # a number is text in a prompt
    assert not caplog.text


def test_a_value_never_seen_and_a_condition_left_out_are_warned_of(caplog):
    assert checked_conditions({"cell_type": "Bcell"}, {}, known=KNOWN) == {"cell_type": "Bcell"}
    assert "cell_type 'Bcell' was never seen in training, which had B cell, T cell" in caplog.text
    assert "no n is given; training always gave one: 1, 2" in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(
        ConfigError, match="trained with the conditions cell_type, n, not with celltype, tempreature; use those"
    ):
        checked_conditions({"celltype": "B cell"}, {"tempreature": "0.5"}, known=KNOWN)


def test_a_condition_given_both_ways_is_refused():
    with pytest.raises(ConfigError, match="n is given both as a keyword and in conditions=; give it once"):
        checked_conditions({"n": "1"}, {"n": "1"}, known=KNOWN)


def test_a_model_that_does_not_say_is_not_checked_and_says_so(caplog):
    assert checked_conditions(None, {}, known={}) == {}
    assert not caplog.text
    assert checked_conditions({"age": "30"}, {}, known={}) == {"age": "30"}
    assert "does not say which conditions it was trained with; age is not checked" in caplog.text
