"""Eleven families of bad answer, each read or refused as docs/guide/tasks.md says; whatever comes, nothing else is raised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ConfigError
from c2s.tasks import TASKS, Genes, Mark, ParseError, SentenceStyle
from c2s.tasks.answers import answer_text, fold, read_decision, read_label, read_labels, read_text
from c2s.tasks.gene_answers import read_cells, read_genes
from tests.tasks.all_tasks import cases, make

SYMBOLS = ("CD4", "MS4A1", "CD8A", "NKG7", "HLA-A", "C1orf112", "MT-ND1", "RP11-34P13.7", "IL7R", "a", "A")
VOCABULARY = GeneVocabulary(SYMBOLS)
PLAIN = tuple(range(9))  # all but the two that differ only in case
LABELS = (
    "B cell",
    "CD4 T cell",
    "CD8-positive, alpha-beta T cell",
    "CD14+ monocyte",
    "CD14- monocyte",
    "NK",
    "NK cell",
    "7",
)
IN_WORDS = [name for name in TASKS if name != "perturbation_response"]

sentence = st.lists(st.sampled_from(PLAIN), min_size=1, unique=True)
label = st.sampled_from(LABELS)


def text_of(ids, delimiter=" "):
    return delimiter.join(SYMBOLS[i] for i in ids)


def refused(reader, *arguments, match=None, **named):
    with pytest.raises(ParseError, match=match):
        reader(*arguments, **named)


@given(ids=sentence, which=label)
def test_good_answers_are_read_exactly(ids, which):
    assert read_genes(f"{text_of(ids)}.", VOCABULARY).tolist() == ids
    assert read_genes((Genes(np.array(ids, np.int32)), Mark("end"))).tolist() == ids
    assert read_label(f"{which}.", LABELS) == read_label((f"{which}.", Mark("end")), LABELS) == which
    assert read_label(f"{which}.") == which
    assert read_text(f"{which}. {which}.") == f"{which}. {which}"


# 1 empty


@given(blank=st.text(alphabet=" \t\n\u00a0\u200b\ufeff", max_size=5), stop=st.sampled_from(["", "."]))
def test_empty_answers_are_refused(blank, stop):
    for answer in (blank + stop, (blank + stop, Mark("end")), (Mark("end"),), (blank + stop).encode()):
        for reader in (read_label, read_labels, read_decision, read_text):
            refused(reader, answer, match="empty")
        refused(read_label, answer, LABELS, match="empty")
        refused(read_genes, answer, VOCABULARY, match="empty|no gene")
        refused(read_cells, answer, VOCABULARY)


# 2 truncated


@given(ids=sentence, cut=st.integers(0, 5))
def test_truncated_genes_are_refused_or_lose_the_last_word(ids, cut):
    whole = text_of(ids)
    short = whole[: max(len(whole) - cut, 1)].rstrip(". ")
    assume(short)
    refused(read_genes, short, VOCABULARY, match="may be cut off")
    refused(read_genes, (Genes(np.array(ids, np.int32)),), VOCABULARY, match="ends before <end>")
    kept = short.split(" ")[:-1]
    if kept:
        assert read_genes(short, VOCABULARY, repair=True).tolist() == ids[: len(kept)]
    else:
        refused(read_genes, short, VOCABULARY, match="no gene", repair=True)


def test_truncated_labels_are_refused_unless_only_one_label_can_be_meant():
    refused(read_label, "NK", LABELS, match="may be the beginning of NK cell")
    assert read_label("NK.", LABELS) == "NK"
    assert read_label("B cell", LABELS) == "B cell"
    refused(read_label, "CD4 T", LABELS, match="none of the 8 labels")
    refused(read_label, "B cell", match="may be cut off")
    refused(read_labels, "B cell; NK cell", LABELS, match="may be cut off")
    refused(read_text, "We looked. We fou", match="may be cut off")
    refused(read_label, ("B cell.",), LABELS, match="before <end>")


# 3 foreign gene


@given(ids=sentence, place=st.integers(0, 9), word=st.text(alphabet="XYZ0123456789", min_size=2, max_size=6))
def test_foreign_genes_are_refused_with_their_place_or_left_out(ids, place, word):
    words = text_of(ids).split(" ")
    place = min(place, len(words))
    words.insert(place, f"Q{word}")
    refused(read_genes, " ".join(words) + ".", VOCABULARY, match=f"word {place + 1}, 'Q{word}', is no gene")
    assert read_genes(" ".join(words) + ".", VOCABULARY, repair=True).tolist() == ids


# 4 repeated gene


@given(ids=sentence, data=st.data())
def test_repeated_genes_are_refused_or_kept_where_they_came_first(ids, data):
    again = data.draw(st.sampled_from(ids))
    place = data.draw(st.integers(ids.index(again) + 1, len(ids)))
    bad = [*ids[:place], again, *ids[place:]]
    parts = (Genes(np.array(bad, np.int32)), Mark("end"))
    for answer in (f"{text_of(bad)}.", parts):
        refused(read_genes, answer, VOCABULARY, match="comes more than once")
        assert read_genes(answer, VOCABULARY, repair=True).tolist() == ids


# 5 prose around


@given(ids=sentence, which=label, before=st.sampled_from(["The answer is: ", "Sure! ", "I think it is "]))
def test_prose_around_is_refused(ids, which, before):
    refused(read_genes, f"{before}{text_of(ids)}.", VOCABULARY, match="word 1")
    refused(read_label, f"{before}{which}.", LABELS, match="none of the 8 labels")
    refused(read_decision, f"{before}yes.")
    refused(read_cells, f"{before}\nCell 1: {text_of(ids)}.", VOCABULARY, match="expected a heading such as 'Cell 1:'")
    parts = (before, Genes(np.array(ids, np.int32)), Mark("end"))
    refused(read_genes, parts, match="expected genes and <end>, found '")
    assert read_genes(parts, repair=True).tolist() == ids


def test_prose_for_a_free_label_is_refused_where_it_can_be_told():
    refused(read_label, "This is a B cell. It makes antibodies.", match="more than one thing")
    refused(read_label, "long " * 30 + "label.", match="155 characters, a label at most 120")
    assert read_label("This is a B cell.") == "This is a B cell"  # one line: cannot be told from a label


# 6 wrong case


@given(ids=sentence, which=label, how=st.sampled_from([str.lower, str.upper, str.swapcase, str.title]))
def test_wrong_case_is_read_where_one_gene_or_label_is_left(ids, which, how):
    assert read_genes(how(text_of(ids)) + ".", VOCABULARY).tolist() == ids
    assert read_label(how(which) + ".", LABELS) == which


def test_genes_and_labels_that_differ_only_in_case_are_told_apart_by_it():
    assert read_genes("a A.", VOCABULARY).tolist() == [9, 10]
    only = GeneVocabulary(("Abc", "aBC", "D"))
    refused(read_genes, "D abc.", only, match="word 2, 'abc', may be any of 2 genes")
    refused(read_label, "b CELL.", ("B cell", "b cell"), match="may stand for B cell, b cell")
    assert read_decision("YES.") is True
    assert read_decision("no") is False


# 7 wrong delimiter


@given(ids=sentence, delimiter=st.sampled_from([", ", ",", ";", "\n", "\t", " | ", "  ", ";  "]))
def test_other_delimiters_are_read(ids, delimiter):
    assert read_genes(text_of(ids, delimiter) + ".", VOCABULARY).tolist() == ids
    assert read_genes(text_of(ids) + ".", VOCABULARY, SentenceStyle(", ")).tolist() == ids


@given(ids=sentence.filter(lambda ids: len(ids) > 1), delimiter=st.sampled_from(["/", "-", " > ", " and "]))
def test_what_is_no_delimiter_is_refused(ids, delimiter):
    refused(read_genes, text_of(ids, delimiter) + ".", VOCABULARY, match="is no gene")


def test_lists_of_labels_need_semicolons():
    refused(read_labels, "B cell, NK cell.", LABELS, match="it holds B cell")
    assert read_labels("B cell;NK cell.", LABELS) == ("B cell", "NK cell")
    refused(read_labels, "B cell; b-cell.", LABELS, match="names B cell more than once")
    refused(read_labels, "B cell; ; NK.", LABELS, match="empty")


# 8 unknown label


@given(answer=st.text(alphabet="bcdefgh XYZ", min_size=1, max_size=20))
def test_unknown_labels_are_refused_with_those_there_are(answer):
    assume(answer.strip() and fold(answer) not in set(map(fold, LABELS)))
    refused(read_label, f"{answer}.", LABELS, match="none of the 8 labels.*Expected one of B cell, CD4 T cell")


# 9 two answers at once


@given(
    one=sentence, other=sentence, first=label, second=label, between=st.sampled_from([". ", ".\n", "; ", " or ", " / "])
)
def test_two_answers_are_refused(one, other, first, second, between):
    refused(read_label, f"{first}{between}{second}.", LABELS)
    refused(
        read_genes,
        f"{text_of(one)}. {text_of(other)}.",
        VOCABULARY,
        match="sentence ends at word|may be any of|no gene",
    )
    if between not in (" or ", " / "):
        refused(read_label, f"{first}{between}{second}.", match="more than one|list")
    refused(read_decision, "Yes. No.")
    refused(read_label, ("B cell.", Mark("end"), "NK cell."), match="follows the last mark <end>")


# 10 numbered and bulleted lists


@given(ids=sentence, which=label, bullet=st.sampled_from(["- ", "* ", "• ", "{i}. ", "{i}) "]))
def test_lists_with_numbers_or_bullets_are_refused(ids, which, bullet):
    lines = "\n".join(bullet.format(i=i) + SYMBOLS[gene] for i, gene in enumerate(ids, start=1))
    refused(read_genes, f"{lines}.", VOCABULARY, match="numbered or bulleted list")
    assert read_genes(f"{lines}.", VOCABULARY, repair=True).tolist() == ids
    refused(read_label, f"{bullet.format(i=1)}{which}.", match="numbered or bulleted list")
    refused(read_label, f"1. {which}.", LABELS, match="none of")


# 11 bytes and odd Unicode


@given(
    ids=sentence,
    which=label,
    odd=st.sampled_from(["\x00", "\x1b[0m", "\ufffd", "\ue000", "\U000e0fff", "\x7f"]),
    place=st.integers(0, 60),
)
def test_characters_that_are_no_text_are_refused(ids, which, odd, place):
    for answer in (f"{text_of(ids)}.", f"{which}."):
        bad = answer[:place] + odd + answer[place:]
        for reader in (read_label, read_labels, read_text, read_decision):
            refused(reader, bad, match="which is no text")
        refused(read_genes, bad, VOCABULARY, match="which is no text")
    refused(read_text, b"caf\xe9.", match="no UTF-8")
    refused(read_text, "\ud800.", match=r"U\+D800")


def test_look_alikes_are_read():
    assert read_genes("\ufeffＣＤ４\u00a0HLA‑A\u200b MT–ND1.", VOCABULARY).tolist() == [0, 4, 6]
    assert read_label("CD8‐positive,\u00a0alpha–beta T cell.", LABELS) == LABELS[2]
    assert read_text("cafe\u0301.") == "café"
    assert read_text("naïve γδ cells\r\nrest.".encode()) == "naïve γδ cells\nrest"
    assert answer_text("no stop") == ("no stop", False)


# signs, cells, and anything at all


def test_punctuation_is_ignored_but_for_signs():
    assert fold("CD8-positive, alpha-beta T cell") == fold("cd8 Positive alpha/beta T-cell")
    assert read_label("CD14+ Monocyte", LABELS) == "CD14+ monocyte"
    assert read_label("cd14−  monocyte", LABELS) == "CD14- monocyte"
    refused(read_label, "CD14 monocyte.", LABELS, match="none of")
    assert read_label("Dr. X.", ("Dr. X.", "b")) == "Dr. X."
    assert fold("CD8 -") == fold("CD8-") != fold("CD8")
    assert fold("CD8 - positive") == fold("CD8 positive")


def test_numbers_keep_their_point_and_their_sign():
    assert read_label("1.5.", ("15", "1.5")) == "1.5"
    refused(read_label, "15.", ("1.5", "-1.5"), match="none of")
    assert read_label("\u22121.5.", ("1.5", "-1.5")) == "-1.5"
    assert fold("score -1") != fold("score 1") == fold("score - 1")
    assert fold("IL-2") == fold("IL2")


@given(
    cells=st.lists(sentence, min_size=1, max_size=4),
    heading=st.sampled_from(["Cell {i}: ", "Cell {i}:\n", "cell {i} : "]),
)
def test_cells_are_read_behind_their_headings(cells, heading):
    text = "\n".join(heading.format(i=i) + text_of(ids) + "." for i, ids in enumerate(cells, start=1))
    parts = [part for i, ids in enumerate(cells, start=1) for part in (f"Cell {i}:", Genes(np.array(ids, np.int32)))]
    for answer in (text, f"{text}\n.", (text, Mark("end")), (*parts, Mark("end"))):
        assert [ids.tolist() for ids in read_cells(answer, VOCABULARY, n_cells=len(cells))] == cells
        refused(read_cells, answer, VOCABULARY, n_cells=9, match=f"{len(cells)} cells, expected 9")
    refused(read_cells, text[:-1], VOCABULARY, match=f"cell {len(cells)}: .*cut off")
    refused(read_cells, parts, match="before <end>")
    refused(read_cells, (*parts, "also", Mark("end")), match="expected a heading")


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ("Cell 2: CD4.", "numbered from 1 on, found \\[2\\]"),
        ("Cell 1: CD4.\nCell 1: CD8A.", "found \\[1, 1\\]"),
        ("CD4 CD8A.", "expected a heading such as 'Cell 1:'"),
        ("Cell 1: CD4 CD4.", "cell 1: CD4 comes more than once, again at place 2"),
        ("Cell 1: CD4.\nCell 2:", "cell 2: the answer is empty"),
    ],
)
def test_samples_of_another_form_are_refused(answer, match):
    refused(read_cells, answer, VOCABULARY, match=match)


def test_text_of_genes_needs_a_vocabulary():
    with pytest.raises(ConfigError, match="pass vocabulary="):
        read_genes("CD4.")


@settings(max_examples=60, deadline=None)
@given(answer=st.one_of(st.text(max_size=60), st.binary(max_size=30), st.text(alphabet="CD48A. \nell1:;", max_size=40)))
def test_every_parser_returns_or_raises_a_parse_error(answer):
    for name in TASKS:
        if name == "perturbation_response" and isinstance(answer, bytes):
            continue
        *_, reading = cases(3)[name]
        try:
            make(name, 3, 0).parse(answer, **reading)
        except ParseError as error:
            assert str(error)
