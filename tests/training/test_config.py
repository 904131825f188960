"""Settings of training: defaults hold together, contradictions are refused with what to do."""

from __future__ import annotations

import pytest

from c2s.errors import ConfigError
from c2s.training.config import TrainConfig


def test_there_and_back(tmp_path):
    config = TrainConfig(context_keys=("ifn",), match_by=("donor",), steps=7, model="runs/a")
    config.write(tmp_path / "config.json")
    assert TrainConfig.from_file(tmp_path / "config.json") == config


def test_unknown_settings_are_named():
    with pytest.raises(ConfigError, match="stepps"):
        TrainConfig(stepps=3)


@pytest.mark.parametrize("field", ["steps", "batch_size", "n_genes", "n_up", "checkpoint_steps", "n_controls"])
def test_counts_start_at_one(field):
    with pytest.raises(ConfigError, match=field):
        TrainConfig(**{field: 0})


@pytest.mark.parametrize(("field", "value"), [("validation_share", 1.0), ("name_dropout", 1.0), ("learning_rate", 0.0),
                                              ("task", "anything"), ("target", "words"), ("moved_weight", 0.5)])  # fmt: skip
def test_values_out_of_range(field, value):
    with pytest.raises(ConfigError, match=field):
        TrainConfig(**{field: value})


@pytest.mark.parametrize("preset", ["c2s-micro", "c2s-mini", "c2s-midi", "c2s-small", "c2s-deep"])
def test_lora_needs_a_trained_model(preset):
    with pytest.raises(ConfigError, match=f"{preset} starts from random weights. Give model= a folder, or lora_rank=0"):
        TrainConfig(model=preset, lora_rank=8)
    assert TrainConfig(model="runs/a/model", lora_rank=8).lora_rank == 8


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": float("inf")}, {"weight_decay": float("nan")}, {"seed": -1}, {"context_keys": ("a", "a")}],
)
def test_what_cannot_train_is_refused_at_once(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        TrainConfig(**changes)
