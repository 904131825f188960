"""A whole run as a user sees it: files, the held-out curve, death with its cause, a kill and what comes after."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from c2s.engines.rl.episodes import MultiTurn, Reply
from c2s.engines.rl.hybrid import HybridConfig
from c2s.engines.rl.recipes import recipe
from c2s.engines.rl.rollouts import read_rollouts, replay
from c2s.engines.rl.run import read_curve, reinforce
from c2s.engines.rl.sampling import Interruption
from c2s.engines.rl.settings import RunSettings
from c2s.engines.rl.watch import fallen, read_lines
from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.locks import locked_folder
from tests.engines.rl import toy

SETTINGS = RunSettings(
    steps=6,
    prompts=4,
    answers=4,
    max_tokens=6,
    batch_size=8,
    learning_rate=5e-3,
    eval_every=3,
    eval_answers=4,
    save_every=2,
)


def even(completion_ids, **columns):
    return [float(ids[0] % 2 == 0) for ids in completion_ids]


def lengths(completion_ids, **columns):
    return [len(ids) / 6 for ids in completion_ids]


def one_run(out, *, problem=None, chosen=None, settings=SETTINGS, **more):
    problem = problem or toy.problem(rewards=[lengths], verifier=even)
    chosen = chosen or recipe("dapo", drop_mastered=0.9)
    return reinforce(problem, recipe=chosen, settings=settings, out=out, progress=False, **more)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_what_a_run_leaves(tmp_path):
    made = one_run(tmp_path / "run")
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "reinforcement.json", "health.jsonl", "evaluation.jsonl", "dashboard.png", "rollouts", "model", "run.json",
    }  # fmt: skip
    assert (folder / "dashboard.png").read_bytes()[:4] == b"\x89PNG"
    health = read_lines(folder / "health.jsonl")
    assert [row["step"] for row in health] == [1, 2, 3, 4, 5, 6]
    assert health[0]["said"].startswith("step 1 | reward ") and "entropy" in health[0]["said"]
    curve = read_curve(folder)
    assert [row["step"] for row in curve] == [0, 3, 6]
    assert [row["answers"] for row in curve] == [0, 48, 96]
    assert all({"mean", "pass@1", "pass@2", "pass@4"} <= set(row) for row in curve)
    assert curve[0]["pass@1"] == pytest.approx(curve[0]["mean"])
    again = type(made.model).from_pretrained(folder / "model")
    assert torch.equal(weights(again), weights(made.model))
    with pytest.raises(ArtefactError, match="not empty"):
        one_run(folder)
    with pytest.raises(ArtefactError, match="is finished; nothing is left to resume"):
        one_run(folder, resume=True)


def test_rollouts_can_be_rewarded_again(tmp_path):
    one_run(tmp_path / "run")
    table = read_rollouts(tmp_path / "run")
    assert len(table) == 6 * 16 and sorted(table["step"].unique()) == list(range(6))
    assert (table["version"] == table["step"]).all()
    assert all(
        len(ids) == len(log_p) == len(own)
        for ids, log_p, own in zip(table["completion_ids"], table["log_probs"], table["own"])
    )
    found = replay(tmp_path / "run", {"even": even, "start": lambda start, **columns: start})
    pd.testing.assert_series_equal(found["even"], found["even, then"], check_names=False)
    assert "start, then" not in found and set(found["start"]) <= set(range(9))
    with pytest.raises(ArtefactError, match="holds no rollouts"):
        replay(tmp_path, {"even": even})
    with pytest.raises(ConfigError, match="no reward"):
        replay(tmp_path / "run", {})


def test_a_stale_pipeline_never_lags_further_than_it_may(tmp_path):
    made = one_run(
        tmp_path / "run", chosen=recipe("dapo", staleness=2), settings=SETTINGS.with_(steps=12, eval_every=0)
    )
    table = read_rollouts(made.folder)
    lag = table["step"] - table["version"]
    assert lag.between(0, 2).all()
    assert lag.max() > 0  # answers were in fact written ahead
    assert max(row["lag"] for row in read_lines(made.folder / "health.jsonl")) == lag.max()


def test_without_lag_the_pipeline_is_the_run_in_turn(tmp_path):
    ends = []
    for name, staleness in (("turn", None), ("pipeline", 0)):
        made = one_run(tmp_path / name, chosen=recipe("dapo", drop_mastered=0.9, staleness=staleness))
        ends.append(
            (weights(made.model), [row["mean"] for row in made.evaluations], [row.reward for row in made.history])
        )
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][1:] == ends[1][1:]


def test_an_error_in_the_pipeline_reaches_the_run(tmp_path):
    class Broken:
        def step(self, prefix):
            raise ZeroDivisionError("no constraint today")

        def sequence(self, ids):
            return torch.ones(*ids.shape, 15, dtype=torch.bool)

    problem = toy.problem(rewards=[lengths], constraint=Broken())
    with pytest.raises(ZeroDivisionError, match="no constraint today"):  # the first evaluation, in the main thread
        one_run(tmp_path / "run", problem=problem, chosen=recipe("dapo", staleness=1))


class Mirror:
    """Says the first letter of the prompt to who asks with "l", and ends the episode otherwise."""

    def reset(self, prompt, **row):
        self.letter = prompt.split()[0]

    def respond(self, said):
        asks = said.split()[:1] == ["l"]
        return Reply(self.letter, called=True, succeeded=True) if asks else Reply(None)


def test_episodes_of_several_turns_are_trained_on_their_own_words(tmp_path):
    told = []

    def reward(completion_ids, calls, succeeded_calls, **columns):
        told.extend(zip(calls, succeeded_calls))
        return [min(n, 2) / 2 for n in calls]

    ends = tuple(range(3, 15))  # a turn is a letter
    problem = toy.problem(rewards=[reward], multi_turn=MultiTurn(Mirror, ends, turns=3))
    made = one_run(
        tmp_path / "run", problem=problem, chosen=recipe("dapo", staleness=0), settings=SETTINGS.with_(max_tokens=8)
    )
    table = read_rollouts(made.folder)
    assert any(calls for calls, _ in told) and all(calls == done for calls, done in told)
    for row in table.itertuples():
        foreign = [i for i, mine in enumerate(row.own) if not mine]
        assert len(foreign) in (row.columns["calls"], row.columns["calls"] - 1)
        first = row.prompt.split()[0]
        assert all(row.completion_ids[i] == 3 + toy.LETTERS.index(first) and row.log_probs[i] == 0 for i in foreign)
    assert made.history[0].calls == pytest.approx(table[table["step"] == 0]["columns"].map(lambda c: c["calls"]).mean())
    with pytest.raises(ConfigError, match="neither a constraint nor an interruption"):
        toy.problem(rewards=[reward], multi_turn=problem.multi_turn, interruption=Interruption(1, 2, (1,)))


def test_a_run_without_a_gradient_is_ended_with_the_cause(tmp_path):
    problem = toy.problem(verifier=lambda completion_ids, **columns: [0.0] * len(completion_ids))
    made = one_run(
        tmp_path / "run", problem=problem, chosen=recipe("dapo"), settings=SETTINGS.with_(steps=40, eval_every=0)
    )
    assert made.history[-1].step == 10 and len(made.evaluations) == 2
    assert "no gradient for 10 log steps" in made.cause and "no answer is right" in made.cause
    assert json.loads((made.folder / "run.json").read_text())["cause"] == made.cause


def test_a_diverged_run_keeps_its_checkpoints_and_no_broken_model(tmp_path):
    settings = SETTINGS.with_(learning_rate=1e20, steps=20, eval_every=0, max_grad_norm=1e9)
    problem = toy.problem(rewards=[lengths], verifier=even)
    made = one_run(
        tmp_path / "run", problem=problem, chosen=recipe("grpo", kl=0.0, advantage_scale="none"), settings=settings
    )
    assert "not numbers" in made.cause
    assert json.loads((tmp_path / "run/run.json").read_text())["cause"] == made.cause
    assert not (tmp_path / "run/model").exists() and (tmp_path / "run/checkpoints").is_dir()


def test_what_recipes_remember_goes_through_a_checkpoint(tmp_path):
    """Pass rates, usual spread of scores and weight of the entropy bonus: cut off by an error at step 5, gone on with from step 4."""
    chosen = recipe("scalerl", interrupt=False, staleness=None, flat_groups="hybrid", entropy_target=2.6)
    left = [10**9]

    def failing(completion_ids, **columns):
        left[0] -= 1
        return [len(ids) / 6 for ids in completion_ids] if left[0] >= 0 else 1 / 0

    def go(out, **more):
        problem = toy.problem(rewards=[failing], verifier=even, hybrid=HybridConfig(warm_up=4))
        return one_run(out, problem=problem, chosen=chosen, settings=SETTINGS.with_(eval_every=0, steps=8), **more)

    whole = go(tmp_path / "whole")
    left[0] = 5
    with pytest.raises(ZeroDivisionError):
        go(tmp_path / "cut")
    left[0] = 10**9
    state = json.loads(next((tmp_path / "cut/checkpoints").glob("checkpoint-4/policy.json")).read_text())
    assert state["spread_weights"]["n_prompts"] == 16 and sum(state["schedule"]["curriculum"]["answers"]) == 64
    resumed = go(tmp_path / "cut", resume=True)
    assert torch.equal(weights(whole.model), weights(resumed.model))
    assert read_lines(tmp_path / "whole/health.jsonl") == read_lines(tmp_path / "cut/health.jsonl")


def test_a_run_killed_behind_its_last_step_is_finished_and_not_trained_on(tmp_path, monkeypatch):
    from c2s.engines.rl import run as module

    whole = one_run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_dashboard", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one_run(tmp_path / "cut")
    resumed = one_run(tmp_path / "cut", resume=True)
    assert torch.equal(weights(whole.model), weights(resumed.model))
    assert len(read_rollouts(tmp_path / "cut")) == len(read_rollouts(tmp_path / "whole"))
    assert json.loads((tmp_path / "cut/run.json").read_text())["steps"] == 6
    assert [row["mean"] for row in resumed.evaluations] == [row["mean"] for row in whole.evaluations]


def test_what_has_no_room_is_refused_before_anything_is_written(tmp_path):
    for chosen, said in (
        (recipe("grpo_tcr"), "overlong=8 is the last part"),
        (recipe("scalerl"), "no budget of 4 to 9"),
    ):
        problem = toy.problem(verifier=even, interruption=Interruption(4, 9, (1,)))
        with pytest.raises(ConfigError, match=said):
            one_run(tmp_path / "run", problem=problem, chosen=chosen)
    with pytest.raises(ConfigError, match="a step asks 40"):
        one_run(tmp_path / "run", settings=SETTINGS.with_(prompts=40))
    with pytest.raises(ConfigError, match="multiple of log_every"):
        SETTINGS.with_(log_every=3)
    assert not (tmp_path / "run").exists()


def test_resuming_on_other_prompts_is_refused(tmp_path):
    one_run(tmp_path / "run")
    (tmp_path / "run/run.json").unlink()
    other = toy.problem(rewards=[lengths], verifier=even, prompts=toy.prompts(15))
    with pytest.raises(ConfigError, match="problem.fingerprint differ"):
        one_run(tmp_path / "run", problem=other, resume=True)


def test_resuming_with_other_settings_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(ArtefactError, match="holds no run to resume"):
        one_run(tmp_path / "run", resume=True)
    settings = SETTINGS.with_(steps=3, save_every=0)
    problem = toy.problem(rewards=[lambda completion_ids, **columns: 1 / 0])
    with pytest.raises(ZeroDivisionError):
        one_run(tmp_path / "run", problem=problem, chosen=recipe("dapo"), settings=settings)
    with pytest.raises(ConfigError, match="other settings: recipe.clip_high, settings.steps differ"):
        one_run(
            tmp_path / "run",
            problem=problem,
            chosen=recipe("dapo", clip_high=0.3),
            settings=settings.with_(steps=4),
            resume=True,
        )
    with pytest.raises(ConfigError, match="give one"):
        one_run(tmp_path / "run", resume=True, overwrite=True)


KILLED = """
import sys, torch
torch.set_num_threads(1)
from c2s.engines.constraint import Constraint, Segment
from tests.engines.rl.test_run import SETTINGS, even, lengths, one_run, toy
ends = Constraint(torch.arange(3, 15), [Segment(5, 1, 1)], n_tokens=15, pad=0)  # none is cut off
problem = toy.problem(rewards=[lengths], verifier=even, constraint=ends)
one_run(sys.argv[1], problem=problem, settings=SETTINGS.with_(steps=200, learning_rate=2e-4, eval_every=20), resume="resume" in sys.argv)
"""


@pytest.mark.slow
def test_after_a_kill_the_rest_is_what_it_would_have_been(tmp_path):
    """SIGKILL in mid-run; the resumed run ends with the same weights, rewards and answers as one that was left alone."""
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def begin(folder, *more):
        return subprocess.Popen([sys.executable, "-c", KILLED, str(folder), *more], cwd=root, env=environment)

    assert begin(tmp_path / "whole").wait(600) == 0
    running = begin(tmp_path / "cut")
    until = time.monotonic() + 300
    while not list((tmp_path / "cut").glob("checkpoints/checkpoint-[5-9][0-9]/policy.json")):
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "cut" / "run.json").exists()
    assert begin(tmp_path / "cut", "resume").wait(600) == 0
    one, other = (read_lines(tmp_path / name / "health.jsonl") for name in ("whole", "cut"))
    assert one == other and len(one) == 200
    pd.testing.assert_frame_equal(read_rollouts(tmp_path / "whole"), read_rollouts(tmp_path / "cut"))
    assert (tmp_path / "whole/model/model.safetensors").read_bytes() == (
        tmp_path / "cut/model/model.safetensors"
    ).read_bytes()
    without_time = [{k: v for k, v in row.items() if k != "seconds"} for row in read_curve(tmp_path / "cut")]
    assert without_time == [{k: v for k, v in row.items() if k != "seconds"} for row in read_curve(tmp_path / "whole")]


def test_overwrite_takes_nothing_away_before_the_model_is_there(tmp_path):
    one_run(tmp_path / "run")
    problem = dataclasses.replace(toy.problem(verifier=even), model=lambda seed: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one_run(tmp_path / "run", problem=problem, overwrite=True)
    assert (tmp_path / "run/model/model.safetensors").is_file()


def test_two_runs_do_not_write_one_folder(tmp_path):
    with locked_folder(tmp_path / "run"), pytest.raises(ArtefactError, match="run"):
        one_run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_curve_that_something_else_wrote_into_is_refused(tmp_path):
    made = one_run(tmp_path / "run")
    assert [row["step"] for row in read_curve(made.folder)] == [0, 3, 6]
    lines = (made.folder / "evaluation.jsonl").read_text().splitlines(keepends=True)
    (made.folder / "evaluation.jsonl").write_text("".join([*lines, lines[1]]))
    with pytest.raises(ArtefactError, match="not by rising step"):
        read_curve(made.folder)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda **told: None, "a NoneType for"),
        (lambda **told: 1.0, "a float for"),
        (lambda **told: [0.5], "1 values for"),
        (lambda **told: ["high"] * len(told["completions"]), "'high', a str"),
        (lambda **told: np.zeros((len(told["completions"]), 2)), "shape"),
    ],
)
def test_a_reward_that_gives_no_numbers_is_named(tmp_path, given, said):
    given.__name__ = "odd"
    with pytest.raises(DataError, match=f"odd gave .*{said}"):
        one_run(tmp_path / "run", problem=toy.problem(rewards=[given]), chosen=recipe("dapo", drop_mastered=None))


def test_a_model_whose_head_cannot_be_float32_is_refused_before_anything_is_written(tmp_path):
    problem = dataclasses.replace(
        toy.problem(rewards=[lengths], verifier=even), model=lambda seed: toy.learned_positions()
    )
    with pytest.raises(ConfigError, match="fp32_logits=False"):
        one_run(tmp_path / "run", problem=problem, chosen=recipe("scalerl", interrupt=False, staleness=None))
    assert not (tmp_path / "run").exists()


def test_replay_refuses_names_of_its_columns(tmp_path):
    made = one_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="called step"):
        replay(made.folder, {"step": lengths})


def test_a_held_out_mean_that_was_lost_is_told():
    def rows(*means):
        return [{"step": 10 * place, "mean": mean} for place, mean in enumerate(means)]

    assert "fell from 0.900 at step 10 to 0.300 at step 20" in fallen(rows(0.5, 0.9, 0.3))
    assert not fallen(rows(0.5, 0.9, 0.6))
    assert not fallen(rows(0.0, 0.0))
