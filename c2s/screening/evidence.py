"""What a report shows about a called screen: which parts each row passes, densities, gene shifts, head-room. No drawing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from c2s.screening.contrasts import context_weights
from c2s.screening.effects import ScreenEffects
from c2s.screening.headroom import PRESENT, carrying_genes

PARTS = ("first", "second", "split", "significant", "same_sign", "head_room")


def setting(record: Mapping[str, Any], table: pd.DataFrame, name: str) -> float | None:
    """Return the number ``name`` of the record's config, else of ``table.attrs``, else None."""
    value = (record.get("config") or {}).get(name, table.attrs.get(name))
    return None if value is None else float(value)


def verdicts(table: pd.DataFrame) -> list[str]:
    """Return ``hit``, ``refused`` (head-room was asked for and not shown) or ``no hit`` per row."""
    refused = text(table, "refused_because") != ""
    return [
        "hit" if hit else "refused" if no else "no hit"
        for hit, no in zip(table["hit"].astype(bool), refused, strict=True)
    ]


def text(table: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as strings, empty where it is missing or the table has no such column."""
    if column not in table:
        return pd.Series("", index=table.index, dtype=object)
    return table[column].map(lambda value: "" if pd.isna(value) else str(value)).astype(object)


def number(table: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column as float64, shape (n,), NaN where it is missing."""
    if column not in table:
        return np.full(len(table), np.nan)
    return pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)


def parts(table: pd.DataFrame, *, delta: float | None, fdr: float | None) -> pd.DataFrame:
    """Return which parts of the definition of a hit each row passes; a part the table cannot answer is left out.

    Returns
    -------
    DataFrame of bool, index of ``table``
        Some of ``first`` (lower bound above δ), ``second`` (both bounds inside ±δ), ``split`` (lower bound above 0),
        ``significant`` (q below the false discovery rate), ``same_sign``, ``head_room`` (not refused).
    """
    found: dict[str, np.ndarray] = {}
    if delta is not None:
        found["first"] = number(table, "effect_first_low") > delta
        found["second"] = (number(table, "effect_second_low") > -delta) & (number(table, "effect_second_high") < delta)
    found["split"] = number(table, "split_low") > 0
    if fdr is not None:
        found["significant"] = number(table, "q_value") < fdr
    if "same_sign" in table:
        found["same_sign"] = table["same_sign"].fillna(False).astype(bool).to_numpy()
    found["head_room"] = (text(table, "refused_because") == "").to_numpy()
    return pd.DataFrame({name: found[name] for name in PARTS if name in found}, index=table.index)


def tested(table: pd.DataFrame) -> np.ndarray:
    """Return which rows compete for a hit, shape (n,), bool: drugs; without the column ``role``, all rows."""
    return (table["role"] == "drug").to_numpy() if "role" in table else np.ones(len(table), dtype=bool)


def funnel(passes: pd.DataFrame) -> list[dict[str, Any]]:
    """Return per part how many rows pass it, fail it, and pass it together with all parts before it."""
    together = np.ones(len(passes), dtype=bool)
    rows = []
    for name in passes.columns:
        together &= passes[name].to_numpy()
        alone = int(passes[name].sum())
        rows.append({"part": name, "passed": alone, "failed": len(passes) - alone, "left": int(together.sum())})
    return rows


def unit_means(effects: ScreenEffects, row: int, context: str) -> np.ndarray:
    """Return the mean effect of a row on U in each unit of a context, shape (n_units,), in the order of their names."""
    inside = (effects.cells["context"] == context).to_numpy()
    values = pd.Series(effects.effect["u"][row, inside].astype(np.float64))
    return values.groupby(effects.cells.loc[inside, "unit"].to_numpy(), sort=True).mean().to_numpy()


def background_points(effects: ScreenEffects) -> pd.DataFrame:
    """Return ``x``, ``y`` (mean over units of the effect in each context), ``name``, ``set`` of decoys and vehicle."""
    keep = np.flatnonzero(effects.rows["set"].isin(["decoy", "vehicle"]).to_numpy())
    x, y = (effects.effect["u"][keep] @ context_weights(effects.cells, effects.contexts)).T
    names, kinds = (effects.rows[column].to_numpy()[keep] for column in ("name", "set"))
    return pd.DataFrame({"x": x, "y": y, "name": names, "set": kinds})


def row_of(effects: ScreenEffects, name: str) -> int | None:
    """Return the place of a library perturbation in ``effects``, None if it is not there."""
    found = np.flatnonzero(((effects.rows["name"] == name) & (effects.rows["set"] == "library")).to_numpy())
    return int(found[0]) if len(found) else None


def density(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return a Gaussian density of ``values`` on ``grid`` scaled to a maximum of 1, shape (g,).

    Bandwidth by Scott's rule, at least 1/60 of the grid's width: many cells have an effect of exactly 0.
    """
    width = max(float(np.std(values)) * len(values) ** -0.2, float(grid[-1] - grid[0]) / 60)
    heights = np.exp(-0.5 * ((grid[:, None] - values[None, :]) / width) ** 2).sum(axis=1)
    return heights / heights.max() if heights.max() > 0 else heights


def ridges(
    effects: ScreenEffects, row: int, called: Mapping[str, Any], *, seed: int = 0, n_cells: int = 1500
) -> list[dict[str, Any]]:
    """Return per-cell effects of one row, the vehicle and the pooled decoys in both contexts, for :func:`figures.distributions`.

    At most ``n_cells`` values are drawn per curve. ``called`` is the row's line of the table (its intervals are shown).
    """
    rng = np.random.default_rng(seed)
    values = effects.effect["u"]
    sets = effects.rows["set"].to_numpy()
    groups = {
        "drug": np.array([row]),
        "vehicle": np.flatnonzero(sets == "vehicle"),
        "decoy": np.flatnonzero(sets == "decoy"),
    }
    curves = []
    for side, context in zip(("first", "second"), effects.contexts, strict=True):
        inside = np.flatnonzero((effects.cells["context"] == context).to_numpy())
        for kind, rows in groups.items():
            if not len(rows) or not len(inside):
                continue
            pooled = values[np.ix_(rows, inside)].ravel().astype(np.float64)
            if len(pooled) > n_cells:
                pooled = pooled[rng.choice(len(pooled), n_cells, replace=False)]
            units = unit_means(effects, row, context) if kind == "drug" else np.array([])
            interval = (
                [called.get(f"effect_{side}_{end}") for end in ("low", "high")] if kind == "drug" else [None, None]
            )
            mean = called.get(f"effect_{side}") if kind == "drug" else None
            label = {"drug": str(called.get("perturbation", "")), "vehicle": "vehicle", "decoy": f"{len(rows)} decoys"}[
                kind
            ]
            curves.append(
                {
                    "label": label if len(label) <= 22 else label[:21] + "…",
                    "context": context,
                    "kind": kind,
                    "values": pooled,
                    "units": units,
                    "mean": float(pooled.mean()) if mean is None or not np.isfinite(mean) else float(mean),
                    "low": _finite(interval[0]),
                    "high": _finite(interval[1]),
                }
            )
    ends = np.concatenate([np.quantile(curve["values"], [0.005, 0.995]) for curve in curves])
    air = 0.08 * max(float(np.ptp(ends)), 1e-3)
    grid = np.linspace(ends.min() - air, ends.max() + air, 120)
    for curve in curves:
        curve["x"], curve["height"] = grid, density(curve.pop("values"), grid)
        if curve["low"] is None or curve["high"] is None:
            curve["low"] = curve["high"] = None
    return curves


def gene_rises(effects: ScreenEffects, row: int, *, n_genes: int = 8) -> tuple[list[str], np.ndarray]:
    """Return the genes that rise most in the first context and ranks gained in both, shape (2, n); positive is up."""
    rises = -effects.rank_shift[row].astype(np.float64)
    order = np.argsort(-rises[0], kind="stable")[:n_genes]
    return [effects.gene_symbols[i] for i in order], rises[:, order]


def carriers(effects: ScreenEffects, row: int) -> list[str]:
    """Return the genes that carry the row's effect in the first context (see :func:`headroom.carrying_genes`)."""
    mask = carrying_genes(effects.rank_shift[[row], 0])[0]
    return [gene for gene, chosen in zip(effects.gene_symbols, mask, strict=True) if chosen]


def head_room(effects: ScreenEffects) -> pd.DataFrame:
    """Return head-room of each programme gene in both contexts.

    A gene is at the *ceiling* in a context if its mean rank after vehicle leaves fewer ranks above than one perturbation
    in twenty (library and reference rows) gains in the other context, and at the *floor* if less than
    :data:`headroom.PRESENT` of the vehicle sentences hold it.

    Returns
    -------
    DataFrame, one row per gene
        ``gene`` and for ``first``, ``second``: ``rank``, ``present`` (share), ``room`` (ranks above), ``usual_rise``
        (ranks that one perturbation in twenty gains), ``remark`` (``floor``, ``ceiling`` or empty).
    """
    rows = effects.rows["set"].isin(["library", "reference"]).to_numpy()
    usual = np.clip(np.quantile(-effects.rank_shift[rows].astype(np.float64), 0.95, axis=0), 0, None)
    frame = pd.DataFrame({"gene": effects.gene_symbols})
    for place, side in enumerate(("first", "second")):
        room = np.clip(effects.control_rank[place].astype(np.float64) - 1, 0, None)
        frame[f"{side}_rank"] = effects.control_rank[place].astype(np.float64)
        frame[f"{side}_present"] = effects.present[place].astype(np.float64)
        frame[f"{side}_room"] = room
        frame[f"{side}_usual_rise"] = usual[place]
        floor, ceiling = effects.present[place] < PRESENT, room < usual[1 - place]
        frame[f"{side}_remark"] = np.where(floor, "floor", np.where(ceiling, "ceiling", ""))
    return frame.sort_values("first_rank", kind="stable", ignore_index=True)


def against_truth(table: pd.DataFrame, called: list[str]) -> list[dict[str, Any]]:
    """Return per planted class the numbers of rows, hits and refusals and the median split; empty without the column."""
    if "planted_class" not in table:
        return []
    frame = pd.DataFrame({"name": text(table, "planted_class"), "verdict": called, "split": number(table, "split")})
    return [
        {
            "name": name,
            "n": len(group),
            "hits": int((group["verdict"] == "hit").sum()),
            "refused": int((group["verdict"] == "refused").sum()),
            "split": float(group["split"].median()),
        }
        for name, group in frame.groupby("name", sort=True)
    ]


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
