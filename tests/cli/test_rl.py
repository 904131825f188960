"""``c2s rl`` as a user calls it."""

from __future__ import annotations

import pandas as pd

SMALL = ["--set", "steps=3", "--set", "prompts=4", "--set", "answers=2", "--set", "batch_size=8", "--set", "max_tokens=6",
         "--set", "eval_every=1", "--set", "eval_answers=2", "--set", "learning_rate=0.005"]  # fmt: skip
PROBLEM = "tests.cli.test_rl:problem"


def even(completion_ids, **columns):
    return [float(ids[0] % 2 == 0) for ids in completion_ids]


def problem():
    from tests.engines.rl import toy

    return toy.problem(verifier=even)


def test_run_replay_fit_and_refusals(c2s, tmp_path):
    out = tmp_path / "run"
    ran = c2s("rl", "run", PROBLEM, out, "--recipe", "dapo", *SMALL)
    assert ran.code == 0 and "held-out mean" in ran.out and "after 3 steps" in ran.out
    assert (out / "dashboard.png").exists()
    again = c2s("rl", "replay", out, "tests.cli.test_rl:even", "--out", tmp_path / "values.csv")
    assert "24 answers; 0 differ from what the run recorded" in again.out
    assert len(pd.read_csv(tmp_path / "values.csv")) == 24
    fitted = c2s("rl", "fit", out, tmp_path / "curves.png")
    assert fitted.code == 0 and "no fit to the first" in fitted.out
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert "not empty" in c2s("rl", "run", PROBLEM, out, "--recipe", "dapo", *SMALL).error
    assert "--set knows no stpes" in c2s("rl", "run", PROBLEM, tmp_path / "x", "--set", "stpes=3").error
    assert "NAME=VALUE" in c2s("rl", "run", PROBLEM, tmp_path / "x", "--set", "steps").error
    assert "cannot be imported" in c2s("rl", "run", "no.such:thing", tmp_path / "x").error
    assert not (tmp_path / "x").exists()


def test_ablate(c2s, tmp_path):
    ran = c2s("rl", "ablate", PROBLEM, tmp_path / "grid", "--recipe", "dapo", "--seeds", 2, *SMALL)
    assert ran.code == 0 and "| without clip_high | 2 | 0 |" in ran.out
    assert (tmp_path / "grid/table.md").exists()


def test_help_shows_examples(c2s):
    for verb in ("run", "replay", "ablate", "fit"):
        assert f"c2s rl {verb}" in c2s("rl", verb, "--help").out
