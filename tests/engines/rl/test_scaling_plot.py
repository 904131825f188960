"""A planted curve fitted in its first part, and what is said of the rest."""

from __future__ import annotations

import numpy as np
import pytest

from c2s.engines.rl.scaling_plot import fitted, write_curves


def curve(n=60, noise=0.005, top=0.8):
    compute = np.linspace(0, 6000, n)
    with np.errstate(divide="ignore"):
        mean = 0.1 + (top - 0.1) / (1 + (500 / compute) ** 1.5)
    mean = mean + noise * np.random.default_rng(0).standard_normal(n)
    return [{"answers": float(c), "mean": float(m)} for c, m in zip(compute, mean)]


def test_the_rest_of_a_planted_curve_lies_within_the_band():
    found = fitted(curve(), first=0.5)
    assert found.n_fitted == 30 and found.law.refusal is None
    assert found.inside >= 0.8 and found.width < 0.15
    assert found.law.asymptote.low < 0.8 < found.law.asymptote.high
    skills = found.skills()
    assert skills["last_value"] > 0 and skills["log_linear"] > 0
    assert "% lie within the 90 % band" in found.said
    assert np.isnan(fitted(curve()).inside)


def test_a_refusal_is_said(tmp_path):
    found = fitted(curve(), first=0.05)
    assert "no fit to the first" in found.said and np.isnan(found.inside)
    write_curves(tmp_path / "c.png", {"one": fitted(curve()), "two": found})
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


def test_points_are_counted_by_compute():
    rows = curve(11)
    assert fitted(rows, first=0.3).n_fitted == 4  # 0, 600, 1,200 and 1,800 of 6,000
    assert fitted(rows).compute[-1] == pytest.approx(6000)
