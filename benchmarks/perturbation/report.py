"""The card of what has been made: every row's means with their floor and ceiling, what the second stage changed, who wins."""

from __future__ import annotations

from pathlib import Path


def report(made: Path) -> None:
    """Write the card."""
