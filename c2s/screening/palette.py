"""Colours and marks of a screen report. No plotting.

Colours come in pairs (light, dark). Plotly figures are built with the light ones and the page replaces each by its dark
partner, so every light colour is used for one thing only.
"""

from __future__ import annotations

from collections.abc import Sequence

PALETTE: dict[str, tuple[str, str]] = {
    "page": ("#fbfaf7", "#14181c"),
    "surface": ("#ffffff", "#1b2026"),
    "sunken": ("#f2f0ea", "#232a31"),
    "ink": ("#1d242b", "#e9e7e2"),
    "muted": ("#5b646d", "#a3adb6"),
    "line": ("#dedad1", "#343d46"),
    "hit": ("#0b6e69", "#5cc8bd"),
    "hit_tint": ("#dcefec", "#17403e"),
    "refused": ("#a4480f", "#f0a06a"),
    "refused_tint": ("#f8e7da", "#4a2c1a"),
    "plain": ("#7f8a94", "#8894a0"),
    "background": ("#c4c8cb", "#4e5963"),
    "background_tint": ("#e6e7e8", "#2d353d"),
    "second": ("#5b5ea6", "#a9abf0"),
    "second_tint": ("#e4e4f3", "#33345a"),
    "pass": ("#1d6b3a", "#7fcf98"),
    "fail": ("#a3262a", "#f2918d"),
}
CLASS_COLOURS: tuple[tuple[str, str], ...] = (
    ("#0072b1", "#5fb6ea"),
    ("#d15e01", "#f28c3c"),
    ("#019e72", "#3fcfa2"),
    ("#b8578f", "#e294c1"),
    ("#8a7a00", "#d9c93a"),
    ("#3b2f8f", "#9a8ff0"),
    ("#6d4c33", "#c79f7d"),
    ("#4c4c50", "#b9b9bf"),
)
SYMBOLS = {"hit": "diamond", "refused": "square-x-open", "no hit": "circle"}
VERDICT_NAMES = {"hit": "Hit", "refused": "Refused: no head-room shown", "no hit": "No hit"}
FONT = 'Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif'


def colour(name: str) -> str:
    """Return the light colour of a palette entry."""
    return PALETTE[name][0]


def dark_partners() -> dict[str, str]:
    """Return light colour to dark colour for everything the figures draw."""
    return dict([*PALETTE.values(), *CLASS_COLOURS])


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """Return a light colour for each planted class; the ninth class starts again at the first colour."""
    return {name: CLASS_COLOURS[i % len(CLASS_COLOURS)][0] for i, name in enumerate(sorted(set(classes)))}
