"""Could the second context have shown the effect at all? Floor and ceiling, judged by what controls can move there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from c2s.errors import DataError
from c2s.screening.effects import ScreenEffects

CARRIED = 0.8  # the genes that carry an effect make at least this share of the summed rise
ENOUGH = 0.25  # a gene could have shown its rise if a positive control moves it at least this share as far
SHOWN = 0.75  # share of the summed rise that must rest on genes which could have shown it
PRESENT = 0.2  # genes in a smaller share of the vehicle sentences lie below the cut


@dataclass(frozen=True)
class HeadRoom:
    """Verdict for each row asked about.

    Attributes
    ----------
    refused_because : list of str
        Empty where the second context could have shown the effect.
    shown : ndarray, shape (n,), float64
        Share of the row's summed rise in the first context that rests on genes which could have risen as far in the
        second. NaN where no gene rises or nothing serves as a control.
    """

    refused_because: list[str]
    shown: NDArray[np.float64]


def judge_head_room(
    effects: ScreenEffects, rows: NDArray[np.intp], *, positive_controls: Sequence[str] = ()
) -> HeadRoom:
    """Return for each row whether the second context could have shown its effect.

    A gene that rises by ``d`` ranks in the first context could have shown it in the second if a positive control (those
    named, else any other library or reference row) raises it there by at least :data:`ENOUGH` times ``d``. A row stands
    if genes of that kind make at least :data:`SHOWN` of its summed rise: an effect half of which rests on genes that are
    silent or already on top in the second context is no evidence of a difference. Where a row falls, the reason is a
    *ceiling* if its hidden genes lie so high in the second context's vehicle sentences that their rise would not fit
    above them, a *floor* if they are in less than :data:`PRESENT` of those sentences.

    Parameters
    ----------
    effects : ScreenEffects
    rows : ndarray of int, shape (n,)
        Positions in ``effects.rows``.
    positive_controls : sequence of str
        Names of rows that are known to move the programme.

    Raises
    ------
    DataError
        A positive control that is not a row of the screen.
    """
    controls = _control_rows(effects, positive_controls)
    rise = np.clip(-effects.rank_shift.astype(np.float64), 0, None)
    names = effects.rows["name"].astype(str).to_numpy()
    reach = _reach_without(rise[:, 1], rows, controls, names)
    first = rise[rows, 0]
    total = first.sum(axis=1)
    showable = (reach >= ENOUGH * first) & (first > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shown = (first * showable).sum(axis=1) / total
    shown[(total == 0) | np.isneginf(reach).all(axis=1)] = np.nan
    reasons = []
    for i in range(len(rows)):
        if shown[i] >= SHOWN:
            reasons.append("")
        else:
            hidden = carrying_genes(-(first[i] * ~showable[i])[None])[0]
            reasons.append(_reason(effects, hidden, first[i], float(shown[i])))
    return HeadRoom(reasons, shown)


def _reach_without(
    rise: NDArray[np.float64], rows: NDArray[np.intp], controls: NDArray[np.intp], names: NDArray[np.str_]
) -> NDArray[np.float64]:
    """Return the largest rise of each gene among the controls, no row of the same name counting, shape (n, k)."""
    reach = np.full((len(rows), rise.shape[1]), -np.inf)
    if len(controls):
        best = controls[rise[controls].argmax(axis=0)]
        reach[:] = rise[best, np.arange(rise.shape[1])]
        for i in np.flatnonzero((names[rows][:, None] == names[best]).any(axis=1)):
            others = rise[controls[names[controls] != names[rows[i]]]]
            reach[i] = others.max(axis=0, initial=-np.inf)
    return reach


def carrying_genes(shift: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return the smallest sets of genes that make :data:`CARRIED` of each row's summed rise, shape (n, k).

    Parameters
    ----------
    shift : ndarray, shape (n, k)
        Rank after drug minus rank after vehicle; negative rises. A row in which nothing rises has no such gene.
    """
    rise = np.clip(-shift.astype(np.float64), 0, None)
    order = np.argsort(-rise, axis=1, kind="stable")
    reached = np.cumsum(np.take_along_axis(rise, order, axis=1), axis=1)
    before = np.hstack([np.zeros((len(rise), 1)), reached[:, :-1]])
    needed = before < CARRIED * reached[:, -1:] * (1 - 1e-12)
    mask = np.zeros(rise.shape, dtype=bool)
    np.put_along_axis(mask, order, needed, axis=1)
    return mask


def _control_rows(effects: ScreenEffects, positive_controls: Sequence[str]) -> NDArray[np.intp]:
    names = effects.rows["name"].astype(str).to_numpy()
    unknown = sorted(set(positive_controls) - set(names))
    if unknown:
        shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
        msg = f"positive controls {', '.join(unknown)} are not in this screen; its rows are {shown}"
        raise DataError(msg)
    if positive_controls:
        return np.flatnonzero(np.isin(names, list(positive_controls)))
    return np.flatnonzero(effects.rows["set"].isin(["library", "reference"]).to_numpy())


def _reason(effects: ScreenEffects, hidden: NDArray[np.bool_], rise: NDArray[np.float64], shown: float) -> str:
    one, two = effects.contexts
    if not rise.any():
        return f"no programme gene rises in {one}, although the score does"
    if np.isnan(shown):
        return f"no other row serves as a control, so nothing shows that {two} could have shown the effect"
    genes = ", ".join(gene for gene, chosen in zip(effects.gene_symbols, hidden, strict=True) if chosen)
    part = f"{1 - shown:.0%} of the rise in {one} rests on genes that no positive control moves that far in {two}"
    rank, present = effects.control_rank[1, hidden].mean(), effects.present[1, hidden].mean()
    m = int(hidden.sum())
    room = float(effects.control_rank[1, hidden].sum() - m * (m + 1) / 2)
    if room < rise[hidden].sum():
        return f"ceiling: {part}; there {genes} already rank {rank:.0f} of {effects.max_rank} on average"
    if present < PRESENT:
        return f"floor: {part}; there {genes} are in {present:.0%} of the vehicle sentences, below the cut at rank {effects.max_rank}"
    return f"not shown to be possible: {part} ({genes})"
