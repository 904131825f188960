"""Grids of runs: which arms, equal compute, made once, and a table by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from c2s.engines.rl.ablation import (
    _folder,
    ablate,
    as_markdown,
    at_equal_compute,
    compared,
    final_and_area,
    leave_one_out,
    presets,
    to_the_end,
)
from c2s.engines.rl.recipes import PRESETS
from c2s.engines.rl.sampling import Interruption
from c2s.engines.rl.settings import RunSettings
from c2s.errors import ConfigError
from tests.engines.rl import toy

SETTINGS = RunSettings(
    steps=4, prompts=4, answers=4, max_tokens=6, batch_size=16, learning_rate=5e-3, eval_every=2, eval_answers=2
)


def even(completion_ids, **columns):
    return [float(ids[0] % 2 == 0) for ids in completion_ids]


def test_arms_leave_out_one_component_each():
    arms = leave_one_out("scalerl", SETTINGS, interrupt=False, staleness=None)
    assert list(arms) == [
        "full", "without loss", "without average", "without advantage_scale", "without flat_groups", "without fp32_logits",
        "without drop_mastered",
    ]  # fmt: skip
    for name, arm in arms.items():
        assert arm.recipe.interrupt is False and arm.recipe.staleness is None
        assert (arm.recipe == arms["full"].recipe) == (name == "full")
    assert list(presets(SETTINGS)) == ["grpo", *[name for name in PRESETS if name != "grpo"]]


def test_other_arms_spend_the_same_answers():
    arms = at_equal_compute("scalerl", SETTINGS)
    assert {"batch x 2", "batch / 2", "answers x 2", "answers / 2", "quarter of the prompts", "ratio_cap 2"} <= set(
        arms
    )
    for name, arm in arms.items():
        settings = arm.settings
        assert settings.prompts * settings.answers * settings.steps == 64, name
        if settings.eval_every:
            assert settings.eval_every * settings.prompts * settings.answers == 32, name
    assert (
        arms["length penalty, no interruption"].recipe.overlong
        and not arms["length penalty, no interruption"].recipe.interrupt
    )


def test_the_table_by_hand():
    curves = {"a": {0: (0.5, 0.4), 1: (0.7, 0.5), 2: (0.6, 0.6)}, "b": {0: (0.6, 0.4), 1: (0.9, 0.4), 2: (0.6, 0.5)}}
    first, second = compared(curves)
    apart = np.array([0.1, 0.2, 0.0])
    low, high = stats.t.interval(0.95, 2, apart.mean(), stats.sem(apart))
    assert second["final"] == pytest.approx(0.7) and second["area"] == pytest.approx(1.3 / 3)
    assert (second["final difference low"], second["final difference high"]) == pytest.approx((low, high))
    assert first["final difference"] == 0
    text = as_markdown([first, second]).splitlines()
    assert len(text) == 4 and text[3].startswith("| b | 3 | 0 | 0.700 (")


def test_arms_carry_what_they_need():
    hybrid = leave_one_out("scalerl", SETTINGS, interrupt=False, staleness=None, flat_groups="hybrid")
    assert "without loss" in hybrid and "without advantage_scale" not in hybrid  # group scaling contradicts it
    capped = leave_one_out("scalerl", SETTINGS, ratio_cap=8.0, interrupt=False, staleness=None)
    assert capped["without loss"].recipe.ratio_cap is None and capped["without average"].recipe.ratio_cap == 8.0
    plain = leave_one_out("gspo", SETTINGS)["without loss"].recipe
    assert (plain.loss, plain.clip_low, plain.clip_high) == ("clip", 0.2, 0.2)
    once = at_equal_compute("scalerl", SETTINGS.with_(eval_every=1))
    assert once["batch x 2"].settings.eval_every == 1
    half = at_equal_compute("scalerl", SETTINGS)["half the length"]
    problem, settings = half.of(toy.problem(verifier=even, interruption=Interruption(2, 4, (1,))), 3)
    assert settings.max_tokens == 3 and settings.seed == 3 and problem.interruption[:2] == (1, 2)
    quarter, _ = at_equal_compute("scalerl", SETTINGS)["quarter of the prompts"].of(toy.problem(verifier=even), 0)
    assert len(quarter.prompts) == 4


def test_a_run_that_died_counts_at_its_last_height():
    curve = [{"step": 0, "answers": 0, "mean": 0.2}, {"step": 2, "answers": 32, "mean": 0.4}]
    assert final_and_area(to_the_end(curve, SETTINGS)) == (0.4, pytest.approx((0.3 * 32 + 0.4 * 32) / 64))
    assert to_the_end(curve, SETTINGS.with_(steps=2)) == curve


def test_the_area_is_the_mean_height():
    curve = [{"answers": 0, "mean": 0.0}, {"answers": 10, "mean": 1.0}, {"answers": 40, "mean": 1.0}]
    assert final_and_area(curve) == (1.0, pytest.approx((5 + 30) / 40))
    assert final_and_area(curve[:1]) == (0.0, 0.0)


def test_runs_are_made_once_and_a_cut_grid_goes_on(tmp_path):
    problem = toy.problem(verifier=even)
    arms = dict(list(leave_one_out("dapo", SETTINGS).items())[:2])
    said = []
    table = ablate(problem, arms, seeds=[0, 1], out=tmp_path / "grid", progress=said.append)
    assert said == ["full, seed 0", "full, seed 1", "without average, seed 0", "without average, seed 1"]
    assert json.loads((tmp_path / "grid/table.json").read_text()) == table
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "grid").glob("*/*/run.json")}
    assert len(made) == 4
    (tmp_path / "grid/full/1/run.json").unlink()  # cut off
    again = ablate(problem, arms, seeds=[0, 1], out=tmp_path / "grid")
    assert again == table
    assert sum(path.stat().st_mtime_ns != at for path, at in made.items()) == 1
    with pytest.raises(ConfigError, match="holds a run of another problem or with other settings"):
        ablate(problem, leave_one_out("dapo", SETTINGS.with_(steps=5)), seeds=[0, 1], out=tmp_path / "grid")
    with pytest.raises(ConfigError, match="another problem"):
        ablate(toy.problem(verifier=even, prompts=toy.prompts(12)), arms, seeds=[0, 1], out=tmp_path / "grid")
    with pytest.raises(ConfigError, match="full: the recipe interrupts"):
        ablate(problem, leave_one_out("scalerl", SETTINGS), seeds=[0, 1], out=tmp_path / "other")
    with pytest.raises(ConfigError, match="at least two"):
        ablate(problem, arms, seeds=[0], out=tmp_path / "grid")


def test_no_two_arms_share_a_folder_and_none_leaves_the_grid():
    names = ["full", "without loss", "a+b", "a b", "a/b", "..", "../x"]
    folders = [_folder(name) for name in names]
    assert len(set(folders)) == len(names)
    assert folders[:2] == ["full", "without_loss"]
    assert not any(folder.startswith(".") or "/" in folder for folder in folders)
