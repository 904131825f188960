"""Slots, optional clauses, and parts as text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.tasks import Genes, Mark, PromptSet, SentenceStyle, render_text
from c2s.tasks.wording import fill, slot_names


def genes(*ids):
    return Genes(np.array(ids, dtype=np.int32))


def test_slots_are_filled_and_neighbouring_text_is_one_part():
    run = genes(1, 0)
    assert fill("{n} genes: {sentence}\n{label}", {"n": 2, "sentence": run, "label": "B"}) == ("2 genes: ", run, "\nB")
    assert fill("{cells}!", {"cells": ("Cell 1: ", run, "\n")}) == ("Cell 1: ", run, "\n!")


@pytest.mark.parametrize("absent", [{}, {"organism": None}, {"organism": ""}, {"organism": ()}])
def test_a_clause_goes_with_its_slot(absent):
    template = "A cell[ of {organism}][ from {tissue} ({organism})]."
    assert fill(template, absent) == ("A cell.",)
    assert fill(template, absent | {"tissue": "lung"}) == ("A cell.",)
    assert fill(template, {"organism": "man", "tissue": "lung"}) == ("A cell of man from lung (man).",)
    assert slot_names(template) == (set(), {"organism", "tissue"})


def test_a_needed_slot_without_value_is_an_error_that_lists_those_given():
    with pytest.raises(DataError, match="needs 'label'; found a, b"):
        fill("{label}", {"b": 1, "a": "x", "c": None})


@pytest.mark.parametrize("template", ["{", "a ] b", "[no slot]", "{Upper}", "[ {a} [ {b} ] ]", "{a b}"])
def test_templates_that_cannot_be_read_are_refused(template):
    with pytest.raises(ConfigError):
        slot_names(template)


@given(value=st.text(max_size=30))
def test_values_are_never_read_as_templates(value):
    assert "".join(fill("<{label}>", {"label": value})) == f"<{value}>"


def test_styles():
    parts = ("x ", genes(0, 1), " y", Mark("end"))
    symbols = ("Cd4", "mt-Nd1")
    assert render_text(parts, symbols) == "x Cd4 mt-Nd1. y"
    assert render_text(parts, symbols, SentenceStyle(", ", upper=True, stop="")) == "x CD4, MT-ND1 y"
    assert render_text((genes(),), symbols) == "."
    with pytest.raises(ConfigError, match="<cell> has no text"):
        render_text((Mark("cell"),), symbols)
    with pytest.raises(DataError, match="'a b' holds the delimiter ' '"):
        render_text((genes(0),), ("a b",))
    with pytest.raises(ConfigError, match="delimiter is empty"):
        SentenceStyle(delimiter="")


def test_sets_are_read_versioned_and_bounded():
    prompts = PromptSet.of("tissue_inference")
    assert (prompts.task, prompts.version, prompts.source) == ("tissue_inference", "1", "c2s")
    assert PromptSet.of("tissue_inference") is prompts
    with pytest.raises(ConfigError, match="no wordings for 'none'; there are some for cell_generation, "):
        PromptSet.of("none")
    with pytest.raises(ConfigError, match="wording -1"):
        prompts.prompt({}, wording=-1)
    with pytest.raises(ConfigError, match="1 prompts and 0 answers"):
        PromptSet("x", "1", ("a",), ())
    for record in ({}, {"task": "x", "version": "1", "wordings": "a"}, {"task": "x", "version": "1", "wordings": []}):
        with pytest.raises(ArtefactError, match="x.json: expected"):
            PromptSet.from_record(record, "x.json")


def test_choice_is_even_decided_by_seed_and_the_same_for_fewer_examples():
    prompts = PromptSet.of("tissue_inference")
    many = prompts.choose(3, 4000)
    assert np.array_equal(many[:100], prompts.choose(3, 100))
    assert not np.array_equal(many, prompts.choose(4, 4000))
    assert not np.array_equal(many, PromptSet.of("niche_label").choose(3, 4000))
    assert np.all(np.abs(np.bincount(many, minlength=4) - 1000) < 150)


def test_samples_as_one_slot():
    assert PromptSet.of("niche_label").cells([]) == ()
    first, one, second, two, close = PromptSet.of("niche_label").cells([np.array([1]), np.array([2, 0])])
    assert (first, second, close) == ("Cell 1: ", "\nCell 2: ", "")
    assert one.ids.tolist() == [1]
    assert two.ids.tolist() == [2, 0]
