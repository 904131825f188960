"""From cells to a run folder: what is in it, going on after a kill, adapting a trained model, and bad input."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys

import anndata as ad
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from transformers import AutoModelForCausalLM, AutoTokenizer

from c2s.artefacts import read_json
from c2s.cells.library import Perturbation
from c2s.errors import ArtefactError, ConfigError, DataError, ModelError
from c2s.models.loading import load_cell_lm
from c2s.sentences.encode import encode
from c2s.training import run as run_module
from c2s.training.config import TrainConfig
from c2s.training.run import train
from c2s.training.sft import AnswerTrainer
from tests import tiny

LIBRARY = tiny.simulated().training_library


def quick(adata, out, **changes):
    settings = {**tiny.TRAINING, "library": LIBRARY, "progress": False, **changes}
    return train(adata, out, **settings)


def sentences_for(model, adata):
    return encode(adata, vocabulary=model.vocabulary, background=model.background)


def same_weights(one, other) -> bool:
    a, b = one.model.state_dict(), other.model.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_run_folder(run_folder, simulated):
    files = {path.name for path in run_folder.iterdir()}
    assert files == {"config.json", "curves.json", "curves.png", "model"}
    assert TrainConfig.from_file(run_folder / "config.json") == TrainConfig(**tiny.TRAINING)
    assert {"c2s.json", "config.json", "model.safetensors", "tokenizer.json", "decoder", "responses.parquet"} <= {
        path.name for path in (run_folder / "model").iterdir()
    }
    curves = read_json(run_folder / "curves.json")
    assert [row["step"] for row in curves if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert any("eval_loss" in row for row in curves)
    assert imread(run_folder / "curves.png").ndim == 3
    record = load_cell_lm(run_folder).settings.training
    assert record["steps"] == 6
    assert record["seed"] == 0
    assert record["tokens"] > 6 * 4 * 20
    assert record["loss"] == next(row["loss"] for row in reversed(curves) if "loss" in row)
    assert record["held_out_loss"] == next(row["eval_loss"] for row in reversed(curves) if "eval_loss" in row)


def test_model_is_an_ordinary_transformers_folder(run_folder):
    model = AutoModelForCausalLM.from_pretrained(run_folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(run_folder / "model")
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    c2s = load_cell_lm(run_folder / "model")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), c2s.model.parameters(), strict=True))


def test_loaded_model_predicts_what_the_trained_one_did(simulated, tmp_path):
    trained = quick(simulated.training, tmp_path / "run")
    loaded = load_cell_lm(tmp_path / "run")
    assert same_weights(trained, loaded)
    assert not trained.model.training
    cells = sentences_for(loaded, simulated.screening)
    after = [model.perturb(cells, simulated.library[:4], seed=3) for model in (trained, loaded)]
    np.testing.assert_array_equal(after[0].ids, after[1].ids)
    assert loaded.settings == trained.settings
    held_out = set(loaded.settings.perturbation.held_out)
    responses = loaded.responses
    assert set(responses["perturbation"][responses["held_out"]]) == held_out
    assert len(held_out) == 2  # a fifth of the ten drugs that are no named control


def test_seed_decides_the_weights(run_folder, simulated, tmp_path):
    again = quick(simulated.training, tmp_path / "again")
    other = quick(simulated.training, tmp_path / "other", seed=1)
    assert same_weights(again, load_cell_lm(run_folder))
    assert not same_weights(again, other)


class Killed(BaseException):
    pass


def kill_at(monkeypatch, step: int) -> None:
    original = AnswerTrainer.training_step

    def spy(self, *args, **kwargs):
        if self.state.global_step == step:
            raise Killed
        return original(self, *args, **kwargs)

    monkeypatch.setattr(AnswerTrainer, "training_step", spy)


def test_resume_gives_the_weights_of_an_uninterrupted_run(run_folder, simulated, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 5)
        quick(simulated.training, tmp_path)
    assert (tmp_path / "checkpoints" / "checkpoint-4").is_dir()
    resumed = quick(simulated.training, tmp_path, resume=True)
    assert same_weights(resumed, load_cell_lm(run_folder))
    assert same_weights(load_cell_lm(tmp_path), resumed)
    assert not (tmp_path / "checkpoints").exists()
    curves = [read_json(folder / "curves.json") for folder in (run_folder, tmp_path)]
    losses = [[(row["step"], row["loss"]) for row in rows if "loss" in row] for rows in curves]
    assert losses[0] == losses[1]


KILLED = """
import os, signal
from c2s.training.run import train
from c2s.training.sft import AnswerTrainer
from tests import tiny
step = AnswerTrainer.training_step
def dying(self, *args, **kwargs):
    if self.state.global_step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args, **kwargs)
AnswerTrainer.training_step = dying
with tiny.tiny_preset():
    train(tiny.simulated().training, {out!r}, library=tiny.simulated().training_library, progress=False, **tiny.TRAINING)
"""


def test_resume_after_sigkill_in_another_process(run_folder, simulated, tmp_path):
    code = KILLED.format(out=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "run" / "model").exists()
    assert same_weights(quick(simulated.training, tmp_path / "run", resume=True), load_cell_lm(run_folder))


def test_resume_is_for_unfinished_runs_with_the_same_settings_and_cells(simulated, tmp_path, run_folder, monkeypatch):
    with pytest.raises(ArtefactError, match="holds no run to resume; leave resume"):
        quick(simulated.training, tmp_path / "none", resume=True)
    with pytest.raises(ArtefactError, match="is finished; nothing is left to resume"):
        quick(simulated.training, run_folder, resume=True)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 3)
        quick(simulated.training, tmp_path / "run")
    with pytest.raises(
        ConfigError, match="started with other settings: batch_size, steps differ|steps, batch_size differ"
    ):
        quick(simulated.training, tmp_path / "run", resume=True, steps=7, batch_size=5)
    other = simulated.training[::-1].copy()
    with pytest.raises(ConfigError, match="started with other cells or another library"):
        quick(other, tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match="started with other cells or another library"):
        quick(simulated.training, tmp_path / "run", resume=True, library=None)
    with pytest.raises(ArtefactError, match="is not empty.*--overwrite"):
        quick(simulated.training, tmp_path / "run")


def test_overwrite(simulated, tmp_path, run_folder):
    with pytest.raises(ArtefactError, match="is not empty"):
        quick(simulated.training, run_folder)
    (tmp_path / "mine.txt").write_text("a file of the user")
    with pytest.raises(ArtefactError, match="was not written by c2s"):
        quick(simulated.training, tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "a file of the user"
    quick(simulated.training, tmp_path / "run", steps=1)
    quick(simulated.training, tmp_path / "run", steps=2, overwrite=True)
    assert load_cell_lm(tmp_path / "run").settings.training["steps"] == 2


def test_a_run_that_cannot_start_leaves_what_was_there(simulated, tmp_path):
    quick(simulated.training, tmp_path / "run", steps=1)
    with pytest.raises(DataError, match="no column 'drugg'"):
        quick(simulated.training, tmp_path / "run", perturbation_key="drugg", overwrite=True)
    assert load_cell_lm(tmp_path / "run").settings.training["steps"] == 1
    with pytest.raises(DataError, match="no column 'drugg'"):
        quick(simulated.training, tmp_path / "new", perturbation_key="drugg")
    quick(simulated.training, tmp_path / "new", steps=1)  # and nothing in the way of the next attempt


def test_an_example_too_long_is_refused_before_training(simulated, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "fit", lambda *a, **k: pytest.fail("training started"))
    short = run_module.preset_config

    def config(name, **settings):
        return short(name, **{**settings, "max_length": 30})

    monkeypatch.setattr(run_module, "preset_config", config)
    with pytest.raises(
        ConfigError, match=r"prompt and \d+ answer tokens; the model reads 30. Lower n_genes or n_answer"
    ):
        quick(simulated.training, tmp_path, n_genes=40)


def test_training_tokens_hold_no_held_out_drug(simulated, tmp_path, monkeypatch):
    seen = {}
    original = run_module.fit

    def spy(model, training, validation, *args, **kwargs):
        seen.update(training=training, validation=validation)
        return original(model, training, validation, *args, **kwargs)

    monkeypatch.setattr(run_module, "fit", spy)
    model = quick(simulated.training, tmp_path, steps=2, name_dropout=0.0)
    names = {p.name for p in LIBRARY}
    held_out = set(model.settings.perturbation.held_out)

    def named(examples):
        texts = {str(part) for i in range(len(examples)) for part in model.tokens.parts(examples[i]["ids"].tolist())}
        return texts & names

    assert named(seen["training"]) == names - held_out
    assert named(seen["validation"]) == held_out
    training = seen["training"]
    ends = training.offsets[1:] - 1
    assert (training.ids[ends] == model.tokens.marks["end"]).all()
    assert (training.weights[ends] == 1).all()
    for i in range(len(training)):
        weights, start = training[i]["weights"], training.answer_starts[i]
        assert (weights[:start] == 0).all()
        assert (weights[start:] > 0).all()


def test_sentence_target_trains_and_perturbs(simulated, tmp_path):
    model = quick(simulated.training, tmp_path, target="sentence", n_answer=20, steps=3, moved_weight=4.0)
    assert model.settings.perturbation.delta_rule is None
    loaded = load_cell_lm(tmp_path)
    cells = sentences_for(loaded, simulated.screening)
    after = loaded.perturb(cells, simulated.library[:3], n_samples=2, target="sentence")
    assert len(after) == len(cells) * 3 * 2
    assert 1 <= after.lengths.min() <= after.lengths.max() <= 20
    assert all(len(set(after.row(i).tolist())) == after.lengths[i] for i in range(len(after)))
    assert (after.n_expressed == -1).all()
    with pytest.raises(ModelError, match="answers with target='sentence', not 'delta'"):
        loaded.perturb(cells, simulated.library[:1], target="delta")


@pytest.mark.parametrize("task", ["cell_type_annotation", "cell_generation"])
def test_other_tasks_train(simulated, tmp_path, task):
    settings = {"task": task, "model": "c2s-tiny", "n_genes": 10, "steps": 2, "batch_size": 4, "progress": False}
    model = train(simulated.training, tmp_path, split_by="donor", validation_share=0.5, **settings)
    if task == "cell_type_annotation":
        kinds = simulated.training.obs["cell_type"]
        assert model.settings.labels == tuple(sorted(kinds.unique()))
        assert sum(model.settings.label_share) == pytest.approx(1)
        table = load_cell_lm(tmp_path).annotate(sentences_for(model, simulated.screening))
        assert table["label"].isin(kinds).all()
    else:
        loaded = load_cell_lm(tmp_path)
        assert loaded.settings.conditions == {"cell_type": tuple(sorted(simulated.training.obs["cell_type"].unique()))}
        assert loaded.generate(n=3, cell_type="B cell").lengths.max() <= 10
        with pytest.raises(ConfigError, match="celltype"):
            loaded.generate(n=3, celltype="B cell")
    assert model.responses is None


def test_lora_changes_behaviour_and_merges(run_folder, simulated, tmp_path):
    before = load_cell_lm(run_folder)
    after = quick(simulated.training, tmp_path, model=str(run_folder), lora_rank=4, steps=6, learning_rate=0.05, seed=0)
    loaded = load_cell_lm(tmp_path)
    assert same_weights(after, loaded)
    assert {path.name for path in (tmp_path / "model").iterdir()}.isdisjoint(
        {"adapter_config.json", "adapter_model.safetensors"}
    )
    names = before.model.state_dict()
    assert loaded.model.state_dict().keys() == names.keys()
    changed = {name for name, value in loaded.model.state_dict().items() if not torch.equal(value, names[name])}
    assert changed
    assert all("_proj" in name for name in changed)  # linear layers; embeddings and norms are as before
    cells = sentences_for(before, simulated.screening)
    answers = [model.perturb(cells, simulated.library, seed=1).ids.tolist() for model in (before, loaded)]
    assert answers[0] != answers[1]
    assert loaded.vocabulary == before.vocabulary
    assert loaded.background == before.background


def test_lora_resumes_as_if_nothing_had_happened(run_folder, simulated, tmp_path, monkeypatch):
    settings = {"model": str(run_folder), "lora_rank": 2, "steps": 4, "checkpoint_steps": 2}
    whole = quick(simulated.training, tmp_path / "a", **settings)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 3)
        quick(simulated.training, tmp_path / "b", **settings)
    assert same_weights(quick(simulated.training, tmp_path / "b", resume=True, **settings), whole)


def test_going_on_starts_from_the_weights_of_the_folder(run_folder, simulated, tmp_path):
    model = quick(simulated.training, tmp_path, model=str(run_folder / "model"), steps=1, learning_rate=1e-9)
    before = load_cell_lm(run_folder).model.state_dict()
    for name, value in model.model.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=1e-6, rtol=0)


def test_a_second_task_leaves_the_first_one_usable(run_folder, simulated, tmp_path):
    both = train(
        simulated.training, tmp_path / "a", model=str(run_folder), task="cell_type_annotation", n_genes=8, steps=1,
        batch_size=4, progress=False,
    )  # fmt: skip
    cells = sentences_for(both, simulated.screening)
    for model in (both, load_cell_lm(tmp_path / "a")):
        assert set(model.settings.tasks) == {"perturbation_response", "cell_type_annotation"}
        assert len(model.perturb(cells, simulated.library[:2])) == 2 * len(cells)
        assert len(model.annotate(cells)) == len(cells)
        assert len(model.responses) == 28
    back = quick(simulated.training, tmp_path / "b", model=str(tmp_path / "a"), steps=1)
    assert back.settings.labels == both.settings.labels
    assert len(back.annotate(cells)) == len(cells)


def test_annotation_goes_on_with_permuted_genes(run_folder, simulated, tmp_path):
    shuffled = simulated.training[:, ::-1].copy()
    settings = {"model": str(run_folder), "task": "cell_type_annotation", "n_genes": 8, "steps": 1, "batch_size": 4}
    model = train(shuffled, tmp_path, progress=False, **settings)
    cells = sentences_for(model, simulated.screening)
    decoded = model.decoder.decode(cells)
    assert list(decoded.var_names) == list(model.vocabulary.symbols) == list(simulated.training.var_names)
    straight = load_cell_lm(run_folder).decoder.decode(cells)
    np.testing.assert_allclose(decoded.X.toarray(), straight.X.toarray(), rtol=1e-4)


def test_going_on_needs_the_genes_of_the_model(run_folder, simulated, tmp_path):
    with pytest.raises(ConfigError, match=r"exactly its genes, in its order; select them: adata\["):
        quick(simulated.training[:, ::-1].copy(), tmp_path / "a", model=str(run_folder))
    with pytest.raises(ArtefactError, match="not a c2s model"):
        quick(simulated.training, tmp_path / "b", model=str(tmp_path))
    with pytest.raises(
        ConfigError,
        match=r"model is 'c2s-mni'; give one of the presets c2s-micro, c2s-mini, c2s-midi, c2s-small, c2s-deep",
    ):
        quick(simulated.training, tmp_path / "c", model="c2s-mni")


def test_going_on_keeps_the_drugs_of_the_first_run(run_folder, simulated, tmp_path):
    """A model that is trained on three more drugs still knows those it learnt before, and their responses."""
    before = load_cell_lm(run_folder)
    renamed = {row.name: f"new {row.name}" for row in LIBRARY[1:4]}
    cells = simulated.training[simulated.training.obs["drug"].isin(["DMSO", *renamed])].copy()
    cells.obs["drug"] = cells.obs["drug"].astype(str).replace(renamed)
    library = [LIBRARY[0], *(dataclasses.replace(row, name=renamed[row.name]) for row in LIBRARY[1:4])]
    after = quick(cells, tmp_path, model=str(run_folder), library=library, validation_share=0.0)
    known = [row["name"] for row in after.settings.perturbation.library]
    assert known == [*(row["name"] for row in before.settings.perturbation.library), *renamed.values()]
    assert after.settings.perturbation.held_out == before.settings.perturbation.held_out
    assert set(after.responses["perturbation"]) == {*before.responses["perturbation"], *renamed.values()}
    assert set(load_cell_lm(tmp_path).responses["perturbation"]) == set(after.responses["perturbation"])


def test_a_split_that_holds_nothing_out_says_so(simulated, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="c2s"):
        train(simulated.training, tmp_path, progress=False, model="c2s-tiny", task="cell_type_annotation", n_genes=8, steps=1,
              batch_size=4, split_by="donor")  # fmt: skip
    assert "donor has 2 groups, validation_share is 0.1: none is held out" in caplog.text


def test_bad_cells(simulated, tmp_path):
    nan = simulated.training.copy()
    nan.X[0, nan.X[0].nonzero()[1][0]] = np.nan
    negative = simulated.training.copy()
    negative.X = negative.X.toarray() - 1
    twice = simulated.training.copy()
    twice.var_names = [*twice.var_names[:-1], twice.var_names[0]]
    for adata, words in ((nan, "NaN"), (negative, "smallest -1"), (twice, "gene symbols occur more than once: HLA-A"),
                         (simulated.training[:0].copy(), "is empty: 0 cells")):  # fmt: skip
        with pytest.raises(DataError, match=words):
            quick(adata, tmp_path)
    assert not any(tmp_path.iterdir())
    labels = simulated.training.copy()
    labels.obs["cell_type"] = labels.obs["cell_type"].astype(object).mask(np.arange(labels.n_obs) < 2)
    with pytest.raises(DataError, match="2 of 288 cells have no value in 'cell_type' \\(labels_key\\)"):
        train(labels, tmp_path, task="cell_type_annotation", model="c2s-tiny", progress=False)


def test_bad_settings_and_libraries(simulated, tmp_path):
    with pytest.raises(ConfigError, match="stepss"):
        quick(simulated.training, tmp_path, stepss=3)
    with pytest.raises(DataError, match="more than once"):
        quick(simulated.training, tmp_path, library=[*LIBRARY, LIBRARY[2]])
    with pytest.raises(DataError, match="are not in the library"):
        quick(simulated.training, tmp_path, library=[Perturbation("DMSO", role="vehicle")])
    with pytest.raises(DataError, match="no cell has drug == 'PBS'"):
        quick(simulated.training, tmp_path, control="PBS")


def test_raw_layer(simulated, tmp_path):
    adata = ad.AnnData(np.zeros((simulated.training.n_obs, 3)) - 1.0, simulated.training.obs)
    adata.raw = simulated.training
    model = quick(adata, tmp_path, layer="raw", steps=1)
    assert model.vocabulary.symbols == tuple(simulated.training.var_names)
    assert json.loads((tmp_path / "config.json").read_text())["layer"] == "raw"


def test_a_diverged_run_is_no_model(simulated, tmp_path):
    with pytest.raises(ModelError, match="training diverged; lower learning_rate"):
        quick(simulated.training, tmp_path, learning_rate=1e30, steps=8)
    assert not (tmp_path / "model" / "c2s.json").exists()


def test_a_context_may_also_be_named_for_matching(simulated, tmp_path):
    model = quick(simulated.training, tmp_path, match_by=("ifn", "cell_type"), steps=1)
    assert model.settings.perturbation.match_by == ("ifn", "cell_type")
