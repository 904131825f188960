"""Every task of the registry: examples in every wording, true numbers, and answers that parse back."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import numpy as np
import pytest

from c2s.errors import ConfigError, DataError
from c2s.tasks import TASKS, Genes, Mark, PromptSet, Question, SampleGeneration, Samples, Task, render_text
from tests.tasks.all_tasks import LABELS, ROWS, SAMPLES, SETS, SYMBOLS, VOCABULARY, cases, make, plain, sentences

IN_WORDS = [name for name in TASKS if name != "perturbation_response"]
GENES = ("gene_overlap",)


def test_every_task_has_a_case():
    assert set(cases(3)) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_it_is(name):
    task = TASKS[name]()
    assert isinstance(task, Task)
    assert task.metric.replace("_", "").isalnum()
    assert all(isinstance(each, str) for each in (*task.inputs, *task.optional))
    assert TASKS[name](**json.loads(json.dumps(asdict(task)))) == task


@pytest.mark.parametrize("n", [1, 3, 100])
@pytest.mark.parametrize("name", TASKS)
def test_answers_parse_to_the_truth_as_parts_and_as_text(name, n):
    positional, named, values, reading = cases(n)[name]
    wordings = range(len(PromptSet.of(name))) if name in IN_WORDS else (0,)
    for wording in wordings:
        task = make(name, n, wording)
        examples = list(task.examples(*positional, **named))
        assert len(examples) == len(values)
        for example, value in zip(examples, values, strict=True):
            assert example.answer[-1] == Mark("end")
            assert plain(task.parse(example.answer, **reading)) == plain(value)
            if name in IN_WORDS:
                text = render_text(example.answer, SYMBOLS, task.style)
                assert plain(task.parse(text, **reading)) == plain(value)
                assert not re.search(r"[{}\[\]]", render_text(example.prompt, SYMBOLS, task.style))


@pytest.mark.parametrize("n", [2, 100])
@pytest.mark.parametrize("name", IN_WORDS)
def test_the_number_of_genes_is_true(name, n):
    """The prompt names the size of the longest run of genes, shown or asked for, never the number that was wished."""
    positional, named, _, _ = cases(n)[name]
    for wording in range(len(PromptSet.of(name))):
        for example in make(name, n, wording).examples(*positional, **named):
            text = render_text([part for part in example.prompt if isinstance(part, str)], SYMBOLS)
            numbers = {int(number) for number in re.findall(r"(?<![\w-])\d+(?!\w)", re.sub(r"Cell \d+", "", text))}
            runs = [part.ids for part in (*example.prompt, *example.answer) if isinstance(part, Genes)]
            assert max(map(len, runs)) in numbers
            assert n in numbers or max(map(len, runs)) < n
            assert 100 not in numbers
            assert all(len(run) <= n for run in runs)


@pytest.mark.parametrize("name", IN_WORDS)
def test_wordings_are_four_or_more_distinct_and_drawn_by_seed(name):
    prompts = PromptSet.of(name)
    assert len(set(prompts.prompts)) == len(prompts) >= 4
    assert all(prompt.endswith("\n") for prompt in prompts.prompts)
    positional, named, _, _ = cases(3)[name]

    def drawn(seed):
        task = make(name, 3, "any")
        examples = task.examples(*positional, **named, seed=seed)
        return [render_text(example.prompt, SYMBOLS) for example in examples]

    np.random.seed(0)
    first = drawn(0)
    np.random.seed(1)
    assert first == drawn(0)
    assert any(drawn(seed) != first for seed in range(1, 6))


def test_optional_columns_are_told_where_known_and_never_guessed():
    whole = sentences()
    task = TASKS["cell_type_annotation"](wording=0)
    text = render_text(next(iter(task.examples(whole, labels_key="label"))).prompt, SYMBOLS)
    assert text.startswith("A cell of Homo sapiens from blood expresses these 5 genes")
    bare = whole.with_obs(whole.obs[["label"]])
    assert render_text(next(iter(task.examples(bare, labels_key="label"))).prompt, SYMBOLS).startswith(
        "A cell expresses"
    )
    few = next(iter(task.examples(whole, labels_key="label", columns={"tissue": "drug"})))
    assert render_text(few.prompt, SYMBOLS).startswith("A cell from DMSO expresses")
    with pytest.raises(ConfigError, match="no optional field assay; it has organism, tissue"):
        list(task.examples(whole, labels_key="label", columns={"assay": "drug"}))
    with pytest.raises(DataError, match="no column 'organ'"):
        list(task.examples(whole, labels_key="label", columns={"tissue": "organ"}))


def test_a_field_on_which_cells_differ_is_left_out():
    mixed = Samples((np.array([0, 5]),), ("a",))
    (example,) = TASKS["sample_cell_types"](wording=0).examples(sentences(), samples=mixed, labels_key="label")
    assert render_text(example.prompt, SYMBOLS).startswith("These 2 cells of Homo sapiens come")
    with pytest.raises(DataError, match=r"2 values of 'tissue' \(blood, lymph node\)"):
        list(TASKS["tissue_inference"]().examples(sentences(), samples=mixed, tissue_key="tissue"))


@pytest.mark.parametrize(
    ("by", "key", "said"),
    [("tissue", "tissue", "from blood"), ("cell_types", "label", "these cell types: B cell; CD4 T cell; NK cell"),
     ("abstract", "abstract", "this abstract: We looked. We found more.")],
)  # fmt: skip
def test_samples_are_generated_by_any_of_three_descriptions(by, key, said):
    task = SampleGeneration(by=by, wording=0, n_genes=2)
    first = next(iter(task.examples(sentences(), samples=SAMPLES, by_key=key)))
    text = render_text(first.prompt, SYMBOLS)
    assert said in text
    assert "Write 3 cells of Homo sapiens" in text
    assert render_text(first.answer, SYMBOLS) == "Cell 1: NKG7 MS4A1.\nCell 2: CD4.\nCell 3: C1orf112 MT-ND1."
    assert text.count("[") == 0


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="n_genes=0"):
        TASKS["niche_label"](n_genes=0)
    with pytest.raises(ConfigError, match="niche_label takes a number from 0, or 'any'"):
        TASKS["niche_label"](wording="marks")
    with pytest.raises(ConfigError, match="by='abstract' with prompts='cell2sentence'"):
        SampleGeneration(by="abstract", prompts="cell2sentence")
    with pytest.raises(ConfigError, match="wording 9 of niche_label; there are 4"):
        TASKS["niche_label"]().prompt(sentences(), 0, [], wording=9)
    with pytest.raises(DataError, match="not among the choices"):
        Question((0,), "?", "Maybe", ("Yes", "No"))
    with pytest.raises(DataError, match="holds the semicolon"):
        TASKS["sample_cell_types"]().answer(["a; b"])
    with pytest.raises(DataError, match="a sample without cells"):
        TASKS["tissue_inference"]().prompt(sentences(), [])


def test_knowledge_and_neighbours_come_where_there_are_any():
    first, second = TASKS["niche_label"](wording=0, n_genes=2).examples(
        sentences(),
        cells=[0, 4],
        neighbours=[[1, 2], []],
        niche_key="label",
        knowledge=[["CD4 binds HLA-A", "x binds y"], []],
    )
    text = render_text(first.prompt, SYMBOLS)
    assert (
        "Around it lie 2 cells, the nearest first.\nCell 1: CD4.\nCell 2: C1orf112 MT-ND1.\nKnown interactions: CD4 binds HLA-A; x binds y.\n"
        in text
    )
    assert "Around" not in render_text(second.prompt, SYMBOLS)
    assert "Known" not in render_text(second.prompt, SYMBOLS)


def test_gene_sets_are_cut_to_the_vocabulary_and_shuffled_when_shown():
    naming = TASKS["gene_set_naming"](wording=0)
    shown = {
        seed: [e.prompt[1].ids.tolist() for e in naming.examples(SETS, vocabulary=VOCABULARY, seed=seed)]
        for seed in range(4)
    }
    assert all(sorted(one) == [0, 7] and sorted(two) == [1, 2, 3, 4] for one, two in shown.values())
    assert len({tuple(two) for _, two in shown.values()}) > 1
    asked = list(TASKS["gene_set_enumeration"](wording=0).examples(SETS, vocabulary=VOCABULARY))
    assert render_text(asked[1].prompt, SYMBOLS) == "List 4 genes of the gene set Interferon response.\nGenes:\n"
    assert render_text(asked[1].answer, SYMBOLS) == "HLA-A NKG7 MS4A1 CD8A."


def test_closed_sets_reach_the_parser():
    task = TASKS["tissue_inference"]()
    assert task.parse("lymph-node.", labels=("blood", "lymph node")) == "lymph node"
    assert TASKS["sample_cell_types"]().parse("b cell; NK cell.", labels=LABELS) == ("B cell", "NK cell")
    assert TASKS["question_answering"]().parse("yes", choices=("Yes", "No")) == "Yes"


def test_cells_without_genes_are_no_example_of_language_modelling():
    from c2s.sentences.corpus import CellSentences

    some = CellSentences.from_lists([[], ROWS[0], []], VOCABULARY)
    assert len(list(TASKS["language_modelling"]().examples(some))) == 1
