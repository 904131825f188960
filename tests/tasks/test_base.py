"""Parts and how answers are cut at their marks."""

from __future__ import annotations

import numpy as np
import pytest

from c2s.errors import ConfigError
from c2s.tasks import TASKS, Genes, Mark, ParseError, Task
from c2s.tasks.base import MARKS, split_segments


def genes(*ids):
    return Genes(np.array(ids, dtype=np.int32))


def test_every_task_is_registered_under_its_name_and_offers_what_a_task_offers():
    assert {"cell_type_annotation", "cell_generation", "perturbation_response"} < set(TASKS)
    for name, kind in TASKS.items():
        task = kind()
        assert isinstance(task, Task)
        assert task.name == name
        with pytest.raises(ParseError):
            task.parse(())


def test_marks_are_a_closed_set():
    assert [Mark(name).name for name in MARKS] == list(MARKS)
    with pytest.raises(ConfigError, match="unknown mark 'gene'; the marks are cell, cell_type"):
        Mark("gene")


def test_segments_end_at_their_marks():
    answer = (genes(3, 1), genes(2), Mark("down"), Mark("end"))
    up, down = split_segments(answer, ("down", "end"))
    assert up.tolist() == [3, 1, 2]
    assert down.tolist() == []
    assert up.dtype == down.dtype == np.int32


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((), "ends before <down>"),
        ((genes(1), Mark("down"), genes(2)), "ends before <end>"),
        ((Mark("end"), Mark("down")), "expected genes or <down>, found Mark"),
        ((genes(1), "CD4", Mark("down"), Mark("end")), "expected genes or <down>, found 'CD4'"),
        ((Mark("down"), Mark("end"), genes(1)), "follows the last mark <end>"),
    ],
)
def test_answers_of_another_form(answer, message):
    with pytest.raises(ParseError, match=message):
        split_segments(answer, ("down", "end"))
