"""A sentence in, a label out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ConfigError, DataError
from c2s.sentences.corpus import CellSentences
from c2s.tasks import CellTypeAnnotation, Genes, Mark, ParseError


@pytest.fixture
def sentences():
    obs = pd.DataFrame({"label": pd.Categorical(["CD4 T cell", "B cell", "7"])}, index=["a", "b", "c"])
    return CellSentences.from_lists([[3, 1, 2], [0], []], GeneVocabulary(("CD4", "MS4A1", "CD8A", "NKG7")), obs=obs)


def test_examples_show_the_first_genes_and_answer_with_the_label(sentences):
    task = CellTypeAnnotation(n_genes=2)
    examples = list(task.examples(sentences, labels_key="label"))
    shown = []
    for example in examples:
        cell, genes, mark = example.prompt
        assert (cell, mark) == (Mark("cell"), Mark("cell_type"))
        assert isinstance(genes, Genes)
        shown.append(genes.ids.tolist())
        assert example.weights is None
    assert shown == [[3, 1], [0], []]
    assert [example.answer for example in examples] == [(label, Mark("end")) for label in ("CD4 T cell", "B cell", "7")]
    assert [task.parse(example.answer) for example in examples] == ["CD4 T cell", "B cell", "7"]


def test_a_missing_column_is_named_with_its_argument(sentences):
    with pytest.raises(DataError, match="no column 'cell_type'; found label.*labels_key="):
        list(CellTypeAnnotation().examples(sentences, labels_key="cell_type"))


@pytest.mark.parametrize(
    "answer",
    [(), ("B",), (Mark("end"),), ("  ", Mark("end")), ("B", "C", Mark("end")), ("B", Mark("down")),
     (Genes(np.array([1], dtype=np.int32)), Mark("end")), ("B", Mark("end"), "C")],
)  # fmt: skip
def test_what_is_not_a_label_is_a_parse_error(answer):
    with pytest.raises(ParseError, match="expected a label and <end>"):
        CellTypeAnnotation().parse(answer)


def test_a_label_is_stripped():
    assert CellTypeAnnotation().parse((" B cell ", Mark("end"))) == "B cell"


def test_marks_have_no_place_for_metadata(sentences):
    with pytest.raises(ConfigError, match="marks have no place for tissue"):
        list(CellTypeAnnotation().examples(sentences, labels_key="label", columns={"tissue": "label"}))
    with pytest.raises(ConfigError, match="marks have no place for tissue"):
        CellTypeAnnotation().prompt(sentences, 0, fields={"tissue": "blood"})
