"""docs/guide/tasks.md: its table says what the classes say, and its new task works."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from c2s.cells.genes import GeneVocabulary
from c2s.sentences.corpus import CellSentences
from c2s.tasks import TASKS, ParseError, Task, render_text

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "tasks.md").read_text(encoding="utf-8")


def test_the_table_of_tasks_is_true():
    rows = {}
    for line in re.findall(r"^\| `[a-z_]+` \|.*$", PAGE, flags=re.MULTILINE):
        name, inputs, optional, _, _, metric = (cell.strip() for cell in line.strip("|").split("|"))
        inputs = tuple(re.findall(r"`(\w+)`", inputs))
        rows[name.strip("`")] = (inputs, tuple(optional.split(", ")), metric.strip("`"))
    assert rows == {name: (task.inputs, task.optional, task.metric) for name, task in TASKS.items()}


def test_the_new_task_of_the_page_is_one():
    (block,) = [
        block for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "CellCyclePhase" in block
    ]
    namespace = {"__name__": "page"}
    exec(compile(block, "tasks.md", "exec", dont_inherit=True), namespace)
    task = namespace["CellCyclePhase"](n_genes=2, wording=0)
    assert isinstance(task, Task)
    obs = pd.DataFrame({"phase": ["S", "G2M"], "organism": ["mouse", None]}, index=["a", "b"])
    sentences = CellSentences.from_lists([[1, 0, 2], [2]], GeneVocabulary(("Pcna", "Mki67", "Top2a"), "mouse"), obs=obs)
    examples = list(task.examples(sentences, phase_key="phase"))
    texts = [render_text(example.prompt, sentences.vocabulary.symbols, task.style) for example in examples]
    assert texts == [
        "A cell of mouse by its 2 top genes:\nMki67 Pcna.\nCell cycle phase:\n",
        "A cell by its 1 top genes:\nTop2a.\nCell cycle phase:\n",
    ]
    assert [task.parse(example.answer) for example in examples] == ["S", "G2M"]
    assert task.parse("g2/m") == "G2M"
    with pytest.raises(ParseError):
        task.parse("M.")
