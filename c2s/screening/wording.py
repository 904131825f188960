"""Numbers and settings as people write them, for the screen report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return a nested mapping as ``(dotted name, shown value)``."""
    rows = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            rows += flat(item, f"{prefix}{key}.")
        else:
            shown = (
                ", ".join(map(shown_value, item)) if isinstance(item, list | tuple | np.ndarray) else shown_value(item)
            )
            rows.append((f"{prefix}{key}", shown))
    return rows


def shown_value(value: object) -> str:
    """Return a setting or a count as text: thousands separated, at most four digits after the point."""
    if value is None:
        return "not set"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}" if abs(int(value)) < 10**9 else str(value)
    if isinstance(value, float | np.floating):
        return f"{value:.4g}" if math.isfinite(value) else "not available"
    return str(value)


def shown_effect(value: Any, digits: int = 3) -> str:
    """Return an effect with its sign and a true minus; an en dash where it is missing."""
    if value is None or not math.isfinite(value):
        return "–"
    shown = f"{value:+.{digits}f}".replace("-", "−")
    return shown if shown.strip("+−0.") else shown[1:]


def shown_p(value: Any) -> str:
    """Return a p- or q-value with two significant digits; an en dash where it is missing."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.2g}" if value >= 0.001 else f"{value:.0e}".replace("e-0", "e−").replace("e-", "e−")
