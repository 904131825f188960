"""Pass rates of a model, found once and kept; prompts chosen by them."""

from __future__ import annotations

import numpy as np
import pytest

from c2s.engines.rl.curriculum import TargetMix, curate
from c2s.engines.rl.probing import probe
from c2s.engines.rl.settings import RunSettings
from c2s.errors import ConfigError
from tests.engines.rl import toy

SETTINGS = RunSettings(prompts=3, answers=4, batch_size=12, max_tokens=4)


def test_a_cut_probe_goes_on_and_finds_the_same(tmp_path):
    left = [2]  # batches before the cut

    def early(completion_ids, start, **columns):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return verdict(completion_ids, start)

    def verdict(completion_ids, start, **columns):
        return [float(ids[0] % 3 <= at % 3) for ids, at in zip(completion_ids, start)]

    early.__name__ = verdict.__name__  # the same verifier, cut off
    model = toy.model()
    with pytest.raises(KeyboardInterrupt):
        probe(toy.problem(verifier=early), model, settings=SETTINGS, out=tmp_path / "p.json")
    done = []
    found = probe(
        toy.problem(verifier=verdict), model, settings=SETTINGS, out=tmp_path / "p.json", progress=done.append
    )
    assert sum(done) == 16 - 6
    whole = probe(toy.problem(verifier=verdict), model, settings=SETTINGS, out=tmp_path / "q.json")
    np.testing.assert_array_equal(found.pass_rates, whole.pass_rates)
    assert (found.answers == 4).all() and len(set(found.pass_rates)) > 2
    chosen = curate(found.pass_rates, TargetMix(hard=0, medium=1, easy=0))
    assert ((found.pass_rates[chosen.prompts] > 0.25) & (found.pass_rates[chosen.prompts] < 0.75)).all()
    for problem, other in (
        (toy.problem(verifier=lambda **told: []), model),
        (toy.problem(verifier=verdict), toy.model(1)),
    ):
        with pytest.raises(ConfigError, match="verifier or weights"):
            probe(problem, other, settings=SETTINGS, out=tmp_path / "p.json")
    with pytest.raises(ConfigError, match="other prompts, settings, verifier or weights"):
        probe(
            toy.problem(verifier=verdict),
            model,
            settings=SETTINGS.with_(answers=2, batch_size=6),
            out=tmp_path / "p.json",
        )
    with pytest.raises(ConfigError, match="give the problem a verifier"):
        probe(toy.problem(rewards=[verdict]), model, settings=SETTINGS, out=tmp_path / "r.json")
