"""Answers are valid under any vocabulary and depend on the question alone; probabilities are the full model's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from c2s.cells.library import Perturbation
from c2s.errors import ConfigError, DataError, ModelError
from c2s.models import prefix
from c2s.models.loading import load_cell_lm
from c2s.models.settings import ModelSettings
from c2s.sentences.delta import DeltaRule
from tests.models.untrained import DRUGS, VOCABULARIES, cells_of, full_log_probabilities, untrained

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


@pytest.mark.parametrize("target", ["delta", "sentence"])
def test_columns_that_the_answers_have_too_are_kept_under_another_name(models, target, caplog):
    """``sample`` is what many call their donors."""
    model = models["human", target]
    controls = cells_of(model, 3)
    theirs = controls.with_obs(controls.obs.assign(sample=["s1", "s2", "s3"], perturbation="none yet", cells_sample=7))
    cells = model.perturb(theirs, DRUGS[:2], n_samples=2)
    assert cells.obs["sample"].tolist() == [0, 1] * 6
    assert cells.obs["perturbation"].tolist() == np.tile(np.repeat([d.name for d in DRUGS[:2]], 2), 3).tolist()
    assert cells.obs["cells_cells_sample"].tolist() == np.repeat(["s1", "s2", "s3"], 4).tolist()
    assert (cells.obs["cells_sample"] == 7).all()
    assert (cells.obs["cells_perturbation"] == "none yet").all()
    assert "obs has perturbation, sample already" in caplog.text
    assert "kept as cells_perturbation, cells_cells_sample" in caplog.text
    assert theirs.obs["sample"].tolist() == ["s1", "s2", "s3"]
    caplog.clear()
    plain = model.perturb(controls, DRUGS[:2], n_samples=2)
    assert rows_of(plain) == rows_of(cells)
    assert not caplog.text


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
    for rows in (1, 5, 30, 45):  # a part of a cell's rows; one, two and three cells
        monkeypatch.setattr(prefix, "ROWS_PER_BATCH", rows)
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


def test_conditions_are_named_as_keywords_or_in_a_mapping(lm):
    """A condition may be called like a parameter; then the mapping is the way."""
    by_name = lm.generate(n=4, cell_type="B cell", tissue="skin")
    assert rows_of(by_name) == rows_of(lm.generate(n=4, conditions={"cell_type": "B cell", "tissue": "skin"}))
    assert rows_of(by_name) == rows_of(lm.generate(n=4, conditions={"cell_type": "B cell"}, tissue="skin"))
    assert by_name.obs.columns.tolist() == ["cell_type", "tissue", "seed"]
    model = untrained()
    model.settings = model.settings.with_(conditions={"n": ("1", "2"), "seed": ("x",), "task": ("y",)})
    cells = model.generate(n=3, seed=8, conditions={"n": "2", "seed": "x", "task": "y"})
    assert cells.obs.iloc[0].to_dict() == {"n": "2", "condition_seed": "x", "task": "y", "seed": 8}
    assert len(cells) == 3


def test_a_condition_of_another_name_is_refused(lm):
    for ask in ({"celltype": "B cell"}, {"conditions": {"celltype": "B cell"}}):
        with pytest.raises(ConfigError, match="conditions cell_type, tissue, age, not with celltype; use those names"):
            lm.generate(n=2, **ask)


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


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_cells_of_another_vocabulary_are_refused_with_what_to_do(models):
    model, cells = models["human", "delta"], cells_of(models["mouse", "delta"], 2)
    row = int(cells.lengths.argmax())
    for ask in (model.annotate, lambda c: model.perturb(c, DRUGS), lambda c: model.attribute(c, row, label="B cell")):
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


@pytest.mark.parametrize("change", ["drop", "nan"])
def test_weights_that_are_missing_or_no_numbers_are_refused(lm, tmp_path, change):
    lm.save(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    name = next(each for each in tensors if "down_proj" in each)
    if change == "drop":
        del tensors[name]
    else:
        tensors[name][0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 of the model's weights" if change == "drop" else "no numbers"):
        load_cell_lm(tmp_path / "model")
