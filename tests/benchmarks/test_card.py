"""Cards name data, versions and machine, and cannot hide an unmet bar."""

from __future__ import annotations

import json
import math
import platform

import pytest

from benchmarks.card import Figure, write_card
from benchmarks.render import render


def test_card_round_trip(tmp_path):
    figures = [Figure("cells per second", 91000.0, 90000.0, 92000.0, n=5, seeds=[0, 1], bar=">= 80,000", met=True)]
    path = write_card(
        tmp_path, figures, data={"name": "synthetic", "cells": 20000}, notes=["after warm-up"], seconds=3.14
    )
    card = json.loads(path.read_text(encoding="utf-8"))
    assert card["figures"][0]["value"] == 91000.0
    assert card["figures"][0]["met"] is True
    assert card["seconds"] == 3.1
    assert card["versions"]["python"] == platform.python_version()
    assert {"figures", "data", "notes", "versions", "machine", "commit", "seconds"} == set(card)


def test_card_names_no_host_and_no_path(tmp_path):
    text = write_card(tmp_path, [], data={"name": "x"}, seconds=0).read_text(encoding="utf-8")
    assert platform.node() not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("figure", [
    {"value": None}, {"value": math.nan}, {"value": 0.1, "bar": ">= 0.9", "met": False}, {"value": 0.1, "bar": ">= 0.9"},
])  # fmt: skip
def test_a_missing_or_unmet_figure_needs_its_reason(figure):
    with pytest.raises(ValueError, match="reason|whether"):
        Figure("area", **figure)


def test_page_shows_unmet_bars_with_their_reason(tmp_path):
    folder = tmp_path / "benchmarks" / "demo"
    folder.mkdir(parents=True)
    (folder / "run.py").write_text('"""Is the drug read?\n\nMore."""\n', encoding="utf-8")
    figures = [Figure("area", 0.71, 0.6, 0.8, n=20, seeds=[0], bar=">= 0.90", met=False, reason="too few steps")]
    write_card(folder, figures, data={"name": "simulated", "hash": "ab|cd"}, notes=["bootstrap"], seconds=12)
    page = render(tmp_path)
    assert "Is the drug read?" in page
    assert "| area | 0.71 | 0.6 to 0.8 | 20 | 0 | >= 0.90 | **no** |" in page
    assert "- *area*: too few steps" in page
