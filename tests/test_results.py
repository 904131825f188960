"""The result row: NaN only with a reason, intervals whole."""

from __future__ import annotations

import pytest

from c2s.errors import ConfigError
from c2s.results import Result


def test_nan_needs_a_reason():
    with pytest.raises(ConfigError, match="give the reason"):
        Result("accuracy", float("nan"))
    assert Result("accuracy", float("nan"), reason="no cells").reason == "no cells"


@pytest.mark.parametrize("ends", [{"low": 0.1}, {"high": 0.1}, {"low": 0.6, "high": 0.4}])
def test_intervals_are_whole(ends):
    with pytest.raises(ConfigError, match="end"):
        Result("accuracy", 0.5, **ends)
