"""Could the second context have shown the effect at all? Floor and ceiling, judged by what controls can move there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from c2s.errors import DataError
from c2s.screening.effects import ScreenEffects
from c2s.screening.scores import largest_u

CARRIED = 0.8  # the genes that carry an effect make at least this share of the summed rise
ENOUGH = 0.5  # a positive control shows at least this share of the row's first effect
PRESENT = 0.2  # genes in a smaller share of the vehicle sentences lie below the cut
CHUNK = 512  # rows at a time, so that rows x controls stays small


@dataclass(frozen=True)
class HeadRoom:
    """Verdict for each row asked about.

    Attributes
    ----------
    refused_because : list of str
        Empty where the second context could have shown the effect.
    ratio : ndarray, shape (n,), float64
        Best effect of a positive control in the second context / the row's own effect in the first, both on U of the
        genes that carry the row's first effect. NaN where no gene rises or nothing serves as a control.
    """

    refused_because: list[str]
    ratio: NDArray[np.float64]


def judge_head_room(
    effects: ScreenEffects, rows: NDArray[np.intp], *, positive_controls: Sequence[str] = ()
) -> HeadRoom:
    """Return for each row whether something moves its genes in the second context.

    Let M be the smallest set of programme genes that makes :data:`CARRIED` of the summed rise in rank in the first
    context. The effect on U of M alone is ``-sum_M shift / largest_u(|M|)``. A row stands if a positive control (those
    named, else any other library or reference row) reaches in the second context :data:`ENOUGH` of the row's effect in
    the first. Where none does, the reason is a *ceiling* if M in the second context lies so high in vehicle sentences
    that the row's rise would not fit above it, a *floor* if M is in less than :data:`PRESENT` of those sentences.

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
    mask = carrying_genes(effects.rank_shift[rows, 0])
    first, _ = _restricted(effects, mask, rows, rows)
    ratio = np.full(len(rows), np.nan)
    best = np.full(len(rows), -1)
    for start in range(0, len(rows) if len(controls) else 0, CHUNK):
        part = slice(start, start + CHUNK)
        _, second = _restricted(effects, mask[part], rows[part], controls)
        second[rows[part][:, None] == controls[None, :]] = -np.inf  # a row is no control of itself
        best[part] = second.argmax(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio[part] = second.max(axis=1) / first[part]
    ratio[~mask.any(axis=1) | np.isneginf(ratio)] = np.nan
    reasons = []
    for i in range(len(rows)):
        if ratio[i] >= ENOUGH:
            reasons.append("")
        else:
            control = "" if np.isnan(ratio[i]) else str(effects.rows["name"].iloc[controls[best[i]]])
            reasons.append(_reason(effects, mask[i], float(first[i]), float(ratio[i]), control))
    return HeadRoom(reasons, ratio)


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


def _restricted(
    effects: ScreenEffects, mask: NDArray[np.bool_], rows: NDArray[np.intp], controls: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return effects on U of each row's genes: its own in the first context (n,), controls' in the second (n, c)."""
    size = largest_u(mask.sum(axis=1), max_rank=effects.max_rank)
    shift = effects.rank_shift.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = -(mask * shift[rows, 0]).sum(axis=1) / size
        others = -(mask @ shift[controls, 1].T) / size[:, None]
    return own, others


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


def _reason(effects: ScreenEffects, mask: NDArray[np.bool_], first: float, ratio: float, control: str) -> str:
    one, two = effects.contexts
    if not mask.any():
        return f"no programme gene rises in {one}, although the score does"
    genes = ", ".join(gene for gene, chosen in zip(effects.gene_symbols, mask, strict=True) if chosen)
    rank, present = effects.control_rank[1, mask].mean(), effects.present[1, mask].mean()
    share = ratio if ratio > 0 else 0.0
    best = f"the best control, {control}, reaches {share:.0%} of it" if control else "no other row serves as a control"
    m = int(mask.sum())
    room = float((effects.control_rank[1, mask].sum() - m * (m + 1) / 2) / largest_u(m, max_rank=effects.max_rank))
    if room < first:
        where = f"ceiling: in {two} {genes} already rank {rank:.0f} of {effects.max_rank} on average, which leaves "
        return where + f"room for a rise of {max(room, 0.0):.3f} where {one} shows {first:.3f}; {best}"
    if present < PRESENT:
        where = f"floor: in {two} {genes} are in {present:.0%} of the vehicle sentences, below the cut at rank "
        return where + f"{effects.max_rank}, so a rise of {first:.3f} as in {one} could stay unseen; {best}"
    return f"no positive control moves {genes} in {two} as far as in {one} ({first:.3f}); {best}"
