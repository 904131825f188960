"""A calibrated gamma refreshes about as often as asked, and says why where it cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest

from c2s.engines.elastic_cache.accounting import Accounting, Shape, Trace
from c2s.engines.elastic_cache.calibration import calibrate, least_cosines
from c2s.engines.elastic_cache.decoding import decode
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.errors import ConfigError, DataError
from tests.engines.elastic_cache.families import parts_of, request

SETTINGS = DecodeSettings(window=4, commit=1.0, tracked=2)


def test_least_cosines_leave_the_last_layer_out():
    nan = math.nan
    drift = [[nan, nan, nan], [0.1, 0.3, 0.9], [0.2, nan, nan]]
    trace = Trace(3, drift=drift)
    np.testing.assert_allclose(least_cosines(Accounting([trace], Shape((1, 1, 1), 1, 1, 1), 0)), [0.7, 0.8])


@pytest.mark.parametrize("target", [0.1, 0.5])
def test_the_rate_met_is_about_the_one_asked_for(target):
    sample, later = ([request(5, 16, seed=seed) for seed in seeds] for seeds in (range(6), range(100, 106)))
    settings = calibrate(parts_of("llama"), sample, SETTINGS, target=target)
    assert settings.with_(gamma=0.9) == SETTINGS
    measured = least_cosines(decode(parts_of("llama"), sample, SETTINGS.with_(gamma=-1.0)).accounting)
    assert np.mean(measured < settings.gamma) == pytest.approx(target, abs=0.02)
    met = decode(parts_of("llama"), later, settings).accounting.refresh_rate
    assert target / 2 <= met <= min(2 * target, 0.9)


def test_refusals():
    parts, asked = parts_of("llama"), [request(4, 5)]
    with pytest.raises(ConfigError, match="target is 1.2; give the share of steps"):
        calibrate(parts, asked, SETTINGS, target=1.2)
    with pytest.raises(ConfigError, match="gamma is not read with refresh='never'"):
        calibrate(parts, asked, DecodeSettings(refresh="never"))
    with pytest.raises(DataError, match="the 1 requests were filled before attention could be compared"):
        calibrate(parts, asked, DecodeSettings(commit=0.0))
