"""Examples rendered when asked for are those rendered at once; labels, conditions and splits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.cells.genes import GeneVocabulary
from c2s.cells.reading import coded_column, complete_column
from c2s.errors import ConfigError, DataError
from c2s.models.tokenizer import PartTokenizer, build_tokenizer
from c2s.sentences.corpus import CellSentences
from c2s.training.cell_data import CellExamples, prepare_cells, refuse_labels
from c2s.training.config import TrainConfig
from c2s.training.examples import render_examples

VOCABULARY = GeneVocabulary(tuple("ABCDEFGHIJ"))
LABELS = ["B cell", "T cell", "natural killer cell, CD56 bright"]
TOKENS = PartTokenizer(build_tokenizer(VOCABULARY, LABELS), VOCABULARY)
cells = st.lists(
    st.tuples(
        st.permutations(range(10)).flatmap(lambda p: st.integers(0, 10).map(lambda n: p[:n])),
        st.sampled_from(LABELS),
        st.sampled_from(["x", "y z"]),
    ),
    min_size=1,
    max_size=12,
)


def corpus_of(rows) -> CellSentences:
    obs = pd.DataFrame(
        {"kind": [row[1] for row in rows], "site": pd.Categorical([row[2] for row in rows])},
        index=[f"c{i}" for i in range(len(rows))],
    )
    return CellSentences.from_lists([row[0] for row in rows], VOCABULARY, obs=obs)


def config(task="cell_type_annotation", **changes) -> TrainConfig:
    return TrainConfig(**{"task": task, "labels_key": "kind", "n_genes": 6, "validation_share": 0.3, **changes})


@settings(deadline=None, max_examples=60)
@given(cells, st.integers(1, 12), st.booleans(), st.integers(0, 5))
def test_the_examples_are_those_rendered_at_once(rows, n_genes, generation, seed):
    sentences = corpus_of(rows)
    changes = {"task": "cell_generation", "context_keys": ("site",)} if generation else {}
    data = prepare_cells(sentences, config(n_genes=n_genes, seed=seed, **changes))
    usable = [
        i for i, row in enumerate(rows) if len(row[0]) or not generation
    ]  # a cell without genes is nothing to write
    assert sorted([*data.rows(validation=True), *data.rows(validation=False)]) == usable
    for validation in (True, False):
        chosen = data.rows(validation=validation)
        if not len(chosen):
            continue
        side = sentences[chosen]
        if generation:
            examples = data.task.examples(side, conditions={"cell_type": "kind", "site": "site"})
        else:
            examples = data.task.examples(side, labels_key="kind")
        at_once = render_examples(examples, TOKENS, max_length=200)
        lazily = CellExamples(data, chosen, TOKENS, max_length=200)
        assert lazily.lengths.tolist() == at_once.lengths.tolist()
        assert len(lazily) == len(at_once)
        for i in range(len(at_once)):
            one, other = lazily[i], at_once[i]
            assert one.keys() == other.keys()
            np.testing.assert_array_equal(one["ids"], other["ids"])
            np.testing.assert_array_equal(one["weights"], other["weights"])
            assert (one["ids"].dtype, one["weights"].dtype) == (other["ids"].dtype, other["weights"].dtype)
            assert one["length"] == other["length"]
        longest = int(at_once.lengths.max())
        if longest > at_once.lengths.min():
            with pytest.raises(ConfigError) as said:
                CellExamples(data, chosen, TOKENS, max_length=longest - 1)
            examples = data.task.examples(side, **({"conditions": {"cell_type": "kind", "site": "site"}} if generation else {"labels_key": "kind"}))  # fmt: skip
            with pytest.raises(ConfigError) as expected:
                render_examples(examples, TOKENS, max_length=longest - 1)
            assert str(said.value) == str(expected.value)


def test_what_a_model_remembers_is_of_the_training_side():
    rows = [([1], "b", "x"), ([2], "a", "y"), ([3], "b", "z"), ([4], "c", "x")]
    for task, context_keys in (("cell_type_annotation", ()), ("cell_generation", ("site",))):
        data = prepare_cells(corpus_of(rows), config(task, context_keys=context_keys))
        data = dataclasses.replace(data, is_validation=np.array([False, False, False, True]))
        found = data.settings()
        if context_keys:
            assert found["conditions"] == {"cell_type": ("a", "b"), "site": ("x", "y", "z")}
        else:
            assert (found["labels"], found["label_share"]) == (("a", "b"), (1 / 3, 2 / 3))


def test_whole_groups_are_held_out():
    rows = [([1], "b", site) for site in "vwxyz" * 4]
    data = prepare_cells(corpus_of(rows), config(split_by="site", validation_share=0.4))
    held_out = {rows[i][2] for i in data.rows(validation=True)}
    assert len(held_out) == 2
    assert held_out.isdisjoint({rows[i][2] for i in data.rows(validation=False)})


def test_the_hash_names_cells_lengths_and_labels():
    rows = [([1, 2], "b", "x"), ([2], "a", "y"), ([3], "b", "z")]

    def hash_of(rows, **changes):
        data = prepare_cells(corpus_of(rows), config(validation_share=0, **changes))
        return CellExamples(data, data.rows(validation=False), TOKENS, max_length=99).hash

    assert hash_of(rows) == hash_of(list(rows))
    others = [
        hash_of([([1, 3], "b", "x"), *rows[1:]]),
        hash_of([([1, 2], "a", "x"), *rows[1:]]),
        hash_of(rows[::-1]),
        hash_of(rows[:2]),
        hash_of(rows, n_genes=1),
        hash_of(rows, task="cell_generation"),
    ]
    assert len({hash_of(rows), *others}) == 7


def test_no_example_and_gaps():
    data = prepare_cells(corpus_of([([1], "b", "x")]), config(validation_share=0))
    with pytest.raises(DataError, match="there is no training example"):
        CellExamples(data, data.rows(validation=True), TOKENS, max_length=99)
    with pytest.raises(DataError, match=r"1 of 2 cells have no value in 'kind' \(labels_key\)"):
        prepare_cells(corpus_of([([1], None, "x"), ([1], "b", "x")]), config())
    with pytest.raises(DataError, match="no column 'organ'.*Pass context_keys="):
        prepare_cells(corpus_of([([1], "b", "x")]), config("cell_generation", context_keys=("organ",)))


@pytest.mark.parametrize(
    "values",
    [
        ["b", "a", "b"], [2, 10, 2], [1.5, 1.0, 1.5], [True, False, True], pd.Categorical(["b", "a", "b"], ["z", "b", "a"]),
        pd.Categorical([10, 2, 10]), pd.array(["b", "a", "b"], dtype=pd.StringDtype("pyarrow")), [1, "1", 1],
        pd.to_datetime(["2020-01-02", "2020-01-01", "2020-01-02"]),
    ],
    ids=["text", "whole", "decimal", "flags", "categories", "numbers as categories", "Arrow", "mixed", "days"],
)  # fmt: skip
def test_coded_columns_are_the_complete_ones(values):
    obs = pd.DataFrame({"x": values})
    codes, found = coded_column(obs, "x", "labels_key")
    whole = complete_column(obs, "x", "labels_key")
    assert [found[code] for code in codes] == whole.tolist()
    assert found == sorted(set(whole))
    assert codes.dtype == np.int32


def test_prompts_have_the_weight_asked_for():
    """All genes learned from weigh, together, so many times the answer; which they are depends on the cell."""
    vocabulary = GeneVocabulary(tuple(f"G{i}" for i in range(60)))
    tokens = PartTokenizer(build_tokenizer(vocabulary, LABELS), vocabulary)
    obs = pd.DataFrame({"kind": LABELS * 4}, index=[f"c{i}" for i in range(12)])
    lists = [list(range(60)) if i else [] for i in range(12)]
    data = prepare_cells(CellSentences.from_lists(lists, vocabulary, obs=obs), config(n_genes=40, validation_share=0.0))
    rows = data.rows(validation=False)
    plain = CellExamples(data, rows, tokens, max_length=200)
    weighted = CellExamples(data, rows, tokens, max_length=200, prompt_weight=0.3)
    places = set()
    for i in range(12):
        answer = plain[i]["weights"] > 0
        np.testing.assert_array_equal(weighted[i]["weights"][answer], plain[i]["weights"][answer])
        genes = np.flatnonzero((weighted[i]["weights"] > 0) & ~answer)
        places.add(tuple(genes))
        if i:
            assert len(genes) == 5
            assert np.isin(weighted[i]["ids"][genes], tokens.gene_tokens).all()
            assert weighted[i]["weights"][genes].sum() == pytest.approx(0.3 * answer.sum(), rel=1e-5)
    assert places == {(), *(tuple(range(1 + k, 41, 8)) for k in range(8))}
    with pytest.raises(ConfigError, match="prompt_weight"):
        TrainConfig(prompt_weight=0.3)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["B", "B"], "at least two types"),
        (["B", " "], "empty kind"),
        (["B", "B "], "differ in spaces only"),
        (["B", "T"], None),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels, said):
    obs = pd.DataFrame({"kind": labels})
    if said is None:
        refuse_labels(obs, "kind")
    else:
        with pytest.raises(DataError, match=said):
            refuse_labels(obs, "kind")
