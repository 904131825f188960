"""``c2s demo``: the whole path; small sizes here, ``--quick`` itself as a slow test."""

from __future__ import annotations

import json
import subprocess
import sys

import anndata as ad
import pandas as pd
import pytest

from c2s.artefacts import check_folder
from c2s.demo import real_cells, simulated
from c2s.demo.simulated import screen_simulated, train_simulated
from c2s.screening.config import ScreenConfig
from c2s.training.config import TrainConfig
from tests import tiny

FILES = {
    "training.h5ad",
    "cells.h5ad",
    "training_drugs.csv",
    "drugs.csv",
    "truth.csv",
    "run",
    "screen",
    "real_cells",
    "demo.json",
}


def check(out, printed: str) -> None:
    """Check what a demo wrote and said."""
    assert {path.name for path in out.iterdir()} == FILES
    assert (out / "screen" / "screen.html").stat().st_size > 100_000
    record = json.loads((out / "demo.json").read_text())
    assert record["quick"] is True
    assert set(record["seconds"]) == {"simulate", "train", "screen", "real_cells"}
    assert set(record["screen"]["auc"]) == {"model", "ridge", "knn"}
    cells = record["real_cells"]
    assert cells["n_test"] == 210
    assert 0.7 < cells["logistic_accuracy"] <= 1
    assert 0 <= cells["accuracy"] <= 1
    assert cells["decoding_r2"] > 0.8
    assert "planted_class" in pd.read_csv(out / "screen" / "screen.csv")
    assert json.loads((out / "screen" / "screen.json").read_text())["simulated"] is True
    assert "simulated" in (out / "screen" / "screen.html").read_text().lower()
    for text in (
        "ROC area of the split", "logistic regression on all values", "this was --quick", " hit", "seconds: ", "screen.html",
    ):  # fmt: skip
        assert text in printed, text


def test_small_demo(c2s, tmp_path, monkeypatch):
    sizes = {
        "n_genes": 300,
        "training_drugs": 14,
        "held_out_per_class": 1,
        "unseen_per_class": 0,
        "cells_per_condition": 6,
    }
    monkeypatch.setattr(simulated, "QUICK_SIMULATION", {**sizes, "screening_cells": 1})
    monkeypatch.setattr(simulated, "QUICK_TRAINING", {"steps": 2, "batch_size": 4, "model": "c2s-tiny", "threads": 1})
    monkeypatch.setattr(simulated, "QUICK_SCREENING", {"n_decoys": 20, "n_reference": 3, "cells_per_unit": 1})
    monkeypatch.setitem(real_cells.TRAINING, "model", "c2s-tiny")
    monkeypatch.setitem(real_cells.TRAINING, "batch_size", 4)
    ran = c2s("demo", tmp_path / "out", "--quick")
    assert ran.code == 0, ran.err
    check(tmp_path / "out", ran.out)
    assert "is not empty" in c2s("demo", tmp_path / "out", "--quick").error
    for folder in (tmp_path / "out", *(tmp_path / "out" / name for name in ("run", "screen", "real_cells"))):
        assert check_folder(folder, overwrite=True) == folder  # known as written by c2s
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "was not written by c2s" in c2s("demo", tmp_path / "mine", "--quick", "--overwrite").error
    assert (tmp_path / "mine" / "notes.txt").exists()


@pytest.mark.slow
def test_quick_demo_from_a_shell(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "c2s.cli.main", "demo", "--quick", str(tmp_path / "out")], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check(tmp_path / "out", done.stdout)


def test_cells_of_the_demo_are_written_whole(tmp_path, monkeypatch):
    def cut_off(adata, path, **_):
        path.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(simulated, "simulate_screen", lambda *_, **__: tiny.simulated())
    monkeypatch.setattr(ad.AnnData, "write_h5ad", cut_off)
    with pytest.raises(OSError, match="No space left"):
        simulated.run_simulated(tmp_path, seed=0, quick=True)
    assert list(tmp_path.iterdir()) == []


def test_settings_of_the_demo_are_valid_and_quick_changes_sizes_only():
    for quick in ({}, simulated.QUICK_TRAINING):
        TrainConfig(**{**simulated.TRAINING, **quick})
    for quick in ({}, simulated.QUICK_SCREENING):
        ScreenConfig(**{**simulated.SCREENING, **quick})
    TrainConfig(**real_cells.TRAINING)
    assert simulated.TRAINING.get("target", "delta") == "delta"


def test_training_and_screening_of_a_simulated_screen(tmp_path):
    screened = tiny.simulated()
    small = {name: tiny.TRAINING[name] for name in ("model", "n_genes", "batch_size", "threads")}
    with tiny.tiny_preset():
        model = train_simulated(screened, tmp_path / "run", quick=True, progress=False, **{**small, "steps": 2})
    assert model.settings.training["seed"] == screened.seed
    assert model.settings.perturbation.context_keys == ("ifn",)
    table = screen_simulated(model, screened, None, quick=True, progress=False, cells_per_unit=1, n_reference=3)
    planted = table.set_index("perturbation")["planted_class"]
    assert planted.to_dict() == screened.truth["planted_class"].reindex(planted.index).to_dict()
    assert set(table.attrs["record"]["demo"]["auc"]) == {"model", "ridge", "knn"}


def test_help_has_examples(c2s):
    ran = c2s("demo", "--help")
    assert ran.code == 0
    assert "c2s demo out --quick" in " ".join(ran.out.split())
