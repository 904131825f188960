"""What cells are made up of: their types with counts, percentages as text, the values they agree on, and templates to say it in."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from c2s.cells.reading import require_column
from c2s.errors import ConfigError

Composition = tuple[tuple[str, int], ...]


def composition(labels: Iterable[str]) -> Composition:
    """Return each label with its number of cells, the most frequent first, ties by name."""
    counts = Counter(map(str, labels))
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def percent(part: int, whole: int) -> str:
    """Return a share in whole percent, halves up: ``37 %``; ``under 1 %`` and ``over 99 %`` where it is not quite nothing or all."""
    rounded = (200 * part + whole) // (2 * whole)
    if rounded == 0 and part:
        return "under 1 %"
    return "over 99 %" if rounded == 100 and part < whole else f"{rounded} %"


def shares_text(parts: Sequence[tuple[str, int]], whole: int) -> str:
    """Return ``B cell (40 %), NK cell (9 %)``; empty where there are no parts."""
    return ", ".join(f"{label} ({percent(count, whole)})" for label, count in parts)


def joined(values: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(values[:-1]), *values[-1:])))


def chosen_columns(obs: pd.DataFrame, columns: Mapping[str, str] | None, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the values of the columns that tell ``names``: those of ``columns``, or of the same name where there are any.

    Raises
    ------
    ConfigError
        ``columns`` tells something else.
    DataError
        There is no such column.
    """
    if columns is not None and (unknown := sorted(set(columns) - set(names))):
        msg = f"columns= tells {', '.join(unknown)}; it can tell {', '.join(names)}"
        raise ConfigError(msg)
    taken = {name: name for name in names if name in obs.columns} if columns is None else dict(columns)
    return {name: require_column(obs, column, "columns").to_numpy(object) for name, column in taken.items()}


def known_values(values: np.ndarray) -> tuple[str, ...]:
    """Return the distinct values, the most frequent first; missing ones are left out."""
    return tuple(value for value, _ in composition(value for value in values if not pd.isna(value)))


def drawn_templates(names: Sequence[str], *, wanted: int, of: int, argument: str, seed: int) -> list[list[int]]:
    """Return, for each name, ``wanted`` different templates of ``of``, drawn by ``seed`` and that name.

    Raises
    ------
    ConfigError
        ``wanted``, which the caller names ``argument``, is below 1 or above ``of``.
    """
    if not 1 <= wanted <= of:
        msg = f"{argument}={wanted}; expected 1 to {of}, the number of templates"
        raise ConfigError(msg)
    keys = [[seed, zlib.crc32(name.encode())] for name in names]
    return [np.random.default_rng(key).permutation(of)[:wanted].tolist() for key in keys]
