"""Library files as people write them: Excel's BOM, tabs, ragged rows, and each way one can be wrong."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.cells.library import (
    COLUMNS,
    ROLES,
    Perturbation,
    check_library,
    combined,
    library_frame,
    read_library,
    split_targets,
)
from c2s.errors import ArtefactError, C2SError, DataError

EVERYTHING = """name,targets,mechanism,dose,time,smiles,role
DMSO,,solvent,,,,vehicle
CX-4945,CSNK2A1|CSNK2A2,kinase inhibitor,5 uM,24 h,C1=CC,drug
IFN-β,IFNAR1;IFNAR2,agonist,,,,Positive control
"""


def file_of(folder, text, name="library.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_every_column(tmp_path):
    library = read_library(file_of(tmp_path, EVERYTHING))
    assert library == [
        Perturbation("DMSO", mechanism="solvent", role="vehicle"),
        Perturbation(
            "CX-4945",
            targets=("CSNK2A1", "CSNK2A2"),
            mechanism="kinase inhibitor",
            dose="5 uM",
            time="24 h",
            smiles="C1=CC",
        ),
        Perturbation("IFN-β", targets=("IFNAR1", "IFNAR2"), mechanism="agonist", role="positive_control"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_bom_tabs_and_line_endings_do_not_matter(tmp_path, encoding, separator, ending):
    text = EVERYTHING.replace(",", separator).replace("\n", ending)
    assert read_library(file_of(tmp_path, text, encoding=encoding)) == read_library(file_of(tmp_path, EVERYTHING))


def test_header_case_spaces_order_and_other_columns_do_not_matter(tmp_path):
    library = read_library(file_of(tmp_path, " Targets ,vendor, NAME\nJAK1,Acme,a\n,,b\n"))
    assert library == [Perturbation("a", targets=("JAK1",)), Perturbation("b")]


def test_short_rows_and_blank_lines_and_trailing_commas(tmp_path):
    library = read_library(file_of(tmp_path, "name,targets,dose\na\n\nb,JAK1,,,\nc,TYK2,1 uM\n"))
    assert library == [
        Perturbation("a"),
        Perturbation("b", targets=("JAK1",)),
        Perturbation("c", targets=("TYK2",), dose="1 uM"),
    ]


def test_a_row_longer_than_the_header_is_refused_with_its_line(tmp_path):
    """An unquoted comma would move every value one column on."""
    path = file_of(tmp_path, "name,targets\na,JAK1\n\nb,JAK1,TYK2\n")
    with pytest.raises(DataError, match=r"line 4: more values than columns \(TYK2\); quote values"):
        read_library(path)
    assert read_library(file_of(tmp_path, 'name,targets\nb,"JAK1,TYK2"\n'))[0].targets == ("JAK1", "TYK2")


def test_duplicate_names_are_listed(tmp_path):
    path = file_of(tmp_path, "name\na\nb\na\n b \nc\n")
    with pytest.raises(DataError, match="library.csv names 2 perturbation.s. more than once: a, b. Give each row"):
        read_library(path)
    many = [Perturbation(f"n{i:02d}") for i in range(12)] * 2
    with pytest.raises(DataError, match="names 12 .*: n00, .*, n09 …"):
        check_library(many)


def test_missing_name_column_says_what_was_found(tmp_path):
    with pytest.raises(DataError, match="no column 'name'; found drug, targets. Columns read: name, targets"):
        read_library(file_of(tmp_path, "drug,targets\na,JAK1\n"))
    with pytest.raises(DataError, match="no column 'name'; found nothing"):
        read_library(file_of(tmp_path, ""))


@pytest.mark.parametrize("text", ["name,targets\n", "name\n\n\n"])
def test_no_row(tmp_path, text):
    with pytest.raises(DataError, match="holds no perturbation"):
        read_library(file_of(tmp_path, text))


def test_an_empty_name_is_refused_with_its_line(tmp_path):
    with pytest.raises(DataError, match="line 3: the name is empty"):
        read_library(file_of(tmp_path, "name,targets\na,JAK1\n ,TYK2\n"))
    with pytest.raises(DataError, match="a perturbation has no name"):
        Perturbation("  ")


def test_an_unknown_role_lists_the_known_ones(tmp_path):
    with pytest.raises(DataError, match=f"'a' has role 'placebo'; expected one of {', '.join(ROLES)}"):
        read_library(file_of(tmp_path, "name,role\na,placebo\n"))


@pytest.mark.parametrize("content", [None, b"name\n\xff\xfe\x00"])
def test_unreadable_files(tmp_path, content):
    path = tmp_path / "library.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtefactError, match="cannot read the library"):
        read_library(path)
    assert issubclass(ArtefactError, C2SError)


word = (
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=12)
    .map(str.strip)
    .filter(bool)
)
symbol = st.text("ABCXYZ0123456789-.", min_size=1, max_size=8)
perturbations = st.builds(
    Perturbation,
    name=word,
    targets=st.lists(symbol, max_size=3, unique=True).map(tuple),
    mechanism=st.one_of(st.just(""), word),
    dose=st.one_of(st.just(""), word),
    time=st.one_of(st.just(""), word),
    smiles=st.one_of(st.just(""), word),
    role=st.sampled_from(ROLES),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(perturbations, min_size=1, max_size=5, unique_by=lambda p: p.name), st.sampled_from([",", "\t"]))
def test_a_table_written_and_read_is_the_same_library(tmp_path_factory, library, separator):
    frame = library_frame(library)
    assert tuple(frame.columns) == COLUMNS
    path = tmp_path_factory.mktemp("library") / "library.csv"
    frame.to_csv(path, index=False, sep=separator)
    assert read_library(path) == library


@given(perturbations)
def test_dict_round_trip(perturbation):
    assert Perturbation.from_dict(perturbation.to_dict()) == perturbation


def test_quoted_line_breaks_stay_in_their_value(tmp_path):
    library = read_library(file_of(tmp_path, 'name,mechanism\na,"inhibitor\nof kinases"\nb,agonist\n'))
    assert [(p.name, p.mechanism) for p in library] == [("a", "inhibitor\nof kinases"), ("b", "agonist")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('name,targets\nx,TYK2\n\n"abc,JAK1\ndef,JAK2\nghi,JAK3\n', 4),
        ('name,targets\n"abc,JAK1\n' + "def,JAK2\n" * 20_000, 2),  # longer than the csv module's largest field
        ('name,targets\n"a"b,JAK1\n', 2),
        ('name\ttargets\nabc\t"JAK1\n', 2),
        ('name,"targets\nabc,JAK1\n', 1),
    ],
)
def test_an_unclosed_quote_is_refused_with_its_line(tmp_path, text, line):
    """It would swallow the rows after it."""
    with pytest.raises(DataError, match=rf"library.csv, the row that starts in line {line}: .*Close the quote"):
        read_library(file_of(tmp_path, text))


def test_quotes_within_values(tmp_path):
    library = read_library(file_of(tmp_path, 'name,mechanism\n"the ""a"" drug",5" tube\n'))
    assert library == [Perturbation('the "a" drug', mechanism='5" tube')]


def test_targets():
    assert split_targets(" JAK1 | TYK2;JAK1, ,STAT1") == ("JAK1", "TYK2", "STAT1")
    assert split_targets("") == ()


def test_a_perturbation_is_immutable_and_keeps_its_role_apart():
    perturbation = Perturbation("a", targets=["JAK1"])
    assert perturbation.targets == ("JAK1",)
    assert hash(perturbation) == hash(Perturbation("a", targets=("JAK1",)))
    assert perturbation.with_role("decoy").role == "decoy"
    assert perturbation.role == "drug"
    with pytest.raises(dataclasses.FrozenInstanceError):
        perturbation.name = "b"


@pytest.mark.parametrize(("row", "words"), [
    ({"name": "x" * 301}, "the name of .* has 301 characters"),
    ({"name": "a", "mechanism": "y" * 1000}, "the mechanism of 'a' has 1,000 characters"),
    ({"name": "a", "targets": tuple(f"G{i}" for i in range(101))}, "a has 101 targets, at most 100"),
])  # fmt: skip
def test_rows_that_would_make_every_prompt_long_are_refused(row, words):
    with pytest.raises(DataError, match=words):
        Perturbation(**row)


def test_a_combination_has_the_targets_of_all_its_parts_in_any_order(tmp_path):
    one = Perturbation("IFN-β", targets=("IFNAR1", "IFNAR2"), mechanism="cytokine", dose="10 ng/mL", time="6 h")
    other = Perturbation("IL-6", targets=("IL6R", "IFNAR2"), mechanism="cytokine", dose="20 ng/mL", time="6 h")
    both = combined(other, one)
    assert both == combined(one, other)
    assert (both.name, both.parts, both.single) == ("IFN-β + IL-6", ("IFN-β", "IL-6"), ("IFN-β", "IL-6"))
    assert both.targets == ("IFNAR1", "IFNAR2", "IL6R")
    assert (both.mechanism, both.dose, both.time) == ("cytokine", "10 ng/mL + 20 ng/mL", "6 h")
    assert one.single == ("IFN-β",)
    assert combined(both, Perturbation("TNF")).single == ("IFN-β", "IL-6", "TNF")
    library_frame([one, other, both]).to_csv(tmp_path / "library.csv", index=False)
    assert read_library(tmp_path / "library.csv") == [one, other, both]
    assert Perturbation.from_dict(both.to_dict()) == both


@pytest.mark.parametrize("parts", [["A"], ["A", "A"]])
def test_one_thing_is_no_combination(parts):
    with pytest.raises(DataError, match="two parts or more"):
        combined(*map(Perturbation, parts))
