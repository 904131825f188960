"""Figures beside the scatter of a screen report, as plotly JSON: distributions, genes, head-room, pathways."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from c2s.screening.palette import FONT, colour

if TYPE_CHECKING:
    import plotly.graph_objects as go


def distributions(rows: Sequence[Mapping[str, Any]], *, delta: float | None) -> dict[str, Any]:
    """Return ridges of per-cell effects as plotly JSON: for each context the perturbation, vehicle and decoys.

    Parameters
    ----------
    rows : sequence of mapping, top to bottom
        ``label``, ``context``, ``kind`` (``drug``, ``vehicle``, ``decoy``), ``x`` and ``height`` (density scaled to at most 1, shape
        (g,)), ``units`` (unit means), ``mean``, and ``low``, ``high`` or None.
    """
    go = plotly()
    figure = go.Figure()
    names = {
        "drug": ("hit", "hit_tint"),
        "vehicle": ("muted", "background_tint"),
        "decoy": ("background", "background_tint"),
    }
    contexts = [row["context"] for row in rows]
    bases = [len(rows) - place + 0.9 * (contexts[0] == context) for place, context in enumerate(contexts)]
    for row, base in zip(rows, bases, strict=True):
        line, fill = (colour(name) for name in names[row["kind"]])
        x = [row["x"][0], *row["x"], row["x"][-1]]
        y = [base, *(base + 0.72 * np.asarray(row["height"])), base]
        figure.add_trace(
            go.Scatter(
                x=short(x), y=short(y), mode="lines", fill="toself", fillcolor=fill, hoverinfo="skip",
                line={"color": line, "width": 1.5}, showlegend=False,
            )
        )  # fmt: skip
        hover = f"<b>{safe(row['label'])}</b><br>mean {row['mean']:+.4f}"
        error = None
        if row.get("low") is not None:
            hover += f" [{row['low']:+.4f}, {row['high']:+.4f}]"
            plus, minus = row["high"] - row["mean"], row["mean"] - row["low"]
            error = {
                "type": "data",
                "symmetric": False,
                "array": [plus],
                "arrayminus": [minus],
                "thickness": 1.6,
                "width": 4,
            }
        figure.add_trace(
            go.Scatter(
                x=[row["mean"]], y=[base - 0.13], mode="markers", error_x=error, showlegend=False,
                marker={"symbol": "line-ns-open" if error is None else "diamond", "color": line, "size": 8},
                hovertemplate=hover + "<extra></extra>",
            )
        )  # fmt: skip
        if row["kind"] == "drug" and len(row["units"]) > 1:
            figure.add_trace(
                go.Scatter(
                    x=short(row["units"]), y=[base + 0.1] * len(row["units"]), mode="markers", showlegend=False,
                    marker={"color": colour("ink"), "size": 4, "opacity": 0.6},
                    hovertemplate="mean of one unit: %{x:+.4f}<extra></extra>",
                )
            )  # fmt: skip
    if delta is not None:
        figure.add_vrect(x0=-delta, x1=delta, fillcolor=colour("sunken"), line_width=0, layer="below")
    figure.add_vline(x=0, line_color=colour("muted"), line_width=1, layer="below")
    edges = [row["x"][end] for row in rows for end in (0, -1)]
    figure.update_layout(
        **base_layout(margin={"l": 8, "r": 8, "t": 4, "b": 44}),
        xaxis=styled_axis("change of U per cell", range=[min(edges), max(edges)], nticks=6),
        annotations=[
            {"text": f"<b>{safe(context)}</b>", "x": 0, "xref": "paper", "y": bases[contexts.index(context)] + 0.92, "showarrow": False,
             "xanchor": "left", "yanchor": "bottom"}
            for context in dict.fromkeys(contexts)
        ],
        yaxis={
            "tickvals": bases, "ticktext": [safe(row["label"]) for row in rows], "range": [min(bases) - 0.35, max(bases) + 1.45],
            "automargin": True, "zeroline": False, "showgrid": False, "fixedrange": True,
        },
    )  # fmt: skip
    return as_json(figure)


def gene_bars(genes: Sequence[str], rises: np.ndarray, *, contexts: tuple[str, str]) -> dict[str, Any]:
    """Return bars of ranks gained per gene and context as plotly JSON; ``rises`` has shape (2, n), positive is up."""
    go = plotly()
    figure = go.Figure()
    labels = [safe(gene) for gene in genes]
    for row, (fill, line) in enumerate((("hit", "hit"), ("second_tint", "second"))):
        figure.add_trace(
            go.Bar(
                y=labels, x=short(rises[row]), name=safe(contexts[row]), orientation="h",
                marker={"color": colour(fill), "line": {"color": colour(line), "width": 1.5}},
                hovertemplate="%{y}: %{x:+.1f} ranks<extra>%{fullData.name}</extra>",
            )
        )  # fmt: skip
    figure.update_layout(
        **base_layout(margin={"l": 8, "r": 8, "t": 4, "b": 44}),
        barmode="group", bargap=0.3, bargroupgap=0.1,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        xaxis=styled_axis("ranks gained, mean over cells", nticks=6),
        yaxis={"autorange": "reversed", "automargin": True, "showgrid": False, "fixedrange": True, "dtick": 1},
    )  # fmt: skip
    return as_json(figure)


def headroom(
    genes: Sequence[str], rank: np.ndarray, present: np.ndarray, *, contexts: tuple[str, str], max_rank: int
) -> dict[str, Any]:
    """Return the mean rank after vehicle of each gene in both contexts as plotly JSON; arrays have shape (2, k)."""
    go = plotly()
    order = np.argsort(rank[0], kind="stable")
    labels = [safe(genes[i]) for i in order]
    figure = go.Figure()
    x = np.stack([rank[0, order], rank[1, order], np.full(len(order), np.nan)], axis=1).ravel()
    y = [label for label in labels for _ in range(3)]
    line = {"color": colour("background"), "width": 2}
    figure.add_trace(go.Scatter(x=short(x), y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False))
    for row, (shade, symbol) in enumerate((("hit", "circle"), ("second", "diamond-open"))):
        figure.add_trace(
            go.Scatter(
                x=short(rank[row, order]), y=labels, mode="markers", name=safe(contexts[row]),
                customdata=short(100 * present[row, order]),
                marker={"color": colour(shade), "symbol": symbol, "size": 10, "line": {"width": 2}},
                hovertemplate="%{y}: mean rank %{x:.0f}, in %{customdata:.0f} % of cells<extra>%{fullData.name}</extra>",
            )
        )  # fmt: skip
    figure.add_vline(x=max_rank + 1, line_color=colour("refused"), line_width=1.5, line_dash="dot")
    figure.update_layout(
        **base_layout(margin={"l": 8, "r": 16, "t": 8, "b": 48}),
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        xaxis=styled_axis(f"mean rank after vehicle (1 = top; {max_rank + 1} = absent, dotted)", range=[-0.02 * max_rank, 1.04 * max_rank + 1]),
        yaxis={"autorange": "reversed", "automargin": True, "showgrid": True, "gridcolor": colour("line"), "fixedrange": True, "dtick": 1},
    )  # fmt: skip
    return as_json(figure)


def pathway_bars(table: pd.DataFrame, *, threshold: float = 0.1) -> dict[str, Any]:
    """Return bars of normalised enrichment scores as plotly JSON; sets with q at or above ``threshold`` are hollow."""
    go = plotly()
    shown = table.sort_values("nes", ascending=False, kind="stable")
    certain = (shown["q_value"] < threshold).to_numpy()
    side = np.where(shown["nes"] > 0, "hit", "refused").tolist()
    custom = np.stack(
        [
            shown["q_value"].astype(str),
            shown["n_genes"].astype(str),
            [safe(g.replace("|", ", ")) for g in shown["leading_genes"]],
        ],
        axis=1,
    )
    figure = go.Figure(
        go.Bar(
            y=[safe(str(term).replace("_", " ")) for term in shown["term"]],
            x=short(shown["nes"]), orientation="h", customdata=custom.tolist(),
            marker={
                "color": [colour(name + ("" if sure else "_tint")) for name, sure in zip(side, certain, strict=True)],
                "line": {"color": [colour(name) for name in side], "width": 1.5},
            },
            hovertemplate="%{y}<br>NES %{x:+.2f}, q %{customdata[0]:.2g}, %{customdata[1]} genes<br>%{customdata[2]}<extra></extra>",
        )
    )  # fmt: skip
    limit = max(1.0, float(np.nanmax(np.abs(shown["nes"].to_numpy(float)), initial=0.0))) * 1.1
    figure.add_vline(x=0, line_color=colour("muted"), line_width=1)
    figure.update_layout(
        **base_layout(margin={"l": 8, "r": 8, "t": 4, "b": 44}),
        xaxis=styled_axis("normalised enrichment score", range=[-limit, limit], nticks=6),
        yaxis={"autorange": "reversed", "automargin": True, "showgrid": False, "fixedrange": True, "dtick": 1},
    )
    return as_json(figure)


def base_layout(margin: dict[str, int]) -> dict[str, Any]:
    """Return what every figure shares: no background of its own, the page's type, readable hover."""
    return {
        "template": None, "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "margin": margin,
        "font": {"family": FONT, "size": 13, "color": colour("ink")},
        "modebar": {"orientation": "v", "bgcolor": "rgba(0,0,0,0)", "color": colour("muted"), "activecolor": colour("hit")},
        "hoverlabel": {"bgcolor": colour("surface"), "bordercolor": colour("line"), "font": {"color": colour("ink"), "size": 13}, "align": "left"},
    }  # fmt: skip


def styled_axis(title: str, **kwargs: Any) -> dict[str, Any]:
    """Return an axis with a title and quiet lines; ``kwargs`` are plotly's."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"color": colour("muted"), "size": 13}}, "gridcolor": colour("line"), "zerolinecolor": colour("muted"),
        "zerolinewidth": 1, "tickfont": {"color": colour("muted"), "size": 12}, **kwargs,
    }  # fmt: skip


def as_json(figure: go.Figure) -> dict[str, Any]:
    """Return ``data`` and ``layout`` without plotly's template, which repeats 7 kB of defaults per figure."""
    plain = figure.to_plotly_json()
    return {
        "data": plain["data"],
        "layout": {key: value for key, value in plain["layout"].items() if key != "template"},
    }


def short(values: Any) -> list[float | None]:
    """Return ``values`` with five significant digits, NaN as None, so that the page stays small."""
    return [
        float(f"{value:.5g}") if math.isfinite(value) else None for value in np.asarray(values, dtype=float).tolist()
    ]


def safe(text: object) -> str:
    """Return ``text`` for plotly, which reads a little HTML in names and labels; quotes stay, it knows no ``&quot;``."""
    return html.escape(str(text), quote=False)


def plotly() -> Any:
    """Return ``plotly.graph_objects``, imported when the first figure is drawn."""
    import plotly.graph_objects as go

    return go
