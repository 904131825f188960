"""Settings that contradict one another are refused with the reason."""

from __future__ import annotations

import pytest

from c2s.engines.elastic_cache.rivals import RIVALS, rival
from c2s.engines.elastic_cache.settings import DecodeSettings, preset
from c2s.errors import ConfigError


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"refresh": "never", "gamma": 0.5}, "gamma=0.5 is not read with refresh='never', only with 'elastic'"),
        ({"refresh": "always", "query_committed": False}, "query_committed=False is not read with refresh='always'"),
        ({"refresh": "always", "refresh_far": False}, "refresh_far=False is not read"),
        ({"refresh": "interval", "tracked": 2}, "tracked=2 is not read"),
        ({"interval": 3}, "interval=3 is not read with refresh='elastic', only with 'interval'; leave it at 8"),
        ({"live": "masks"}, "live='masks' is not read with refresh='elastic'"),
        ({"refresh": "block"}, "refresh='block' needs blocks; give scheme='blocks'"),
        ({"refresh": "never", "live": "suffix"}, "live='suffix' needs blocks"),
        ({"window": 0}, "window: Input should be greater than or equal to 1"),
        ({"commit": 1.5}, "commit"),
        ({"gamma": float("nan")}, "gamma"),
        ({"windows": 3}, "windows"),
    ],
)
def test_refusals(told, reason):
    with pytest.raises(ConfigError, match=reason):
        DecodeSettings(**told)


def test_presets():
    paper = preset("paper")
    assert (paper.window, paper.commit, paper.gamma, paper.tracked, paper.refresh) == (16, 0.9, 0.9, 1, "elastic")
    with pytest.raises(ConfigError, match="there is no preset 'fast'; there are paper"):
        preset("fast")


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_keeps_what_is_written_and_drops_what_is_cached(name):
    ours = DecodeSettings(window=5, commit=0.3, temperature=0.5, guidance=1.0, gamma=0.99, tracked=2, signal="head")
    theirs = rival(name, ours)
    assert (theirs.window, theirs.commit, theirs.temperature, theirs.guidance) == (5, 0.3, 0.5, 1.0)
    assert theirs.gamma == DecodeSettings().gamma


def test_a_rival_that_is_none():
    with pytest.raises(ConfigError, match="there is no rival 'd2'; there are always, never"):
        rival("d2", DecodeSettings())
    with pytest.raises(ConfigError, match="'dual' has no interval"):
        rival("dual", DecodeSettings(), interval=3)
    assert rival("interval", DecodeSettings(), interval=3).interval == 3
