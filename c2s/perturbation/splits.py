"""Splits of perturbation studies by what is unseen: a perturbation, a combination, a context, both, or conditions that are listed.

Whole conditions are held out, never single cells. Validation, for choosing checkpoints, is held out in the same way as the test. What would give away
a held-out condition (a combination with a held-out part, a held-out perturbation in another context) takes part in nothing; only conditions that are
listed by the caller are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from c2s.cells.genes import listed
from c2s.cells.library import Perturbation
from c2s.errors import ConfigError, DataError
from c2s.perturbation.combination_splits import unseen_combination
from c2s.perturbation.draws import checked_shares, known_parts, known_values, parts_of, side_of, two_draws
from c2s.perturbation.partition import CONTROLS, TEST, TRAIN, UNUSED, VALIDATION, Split, conditions_of, divided

__all__ = ["Split", "unseen_both", "unseen_combination", "unseen_conditions", "unseen_context", "unseen_perturbation"]

PERTURBATION, CONTEXT, BOTH = "unseen perturbation", "unseen context", "unseen both"


def unseen_perturbation(
    obs: pd.DataFrame,
    *,
    perturbation_key: str,
    control: str,
    context_keys: Sequence[str] = (),
    library: Sequence[Perturbation] | None = None,
    perturbations: Sequence[str] | None = None,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    seed: int = 0,
) -> Split:
    """Return a split whose test holds perturbations that training has in no context.

    Parameters
    ----------
    obs : DataFrame, n rows
        Cell metadata.
    perturbation_key, control
        The column of perturbations, and its value in untreated cells; those stay in training.
    context_keys : sequence of str
        Columns that are listed with the held-out conditions (cell type, donor).
    library : sequence of Perturbation, optional
        Says what is a combination, and what has a role other than ``"drug"``: neither is drawn. Combinations that hold what is held out take part in
        nothing. Without it every name is a perturbation of its own.
    perturbations : sequence of str, optional
        What the test holds; drawn by ``seed`` where left out.
    test_share, validation_share : float
        Shares of the perturbations, at least one each. ``validation_share=0`` asks for no validation.
    seed : int

    Raises
    ------
    ConfigError
        A share outside 0 to 1.
    DataError
        A column is missing or has gaps, a perturbation is not in the cells or the library, or nothing is left to learn from.
    """
    shares = checked_shares(test_share, validation_share)
    keys = [perturbation_key, *context_keys]
    _, table = conditions_of(obs, keys)
    parts = parts_of(table[perturbation_key], control, library)
    named = None if perturbations is None else known_parts(perturbations, parts)
    test, validation = two_draws(
        _singles(parts, library), (named, None), shares, np.random.default_rng(seed), what="single perturbations"
    )
    table["part"] = [side_of(parts.get(name), test, validation) for name in table[perturbation_key]]
    table["tier"] = np.where(table["part"].isin([TEST, VALIDATION]), PERTURBATION, "")
    return divided(PERTURBATION, obs, table, keys=keys, control=control, apart=[[perturbation_key]], seed=seed)


def unseen_context(
    obs: pd.DataFrame,
    *,
    perturbation_key: str,
    control: str,
    context_key: str,
    values: Sequence[str] | None = None,
    validation_values: Sequence[str] | None = None,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    seed: int = 0,
) -> Split:
    """Return a split whose test holds the treated cells of contexts (cell types, donors) that training never has.

    The control cells of held-out contexts are in ``controls``: predictions start from them, nothing is learnt from them. A perturbation that
    training has nowhere is of the tier ``"unseen both"``.

    Parameters
    ----------
    obs, perturbation_key, control, seed
        As :func:`unseen_perturbation`.
    context_key : str
        The column of contexts.
    values, validation_values : sequence of str, optional
        Contexts of the test and of validation; drawn by ``seed`` where left out, among those with treated and control cells.
    test_share, validation_share : float
        Shares of the contexts, at least one each. ``validation_share=0`` asks for no validation, as where there are only two donors.

    Raises
    ------
    ConfigError
        A share outside 0 to 1.
    DataError
        A column is missing or has gaps, a context is not in the cells or has no control, or nothing is left to learn from.
    """
    shares = checked_shares(test_share, validation_share)
    keys = [perturbation_key, context_key]
    _, table = conditions_of(obs, keys)
    parts_of(table[perturbation_key], control, None)
    test, validation = _contexts(table, keys, control, (values, validation_values), shares, np.random.default_rng(seed))
    sides = {**dict.fromkeys(test, TEST), **dict.fromkeys(validation, VALIDATION)}
    table["part"] = table[context_key].map(sides).fillna(TRAIN)
    held, is_control = table["part"] != TRAIN, table[perturbation_key] == control
    table.loc[held & is_control, "part"] = CONTROLS
    known = set(table.loc[~held, perturbation_key])
    table["tier"] = np.where(held & ~is_control, np.where(table[perturbation_key].isin(known), CONTEXT, BOTH), "")
    return divided(CONTEXT, obs, table, keys=keys, control=control, apart=[[context_key]], seed=seed)


def unseen_both(
    obs: pd.DataFrame,
    *,
    perturbation_key: str,
    control: str,
    context_key: str,
    library: Sequence[Perturbation] | None = None,
    perturbations: Sequence[str] | None = None,
    values: Sequence[str] | None = None,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    seed: int = 0,
) -> Split:
    """Return a split whose test holds perturbations that training has nowhere, in contexts that training never has.

    Held-out perturbations in other contexts and other perturbations in held-out contexts take part in nothing; control cells of held-out contexts
    are in ``controls``.

    Parameters
    ----------
    obs, perturbation_key, control, library, perturbations, seed
        As :func:`unseen_perturbation`.
    context_key, values
        As :func:`unseen_context`.
    test_share, validation_share : float
        Shares of the perturbations, and of the contexts, at least one each. ``validation_share=0`` asks for no validation.

    Raises
    ------
    ConfigError
        A share outside 0 to 1.
    DataError
        As the two, or no held-out perturbation was measured in a held-out context.
    """
    shares = checked_shares(test_share, validation_share)
    keys = [perturbation_key, context_key]
    _, table = conditions_of(obs, keys)
    parts = parts_of(table[perturbation_key], control, library)
    rng = np.random.default_rng(seed)
    named = None if perturbations is None else known_parts(perturbations, parts)
    held = two_draws(_singles(parts, library), (named, None), shares, rng, what="single perturbations")
    contexts = _contexts(table, keys, control, (values, None), shares, rng)
    sides = {**dict.fromkeys(contexts[0], TEST), **dict.fromkeys(contexts[1], VALIDATION)}
    of_context = table[context_key].map(sides).fillna(TRAIN)
    of_name = pd.Series([side_of(parts.get(name), *held) for name in table[perturbation_key]])
    is_control = table[perturbation_key] == control
    table["part"] = np.where(of_context == of_name, of_name, UNUSED)
    table.loc[is_control, "part"] = np.where(of_context[is_control] == TRAIN, TRAIN, CONTROLS)
    table["tier"] = np.where(table["part"].isin([TEST, VALIDATION]), BOTH, "")
    if validation_share and not (table["part"] == VALIDATION).any():
        msg = (
            f"no perturbation for validation was measured in {listed(sorted(contexts[1]))}; take another seed=, larger shares, "
            "or validation_share=0"
        )
        raise DataError(msg)
    apart = [[perturbation_key], [context_key]]
    return divided(f"{PERTURBATION} and context", obs, table, keys=keys, control=control, apart=apart, seed=seed)


def unseen_conditions(
    obs: pd.DataFrame,
    *,
    conditions: Mapping[str, Sequence[Mapping[str, str]]],
    perturbation_key: str,
    control: str,
    library: Sequence[Perturbation] | None = None,
    name: str = "listed conditions",
    validation_share: float = 0.1,
    seed: int = 0,
) -> Split:
    """Return a split whose test holds the conditions listed, in tiers; everything else is learnt from, controls included.

    Parameters
    ----------
    obs, perturbation_key, control
        As :func:`unseen_perturbation`.
    conditions : mapping of str to sequence of mapping
        Tier to conditions, each a mapping of columns to values with the perturbation among them. Columns left out may have any value:
        ``{"pair": [{"cytokine": "IFNB + IL6"}], "one exposure": [{"cytokine": "IFNB", "cell_type": "B", "exposure": "acute"}]}``.
    library : sequence of Perturbation, optional
        With it, validation of a tier is drawn among perturbations with as many parts.
    name : str
        What the split is called.
    validation_share : float
        For each tier, the share of the training conditions over the same columns that is held out for validation, at least one; 0 asks for none.
    seed : int
        Draws them.

    Raises
    ------
    ConfigError
        A share outside 0 to 1.
    DataError
        A column is missing or has gaps; a condition names no perturbation, the control, or no cell; two tiers hold the same condition; or no training
        condition of a tier's kind is left for validation.
    """
    if not 0 <= validation_share < 1:
        msg = f"validation_share={validation_share}; expected a share of at least 0 and below 1"
        raise ConfigError(msg)
    named = {column for rows in conditions.values() for row in rows for column in row}
    keys = [perturbation_key, *sorted(named - {perturbation_key})]
    _, table = conditions_of(obs, keys)
    parts = parts_of(table[perturbation_key], control, library)
    table["part"], table["tier"] = TRAIN, ""
    kinds: dict[tuple[str, tuple[str, ...], int], None] = {}
    for tier, rows in conditions.items():
        for row in rows:
            chosen = _matching(table, row, perturbation_key, control)
            if (taken := chosen & (table["tier"] != tier) & (table["part"] == TEST)).any():
                msg = f"{_written(row)} is in the tiers {table.loc[taken, 'tier'].iloc[0]!r} and {tier!r}; list it once"
                raise DataError(msg)
            table.loc[chosen, ["part", "tier"]] = TEST, tier
            columns = tuple(key for key in keys if key in row)
            kinds[tier, columns, len(parts[str(row[perturbation_key])])] = None
    rng = np.random.default_rng(seed)
    for tier, columns, n_parts in kinds if validation_share else ():
        of_kind = np.array([len(parts.get(value, ())) == n_parts for value in table[perturbation_key]])
        whole = (table["part"] == TRAIN).groupby([table[column] for column in columns]).transform("all") & of_kind
        groups = table[whole].groupby(list(columns)).indices
        n = max(1, round(validation_share * len(groups)))
        if not groups:
            msg = (
                f"training has no whole condition over ({', '.join(columns)}) of the kind of tier {tier!r} to hold out for validation; list "
                "fewer, or pass validation_share=0"
            )
            raise DataError(msg)
        drawn = [sorted(groups)[place] for place in rng.permutation(len(groups))[:n]]
        rows_drawn = table.index[whole][np.concatenate([groups[group] for group in drawn])]
        table.loc[rows_drawn, ["part", "tier"]] = VALIDATION, tier
    return divided(name, obs, table, keys=keys, control=control, apart=[], seed=seed if validation_share else None)


def _singles(parts: Mapping[str, tuple[str, ...]], library: Iterable[Perturbation] | None) -> list[tuple[str, ...]]:
    """Return the perturbations that may be drawn: single ones with the role of a drug."""
    staying = {row.name for row in library or () if row.role != "drug"}
    return sorted({held for name, held in parts.items() if len(held) == 1 and name not in staying})


def _contexts(
    table: pd.DataFrame,
    keys: Sequence[str],
    control: str,
    named: tuple[Sequence[str] | None, Sequence[str] | None],
    shares: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[set[str], set[str]]:
    """Return the contexts of the test and of validation."""
    is_control = table[keys[0]] == control
    choices = sorted(set(table.loc[is_control, keys[1]]) & set(table.loc[~is_control, keys[1]]))
    test, validation = (None if values is None else known_values(values, choices, keys[1]) for values in named)
    return two_draws(choices, (test, validation), shares, rng, what=f"contexts ({keys[1]})")


def _matching(table: pd.DataFrame, row: Mapping[str, str], perturbation_key: str, control: str) -> pd.Series:
    """Return which conditions a mapping of columns to values means."""
    if perturbation_key not in row or str(row[perturbation_key]) == control:
        msg = f"{_written(row)} names {'the control' if perturbation_key in row else f'no {perturbation_key}'}; list treated conditions, or use unseen_context"
        raise DataError(msg)
    chosen = pd.Series(True, index=table.index)
    for column, value in row.items():
        if str(value) not in set(table[column]):
            msg = f"no cell has {column} == {str(value)!r}; found {listed(sorted(set(table[column])))}"
            raise DataError(msg)
        chosen &= table[column] == str(value)
    if not chosen.any():
        msg = f"no cell has {_written(row)} together; leave the condition out"
        raise DataError(msg)
    return chosen


def _written(row: Mapping[str, str]) -> str:
    return ", ".join(f"{column} {value!r}" for column, value in row.items())
