"""``c2s train`` as a user types it."""

from __future__ import annotations

import json

import pytest

from c2s.models.loading import load_cell_lm
from c2s.training.config import TrainConfig
from tests import tiny

DRUGS = ("--perturbation-key", "drug", "--control", "DMSO", "--context-key", "ifn", "--match-by", "cell_type")
TINY = ("--model", "c2s-tiny", "--n-genes", 12, "--n-up", 4, "--n-down", 4, "--batch-size", 4, "--threads", 1)


def train(c2s, files, out, *more, cells="training.h5ad"):
    library = ("--library", files / "training_drugs.csv")
    return c2s("train", files / cells, out, *DRUGS, *TINY, *library, *more)


def test_the_same_model_as_from_python(c2s, files, tmp_path):
    ran = train(
        c2s, files, tmp_path / "run", "--steps", 6, "--checkpoint-steps", 2, "--validation-share", 0.2
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "nats per answer token" in ran.out
    assert "held out" in ran.out
    assert str(tmp_path / "run" / "model") in ran.out.replace("\n", "")
    assert TrainConfig.from_file(tmp_path / "run" / "config.json") == TrainConfig(**tiny.TRAINING)
    weights = [
        (folder / "model" / "model.safetensors").read_bytes() for folder in (tmp_path / "run", tiny.run_folder())
    ]
    assert weights[0] == weights[1]
    assert "tok/s" in ran.err
    assert "model shards" not in ran.err


def test_dry_run_prints_every_setting_and_config_reads_them_back(c2s, files, tmp_path):
    ran = train(c2s, files, tmp_path / "run", "--steps", 3, "--seed", 4, "--dry-run")
    assert ran.code == 0
    assert not (tmp_path / "run").exists()
    shown = json.loads(ran.out)
    assert set(shown) == set(TrainConfig.model_fields)
    assert (shown["steps"], shown["context_keys"], shown["seed"]) == (3, ["ifn"], 4)
    (tmp_path / "settings.json").write_text(ran.out)
    again = c2s("train", files / "training.h5ad", tmp_path / "run", "--config", tmp_path / "settings.json", "--dry-run")
    assert json.loads(again.out) == shown
    over = c2s(
        "train", files / "training.h5ad", tmp_path / "run", "--config", tmp_path / "settings.json", "--steps", 5, "--dry-run"
    )  # fmt: skip
    assert json.loads(over.out) == {**shown, "steps": 5}


def test_every_setting_reaches_the_run(c2s, tmp_path):
    """Settings that all differ from the defaults come out of ``--dry-run`` as they went in."""
    words = {
        "task": "cell_generation", "model": "runs/m", "layer": "raw", "labels_key": "a", "perturbation_key": "b",
        "control": "c", "context_keys": ["d"], "match_by": ["e"], "target": "sentence", "split_by": "f", "pairing": "nearest",
        "delta_sizes": "gene", "keep_best": True, "objective": "masked_diffusion",
    }  # fmt: skip
    numbers = {
        name: value + 1 if isinstance(value, int) else value * 1.25
        for name, value in TrainConfig().model_dump().items() if name not in words
    }  # fmt: skip
    numbers["prompt_weight"] = 0.0  # of another task: the next test
    wanted = {**words, **numbers}
    same = [name for name, value in wanted.items() if value == TrainConfig().model_dump(mode="json")[name]]
    assert same == ["prompt_weight"]
    (tmp_path / "all.json").write_text(json.dumps(wanted))
    ran = c2s("train", "cells.h5ad", "run", "--config", tmp_path / "all.json", "--dry-run")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out) == wanted


def test_the_weight_of_prompts_reaches_the_run(c2s):
    ran = c2s("train", "c.h5ad", "run", "--task", "cell_type_annotation", "--prompt-weight", "0.3", "--dry-run")
    assert json.loads(ran.out)["prompt_weight"] == 0.3
    assert "read by --task .cell_type_annotation. only" in c2s(
        "train", "c.h5ad", "run", "--prompt-weight", "0.3"
    ).err.replace("'", ".")


def test_the_config_of_a_run_repeats_it(c2s, files, tmp_path):
    """What a run folder keeps is what ``--config`` reads."""
    ran = c2s(
        "train", files / "training.h5ad", tmp_path / "run", "--library", files / "training_drugs.csv",
        "--config", tiny.run_folder() / "config.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    one, other = (folder / "model" / "model.safetensors" for folder in (tmp_path / "run", tiny.run_folder()))
    assert one.read_bytes() == other.read_bytes()


def test_every_field_is_a_flag_with_the_same_default():
    from c2s.cli.main import load

    defaults = {p.name: p.default for p in load("train").params}
    assert set(TrainConfig.model_fields) <= set(defaults)
    for name, default in TrainConfig().model_dump().items():
        given = defaults[name]
        assert (tuple(given or ()) if isinstance(default, tuple) else getattr(given, "value", given)) == default, name


def test_toml_settings_and_unknown_ones(c2s, files, tmp_path):
    (tmp_path / "a.toml").write_text(
        'perturbation-key = "drug"\ncontrol = "DMSO"\ncontext_keys = ["ifn"]\ntarget = "sentence"\n'
    )
    ran = c2s("train", files / "training.h5ad", tmp_path / "run", "--config", tmp_path / "a.toml", "--dry-run")
    shown = json.loads(ran.out)
    assert (shown["perturbation_key"], shown["target"], shown["context_keys"]) == ("drug", "sentence", ["ifn"])
    (tmp_path / "b.toml").write_text("stepps = 3\n")
    ran = c2s("train", files / "training.h5ad", tmp_path / "run", "--config", tmp_path / "b.toml", "--dry-run")
    assert "sets stepps, which train does not have; it has" in ran.error


def test_resume_and_overwrite(c2s, files, tmp_path):
    run = tmp_path / "run"
    assert "holds no run to resume" in train(c2s, files, run, "--steps", 1, "--resume").error
    assert train(c2s, files, run, "--steps", 1).code == 0
    assert "is not empty; name another folder, or pass --overwrite" in train(c2s, files, run, "--steps", 2).error
    assert "is finished; nothing is left to resume" in train(c2s, files, run, "--steps", 1, "--resume").error
    assert train(c2s, files, run, "--steps", 2, "--overwrite").code == 0
    assert load_cell_lm(run).settings.training["steps"] == 2


def test_lora_from_a_run(c2s, files, tmp_path):
    ran = c2s(
        "train", files / "training.h5ad", tmp_path / "run", *DRUGS, "--library", files / "training_drugs.csv", "--n-genes", 12,
        "--model", tiny.run_folder(), "--lora-rank", 2, "--steps", 1, "--batch-size", 4,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert load_cell_lm(tmp_path / "run").settings.training["steps"] == 1


@pytest.mark.parametrize(("arguments", "message"), [
    (("--perturbation-key", "pert"), "obs has no column 'pert'; found"),
    (("--control", "PBS"), "no cell has drug == 'PBS'; found"),
    (("--context-key", "dose"), "obs has no column 'dose'"),
    (("--lora-rank", 4, "--model", "c2s-mini"), "lora_rank adapts a trained model"),
    (("--model", "no-such-preset"), "give one of the presets c2s-micro, c2s-mini, c2s-midi, c2s-small, c2s-deep"),
    (("--layer", "spliced"), "spliced"),
])  # fmt: skip
def test_mistakes_are_one_clear_error(c2s, files, tmp_path, arguments, message):
    ran = train(c2s, files, tmp_path / "run", "--steps", 1, *arguments)
    assert message in ran.err
    assert ran.error
    assert not list(tmp_path.glob("run/*"))


def test_files_that_cannot_be_read(c2s, files, tmp_path):
    assert "absent.h5ad" in train(c2s, files, tmp_path / "a", cells="absent.h5ad").error
    (tmp_path / "cut.h5ad").write_bytes((files / "cells.h5ad").read_bytes()[:5000])
    assert "cut.h5ad" in c2s("train", tmp_path / "cut.h5ad", tmp_path / "b", *DRUGS).error
    twice = (files / "training_drugs.csv").read_text()
    (tmp_path / "twice.csv").write_text(twice + twice.splitlines()[-1] + "\n")
    ran = c2s("train", files / "training.h5ad", tmp_path / "c", *DRUGS, "--library", tmp_path / "twice.csv")
    assert "more than once" in ran.error


def test_help_has_examples(c2s):
    ran = c2s("train", "--help")
    assert ran.code == 0
    assert "c2s train screen.h5ad runs/screen" in " ".join(ran.out.split()).replace("│ ", "")
    for flag in ("--resume", "--lora-rank", "--context-key", "--config"):
        assert flag in ran.out


def test_a_corpus_trains_the_model_of_its_cells(c2s, files, tmp_path, monkeypatch):
    corpus, cache = tmp_path / "corpus", tmp_path / "cache"
    assert c2s("encode", files / "training.h5ad", corpus, "--fit-decoder").code == 0
    cache.mkdir()
    settings = ("--task", "cell_generation", *TINY, "--steps", 2)
    runs = [("cells", files / "training.h5ad", ()), ("held", corpus, ()), ("mapped", corpus, ()), ("cached", corpus, ("--cache", cache))]  # fmt: skip
    for name, given, more in runs:
        if name == "mapped":
            monkeypatch.setattr("c2s.sentences.mapped._memory", lambda: 1000.0)
        ran = c2s("train", given, tmp_path / name, *settings, *more)
        assert ran.code == 0, ran.err
        assert bool(list(corpus.glob("mapped-*"))) == (name in ("mapped", "cached"))
    assert len(list(cache.glob("mapped-*/ids.npy"))) == 1
    weights = {(tmp_path / name / "model" / "model.safetensors").read_bytes() for name, *_ in runs}
    assert len(weights) == 1


def test_a_corpus_that_cannot_be_trained_on(c2s, files, tmp_path):
    assert c2s("encode", files / "training.h5ad", tmp_path / "corpus").code == 0
    ran = c2s("train", tmp_path / "corpus", tmp_path / "run", *DRUGS, *TINY)
    assert "perturbation_response averages the expression of cells" in ran.error
    ran = c2s("train", tmp_path / "corpus", tmp_path / "run", "--task", "cell_generation", *TINY)
    assert "encode with --fit-decoder, or pass decoder=" in ran.error
    ran = c2s("train", tmp_path / "corpus", tmp_path / "corpus", "--task", "cell_generation", "--overwrite", *TINY)
    assert "is or holds" in ran.error
