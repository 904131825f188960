"""Searches side by side are those alone; killed and resumed they are the same; folders of other searches are refused."""

from __future__ import annotations

import pytest
import torch

from c2s.engines.layer_routing.hooks import routed
from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.samples import read_samples, search_samples
from c2s.errors import ArtefactError, ConfigError, DataError
from tests.engines.layer_routing import toy

N = 9
TOLD = {"budget": 25, "length_penalty": 0.3, "seed": 5, "progress": False}


class Killed(BaseException):
    """Nothing catches it."""


class Rewards:
    def __init__(self, calls=None):
        self.toys = [toy.ToyReward(seed, 5) for seed in range(N)]
        self.left, self.asked = calls, []

    def __call__(self, samples, plans):
        assert len(set(samples)) == len(samples)
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed
        self.asked += samples
        return [self.toys[sample](plan) for sample, plan in zip(samples, plans, strict=True)]


@pytest.mark.parametrize("method", ["uct", "greedy"])
def test_batches_change_nothing(method):
    found = [search_samples(Rewards(), N, 5, method=method, batch_size=size, **TOLD) for size in (1, 4, 20)]
    assert found[0] == found[1] == found[2]
    assert len({result.best for result in found[0]}) > 1


@pytest.mark.parametrize("calls", [0, 10, 30, 60])
def test_a_killed_search_goes_on_as_if_nothing_had_happened(tmp_path, calls):
    whole = search_samples(Rewards(), N, 5, batch_size=4, **TOLD)
    with pytest.raises(Killed):
        search_samples(Rewards(calls), N, 5, batch_size=4, out=tmp_path, **TOLD)
    done = read_samples(tmp_path)
    if lines := (tmp_path / "samples.jsonl").read_text() if done else "":
        (tmp_path / "samples.jsonl").write_text(lines + lines.splitlines()[0][:30])  # half a line
    rewards = Rewards()
    assert search_samples(rewards, N, 5, batch_size=4, out=tmp_path, **TOLD) == whole
    assert not set(done) & set(rewards.asked)
    assert read_samples(tmp_path) == dict(enumerate(whole))
    again = Rewards()
    assert search_samples(again, N, 5, out=tmp_path, **TOLD) == whole and not again.asked


def test_other_searches_and_damage_are_refused(tmp_path):
    search_samples(Rewards(), N, 5, out=tmp_path / "one", **TOLD)
    with pytest.raises(ArtefactError, match=r"other settings: budget \(25, now 26\)"):
        search_samples(Rewards(), N, 5, out=tmp_path / "one", **{**TOLD, "budget": 26})
    with pytest.raises(ArtefactError, match=r"data \('', now 'x'\)"):
        search_samples(Rewards(), N, 5, out=tmp_path / "one", data="x", **TOLD)
    lines = (tmp_path / "one" / "samples.jsonl").read_text()
    (tmp_path / "one" / "samples.jsonl").write_text(lines.replace("best", "worst", 1))
    with pytest.raises(ArtefactError, match="damaged"):
        search_samples(Rewards(), N, 5, out=tmp_path / "one", **TOLD)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError, match="holds other files and no search"):
        search_samples(Rewards(), N, 5, out=tmp_path / "other", **TOLD)
    with pytest.raises(ArtefactError, match="no file"):
        read_samples(tmp_path / "none")


def test_rewards_are_counted_and_finite():
    with pytest.raises(DataError, match="there are 1 rewards of 9 samples"):
        search_samples(lambda samples, plans: [1.0], N, 5, **TOLD)
    with pytest.raises(DataError, match="is nan"):
        search_samples(lambda samples, plans: [float("nan")] * len(samples), N, 5, **TOLD)
    with pytest.raises(ConfigError, match="n_samples=0"):
        search_samples(Rewards(), 0, 5, **TOLD)


def test_rows_of_a_routed_batch_serve_as_rewards():
    model, inputs = toy.shared("llama", torch.float64), toy.prompts((9, 4, 7, 6))

    def rewards(samples, plans):
        rows = {name: value[list(samples)] for name, value in inputs.items()}
        with torch.no_grad(), routed(model, plans):
            return model(**rows).logits[:, -1].log_softmax(-1)[:, 7].round(decimals=9).tolist()

    told = {"budget": 12, "progress": False}
    found = search_samples(rewards, 4, 4, batch_size=4, **told)
    assert found == search_samples(rewards, 4, 4, batch_size=1, **told)
    assert all(isinstance(result.best, LayerPlan) and result.simulations == 12 for result in found)
