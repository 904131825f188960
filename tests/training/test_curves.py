"""Curves: the history as JSON, and a picture of it."""

from __future__ import annotations

from matplotlib.image import imread

from c2s.artefacts import read_json
from c2s.training.curves import write_curves

HISTORY = [
    {"step": 1, "loss": 3.0},
    {"step": 1, "eval_loss": 3.5},
    {"step": 2, "loss": 2.0},
    {"step": 2, "train_loss": 2.5},
]


def test_json_and_picture(tmp_path):
    write_curves(tmp_path, HISTORY)
    assert read_json(tmp_path / "curves.json") == HISTORY
    picture = imread(tmp_path / "curves.png")
    assert picture.shape[0] > 300
    blue = (picture[..., 2] > picture[..., 0] + 0.3).sum()
    orange = (picture[..., 0] > picture[..., 2] + 0.5).sum()
    assert blue > 100
    assert orange > 0  # one line of each: training and held out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.json", "curves.png"]


def test_a_run_without_held_out_examples_has_curves_too(tmp_path):
    write_curves(tmp_path, [row for row in HISTORY if "eval_loss" not in row])
    assert (tmp_path / "curves.png").stat().st_size > 1000
