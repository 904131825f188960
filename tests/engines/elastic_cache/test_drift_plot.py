"""The picture of drift is written whole, or not at all."""

from __future__ import annotations

import pytest
from matplotlib.image import imread

from c2s.engines.elastic_cache.decoding import decode
from c2s.engines.elastic_cache.drift_plot import write_drift
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.errors import ConfigError
from tests.engines.elastic_cache.families import parts_of, request


def test_marks_stand_where_steps_refreshed(tmp_path):
    asked = [request(5, 9)]
    pictures = []
    for gamma in (-1.0, 2.0):
        found = decode(parts_of("llama"), asked, DecodeSettings(window=3, commit=1.0, gamma=gamma)).accounting
        write_drift(tmp_path / "drift.png", found)
        pictures.append(imread(tmp_path / "drift.png"))

    def red(picture):
        return int(((picture[..., 0] > 0.8) & (picture[..., 1] < 0.15) & (picture[..., 2] < 0.35)).sum())

    assert red(pictures[1]) > 2 * red(pictures[0]) > 0


def test_a_request_that_is_not_there(tmp_path):
    found = decode(parts_of("llama"), [request()], DecodeSettings()).accounting
    with pytest.raises(ConfigError, match="request is 1 and there are 1; give one of them, from 0"):
        write_drift(tmp_path / "drift.png", found, request=1)
    assert not list(tmp_path.iterdir())
