"""``c2s perturb train``, ``predict`` to cells and ``evaluate`` as a user types them."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from c2s.cells.library import library_frame
from c2s.models.loading import load_cell_lm
from c2s.perturbation.predict import predict_cells
from tests.perturbation.planted import LIBRARY, cells, validation
from tests.tiny import tiny_preset

KEYS = ("--perturbation-key", "given", "--control", "medium", "--context-key", "line")
TINY = (
    "--model", "c2s-tiny", "--sft-steps", 6, "--set", "sft.batch_size=4", "--set", "sft.n_genes=6", "--set", "sft.n_up=4", "--set", "sft.n_down=4",
    "--set", "sft.threads=1",
)  # fmt: skip
SMALL = (
    "--grpo-steps", 2, "--set", "grpo.prompts=2", "--set", "grpo.answers=4", "--set", "grpo.batch_size=8", "--set", "grpo.eval_answers=4",
    "--set", "reward.n_prompts=16", "--set", "reward.n_held_out=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    cells()[~validation()].copy().write_h5ad(folder / "training.h5ad")
    is_control = (cells().obs["given"] == "medium").to_numpy()
    cells()[is_control].copy().write_h5ad(folder / "untreated.h5ad")
    cells()[validation() | is_control].copy().write_h5ad(folder / "held_out.h5ad")
    library_frame(LIBRARY).to_csv(folder / "library.csv", index=False)
    return folder


def test_two_stages_then_cells_then_scores(c2s, given, tmp_path):
    run = tmp_path / "run"
    library = ("--library", given / "library.csv")
    with tiny_preset():
        ran = c2s("perturb", "train", given / "training.h5ad", run, *library, *KEYS, *TINY, *SMALL)
    assert ran.code == 0, ran.err
    assert "supervised: loss" in ran.out and "reinforced: 2 steps" in ran.out
    assert "nothing is left to resume" in c2s("perturb", "train", given / "training.h5ad", run, *library, *KEYS, *TINY, *SMALL, "--resume").error  # fmt: skip
    other = c2s(
        "perturb", "train", given / "training.h5ad", run, *library, *KEYS, *TINY, *SMALL, "--resume", "--seed", 1
    )
    assert "nothing is left to resume" in other.error
    (run / "reinforced" / "model" / "c2s.json").unlink()  # as if killed before the engine's model was ours
    other = c2s(
        "perturb", "train", given / "training.h5ad", run, *library, *KEYS, *TINY, *SMALL, "--resume", "--seed", 1
    )
    assert "seed differ" in other.error
    with tiny_preset():
        ran = c2s("perturb", "train", given / "training.h5ad", run, *library, *KEYS, *TINY, *SMALL, "--resume")
    assert ran.code == 0, ran.err
    singles = given / "singles.csv"
    library_frame(LIBRARY[1:3]).to_csv(singles, index=False)
    ran = c2s("perturb", "predict", run / "reinforced", given / "untreated.h5ad", singles, tmp_path / "after.h5ad", "--n-samples", 2, "--seed", 5)  # fmt: skip
    assert ran.code == 0, ran.err
    found = ad.read_h5ad(tmp_path / "after.h5ad")
    expected = predict_cells(load_cell_lm(run / "reinforced"), ad.read_h5ad(given / "untreated.h5ad"), LIBRARY[1:3], n_samples=2, seed=5)  # fmt: skip
    np.testing.assert_allclose(found.X.toarray(), expected.X.toarray(), atol=1e-6)
    assert found.obs["control_cell"].tolist() == expected.obs["control_cell"].tolist()
    pairs = found.X.toarray().reshape(-1, 2, found.n_vars)
    np.testing.assert_allclose(found.obs["spread"].to_numpy()[::2], np.sqrt(pairs.var(axis=1, ddof=1).mean(axis=1)), rtol=1e-4)  # fmt: skip
    ran = c2s("perturb", "evaluate", run / "reinforced", given / "held_out.h5ad", tmp_path / "scores", "--training", given / "training.h5ad")  # fmt: skip
    assert ran.code == 0, ran.err
    assert "| control cells + sum of single shifts |" in ran.out and "| perturbation |" in ran.out
    scores = pd.read_csv(tmp_path / "scores" / "scores.csv")
    assert {"model", "no change", "control cells + sum of single shifts"} <= set(scores["row"])
    value = scores[(scores["row"] == "control cells + sum of single shifts") & (scores["metric"] == "Pearson delta")]["value"]  # fmt: skip
    assert value.item() > 0.9  # what was planted is additive
    assert json.loads((tmp_path / "scores" / "results.json").read_text())["format"] == "c2s-response-evaluation"
    again = c2s("perturb", "evaluate", run / "reinforced", given / "training.h5ad", tmp_path / "s", "--training", given / "training.h5ad")  # fmt: skip
    assert "test cells are training cells" in again.error


def test_one_stage_and_its_settings(c2s, given, tmp_path):
    ran = c2s("perturb", "train", given / "training.h5ad", tmp_path / "run", *KEYS, *TINY, *SMALL, "--dry-run")
    told = json.loads(ran.out)
    assert told["sft"]["split_by"] == "condition" and told["sft"]["steps"] == 6
    assert told["grpo"]["steps"] == 2 and told["recipe"]["overlong"] == 0 and told["reward"]["kind"] == "energy"
    assert not (tmp_path / "run").exists()
    with tiny_preset():
        ran = c2s("perturb", "train", given / "training.h5ad", tmp_path / "run", *KEYS, *TINY)
    assert ran.code == 0, ran.err
    assert not (tmp_path / "run" / "reinforced").exists()


@pytest.mark.parametrize(
    "more, said",
    [
        (("--set", "steps=3"), "write PART.NAME=VALUE"),
        (("--set", "grpo.prompts=3"), "--grpo-steps 0 leaves out"),
        (("--set", "sft.nothing=3"), "TrainConfig cannot be built"),
        (("--grpo-steps", 2, "--validation-share", 0), "validation_share above 0"),
        (("--grpo-steps", 2, "--set", "grpo.answers=2", "--set", "grpo.prompts=32"), "at least 3 answers"),
        (("--resume",), "holds no run to resume"),
        (("--grpo-steps", 2, "--validation-share", 0.01), "of the conditions is none of them"),
    ],
)
def test_what_does_not_fit_is_said_before_training(c2s, given, tmp_path, more, said):
    ran = c2s("perturb", "train", given / "training.h5ad", tmp_path / "run", *KEYS, "--model", "c2s-tiny", "--sft-steps", 2, *more)  # fmt: skip
    assert said in ran.error
    assert not (tmp_path / "run" / "supervised" / "model").exists()


def test_predicted_cells_are_not_written_over_anything(c2s, given, tmp_path):
    (tmp_path / "after.h5ad").write_text("mine")
    ran = c2s("perturb", "predict", "no-model", "no.h5ad", "no.csv", tmp_path / "after.h5ad")
    assert "exists; name another file" in ran.error
    assert (tmp_path / "after.h5ad").read_text() == "mine"
