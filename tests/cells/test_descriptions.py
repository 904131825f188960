"""Descriptions from tables and workbooks, definitions, and first sentences."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from c2s.cells.descriptions import definitions, first_sentence, read_descriptions
from c2s.cells.ontology import CellOntology
from c2s.errors import ArtefactError, DataError, MissingDependencyError

EXPECTED = {"CL:0000236": "B cells make antibodies. They mature.", "CL:0000084": 'A "T cell".'}
CELLGUIDE = pd.DataFrame(
    {
        "CL ID": ["CL:0000236", None, "https://purl.obolibrary.org/obo/CL_0000084", "CL:0000001"],
        "Cell type name": ["B cell", None, "T cell", "cell"],
        "Final version (QC'd)": ["B cells make\n antibodies.  They mature.", None, 'A "T cell".', " "],
    }
)
OBO = """[Term]
id: CL:1
name: cell
def: "A  unit.\\nOf life." [x]

[Term]
id: CL:2
name: nothing

[Term]
id: CL:3
name: obsolete thing
def: "Gone." []
is_obsolete: true
"""


@pytest.mark.parametrize(
    ("name", "sep"), [("a.csv", ","), ("a.tsv", "\t"), ("a.b.txt", "\t"), ("a.csv.gz", ","), ("a.TSV", "\t")]
)
def test_tables_with_either_pair_of_columns(tmp_path, name, sep):
    plain = CELLGUIDE.rename(columns={"CL ID": "id", "Final version (QC'd)": "description"})
    for table in (CELLGUIDE, plain):
        table.to_csv(tmp_path / name, sep=sep, index=False)
        assert read_descriptions(tmp_path / name) == EXPECTED
    plain.rename(columns={"id": "x", "description": "y"}).to_csv(tmp_path / name, sep=sep, index=False)
    assert read_descriptions(tmp_path / name, id_column="x", text_column="y") == EXPECTED


def test_a_workbook(tmp_path):
    pytest.importorskip("openpyxl")
    CELLGUIDE.to_excel(tmp_path / "a.xlsx", index=False)
    assert read_descriptions(tmp_path / "a.xlsx") == EXPECTED


def test_a_workbook_without_openpyxl_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "c2s\[excel\]"'):
        read_descriptions(tmp_path / "a.xlsx")


def test_of_two_descriptions_the_first_is_taken_with_a_warning(tmp_path, caplog):
    path = tmp_path / "a.csv"
    path.write_text("id,description\nCL:1,One.\nCL:2,Two.\nCL_1,Other.\nCL:2,Two.\n", encoding="utf-8")
    assert read_descriptions(path) == {"CL:1": "One.", "CL:2": "Two."}
    assert "describes CL:1 more than once" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("a.csv", "term,description\nCL:1,x\n", DataError, "no column 'id' or 'CL ID'; found term, description. Pass id_column="),
        ("a.csv", "id,text\nCL:1,x\n", DataError, "Pass text_column="),
        ("a.csv", "id,description\nB cell,x\n", DataError, "'B cell' is no id"),
        ("a.csv", "", ArtefactError, "cannot read descriptions"),
        ("a.doc", "x", DataError, "neither .csv"),
        ("b.csv", None, ArtefactError, "cannot read descriptions"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path, name, text, error, message):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(error, match=message.replace(".", r"\.")):
        read_descriptions(tmp_path / name)


def test_definitions_are_those_of_terms_in_use():
    assert definitions(CellOntology.parse(OBO)) == {"CL:1": "A unit. Of life."}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One. Two.", "One."),
        ("One, e.g. This one. Two.", "One, e.g. This one."),
        ("Found by A. B. Smith et al. (2020) first. Then not.", "Found by A. B. Smith et al. (2020) first."),
        ("Is it? Yes.", "Is it?"),
        ("3.5 % of cells (approx. Half). More.", "3.5 % of cells (approx. Half)."),
        ('He said "no." Then more.', 'He said "no."'),
        ("No stop", "No stop."),
        ("a. b. C.", "a. b."),
        ("", ""),
    ],
)
def test_first_sentence(text, sentence):
    assert first_sentence(text) == sentence
