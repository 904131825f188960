"""What splits share: perturbations as sets of parts, draws for test and validation, and what would give a held-out one away."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeVar

import numpy as np

from c2s.cells.genes import listed
from c2s.cells.library import Perturbation, check_library
from c2s.errors import ConfigError, DataError
from c2s.perturbation.partition import TEST, TRAIN, UNUSED, VALIDATION

Parts = tuple[str, ...]  # what was given together, in alphabetical order
Choice = TypeVar("Choice", Parts, str)


def parts_of(names: Iterable[str], control: str, library: Iterable[Perturbation] | None) -> dict[str, Parts]:
    """Return what each treated name is made of; without a library each is one part, itself.

    Raises
    ------
    DataError
        No cell is a control, none is treated, or treated names are not in the library.
    """
    present = sorted(set(names))
    if control not in present:
        msg = f"no cell is a control ({control!r}); found {listed(present)}. Pass control="
        raise DataError(msg)
    treated = [name for name in present if name != control]
    if not treated:
        msg = f"every cell is a control ({control!r}); a split needs treated cells"
        raise DataError(msg)
    if library is None:
        return {name: (name,) for name in treated}
    known = {row.name: tuple(sorted(row.single)) for row in check_library(library)}
    if missing := [name for name in treated if name not in known]:
        msg = f"{len(missing)} perturbations of the cells are not in the library: {listed(missing)}"
        raise DataError(msg)
    return {name: known[name] for name in treated}


def known_parts(names: Sequence[str], parts: dict[str, Parts]) -> list[Parts]:
    """Return the parts of each name.

    Raises
    ------
    DataError
        No cell has it.
    """
    if missing := [name for name in names if name not in parts]:
        msg = f"no treated cell has {listed(missing)}; found {listed(parts)}"
        raise DataError(msg)
    return [parts[name] for name in names]


def known_values(values: Sequence[str], choices: Sequence[str], key: str) -> list[str]:
    """Return the values.

    Raises
    ------
    DataError
        One is none of the contexts with treated and control cells.
    """
    if missing := [value for value in values if value not in choices]:
        msg = (
            f"{key!r} has no {listed(missing)} with treated and with control cells; those it has are {listed(choices)}"
        )
        raise DataError(msg)
    return list(values)


def two_draws(
    choices: Sequence[Choice],
    named: tuple[Sequence[Choice] | None, Sequence[Choice] | None],
    shares: tuple[float, float],
    rng: np.random.Generator,
    *,
    what: str,
) -> tuple[set[Choice], set[Choice]]:
    """Return what is for the test and what for validation: as named, or shares of the choices, at least one each.

    Raises
    ------
    DataError
        Something is named for both, or nothing is left to learn from.
    """
    wanted = [max(1, round(share * len(choices))) if share else 0 for share in shares]
    sides: list[set[Choice]] = [set(side or ()) for side in named]
    if both := sides[0] & sides[1]:
        msg = f"{listed(sorted(map(_text, both)))} are named for the test and for validation; name each once"
        raise DataError(msg)
    for side, given, n in zip(sides, named, wanted):
        free = [choice for choice in choices if choice not in sides[0] | sides[1]]
        if given is not None or not n:
            continue
        side |= {free[place] for place in rng.permutation(len(free))[:n]}
        if len(free) <= n:
            counts = [len(rows) if rows else n for rows, n in zip(named, wanted)]
            msg = (
                f"{len(choices)} {what}, of which {counts[0]} and {counts[1]} would be for test and validation: none is left to learn "
                "from. Hold out fewer, or pass validation_share=0"
            )
            raise DataError(msg)
    return sides[0], sides[1]


def side_of(held: Parts | None, test: Collection[Parts], validation: Collection[Parts], hidden: Collection[str] = ()) -> str:  # fmt: skip
    """Return the part of a split in which a perturbation made of these parts is; None is the control.

    It takes part in nothing where it is hidden, or holds all parts of a held-out one and more.
    """
    if held is None:
        return TRAIN
    if held in test:
        return TEST
    if held in validation:
        return VALIDATION
    gives_away = any(set(other) <= set(held) for other in (*test, *validation))
    return UNUSED if gives_away or set(held) & set(hidden) else TRAIN


def checked_shares(test_share: float, validation_share: float) -> tuple[float, float]:
    """Return both shares.

    Raises
    ------
    ConfigError
        One is outside 0 to 1, the test's is 0, or they leave nothing.
    """
    if not (0 < test_share < 1 and 0 <= validation_share < 1 and test_share + validation_share < 1):
        msg = f"test_share={test_share}, validation_share={validation_share}; expected shares that leave some, the first above 0"
        raise ConfigError(msg)
    return test_share, validation_share


def _text(choice: Parts | str) -> str:
    return choice if isinstance(choice, str) else " + ".join(choice)
