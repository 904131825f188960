"""The split by unseen combinations, in tiers by how many of a combination's parts training has seen alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from c2s.cells.genes import listed
from c2s.cells.library import Perturbation
from c2s.errors import ConfigError, DataError
from c2s.perturbation.draws import Parts, checked_shares, parts_of, side_of
from c2s.perturbation.partition import TEST, VALIDATION, Split, conditions_of, divided

logger = logging.getLogger(__name__)

ATTEMPTS = 200  # draws of the parts to hide until every tier has a combination


def unseen_combination(
    obs: pd.DataFrame,
    *,
    library: Sequence[Perturbation],
    perturbation_key: str,
    control: str,
    context_keys: Sequence[str] = (),
    hide_parts: Sequence[str] | None = None,
    hide_share: float = 0.2,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    tiers: Sequence[int] = (0, 1, 2),
    seed: int = 0,
) -> Split:
    """Return a split whose test holds combinations that training lacks, in tiers by how many parts it has seen alone.

    Some parts are hidden: their cells alone take part in nothing, and every combination with one of them is held out. Of the other combinations a
    share is. ``"seen 2"`` is a pair of which training has both parts alone, ``"seen 0"`` one of which it has neither (Roohani et al., Nature
    Biotechnology 2024). A part that was never measured alone counts as not seen.

    Parameters
    ----------
    obs : DataFrame, n rows
        Cell metadata.
    library : sequence of Perturbation
        Says which names are combinations, and of what.
    perturbation_key, control
        The column of perturbations, and its value in untreated cells; those stay in training.
    context_keys : sequence of str
        Columns that are listed with the held-out conditions (cell type, donor).
    hide_parts : sequence of str, optional
        Parts to hide; drawn by ``seed`` where left out, anew until each of ``tiers`` has a combination in the test.
    hide_share : float
        Share of the parts measured alone that is hidden, at least one; 0 hides none.
    test_share, validation_share : float
        Shares of the combinations without a hidden part; those with one are divided between test and validation in the same proportion. A tier
        with a single combination has it in the test. ``validation_share=0`` asks for no validation.
    tiers : sequence of int
        Numbers of parts seen alone that the test must have: ``(2,)`` with ``hide_share=0`` where parts are to stay.
    seed : int

    Raises
    ------
    ConfigError
        A share outside 0 to 1.
    DataError
        A column is missing or has gaps, a perturbation is not in the library, there is no combination, a part to hide is not measured alone, a tier of
        the test or all of validation stays empty, or nothing is left to learn from.
    """
    shares = checked_shares(test_share, validation_share)
    if not 0 <= hide_share < 1:
        msg = f"hide_share={hide_share}; expected a share of at least 0 and below 1"
        raise ConfigError(msg)
    keys = [perturbation_key, *context_keys]
    _, table = conditions_of(obs, keys)
    parts = parts_of(table[perturbation_key], control, library)
    combined = sorted({held for held in parts.values() if len(held) > 1})
    if not combined:
        msg = f"none of {len(parts)} perturbations in {perturbation_key!r} is a combination; parts= of the library says what is one"
        raise DataError(msg)
    alone = {held[0] for held in parts.values() if len(held) == 1}
    hideable = sorted(alone & {part for held in combined for part in held})
    rng = np.random.default_rng(seed)
    best: tuple[tuple[int, int], set[str], set[Parts], set[Parts]] | None = None
    for hidden in _hidden(hideable, hide_parts, hide_share, rng):
        test, validation = _divide(combined, alone - hidden, hidden, shares, rng)
        short = len(_lacking(test, alone - hidden, tiers))
        score = (short, len(_lacking(validation, alone - hidden, tiers)) if validation_share else 0)
        if best is None or score < best[0]:
            best = (score, hidden, test, validation)
        if score == (0, 0):
            break
    assert best is not None  # there is one draw at least
    _, hidden, test, validation = best
    seen = alone - hidden
    lacking = _lacking(test, seen, tiers)
    if lacking or (validation_share and not validation):
        what = f"the test's seen {', '.join(map(str, lacking))}" if lacking else "validation"
        msg = (
            f"none of {len(combined)} combinations is left for {what}; hide other parts (hide_parts=, hide_share=), or change "
            "tiers= or the shares"
        )
        raise DataError(msg)
    if validation and (lacking := _lacking(validation, seen, tiers)):
        logger.warning("validation has no combination of the tiers seen %s", ", ".join(map(str, lacking)))
    table["part"] = [side_of(parts.get(name), test, validation, hidden) for name in table[perturbation_key]]
    tier = {name: f"seen {len(seen & set(held))}" for name, held in parts.items()}
    held_out = table["part"].isin([TEST, VALIDATION])
    table["tier"] = np.where(held_out, table[perturbation_key].map(tier), "")
    name = "unseen combination"
    return divided(name, obs, table, keys=keys, control=control, apart=[[perturbation_key]], seed=seed)


def _hidden(
    hideable: Sequence[str], named: Sequence[str] | None, share: float, rng: np.random.Generator
) -> Iterator[set[str]]:
    """Yield sets of parts to hide: the one named, or draws."""
    if named is not None:
        if unknown := sorted(set(named) - set(hideable)):
            msg = f"hide_parts names {listed(unknown)}; parts measured alone and in a combination are {listed(hideable) or 'none'}"
            raise DataError(msg)
        yield set(named)
        return
    n = max(1, round(share * len(hideable))) if share else 0
    for _ in range(ATTEMPTS if n else 1):
        yield {hideable[place] for place in rng.permutation(len(hideable))[:n]}


def _divide(
    combined: Sequence[Parts], seen: set[str], hidden: set[str], shares: tuple[float, float], rng: np.random.Generator
) -> tuple[set[Parts], set[Parts]]:
    """Return the combinations of the test and of validation, tier by tier; all with a hidden part are in one of them."""
    test_share, validation_share = shares
    test: set[Parts] = set()
    validation: set[Parts] = set()
    groups: dict[tuple[bool, int], list[Parts]] = {}
    for held in combined:
        groups.setdefault((bool(hidden & set(held)), len(seen & set(held))), []).append(held)
    for (is_forced, _), rows in sorted(groups.items()):
        order = [rows[place] for place in rng.permutation(len(rows))]
        part = validation_share / (test_share + validation_share) if is_forced else validation_share
        n_validation = min(max(1, round(part * len(rows))), len(rows) - 1) if validation_share else 0
        n_test = len(rows) - n_validation if is_forced else min(max(1, round(test_share * len(rows))), len(rows) - n_validation)  # fmt: skip
        test |= set(order[:n_test])
        validation |= set(order[n_test : n_test + n_validation])
    return test, validation


def _lacking(side: set[Parts], seen: set[str], tiers: Sequence[int]) -> list[int]:
    """Return the tiers of which a side has no combination."""
    return sorted(set(tiers) - {len(seen & set(held)) for held in side})
