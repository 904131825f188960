"""Examples as token ids: everything of the answer weighs, nothing of the prompt does, nothing is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ConfigError, DataError
from c2s.models.tokenizer import PartTokenizer, build_tokenizer
from c2s.tasks import Example, Genes, Mark
from c2s.training.examples import Collator, render_examples

SYMBOLS = tuple(f"GENE{i}" for i in range(20))


@pytest.fixture(scope="module")
def tokens() -> PartTokenizer:
    vocabulary = GeneVocabulary(SYMBOLS)
    return PartTokenizer(build_tokenizer(vocabulary, ["B cell"], n_pieces=260), vocabulary)


def genes(*ids: int) -> Genes:
    return Genes(np.array(ids, dtype=np.int32))


def example(prompt_genes: int = 3, answer=(4, 5), weights=None) -> Example:
    prompt = (Mark("cell"), genes(*range(prompt_genes)), Mark("sentence"))
    return Example(prompt, (genes(*answer), Mark("end")), weights)


def test_ids_offsets_and_weights(tokens):
    first = example(3, (4, 5, 6), np.array([4.0, 1.0, 4.0], dtype=np.float32))
    second = Example((Mark("cell"), genes(7), Mark("cell_type")), ("B cell", Mark("end")))
    rendered = render_examples([first, second], tokens, max_length=64)
    assert len(rendered) == 2
    assert rendered.answer_starts.tolist() == [5, 3]
    label = tokens.render(["B cell"])
    assert rendered.lengths.tolist() == [5 + 4, 3 + len(label) + 1]
    assert rendered.weights[:9].tolist() == [0] * 5 + [4, 1, 4, 1]
    assert rendered.weights[9:].tolist() == [0] * 3 + [1] * (len(label) + 1)
    assert tokens.parts(rendered[0]["ids"].tolist())[-1] == Mark("end")
    assert rendered[1]["ids"].tolist() == tokens.render([*second.prompt, *second.answer])
    assert rendered[0]["length"] == 9


def test_the_end_is_trained_even_after_an_empty_answer(tokens):
    for weights in (None, np.empty(0, dtype=np.float32)):
        rendered = render_examples([example(answer=(), weights=weights)], tokens, max_length=64)
        assert rendered[0]["ids"][-1] == tokens.marks["end"]
        assert rendered[0]["weights"].tolist() == [0] * 5 + [1]


def test_an_example_that_does_not_fit_is_refused_and_not_cut(tokens):
    render_examples([example()], tokens, max_length=8)
    with pytest.raises(
        ConfigError, match=r"5 prompt and 3 answer tokens; the model reads 7\. Lower n_genes or n_answer"
    ):
        render_examples([example()], tokens, max_length=7)


def test_no_example_is_refused(tokens):
    with pytest.raises(DataError, match="there is no training example"):
        render_examples([], tokens, max_length=8)


def test_weights_must_be_one_per_gene(tokens):
    with pytest.raises(ConfigError, match="3 weights for an answer that starts with .*one per gene"):
        render_examples([example(weights=np.ones(3, dtype=np.float32))], tokens, max_length=64)
    with pytest.raises(ConfigError, match="1 weights for an answer that starts with 'B cell'"):
        render_examples(
            [Example((Mark("cell"),), ("B cell", Mark("end")), np.ones(1, dtype=np.float32))], tokens, max_length=64
        )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 19), max_size=6)), min_size=1, max_size=6))
def test_a_batch_is_its_examples_padded_on_the_right(tokens, shapes):
    rendered = render_examples([example(n, answer) for n, answer in shapes], tokens, max_length=64)
    batch = Collator(tokens.pad)([rendered[i] for i in range(len(rendered))])
    assert batch["input_ids"].shape == batch["weights"].shape == batch["attention_mask"].shape
    assert batch["input_ids"].shape[1] == rendered.lengths.max()
    assert batch["input_ids"].dtype == torch.long
    for row, (n_prompt, answer) in enumerate(shapes):
        length = int(rendered.lengths[row])
        assert batch["input_ids"][row, :length].tolist() == rendered[row]["ids"].tolist()
        assert batch["input_ids"][row, length:].eq(tokens.pad).all()
        assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (rendered.lengths.max() - length)
        trained = torch.nonzero(batch["weights"][row])[:, 0].tolist()
        assert trained == list(range(n_prompt + 2, n_prompt + 2 + len(answer) + 1))
