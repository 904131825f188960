"""Metadata in, a sentence out."""

from __future__ import annotations

import pandas as pd
import pytest

from c2s.cells.genes import GeneVocabulary
from c2s.errors import DataError
from c2s.sentences.corpus import CellSentences
from c2s.tasks import CellGeneration, Genes, Mark, ParseError
from c2s.tasks.prompt_set import PromptSet


def test_cell_type_comes_first_and_other_conditions_by_name():
    prompt = CellGeneration().prompt({"tissue": "blood", "cell_type": "B cell", "age": "30"})
    assert prompt == (
        Mark("cell_type"), "B cell", Mark("context"), "age 30", Mark("context"), "tissue blood", Mark("sentence"),
    )  # fmt: skip
    assert CellGeneration().prompt({}) == (Mark("sentence"),)


def test_examples_read_their_columns_and_cut_at_n_genes():
    obs = pd.DataFrame({"type": ["B", "T"], "age": [30, 40]}, index=["a", "b"])
    sentences = CellSentences.from_lists([[2, 0, 1], [1]], GeneVocabulary(("A", "B", "C")), obs=obs)
    task = CellGeneration(n_genes=2)
    examples = list(task.examples(sentences, conditions={"cell_type": "type", "age": "age"}))
    assert examples[0].prompt == (Mark("cell_type"), "B", Mark("context"), "age 30", Mark("sentence"))
    assert [task.parse(example.answer).tolist() for example in examples] == [[2, 0], [1]]
    assert all(isinstance(e.answer[0], Genes) and e.answer[1] == Mark("end") for e in examples)
    with pytest.raises(DataError, match="no column 'tissue'; found type, age.*conditions="):
        list(task.examples(sentences, conditions={"tissue": "tissue"}))


def test_text_in_a_sentence_is_a_parse_error():
    with pytest.raises(ParseError, match="found 'MS4A1'"):
        CellGeneration().parse(("MS4A1", Mark("end")))


def test_cells_without_genes_are_no_examples():
    obs = pd.DataFrame({"type": ["B", "T", "T"]}, index=["a", "b", "c"])
    sentences = CellSentences.from_lists([[2], [], [1]], GeneVocabulary(("A", "B", "C")), obs=obs)
    for wording in ("marks", 0):
        examples = list(CellGeneration(wording=wording).examples(sentences, conditions={"cell_type": "type"}))
        assert [example.answer[0].ids.tolist() for example in examples] == [[2], [1]]


def test_what_a_wording_has_no_place_for(monkeypatch):
    assert CellGeneration().untold(["age"]) == CellGeneration(wording=0).untold(["age", "cell_type"]) == []
    few = PromptSet("cell_generation", "1", ("A cell[ of {cell_type}].",), ("{sentence}",))
    monkeypatch.setattr(CellGeneration, "prompt_set", few)
    assert CellGeneration(wording=0).untold(["age", "cell_type", "tissue"]) == ["age", "tissue"]
