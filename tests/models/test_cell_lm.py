"""Answers are valid under any vocabulary and depend on the question alone; probabilities are the full model's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.cells.library import Perturbation
from c2s.errors import ConfigError, DataError, ModelError
from c2s.models import cell_lm
from c2s.models.settings import ModelSettings
from c2s.sentences.delta import DeltaRule
from tests.models.untrained import DRUGS, LABELS, SHARES, VOCABULARIES, cells_of, full_log_probabilities, untrained

ANY_MODEL = pytest.mark.parametrize("vocabulary", VOCABULARIES)
ANY_TARGET = pytest.mark.parametrize("target", ["delta", "sentence"])


def rows_of(sentences):
    return [sentences.row(i).tolist() for i in range(len(sentences))]


def assert_valid(sentences, vocabulary):
    """Assert that every sentence holds only known genes, and none twice."""
    assert sentences.vocabulary.hash == vocabulary.hash
    assert sentences.ids.dtype == np.int32
    for i in range(len(sentences)):
        genes = sentences.genes(i)
        assert set(genes) <= set(vocabulary.symbols)
        assert len(set(genes)) == len(genes)


# --- every generated sentence is valid -------------------------------------------------------------------------------


@ANY_MODEL
@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 2**31), n=st.integers(1, 9), temperature=st.sampled_from([0.0, 0.3, 1.0, 5.0]), least=st.integers(0, 9),
    conditions=st.dictionaries(st.sampled_from(["cell_type", "tissue", "age"]), st.text(max_size=8), max_size=2),
)  # fmt: skip
def test_every_generated_cell_is_valid(models, vocabulary, seed, n, temperature, least, conditions):
    model = models[vocabulary, "delta"]
    cells = model.generate(n=n, seed=seed, temperature=temperature, min_genes=least, **conditions)
    assert_valid(cells, model.vocabulary)
    assert len(cells) == n
    assert cells.lengths.min() >= least
    assert cells.lengths.max() <= min(11, len(model.vocabulary))
    assert cells.n_expressed.tolist() == [-1] * n
    for key, value in conditions.items():
        assert cells.obs[key].tolist() == [value] * n
    assert cells.background == model.background


@ANY_MODEL
@ANY_TARGET
@settings(deadline=None, max_examples=10)
@given(
    seed=st.integers(0, 2**31), cell_seed=st.integers(0, 1000), n=st.integers(1, 4), n_samples=st.integers(1, 3),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 5.0]), drugs=st.lists(st.sampled_from(DRUGS), min_size=1, max_size=3, unique=True),
)  # fmt: skip
def test_every_perturbed_cell_is_valid(models, vocabulary, target, seed, cell_seed, n, n_samples, temperature, drugs):
    model = models[vocabulary, target]
    controls = cells_of(model, n, seed=cell_seed)
    cells = model.perturb(controls, drugs, n_samples=n_samples, seed=seed, temperature=temperature, target=target)
    assert_valid(cells, model.vocabulary)
    assert len(cells) == n * len(drugs) * n_samples
    before = np.repeat(controls.lengths, len(drugs) * n_samples)
    if target == "sentence":
        assert cells.lengths.min() >= 1
        assert cells.lengths.max() <= min(12, len(model.vocabulary))
        assert (cells.n_expressed == -1).all()
    else:
        assert (cells.lengths <= before + 4).all()
        assert (cells.lengths >= before - 3).all()
        assert (
            cells.n_expressed - cells.lengths == np.repeat(controls.n_expressed - controls.lengths, len(before) // n)
        ).all()


def test_rows_are_cell_by_cell_then_perturbation_then_sample(lm):
    controls = cells_of(lm, 3)
    cells = lm.perturb(controls, DRUGS[:2], n_samples=2)
    expected = pd.DataFrame(
        [(c, d.name, s) for c in controls.obs.index for d in DRUGS[:2] for s in range(2)],
        columns=["cell", "perturbation", "sample"],
    )
    found = cells.obs[["cell", "perturbation", "sample"]]
    assert found.reset_index(drop=True).values.tolist() == expected.values.tolist()
    assert cells.obs["ifn"].tolist() == np.repeat(controls.obs["ifn"].to_numpy(), 4).tolist()
    assert cells.obs.index.is_unique
    assert cells.background == lm.background


def test_a_delta_is_applied_to_the_full_control_by_the_stored_rule(lm, monkeypatch):
    """The model sees ten genes of the control; what it does not name stays, beyond those ten too."""
    taken = {}
    apply = DeltaRule.apply

    def spy(self, controls, rows, up, down):
        taken.update(rule=self, rows=rows, up=up, down=down)
        return apply(self, controls, rows, up, down)

    monkeypatch.setattr(DeltaRule, "apply", spy)
    controls = cells_of(lm, 4)
    cells = lm.perturb(controls, DRUGS, n_samples=2, temperature=2.0)
    assert taken["rule"].to_dict() == lm.settings.perturbation.delta_rule
    assert taken["rows"].tolist() == np.repeat(np.arange(4), 8).tolist()
    assert max(map(len, taken["up"])) == 4
    assert max(map(len, taken["down"])) == 3
    for i, (row, up, down) in enumerate(zip(taken["rows"], taken["up"], taken["down"], strict=True)):
        named = {*up.tolist(), *down.tolist()}
        assert len(named) == len(up) + len(down)  # no gene on both lists
        before = [g for g in controls.row(row).tolist() if g not in named]
        assert [g for g in cells.row(i).tolist() if g not in named] == before
        assert set(up.tolist()) <= set(cells.row(i).tolist())
    assert any(len(up) for up in taken["up"])


def test_a_vocabulary_smaller_than_the_lists_is_used_up_without_repeats():
    model = untrained(VOCABULARIES["mouse"], target="delta", n_up=8, n_down=8)
    cells = model.perturb(cells_of(model, 4), DRUGS, n_samples=3, temperature=20.0)
    assert_valid(cells, model.vocabulary)


# --- answers depend on the question alone -----------------------------------------------------------------------------


@ANY_TARGET
def test_answers_do_not_depend_on_batch_order_or_number(models, target, monkeypatch):
    model = models["human", target]
    controls = cells_of(model, 7)
    whole = model.perturb(controls, DRUGS, n_samples=3, seed=9)
    assert len({tuple(row) for row in rows_of(whole)}) > 20
    key = ["cell", "perturbation", "sample"]
    by_question = dict(zip(whole.obs[key].itertuples(index=False, name=None), rows_of(whole), strict=True))

    def check(sentences):
        for question, row in zip(
            sentences.obs[key].itertuples(index=False, name=None), rows_of(sentences), strict=True
        ):
            assert by_question[question] == row

    check(model.perturb(controls[[5]], DRUGS, n_samples=3, seed=9))  # alone
    check(model.perturb(controls[[6, 2, 0]], DRUGS, n_samples=3, seed=9))  # other cells, other order
    check(model.perturb(controls, DRUGS[::-1], n_samples=3, seed=9))  # drug order
    check(model.perturb(controls, DRUGS[2:3], n_samples=3, seed=9))  # a shard of the library
    check(model.perturb(controls, DRUGS, n_samples=1, seed=9))  # fewer samples
    for rows in (1, 30, 45):  # cells a block: 1, 2, 3
        monkeypatch.setattr(cell_lm, "ROWS_PER_BATCH", rows)
        check(model.perturb(controls, DRUGS, n_samples=3, seed=9))
    other = model.perturb(controls, DRUGS, n_samples=3, seed=10)
    assert rows_of(other) != rows_of(whole)


def test_the_ith_generated_cell_is_the_same_whatever_n_is(lm):
    few, many = lm.generate(n=3, seed=4), lm.generate(n=300, seed=4)
    assert rows_of(many)[:3] == rows_of(few)
    assert few.obs.index.tolist() == many.obs.index[:3].tolist()
    assert many.obs.index.is_unique
    assert len({tuple(row) for row in rows_of(many)}) > 250
    assert rows_of(lm.generate(n=3, seed=5)) != rows_of(few)


def test_temperature_zero_gives_one_answer_the_most_likely_one(lm):
    cells = lm.generate(n=3, seed=0, temperature=0.0, cell_type="B cell")
    assert len({tuple(row) for row in rows_of(cells)}) == 1
    prompt = lm.tokens.render(lm.task("cell_generation").prompt({"cell_type": "B cell"}))
    genes, end = lm.tokens.gene_tokens, lm.tokens.marks["end"]
    answer: list[int] = []
    while len(answer) < 11:
        log_p = full_log_probabilities(lm.model, prompt + answer)[-1]
        left = [int(g) for g in genes if g not in answer] + ([end] if answer else [])
        best = max(left, key=lambda token: float(log_p[token]))
        if best == end:
            break
        answer.append(best)
    assert genes[rows_of(cells)[0]].tolist() == answer


def test_the_prompt_matters(lm, sentence_lm):
    """Context, drug and cell each change the answers of a model with random weights."""
    controls = cells_of(sentence_lm, 4)
    other = controls.with_obs(controls.obs.assign(ifn=controls.obs["ifn"].map({"low": "none", "none": "low"})))
    one, two = (sentence_lm.perturb(c, DRUGS) for c in (controls, other))
    assert rows_of(one) != rows_of(two)
    assert len({tuple(row) for row in rows_of(one)[:4]}) > 1
    assert rows_of(lm.generate(n=5, cell_type="B cell")) != rows_of(lm.generate(n=5, cell_type="CD4 T cell"))


# --- annotation -------------------------------------------------------------------------------------------------------


def brute_force(model, sentences, labels):
    """Return log p(label, end | cell) by a full forward pass per cell and label, and the labels' token counts."""
    task = model.task("cell_type_annotation")
    out, lengths = np.zeros((len(sentences), len(labels))), np.zeros(len(labels))
    for j, label in enumerate(labels):
        answer = model.tokens.render(task.answer(label))
        lengths[j] = len(answer)
        for i in range(len(sentences)):
            prompt = model.tokens.render(task.prompt(sentences, i))
            log_p = full_log_probabilities(model.model, prompt + answer)
            out[i, j] = sum(float(log_p[len(prompt) - 1 + t, token]) for t, token in enumerate(answer))
    return out, lengths


def softmax(scores):
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def probabilities(table, labels=LABELS):
    return table[[f"p({label})" for label in labels]].to_numpy()


@ANY_MODEL
def test_probabilities_are_those_of_the_full_model(models, vocabulary):
    model = models[vocabulary, "delta"]
    cells = cells_of(model, 10, seed=3, longest=10)
    assert len(set(np.minimum(cells.lengths, 8))) > 3  # prompts of different lengths in one batch
    log_p, lengths = brute_force(model, cells, LABELS)
    assert len(set(lengths)) > 1
    table = model.annotate(cells, batch_size=3)
    np.testing.assert_allclose(probabilities(table), softmax(log_p), rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(probabilities(table).sum(axis=1), 1.0, rtol=1e-12)
    assert table.index.tolist() == cells.obs.index.tolist()
    best = probabilities(table).argmax(axis=1)
    assert table["label"].tolist() == [LABELS[j] for j in best]
    ordered = np.sort(probabilities(table), axis=1)
    np.testing.assert_allclose(table["probability"], ordered[:, -1])
    np.testing.assert_allclose(table["margin"], ordered[:, -1] - ordered[:, -2])
    by_length = model.annotate(cells, length_correction=True)
    np.testing.assert_allclose(probabilities(by_length), softmax(log_p / lengths), rtol=2e-4, atol=1e-6)


def test_priors(lm):
    cells = cells_of(lm, 5)
    log_p, lengths = brute_force(lm, cells, LABELS)
    uniform = lm.annotate(cells, prior="uniform")
    np.testing.assert_allclose(probabilities(uniform), softmax(log_p - np.log(SHARES)), rtol=2e-4, atol=1e-6)
    wanted = dict(zip(LABELS, (0.4, 0.3, 0.2, 0.1), strict=True))
    table = lm.annotate(cells, prior=wanted)
    expected = softmax(log_p - np.log(SHARES) + np.log([0.4, 0.3, 0.2, 0.1]))
    np.testing.assert_allclose(probabilities(table), expected, rtol=2e-4, atol=1e-6)
    own = lm.annotate(cells, prior=dict(zip(LABELS, SHARES, strict=True)))
    np.testing.assert_allclose(probabilities(own), probabilities(lm.annotate(cells)), rtol=1e-9)
    both = lm.annotate(cells, prior="uniform", length_correction=True)
    np.testing.assert_allclose(probabilities(both), softmax(log_p / lengths - np.log(SHARES)), rtol=2e-4, atol=1e-6)


def test_annotation_does_not_depend_on_batch_mates(lm):
    cells = cells_of(lm, 9)
    whole = probabilities(lm.annotate(cells))
    for rows in ([4], [8, 0, 3], list(range(9))[::-1]):
        np.testing.assert_allclose(probabilities(lm.annotate(cells[rows])), whole[rows], rtol=1e-4, atol=1e-7)
    for batch_size in (1, 2, 5):
        np.testing.assert_allclose(
            probabilities(lm.annotate(cells, batch_size=batch_size)), whole, rtol=1e-4, atol=1e-7
        )


def test_a_closed_set_of_other_labels(lm):
    cells = cells_of(lm, 3)
    labels = ("CD4 T cell", "astrocyte ✨", "<end>")
    log_p, _ = brute_force(lm, cells, labels)
    table = lm.annotate(cells, labels=labels)
    np.testing.assert_allclose(probabilities(table, labels), softmax(log_p), rtol=2e-4, atol=1e-6)
    with pytest.raises(
        ConfigError, match="'uniform' needs each label's share in training; .'astrocyte ✨', '<end>'. are not"
    ):
        lm.annotate(cells, labels=labels, prior="uniform")


def test_no_cell_gives_an_empty_table(lm):
    table = lm.annotate(cells_of(lm, 3)[[]])
    assert len(table) == 0
    assert "p(B cell)" in table.columns


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ["B cell"]}, "at least two different names, found"),
        ({"labels": ["B cell", "B cell"]}, "at least two different names"),
        ({"labels": []}, "at least two different names"),
        (
            {"prior": "flat"},
            "prior must be 'training', 'uniform' or a mapping of labels to probabilities, found 'flat'",
        ),
        ({"prior": {"B cell": 1.0}}, "prior needs a probability above 0 for each of"),
        ({"prior": {**dict.fromkeys(LABELS, 0.25), "B cell": 0.0}}, "prior needs a probability above 0"),
    ],
)
def test_labels_and_priors_that_mean_nothing_are_refused(lm, arguments, message):
    with pytest.raises(ConfigError, match=message):
        lm.annotate(cells_of(lm, 2), **arguments)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_cells_of_another_vocabulary_are_refused_with_what_to_do(models):
    model, cells = models["human", "delta"], cells_of(models["mouse", "delta"], 2)
    for ask in (model.annotate, lambda c: model.perturb(c, DRUGS)):
        with pytest.raises(
            ModelError, match=r"another vocabulary \(9 mouse genes\) than the model \(40 human genes\); .*c2s.encode"
        ):
            ask(cells)


def test_a_task_the_model_was_not_trained_on(monkeypatch):
    model = untrained()
    cells = cells_of(model, 2)
    monkeypatch.setattr(
        model, "settings", model.settings.with_(tasks={"cell_generation": model.settings.tasks["cell_generation"]})
    )
    with pytest.raises(
        ModelError, match="trained on cell_generation, not on perturbation_response. Train one .* or load one"
    ):
        model.perturb(cells, DRUGS)
    with pytest.raises(ModelError, match="trained on cell_generation, not on cell_type_annotation.$"):
        model.annotate(cells)
    monkeypatch.setattr(model, "settings", ModelSettings())
    with pytest.raises(ModelError, match="trained on no task, not on cell_generation"):
        model.generate(n=1)


def test_the_other_target_and_missing_details_are_refused(lm, sentence_lm, monkeypatch):
    cells = cells_of(lm, 2)
    with pytest.raises(ModelError, match="answers with target='delta', not 'sentence'"):
        lm.perturb(cells, DRUGS, target="sentence")
    with pytest.raises(ModelError, match="answers with target='sentence', not 'delta'"):
        sentence_lm.perturb(cells, DRUGS, target="delta")
    model = untrained()
    details = model.settings.perturbation
    monkeypatch.setattr(model, "settings", model.settings.with_(perturbation=details.with_(delta_rule=None)))
    with pytest.raises(ModelError, match="no rule to apply them; train it again"):
        model.perturb(cells, DRUGS)
    monkeypatch.setattr(model, "settings", model.settings.with_(perturbation=None))
    with pytest.raises(ModelError, match="says nothing of how this model was trained on perturbations"):
        model.perturb(cells, DRUGS)


def test_a_missing_context_column_is_named(lm):
    cells = cells_of(lm, 2)
    with pytest.raises(DataError, match="no column 'ifn'; found donor.*context_keys"):
        lm.perturb(cells.with_obs(cells.obs[["donor"]]), DRUGS)


@pytest.mark.parametrize("n_samples", [0, -1])
def test_nothing_to_do_is_an_error(lm, n_samples):
    cells = cells_of(lm, 2)
    with pytest.raises(DataError, match="2 cells and 0 perturbations: at least one of each"):
        lm.perturb(cells, [])
    with pytest.raises(DataError, match="0 cells and 4 perturbations"):
        lm.perturb(cells[[]], DRUGS)
    with pytest.raises(ConfigError, match=f"n_samples is {n_samples}"):
        lm.perturb(cells, DRUGS, n_samples=n_samples)
    with pytest.raises(ConfigError, match="n is 0; ask for at least one cell"):
        lm.generate(n=0)
    with pytest.raises(ConfigError, match="min_items=12"):
        lm.generate(n=1, min_genes=12)


def test_unknown_targets_and_names_are_read_as_words(lm):
    """A perturbation never seen, whose targets are no known genes, still gives valid cells."""
    cells = lm.perturb(
        cells_of(lm, 3), [Perturbation("日本", targets=("NOT1", "<up>")), Perturbation("<pad>")], n_samples=2
    )
    assert_valid(cells, lm.vocabulary)


def test_the_model_is_left_as_it_was(lm):
    before = lm.model.config._attn_implementation
    lm.generate(n=2)
    lm.annotate(cells_of(lm, 2))
    assert lm.model.config._attn_implementation == before
    assert all(parameter.grad is None for parameter in lm.model.parameters())
    assert "40 genes, tasks: cell_type_annotation, cell_generation, perturbation_response" in repr(lm)
    assert f"{lm.n_parameters:,} parameters" in repr(lm)
