"""The report of a screen: ``screen.html``, one file that works offline, and ``screen.png``.

Everything the page says is computed here or in :mod:`c2s.screening.evidence`; the template only arranges it. The page's
content security policy forbids requests, all text is escaped, and data travel as JSON in which ``<``, ``>`` and ``&`` are
written as escapes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from c2s.artefacts import atomic_path, plain
from c2s.errors import DataError
from c2s.screening import evidence, figures, palette, scatter
from c2s.screening.effects import ScreenEffects
from c2s.screening.wording import flat, shown_effect, shown_p, shown_value

REQUIRED = (
    "perturbation", "effect_first", "effect_first_low", "effect_first_high", "effect_second", "effect_second_low",
    "effect_second_high", "split", "split_low", "split_high", "p_value", "q_value", "hit",
)  # fmt: skip
MAX_CARDS, MAX_REFUSED_CARDS, MAX_LISTED, MAX_PATHWAYS = 12, 3, 30, 12


def write_report(
    folder: str | os.PathLike[str],
    table: pd.DataFrame,
    record: Mapping[str, Any],
    effects: ScreenEffects,
    *,
    pathways: Mapping[str, pd.DataFrame] | None = None,
) -> Path:
    """Write ``screen.html`` and ``screen.png`` into ``folder``, each atomically, and return the path of the page.

    Parameters
    ----------
    folder : path
        Made if it does not exist; other files in it are left alone.
    table : DataFrame, one row per library perturbation, best first
        What :func:`c2s.screening.hits.call_hits` returns, optionally with ``planted_class`` and baselines such as
        ``ridge_split`` and ``knn_split``.
    record : mapping
        What goes into ``screen.json``: contexts, programme, config, counts, gates, provenance, ``simulated``, ``demo``.
        Missing parts are left out of the page or said to be missing.
    effects : ScreenEffects
        Effects per cell, for distributions and head-room.
    pathways : mapping of str to DataFrame, optional
        What :func:`c2s.screening.pathways.pathway_changes` returns.

    Raises
    ------
    DataError
        ``table`` lacks columns a report needs, or names a perturbation twice.
    """
    _check(table)
    target = Path(folder) / "screen.html"
    context = page(table, record, effects, pathways=pathways or {})
    html = _environment().get_template("screen.html.j2").render(**context)
    with atomic_path(target) as temporary:
        temporary.write_text(html, encoding="utf-8")
    first, second = effects.contexts
    title = f"{effects.programme.name}: {first} against {second}"
    if record.get("simulated"):
        title += " (simulated responses)"
    scatter.write_png(
        target.with_suffix(".png"),
        _points(table, evidence.verdicts(table)),
        evidence.background_points(effects),
        contexts=effects.contexts,
        delta=evidence.setting(record, table, "delta"),
        title=title,
    )
    return target


def page(
    table: pd.DataFrame, record: Mapping[str, Any], effects: ScreenEffects, *, pathways: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """Return everything the template needs: plain values, and figures and table columns as JSON-able objects."""
    settings = {name: evidence.setting(record, table, name) for name in ("delta", "alpha", "fdr")}
    called = evidence.verdicts(table)
    passes = evidence.parts(table, delta=settings["delta"], fdr=settings["fdr"])
    background = evidence.background_points(effects)
    head_room = evidence.head_room(effects)
    genes = head_room["gene"].tolist()
    rank, present = (
        np.stack([head_room[f"{side}_{kind}"] for side in ("first", "second")]) for kind in ("rank", "present")
    )
    drawn: dict[str, Any] = {
        "scatter": scatter.scatter(
            _points(table, called), background, contexts=effects.contexts, delta=settings["delta"]
        ),
        "headroom": figures.headroom(genes, rank, present, contexts=effects.contexts, max_rank=effects.max_rank),
    }
    cards = _cards(table, called, passes, effects, settings["delta"], drawn)
    gates = list(record.get("gates") or [])
    truth, demo = evidence.against_truth(table, called), record.get("demo") or {}
    return {
        "record": record,
        "first": effects.contexts[0],
        "second": effects.contexts[1],
        "programme": effects.programme,
        "genes_used": effects.gene_symbols,
        "max_rank": effects.max_rank,
        "settings": settings,
        "n": len(table),
        "n_hits": called.count("hit"),
        "n_refused": called.count("refused"),
        "n_sets": effects.rows["set"].value_counts().to_dict(),
        "n_cells": effects.cells["context"].value_counts().to_dict(),
        "n_units": effects.cells.groupby("context")["unit"].nunique().to_dict(),
        "replication": record.get("replication") or table.attrs.get("replication") or "",
        "smallest_p": record.get("smallest_p") or table.attrs.get("smallest_p") or {},
        "gates": gates,
        "gates_failed": [gate for gate in gates if gate.get("passed") is False],
        "gates_untestable": [gate for gate in gates if gate.get("passed") is None],
        "hits": _listed(table, called),
        "max_listed": MAX_LISTED,
        "max_named": scatter.MAX_NAMED,
        "no_null": bool(len(table)) and "p_split" in table and bool(np.isnan(evidence.number(table, "p_split")).all()),
        "funnel": evidence.funnel(passes[evidence.tested(table)]),
        "n_tested": int(evidence.tested(table).sum()),
        "level": table.attrs.get("interval_level") or 1 - 2 * (settings["alpha"] or 0.05),
        "notes": list(dict.fromkeys([*(record.get("notes") or []), *(table.attrs.get("notes") or [])])),
        "auc": _auc_table(record),
        "demo_numbers": [(key, shown_value(demo[key])) for key in ("precision", "recall") if key in demo],
        "truth": truth,
        "cards": cards,
        "cards_left_out": max(0, called.count("hit") - MAX_CARDS),
        "head_room": head_room.to_dict("records"),
        "pathways": _pathway_cards(pathways, drawn),
        "pathways_left_out": max(0, len(pathways) - MAX_PATHWAYS),
        "provenance": {key: flat(record.get(key) or {}) for key in ("config", "model", "counts", "seeds", "timings")},
        "columns": _columns(table, called, passes),
        "figures": drawn,
        "palette": palette.PALETTE,
        "dark_partners": palette.dark_partners(),
        "css": _source("screen.css"),
        "js": _source("screen.js"),
        "plotly_js": _plotly_js(),
    }


def _check(table: pd.DataFrame) -> None:
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        msg = f"the table has no column {', '.join(missing)}; pass what call_hits returned (it has: {', '.join(map(str, table.columns))})"
        raise DataError(msg)
    twice = table["perturbation"][table["perturbation"].duplicated()].unique()
    if len(twice):
        msg = f"the table names perturbations twice: {', '.join(map(str, twice[:10]))}; a report needs one row for each"
        raise DataError(msg)


def _points(table: pd.DataFrame, called: list[str]) -> pd.DataFrame:
    points = pd.DataFrame(
        {
            "name": evidence.text(table, "perturbation"),
            "x": evidence.number(table, "effect_first"),
            "y": evidence.number(table, "effect_second"),
            "verdict": called,
        }
    )
    lines = {name: evidence.text(table, name) for name in ("targets", "support", "planted_class", "refused_because")}
    q_value = evidence.number(table, "q_value")
    hover = []
    for i, (name, verdict) in enumerate(zip(points["name"], called, strict=True)):
        said = [f"<b>{figures.safe(name)}</b> · {palette.VERDICT_NAMES[verdict]}"]
        targets = lines["targets"].iloc[i].replace("|", ", ")
        said += [f"targets {figures.safe(targets)}"] if targets else []
        said += [figures.safe(f"support: {lines['support'].iloc[i]}")] if lines["support"].iloc[i] else []
        said += [f"planted: {figures.safe(lines['planted_class'].iloc[i])}"] if lines["planted_class"].iloc[i] else []
        said += [f"effects {points['x'].iloc[i]:+.3f}, {points['y'].iloc[i]:+.3f} · q {shown_p(q_value[i])}"]
        hover.append("<br>".join(said))
    points["hover"] = hover
    if "planted_class" in table:
        points["planted_class"] = lines["planted_class"].replace("", "not stated")
    return points.reset_index(drop=True)


def _listed(table: pd.DataFrame, called: list[str]) -> list[dict[str, Any]]:
    words = {name: evidence.text(table, name) for name in ("targets", "support")}
    words["targets"] = words["targets"].str.replace("|", ", ", regex=False)
    chosen = [verdict == "hit" for verdict in called]
    return table.assign(**words)[chosen].head(MAX_LISTED).to_dict("records")


def _cards(
    table: pd.DataFrame,
    called: list[str],
    passes: pd.DataFrame,
    effects: ScreenEffects,
    delta: float | None,
    drawn: dict[str, Any],
) -> list[dict[str, Any]]:
    """Return evidence cards: the first hits and a few refused rows; without hits, the rows that came nearest."""
    places = [i for i, verdict in enumerate(called) if verdict == "hit"][:MAX_CARDS]
    others = passes.drop(columns="head_room").sum(axis=1).to_numpy()
    refused = sorted((i for i, verdict in enumerate(called) if verdict == "refused"), key=lambda i: (-others[i], i))
    places += refused[:MAX_REFUSED_CARDS]
    if "hit" not in called:
        total = passes.sum(axis=1).to_numpy()
        split = np.nan_to_num(evidence.number(table, "split"))
        nearest = sorted(
            (i for i, verdict in enumerate(called) if verdict == "no hit"), key=lambda i: (-total[i], -split[i])
        )
        places = nearest[:3] + places
    cards = []
    for i in places:
        row = table.iloc[i].to_dict()
        place = evidence.row_of(effects, str(row["perturbation"]))
        key = f"card{i}"
        card = {
            "row": row,
            "verdict": called[i],
            "passes": passes.iloc[i].to_dict(),
            "refused_because": evidence.text(table, "refused_because").iloc[i],
            "targets": evidence.text(table, "targets").iloc[i].replace("|", ", "),
            "mechanism": evidence.text(table, "mechanism").iloc[i],
            "support": evidence.text(table, "support").iloc[i],
            "role": evidence.text(table, "role").iloc[i],
            "planted_class": evidence.text(table, "planted_class").iloc[i],
            "carriers": evidence.carriers(effects, place) if place is not None else [],
            "key": key if place is not None else "",
        }
        if place is not None:
            drawn[f"{key}-cells"] = figures.distributions(evidence.ridges(effects, place, row), delta=delta)
            drawn[f"{key}-genes"] = figures.gene_bars(*evidence.gene_rises(effects, place), contexts=effects.contexts)
            card["n_bars"] = min(8, len(effects.gene_symbols))
        cards.append(card)
    return cards


def _pathway_cards(pathways: Mapping[str, pd.DataFrame], drawn: dict[str, Any]) -> list[dict[str, Any]]:
    """Return cards of enrichment, the contexts of one perturbation (``"name (context)"``) side by side."""
    subjects = list(dict.fromkeys(str(name).rsplit(" (", 1)[0] for name in pathways))
    ordered = sorted(pathways.items(), key=lambda item: subjects.index(str(item[0]).rsplit(" (", 1)[0]))
    cards = []
    for i, (name, table) in enumerate(ordered[:MAX_PATHWAYS]):
        card: dict[str, Any] = {"name": str(name), "n": len(table), "reason": table.attrs.get("reason", ""), "key": ""}
        if len(table):
            card["key"] = f"pathway{i}"
            drawn[card["key"]] = figures.pathway_bars(table)
        cards.append(card)
    return cards


def _columns(table: pd.DataFrame, called: list[str], passes: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the sortable table column by column, numbers with five digits, missing values as None."""
    columns: dict[str, list[Any]] = {"verdict": called}
    failed = np.zeros(len(table), dtype=int)
    for bit, name in enumerate(evidence.PARTS):
        if name in passes:
            failed |= np.where(passes[name].to_numpy(), 0, 1 << bit)
    columns["failed"] = failed.tolist()
    for name in table.columns:
        if name in ("hit", "same_sign"):
            continue
        values = table[name]
        if pd.api.types.is_bool_dtype(values):
            columns[str(name)] = ["yes" if value else "no" for value in values]
        elif pd.api.types.is_numeric_dtype(values):
            columns[str(name)] = figures.short(values)
        else:
            columns[str(name)] = evidence.text(table, name).tolist()
    if "targets" in columns:
        columns["targets"] = [value.replace("|", ", ") for value in columns["targets"]]
    return columns


def _auc_table(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the demo's ROC areas as ``columns`` (tiers of support) and ``rows`` (who ranks, areas)."""
    demo = record.get("demo") or {}
    tiers = {
        name: demo[key] for name, key in (("seen targets", "auc"), ("unseen targets", "auc_unseen")) if demo.get(key)
    }
    if not tiers:
        return None
    who = dict.fromkeys(name for areas in tiers.values() for name in areas)
    return {"columns": list(tiers), "rows": [(name, [areas.get(name) for areas in tiers.values()]) for name in who]}


@cache
def _environment() -> Any:
    import jinja2
    from markupsafe import Markup

    def embedded(value: Any) -> Any:
        text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        for letter, escape in {
            "<": "\\u003c",
            ">": "\\u003e",
            "&": "\\u0026",
            "\u2028": "\\u2028",
            "\u2029": "\\u2029",
        }.items():
            text = text.replace(letter, escape)
        return Markup(text)

    loader = jinja2.PackageLoader("c2s.screening", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        {
            "embedded": embedded,
            "effect": shown_effect,
            "p": shown_p,
            "value": shown_value,
            "flat": flat,
            "source": Markup,
        }
    )
    return environment


def _source(name: str) -> str:
    return (resources.files("c2s.screening") / "templates" / name).read_text(encoding="utf-8")


@cache
def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")
