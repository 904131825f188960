"""Gates: what must hold before any hit is believed, asked of the model itself and answered in plain words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from c2s.screening.effects import ScreenEffects
from c2s.stats import mean_interval

LEVEL = 0.01  # of the tests that a gate rests on
MIN_ROWS = 3  # reference perturbations without which the model cannot be questioned
_UNTESTABLE = "Cannot be tested: fewer than 3 training perturbations, or a single cell in a context, to ask about."


@dataclass(frozen=True)
class Gate:
    """One question, its answer, and whether it holds (None: cannot be tested)."""

    name: str
    question: str
    answer: str
    passed: bool | None
    detail: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def _replicates(values: np.ndarray, cells: pd.DataFrame, context: str) -> np.ndarray:
    """Return the unit means of one context, (n_rows, n_units); cells themselves where there are fewer than 3 units."""
    here = (cells["context"] == context).to_numpy()
    units = cells["unit"].to_numpy()[here]
    names = np.unique(units)
    if len(names) < 3:
        return values[:, here]
    return np.stack([values[:, here][:, units == name].mean(axis=1) for name in names], axis=1)


def _learnt(effects: ScreenEffects) -> np.ndarray:
    """Return the reference rows that training has seen; a model need not know what it was never shown."""
    return np.flatnonzero(((effects.rows["set"] == "reference") & (effects.rows["support"] == "seen")).to_numpy())


def _rows_differ(values: np.ndarray) -> tuple[float, float]:
    """Return F and p of "all rows have the same mean": two-way analysis of variance, (n_rows, n_replicates)."""
    n_rows, n = values.shape
    row, replicate = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    df = (n_rows - 1) * (n - 1)
    residual = np.square(values - row - replicate + values.mean()).sum() / df
    between = n * np.square(row - values.mean()).sum() / (n_rows - 1)
    f = float(between / residual) if residual > 0 else float("inf") if between > 0 else 0.0
    return f, float(stats.f.sf(f, n_rows - 1, df))


def _rows_are_not_zero(values: np.ndarray) -> float:
    """Return p of "every row's mean is 0", (n_rows, n_replicates).

    Twice the smaller p of rows that differ and of a common mean that is not 0. What all rows of a replicate share, such
    as its vehicle, counts in neither as a signal.
    """
    common = mean_interval(values.mean(axis=0))
    p_mean = (
        1.0
        if common.value == 0
        else float(2 * stats.t.sf(abs(common.value) / common.se, common.df))
        if common.se > 0
        else 0.0
    )
    return min(1.0, 2 * min(p_mean, _rows_differ(values)[1]))


def reads_drug(effects: ScreenEffects) -> Gate:
    """Do training perturbations differ in effect by more than noise? Two-way analysis of variance, rows x units."""
    question = "Does the model read the drug?"
    chosen = _learnt(effects)
    values = _replicates(effects.effect["u"][chosen].astype(np.float64), effects.cells, effects.contexts[0])
    n_rows = len(chosen)
    if n_rows < MIN_ROWS or values.shape[1] < 2:
        return Gate("drug", question, _UNTESTABLE, None)
    f, p = _rows_differ(values)
    passed = p < LEVEL
    answer = (
        f"{'Yes' if passed else 'No'}: effects of {n_rows} training perturbations differ "
        f"{'far more than' if passed else 'no more than'} noise does (F = {f:.1f}, p = {p:.2g})."
    )
    detail = "" if passed else "A model that gives every drug the same answer cannot rank a library."
    spread = float(values.mean(axis=1).std())
    return Gate("drug", question, answer, passed, detail, {"f": f, "p": p, "rows": n_rows, "spread_u": spread})


def reads_context(effects: ScreenEffects, swap: dict[str, np.ndarray], swap_rows: np.ndarray) -> Gate:
    """Two-by-two swap of cell and context tag: which of the two changes the effect of training perturbations?"""
    question = "Does the model read the context?"
    first, second = effects.contexts
    chosen = swap_rows if len(swap_rows) else _learnt(effects)
    own = effects.effect["u"][chosen].astype(np.float64)
    blocks = [_replicates(own, effects.cells, context) for context in (first, second)]
    n = min(block.shape[1] for block in blocks)
    if len(chosen) < MIN_ROWS or n < 2:
        return Gate("context", question, _UNTESTABLE, None)
    one, two = (block[:, :n] for block in blocks)  # one: cell and tag first; two: cell and tag second
    p = _rows_are_not_zero(one - two)
    passed = p < LEVEL
    values: dict[str, Any] = {"p": p, "rms_split": _rms(one - two)}
    answer = f"{'Yes' if passed else 'No'}: effects in {first} and {second} {'differ' if passed else 'do not differ'} (p = {p:.2g})."
    detail = "The model has no context tag; it can read the context from the cell only."
    if len(swap_rows):
        other = swap["u"].astype(np.float64)
        one_swapped, two_swapped = (_replicates(other, effects.cells, context)[:, :n] for context in (first, second))
        by_tag = ((one - one_swapped) + (two_swapped - two)) / 2
        by_cell = ((one - two_swapped) + (one_swapped - two)) / 2
        for name, part in (("tag", by_tag), ("cell", by_cell)):
            values |= {f"{name}_p": _rows_are_not_zero(part), f"{name}_rms": _rms(part)}
        carrier = {
            (True, True): "both the tag and the cell itself",
            (True, False): "the tag alone: what the cell looks like plays no part",
            (False, True): "the cell alone: the tag plays no part",
            (False, False): "neither by itself",
        }[values["tag_p"] < LEVEL, values["cell_p"] < LEVEL]
        detail = (
            f"Swapping cell and tag, the difference is carried by {carrier} (typical size on U: tag "
            f"{values['tag_rms']:.3f}, cell {values['cell_rms']:.3f})."
        )
    return Gate("context", question, answer, passed, detail, values)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values.mean(axis=1)).mean()))


def vehicle_is_zero(effects: ScreenEffects) -> Gate:
    """Does the vehicle differ from another draw of itself? Two tests at half the level, one a context."""
    question = "Is the vehicle zero?"
    row = np.flatnonzero((effects.rows["set"] == "vehicle").to_numpy())
    values = {}
    for context in effects.contexts:
        found = _replicates(effects.effect["u"][row].astype(np.float64), effects.cells, context)[0]
        if len(found) < 2:
            return Gate("vehicle", question, f"Cannot be tested: one cell alone in {context}.", None)
        interval = mean_interval(found, level=1 - LEVEL / 2)
        values[context] = {"effect": float(interval.value), "low": float(interval.low), "high": float(interval.high)}
    ok = all(part["low"] <= 0 <= part["high"] for part in values.values())
    said = [f"{name} {part['effect']:+.4f} [{part['low']:+.4f}, {part['high']:+.4f}]" for name, part in values.items()]
    answer = f"{'Yes' if ok else 'No'}: vehicle against another draw of vehicle gives {'; '.join(said)} on U."
    return Gate("vehicle", question, answer, ok, "" if ok else "The zero of this screen is off.", values)


def controls_behave(effects: ScreenEffects, table: pd.DataFrame, *, delta: float) -> Gate:
    """Do named positive controls move the programme and negative controls leave it alone?"""
    question = "Do the named controls behave?"
    named = table[table["role"].isin(["positive_control", "negative_control"])]
    if not len(named):
        return Gate(
            "controls", question, "No control is named; give rows the role positive_control or negative_control.", None
        )
    wrong = []
    for row in named.itertuples():
        moves = max(row.effect_first_low, row.effect_second_low) > delta
        still = (
            max(
                abs(x)
                for x in (row.effect_first_low, row.effect_first_high, row.effect_second_low, row.effect_second_high)
            )
            < delta
        )
        if not (moves if row.role == "positive_control" else still):
            wrong.append(str(row.perturbation))
    answer = f"{'Yes' if not wrong else 'No'}: {len(named) - len(wrong)} of {len(named)} do" + (
        f"; not {', '.join(wrong)}." if wrong else "."
    )
    detail = f"A positive control moves the programme by more than {delta:g} in a context, a negative one stays within ±{delta:g} in both."
    return Gate("controls", question, answer, not wrong, detail, {"wrong": wrong})


def near_training(table: pd.DataFrame) -> Gate:
    """How far is the library from what the model was trained on?"""
    drugs = table[table["role"] == "drug"]
    counts = {name: int((drugs["support"] == name).sum()) for name in ("seen", "seen target", "unseen")}
    share = counts["unseen"] / max(len(drugs), 1)
    answer = f"{counts['seen']} were seen in training, {counts['seen target']} act on a target seen in training, {counts['unseen']} do neither."
    detail = "What the model says of a drug with unseen targets is a guess." if counts["unseen"] else ""
    return Gate("support", "How far are the drugs from training?", answer, share < 0.5, detail, counts)


def beats_baselines(scores: dict[str, dict[str, float]] | None, *, contexts_known: bool = True) -> Gate:
    """Does the model predict held-out training perturbations better than ridge and nearest neighbours?"""
    question = "Does the model beat ridge and nearest neighbours on targets?"
    if scores is None:
        reason = (
            "training held out fewer than 4 pairs of perturbation and context (validation_share, split_by)"
            if contexts_known
            else "training has no responses in both contexts, so there is nothing to fit a baseline on"
        )
        return Gate("baselines", question, f"Cannot be tested: {reason}.", None)
    model = scores["model"]["rmse"]
    best = min((name for name in scores if name != "model"), key=lambda name: scores[name]["rmse"])
    passed = model < scores[best]["rmse"]
    said = ", ".join(f"{name} {value['rmse']:.3f}" for name, value in scores.items())
    n = int(scores["model"]["n"])
    answer = f"{'Yes' if passed else f'No, {best} does better'}: root mean square error of the programme's change over {n} held-out pairs of perturbation and context: {said}."
    detail = "" if passed else "What the model adds is then the single-cell evidence, not a better ranking by itself."
    return Gate("baselines", question, answer, passed, detail, {"scores": scores})
