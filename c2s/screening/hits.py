"""Which drugs are hits: every part of the claim tested, the largest p-value kept, unfair comparisons refused."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from c2s.errors import ConfigError
from c2s.screening.contrasts import Contrast, context_weights, contrast, split_weights
from c2s.screening.effects import ScreenEffects
from c2s.screening.headroom import judge_head_room
from c2s.stats import benjamini_hochberg, empirical_p, one_sided_p, sign_flip_p, studentise, tost_p

logger = logging.getLogger(__name__)

MIN_DECOYS = 20  # fewer make no null distribution
N_RESAMPLES = 1999
COLUMNS = [
    "perturbation", "targets", "mechanism", "support", "role",
    "effect_first", "effect_first_low", "effect_first_high",
    "effect_second", "effect_second_low", "effect_second_high",
    "split", "split_low", "split_high", "split_logit_u", "split_log_expression",
    "p_first", "p_second", "p_split", "p_sign_flip", "p_value", "q_value",
    "same_sign", "hit", "refused_because", "head_room_second", "bliss_excess",
]  # fmt: skip


def call_hits(
    effects: ScreenEffects,
    *,
    delta: float = 0.02,
    alpha: float = 0.05,
    fdr: float = 0.1,
    positive_controls: Sequence[str] = (),
    co_treatment: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per library perturbation, best first, with its effects, p-values and verdict.

    A **hit** moves the programme in the first context and not in the second, and more so than drugs that cannot:

    1. ``effect_first`` has its one-sided lower bound above ``delta`` (``p_first``);
    2. ``effect_second`` lies inside ±``delta`` by two one-sided tests (``p_second``);
    3. ``split`` = first - second has its lower bound above 0 and is larger than the decoys' (``p_split``);
    4. ``split`` is above 0 on U, on logit U and on mean log-expression (``same_sign``);
    5. ``p_value``, the largest of the three, has ``q_value`` < ``fdr`` (Benjamini-Hochberg over library drugs, drugs with
       unseen targets and all others apart);
    6. the second context could have shown the effect (``refused_because`` is empty).

    ``p_split`` compares ``split / (se + floor)``, the floor being the 10th percentile of all standard errors, with the
    decoys' of the same support: decoys with unseen targets for rows whose targets are unseen, other decoys for the
    rest, and all decoys where a class has fewer than 20. It is ``(1 + #{decoys as large}) / (1 + #decoys)``. The classes
    are also apart in the correction (Efron 2008): many true hits among drugs with seen targets would otherwise lower
    the bar for guesses about unseen ones. A model's
    fixed bias for a drug does not average out over cells, which is why decoys and not cells are the null;
    ``p_sign_flip``, the within-cell sign-flip, ignores that bias and is shown only.

    ``bliss_excess``: with the neutral vehicle as zero and the programme on top (U = 1) as one, an effect is the
    fraction ``f = (U - U0) / (1 - U0)``, U0 being the mean vehicle score in the second context; the drug alone is
    ``f_a`` (second context), the co-treatment alone ``f_b`` (vehicle, first context), both ``f_ab``; the excess over
    independence (Bliss 1939) is ``f_ab - (f_a + f_b - f_a f_b)``. On the additive log-odds scale the interaction is
    ``split_logit_u``.

    Parameters
    ----------
    effects : ScreenEffects
        What the screen measured.
    delta : float
        Smallest effect on U worth having, and the largest that counts as none.
    alpha : float
        One-sided level of each bound; the intervals cover ``1 - 2 * alpha``.
    fdr : float
        Largest q-value of a hit.
    positive_controls : sequence of str
        Rows known to move the programme in the second context; by default every library or reference row may serve.
    co_treatment : bool
        The first context is the second one plus a treatment; fills ``bliss_excess``, else NaN.
    seed : int
        Of bootstrap and sign-flips.

    Returns
    -------
    DataFrame
        ``attrs`` holds ``replication`` (plain words), ``interval_level``, ``decoys`` (number used per support class),
        ``smallest_p`` (the ``p_split`` that a row of each class could reach; empty without null) and ``notes`` (texts).

    Raises
    ------
    ConfigError
        ``delta``, ``alpha`` or ``fdr`` out of range.
    DataError
        A context without cells, or an unknown positive control.
    """
    _check(delta=delta, alpha=alpha, fdr=fdr)
    rows, cells, contexts = effects.rows, effects.cells, effects.contexts
    library = np.flatnonzero((rows["set"] == "library").to_numpy())
    level = 1 - 2 * alpha
    measured = contrast(effects.effect["u"], cells, contexts, level=level, n_resamples=N_RESAMPLES, seed=seed)
    weights = split_weights(cells, contexts)
    splits = {key: values @ weights for key, values in effects.effect.items()}
    p_split, decoys, notes = _decoy_p(measured, rows)
    table = pd.DataFrame({
        "perturbation": rows["name"], "targets": rows["targets"], "mechanism": rows["mechanism"],
        "support": rows["support"], "role": rows["role"],
    })  # fmt: skip
    intervals = {"effect_first": measured.first, "effect_second": measured.second, "split": measured.split}
    for part, interval in intervals.items():
        table[part], table[f"{part}_low"], table[f"{part}_high"] = interval.value, interval.low, interval.high
    table["split_logit_u"], table["split_log_expression"] = splits["logit_u"], splits["log_expression"]
    table["p_first"] = one_sided_p(measured.first, above=delta)
    table["p_second"] = tost_p(measured.second, margin=delta)
    table["p_split"] = p_split
    table["p_sign_flip"] = sign_flip_p(effects.effect["u"] * weights, n_flips=N_RESAMPLES, seed=[seed, 2])
    table["p_value"] = table[["p_first", "p_second", "p_split"]].max(axis=1, skipna=False)
    table["same_sign"] = np.logical_and.reduce([split > 0 for split in splits.values()])
    table["bliss_excess"] = _bliss_excess(effects, measured) if co_treatment else np.nan
    table["head_room_second"], table["refused_because"] = np.nan, ""
    rises = library[measured.first.value[library] > delta]
    verdict = judge_head_room(effects, rises, positive_controls=positive_controls)
    table.iloc[rises, table.columns.get_loc("head_room_second")] = verdict.shown
    table.iloc[rises, table.columns.get_loc("refused_because")] = verdict.refused_because

    table = table.iloc[library]
    tested = table["p_value"].where(table["role"] == "drug")
    unseen = table["support"] == "unseen"
    table["q_value"] = np.where(
        unseen, benjamini_hochberg(tested.where(unseen)), benjamini_hochberg(tested.where(~unseen))
    )
    table["hit"] = (
        (table["q_value"] < fdr)
        & (table["effect_first_low"] > delta)
        & (table["effect_second_low"] > -delta)
        & (table["effect_second_high"] < delta)
        & (table["split_low"] > 0)
        & table["same_sign"]
        & (table["refused_because"] == "")
    )
    for label, chosen in (("seen", ~unseen), ("unseen", unseen)):
        notes += _resolution_note(label, decoys.get(label, 0), int(table["q_value"][chosen].notna().sum()), fdr)
    ranks = {"hit": False, "p_value": True, "split": False, "perturbation": True}
    table = table.sort_values(list(ranks), ascending=list(ranks.values()), kind="stable").reset_index(drop=True)
    table.attrs = {
        "replication": measured.replication,
        "interval_level": level,
        "smallest_p": {label: 1 / (1 + n) for label, n in decoys.items()},
        "decoys": decoys,
        "notes": notes,
    }
    return table[COLUMNS]


def _check(*, delta: float, alpha: float, fdr: float) -> None:
    if not (delta > 0 and 0 < alpha < 0.5 and 0 < fdr < 1):
        msg = f"delta must be above 0, alpha in (0, 0.5), fdr in (0, 1); got {delta=}, {alpha=}, {fdr=}"
        raise ConfigError(msg)


def _decoy_p(measured: Contrast, rows: pd.DataFrame) -> tuple[NDArray[np.float64], dict[str, int], list[str]]:
    """Return p_split of every row, the number of decoys used per support class, and what to say about it."""
    statistic = studentise(measured.split.value, measured.split.se)
    usable = (rows["set"] == "decoy").to_numpy() & np.isfinite(statistic)
    unseen = (rows["support"] == "unseen").to_numpy()
    library = (rows["set"] == "library").to_numpy()
    p = np.full(len(rows), np.nan)
    if usable.sum() < MIN_DECOYS:
        note = f"{usable.sum()} usable decoys; at least {MIN_DECOYS} are needed for p_split, so nothing can be a hit"
        logger.warning(note)
        return p, {}, [note]
    decoys, notes = {}, []
    for label, chosen in (("seen", ~unseen), ("unseen", unseen)):
        null = usable & chosen
        if not (library & chosen).any():
            continue
        if null.sum() < MIN_DECOYS:
            text = f"{null.sum()} decoys in the support class '{label}', fewer than {MIN_DECOYS}: "
            notes.append(f"{text}its rows are compared with all {usable.sum()} decoys")
            null = usable
        p[chosen] = empirical_p(statistic[chosen], statistic[null])
        decoys[label] = int(null.sum())
    return p, decoys, notes


def _resolution_note(label: str, n_decoys: int, n_tested: int, fdr: float) -> list[str]:
    """Return what to say where one drug alone cannot reach ``q < fdr``, however large its split."""
    smallest = 1 / (1 + n_decoys)
    if not n_tested or not n_decoys or smallest * n_tested < fdr:
        return []
    together = math.floor(smallest * n_tested / fdr) + 1
    text = f"p_split cannot be below {smallest:.2g}, so among the {n_tested} drugs of the support class '{label}' q < {fdr:g} needs"
    return [f"{text} at least {together} of them to reach that together; more decoys lower it"]


def _bliss_excess(effects: ScreenEffects, measured: Contrast) -> NDArray[np.float64]:
    treated, neutral = effects.vehicle_score["u"] @ context_weights(effects.cells, effects.contexts)
    if neutral >= 1:
        return np.full(len(effects.rows), np.nan)
    both = (treated + measured.first.value - neutral) / (1 - neutral)
    drug, co = measured.second.value / (1 - neutral), (treated - neutral) / (1 - neutral)
    return both - (drug + co - drug * co)
