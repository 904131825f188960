"""A gene is a token where a gene is meant; text is text, whatever it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ModelError
from c2s.models.tokenizer import PartTokenizer, build_tokenizer, gene_token
from c2s.tasks.base import MARKS, Genes, Mark
from tests.models.untrained import ENSEMBL, HUMAN, LABELS, MOUSE


@pytest.fixture(scope="module")
def tokens():
    """Trained on texts that do their best to become genes and marks."""
    texts = [*LABELS, "CD4", "CD4+", "B2M high"] + ["<gene:CD4>", "<end>", "gene:CD4"] * 20
    return PartTokenizer(build_tokenizer(HUMAN, texts, n_pieces=600), HUMAN)


def text_ids(tokens):
    """Return the ids that text may become."""
    return set(range(len(tokens))) - set(tokens.gene_tokens.tolist()) - set(tokens.marks.values()) - {tokens.pad}


ALARMING = [
    "CD4 T cell", "CD4", " CD4", "B2M", "HLA-A", "7SK", "T", "<gene:CD4>", "<gene:CD4> <gene:B2M>", "<end>", "a<end>b",
    "<pad>", "<cell>", "<up><down>", "<|endoftext|>", "</s>",
]  # fmt: skip


@pytest.mark.parametrize("text", ALARMING)
def test_text_never_becomes_a_gene_a_mark_or_padding(tokens, text):
    ids = tokens.render([text])
    assert set(ids) <= text_ids(tokens)
    assert tokens.parts(ids) == [text.strip()]


def test_text_stays_text_between_marks_and_genes(tokens):
    for text in ALARMING:
        parts = [Mark("cell"), Genes(np.array([0, 5], dtype=np.int32)), Mark("cell_type"), text, Mark("end")]
        cell, genes, mark, again, end = tokens.parts(tokens.render(parts))
        assert (cell, mark, again, end) == (Mark("cell"), Mark("cell_type"), text.strip(), Mark("end"))
        assert genes.ids.tolist() == [0, 5]


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@example("日本語 γδ T 🧬")
@example("\x00\x01\u2028\xad\ufeff")
@example("Ġ a , b . do n't")
@example("e\u0301 é")  # composed and decomposed stay apart
def test_any_text_survives_by_byte_fallback(tokens, text):
    ids = tokens.render([Mark("cell_type"), text, Mark("end")])
    assert set(ids[1:-1]) <= text_ids(tokens)
    expected = [Mark("cell_type"), *([text.strip()] if ids[1:-1] else []), Mark("end")]
    assert tokens.parts(ids) == expected
    assert bool(ids[1:-1]) == bool(text)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(MARKS).map(Mark),
            st.lists(st.integers(0, len(HUMAN) - 1), min_size=1, max_size=5),
            st.sampled_from(["CD4 T cell", "<end>", "γδ", "x"]),
        ),
        max_size=8,
    )
)
def test_parts_round_trip(tokens, parts):
    """Neighbouring genes become one run, neighbouring texts one text."""
    given_ = [Genes(np.array(p, dtype=np.int32)) if isinstance(p, list) else p for p in parts]
    merged: list = []
    for part in parts:
        if merged and isinstance(part, list) and isinstance(merged[-1], list):
            merged[-1] = merged[-1] + part
        elif merged and isinstance(part, str) and isinstance(merged[-1], str):
            merged[-1] = f"{merged[-1]} {part}"
        else:
            merged.append(part)
    found = [part.ids.tolist() if isinstance(part, Genes) else part for part in tokens.parts(tokens.render(given_))]
    assert found == merged


@pytest.mark.parametrize("vocabulary", [HUMAN, MOUSE, ENSEMBL])
def test_one_token_per_gene_and_mark_and_all_bytes(vocabulary):
    tokens = PartTokenizer(build_tokenizer(vocabulary, ["x"], n_pieces=256), vocabulary)
    everything = [*tokens.gene_tokens.tolist(), *tokens.marks.values(), tokens.pad]
    assert len(set(everything)) == len(vocabulary) + len(MARKS) + 1
    assert len(tokens) == len(everything) + 256
    every = Genes(np.arange(len(vocabulary), dtype=np.int32))
    assert tokens.render([every]) == tokens.gene_tokens.tolist()
    assert tokens.parts(tokens.render([every]))[0].ids.tolist() == every.ids.tolist()


def test_padding_is_left_out(tokens):
    ids = [tokens.pad, *tokens.render([Mark("cell"), "B cell"]), tokens.pad, tokens.pad]
    assert tokens.parts(ids) == [Mark("cell"), "B cell"]
    assert tokens.parts([]) == []


def test_labels_of_training_become_few_pieces_and_order_of_texts_does_not_matter():
    one = build_tokenizer(HUMAN, LABELS, n_pieces=300)
    other = build_tokenizer(HUMAN, [*reversed(LABELS), *LABELS], n_pieces=300)
    assert one.get_vocab() == other.get_vocab()
    assert len(one("CD14 monocyte")["input_ids"]) <= 4


def test_a_saved_folder_is_an_ordinary_transformers_tokenizer(tokens, tmp_path):
    tokens.tokenizer.save_pretrained(tmp_path)
    plain = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert plain.get_vocab() == tokens.tokenizer.get_vocab()
    assert len(plain) == len(tokens)
    assert (plain.pad_token_id, plain.eos_token_id) == (tokens.pad, tokens.marks["end"])
    assert plain("CD4 T cell")["input_ids"] == tokens.render(["CD4 T cell"])
    assert plain.decode(plain("γδ T, 🧬")["input_ids"]).strip() == "γδ T, 🧬"
    assert plain.convert_tokens_to_ids(gene_token("CD4")) == tokens.gene_tokens[0]
    again = PartTokenizer(plain, HUMAN)
    for text in ALARMING:
        assert again.render([text]) == tokens.render([text])


def test_another_vocabulary_is_refused(tokens):
    with pytest.raises(
        ModelError, match="no token for 1 of the marks and genes, such as <gene:NEW1>; .* another vocabulary"
    ):
        PartTokenizer(tokens.tokenizer, GeneVocabulary(("CD4", "NEW1")))
    with pytest.raises(ModelError, match="no token for 9 "):
        PartTokenizer(tokens.tokenizer, MOUSE)
