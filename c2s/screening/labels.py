"""Where to write names beside points so that they overlap neither each other nor many points. Pixels, no plotting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

_STEPS = (16, 30, 46, 64, 84, 106, 130, 156)  # pixels from the point
_ANGLES = (0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.0, -2.0, 2.6, -2.6, np.pi)  # radians; to the right first


@dataclass(frozen=True)
class Label:
    """A name, the point it belongs to (data units) and its offset from it (pixels, up is positive)."""

    text: str
    x: float
    y: float
    dx: float
    dy: float
    align: Literal["left", "right", "center"]


def place_labels(
    named: pd.DataFrame,
    crowd: np.ndarray,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    *,
    size: tuple[int, int],
    font: float = 12.0,
) -> list[Label]:
    """Return one label per row of ``named``, greedily placed from the rightmost point to the left.

    Parameters
    ----------
    named : DataFrame
        ``name``, ``x``, ``y`` in data units. Names longer than 28 characters are cut with an ellipsis.
    crowd : ndarray, shape (m, 2), data units
        Points that labels had better not cover.
    x_range, y_range : tuple of float
        Limits of the axes.
    size : tuple of int
        Width and height of the plot area in pixels.
    font : float
        Height of the letters in pixels; a letter counts as 0.58 of it wide.
    """
    scale = np.array([size[0] / (x_range[1] - x_range[0]), size[1] / (y_range[1] - y_range[0])])
    corner = np.array([x_range[0], y_range[0]])
    crowd = (crowd[np.isfinite(crowd).all(axis=1)] - corner) * scale
    finite = named[np.isfinite(named[["x", "y"]].to_numpy(float)).all(axis=1)]
    boxes = np.zeros((0, 4))
    labels = []
    for row in finite.sort_values("x", ascending=False, kind="stable").itertuples():
        text = str(row.name) if len(str(row.name)) <= 28 else str(row.name)[:27] + "…"
        point = (np.array([row.x, row.y], dtype=float) - corner) * scale
        width, height = 0.58 * font * len(text) + 6, font + 6
        best: tuple[float, Label, np.ndarray] | None = None
        for step in _STEPS:
            for angle in _ANGLES:
                dx, dy = step * float(np.cos(angle)), step * float(np.sin(angle))
                align: Literal["left", "right", "center"] = (
                    "center" if abs(dx) < 0.3 * step else "left" if dx > 0 else "right"
                )
                left = point[0] + dx - {"left": 0.0, "center": width / 2, "right": width}[align]
                box = np.array([left, point[1] + dy - height / 2, left + width, point[1] + dy + height / 2])
                cost = (
                    step / 20
                    + 6 * _covered(box, crowd, reach=0.45 * font)
                    + _overlap(box, boxes) / 8
                    + _outside(box, size)
                )
                if best is None or cost < best[0]:
                    best = (cost, Label(text, float(row.x), float(row.y), round(dx, 1), round(dy, 1), align), box)
            if best is not None and best[0] <= step / 20:
                break
        if best is not None:
            labels.append(best[1])
            boxes = np.vstack([boxes, best[2]])
    return labels


def _covered(box: np.ndarray, points: np.ndarray, *, reach: float) -> int:
    """Return how many marks of radius ``reach`` the box touches."""
    return int(((points >= box[:2] - reach) & (points <= box[2:] + reach)).all(axis=1).sum())


def _overlap(box: np.ndarray, boxes: np.ndarray) -> float:
    """Return the area in square pixels that ``box`` shares with ``boxes``."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    return float(np.prod(np.clip(sides, 0, None), axis=1).sum())


def _outside(box: np.ndarray, size: tuple[int, int]) -> float:
    """Return a price for every pixel beyond the plot area."""
    return float(np.clip([-box[0], -box[1], box[2] - size[0], box[3] - size[1]], 0, None).sum())
