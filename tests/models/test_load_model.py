"""A saved model is the same model again; a broken folder says what is broken."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from c2s.errors import ArtefactError, C2SError, ModelError
from c2s.models.loading import load_cell_lm
from c2s.models.settings import FORMAT, SETTINGS_FILE
from tests.models.untrained import DRUGS, MOUSE, cells_of, untrained


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = untrained()
    model.responses = pd.DataFrame({"perturbation": ["a"], "change": [np.array([0.5, -1.0], dtype=np.float32)]})
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    return model, folder


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved[1], tmp_path / "model")


def test_round_trip_gives_identical_logits_and_answers(saved):
    model, folder = saved
    again = load_cell_lm(folder)
    ids = torch.tensor([[1, 40, 300, 12, 9]])
    with torch.inference_mode():
        assert torch.equal(model.model(input_ids=ids).logits, again.model(input_ids=ids).logits)
    assert not again.model.training
    assert again.settings == model.settings
    assert again.vocabulary == model.vocabulary
    assert again.background == model.background
    assert again.decoder.encoding == model.decoder.encoding
    assert again.responses["change"][0].tolist() == [0.5, -1.0]
    cells = cells_of(model, 3)
    assert np.array_equal(model.perturb(cells, DRUGS).ids, again.perturb(cells, DRUGS).ids)
    assert np.array_equal(model.generate(n=4).ids, again.generate(n=4).ids)
    pd.testing.assert_frame_equal(model.annotate(cells), again.annotate(cells))
    assert again.tokens.render(["CD4 <end>"]) == model.tokens.render(["CD4 <end>"])


def test_it_is_an_ordinary_transformers_folder_without_pickles(saved):
    model, folder = saved
    plain = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    ids = torch.tensor([[3, 4, 5]])
    with torch.inference_mode():
        assert torch.equal(plain.eval()(input_ids=ids).logits, model.model(input_ids=ids).logits)
    names = {path.name for path in folder.rglob("*")}
    assert {"model.safetensors", "tokenizer.json", SETTINGS_FILE, "responses.parquet", "decoder.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".pickle"))]


def test_a_run_folder_and_a_dtype(saved, tmp_path):
    shutil.copytree(saved[1], tmp_path / "run" / "model")
    assert load_cell_lm(tmp_path / "run").settings == saved[0].settings
    assert load_cell_lm(str(tmp_path / "run"), dtype="bfloat16").model.dtype == torch.bfloat16


def test_saving_again_replaces(copied, saved):
    model = load_cell_lm(copied)
    model.settings = model.settings.with_(version="2")
    model.save(copied)
    assert load_cell_lm(copied).settings.version == "2"


def test_a_folder_of_the_first_format_is_read_and_written_again_in_this_one(copied):
    def as_it_was(record):
        record["settings"].pop("conditions")
        record["settings"]["tasks"]["perturbation_response"]["moved_ranks"] = 10
        record["settings"]["format"] = 1

    edited(copied, as_it_was)
    model = load_cell_lm(copied)
    assert (model.settings.format, model.settings.conditions) == (1, {})
    assert len(model.perturb(cells_of(model, 1), DRUGS)) == len(DRUGS)
    model.save(copied)
    assert load_cell_lm(copied).settings.format == FORMAT


def test_no_such_folder_and_no_model(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(
            ArtefactError, match="holds no c2s.json, so it is not a c2s model; give the folder that c2s train wrote"
        ):
            load_cell_lm(folder)


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "config.json", "tokenizer.json", SETTINGS_FILE, "responses.parquet", "decoder/decoder.json"],
)
@pytest.mark.parametrize("share", [0.5, 0.0], ids=["cut", "empty"])
def test_truncated_files(copied, name, share):
    cut(copied / name, share)
    with pytest.raises(ArtefactError, match="truncated.* again") as error:
        load_cell_lm(copied)
    assert isinstance(error.value, C2SError)
    assert "model" in str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "decoder/decoder.json"])
def test_missing_files(copied, name):
    (copied / name).unlink()
    with pytest.raises(ArtefactError):
        load_cell_lm(copied)


def test_responses_are_optional(copied):
    (copied / "responses.parquet").unlink()
    assert load_cell_lm(copied).responses is None


def edited(folder, change):
    record = json.loads((folder / SETTINGS_FILE).read_text())
    change(record)
    (folder / SETTINGS_FILE).write_text(json.dumps(record))


def test_a_newer_format_is_refused_even_with_fields_that_nobody_knows_yet(copied):
    edited(copied, lambda record: record["settings"].update(format=FORMAT + 1, routing={"layers": 3}))
    with pytest.raises(
        ModelError, match=f"written by a newer c2s .format {FORMAT + 1}, this one reads up to {FORMAT}.; upgrade"
    ):
        load_cell_lm(copied)


@pytest.mark.parametrize("part", ["settings", "vocabulary", "background"])
def test_a_record_that_lacks_a_part(copied, part):
    edited(copied, lambda record: record.pop(part))
    with pytest.raises(ArtefactError, match="lacks the settings, the vocabulary or the background"):
        load_cell_lm(copied)


def test_a_record_that_is_no_mapping(copied):
    (copied / SETTINGS_FILE).write_text("[]")
    with pytest.raises(ArtefactError, match="lacks the settings"):
        load_cell_lm(copied)


def test_the_vocabulary_of_another_model_is_refused(copied):
    edited(copied, lambda record: record.update(vocabulary=MOUSE.to_dict()))
    with pytest.raises(ModelError, match="built for another vocabulary"):
        load_cell_lm(copied)


def test_the_weights_of_another_model_are_refused(copied, saved, tmp_path):
    """Fewer embeddings than the tokenizer has tokens."""
    small = untrained(MOUSE)
    small.save(tmp_path / "small")
    for name in ("model.safetensors", "config.json"):
        shutil.copy(tmp_path / "small" / name, copied / name)
    with pytest.raises(ModelError, match=f"{len(saved[0].tokens)} tokens but {len(small.tokens)} embeddings"):
        load_cell_lm(copied)
