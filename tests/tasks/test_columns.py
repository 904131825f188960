"""Columns of obs in prompts: what is asked for is never told, what is missing is never said."""

from __future__ import annotations

import numpy as np
import pytest

from c2s.errors import ConfigError, DataError
from c2s.metrics.registry import METRICS
from c2s.sentences.corpus import CellSentences
from c2s.tasks import TASKS
from c2s.tasks.answers import answer_text
from c2s.tasks.base import Genes
from c2s.tasks.wording import render_text
from tests.tasks.all_tasks import SYMBOLS, VOCABULARY, sentences


def told(task, example):
    return render_text(example.prompt, SYMBOLS, task.style)


@pytest.mark.parametrize("name", ["niche_label", "cell_type_annotation"])
def test_the_answer_is_not_told_where_its_column_is_named_like_a_field(name):
    task = TASKS[name](wording=0)
    asked = (
        {"niche_key": "tissue", "cells": [0], "neighbours": [[1, 2]]}
        if name == "niche_label"
        else {"labels_key": "tissue"}
    )
    first = next(iter(task.examples(sentences(), **asked)))
    assert "blood" not in told(task, first)
    assert "blood" in render_text(first.answer, SYMBOLS, task.style)
    with pytest.raises(ConfigError, match="columns names 'tissue', which is what"):
        list(task.examples(sentences(), columns={"organism": "tissue"}, **asked))


def test_a_cell_without_a_label_is_refused_not_named_none():
    with pytest.raises(DataError, match="dose"):
        list(TASKS["cell_type_annotation"]().examples(sentences(), labels_key="dose"))


@pytest.mark.parametrize("wording", ["marks", 0])
def test_a_missing_condition_is_not_told(wording):
    task = TASKS["cell_generation"](wording=wording)
    first, second = list(task.examples(sentences(), conditions={"cell_type": "label", "dose": "dose"}))[:2]
    texts = [" ".join(str(part) for part in example.prompt if isinstance(part, str)) for example in (first, second)]
    assert "None" not in texts[0] and "dose" not in texts[0] and "5 uM" in texts[1]


def test_a_cell_without_genes_is_not_asked_for_a_hundred():
    empty = CellSentences.from_lists([[]], VOCABULARY, obs=sentences().obs[:1])
    task = TASKS["cell_generation"](wording=0)
    prompt = task.prompt({"cell_type": "B"}, n_genes=0)
    assert "100" not in render_text(prompt, SYMBOLS, task.style)
    assert not any(isinstance(part, Genes) and len(part.ids) for part in prompt)
    assert not list(task.examples(empty, conditions={}))  # nor is it an example of what to write


def test_without_a_stop_a_text_is_whole():
    assert answer_text("CD4, NKG7", stop="") == ("CD4, NKG7", True)
    assert answer_text("CD4, NKG7.") == ("CD4, NKG7", True)
    assert answer_text("CD4, NKG7") == ("CD4, NKG7", False)


def test_an_empty_true_cell_has_no_overlap():
    sample = [np.array([1, 2]), np.array([], int)]
    with pytest.raises(DataError, match="truth 0 is empty"):
        METRICS["gene_overlap"]([sample], [sample])
