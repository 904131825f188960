"""The scatter of both contexts: for the page as plotly JSON, and as a PNG for README and notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from c2s.artefacts import atomic_path
from c2s.screening.figures import as_json, base_layout, plotly, safe, short, styled_axis
from c2s.screening.labels import Label, place_labels
from c2s.screening.palette import SYMBOLS, VERDICT_NAMES, class_colours, colour

if TYPE_CHECKING:
    import plotly.graph_objects as go

AREAS = {"wide": (900, 450), "middle": (520, 430), "narrow": (280, 400)}  # plot areas in pixels to place names for
MAX_NAMED = {"wide": 24, "middle": 12, "narrow": 6}


def scatter(
    points: pd.DataFrame, background: pd.DataFrame, *, contexts: tuple[str, str], delta: float | None
) -> dict[str, Any]:
    """Return the scatter of effects in the first against the second context as plotly JSON.

    Parameters
    ----------
    points : DataFrame
        Library rows: ``x``, ``y`` (effects, unitless change of the U statistic), ``name``, ``verdict`` (``hit``,
        ``refused``, ``no hit``), ``hover`` (lines of text, escaped) and, if known, ``planted_class``.
    background : DataFrame
        Decoy and vehicle rows: ``x``, ``y``, ``name``, ``set``.
    delta : float or None
        Half width of the band within which an effect counts as none; not drawn if unknown.

    Returns
    -------
    dict
        ``data``, ``layout`` and ``labels``: annotations naming the hits, for each plot area of :data:`AREAS`.
    """
    go = plotly()
    x_range, y_range = axis_ranges(points, background, delta)
    figure = go.Figure()
    for name, label, symbol, size in (
        ("decoy", "Decoys (the null)", "x-thin-open", 6),
        ("vehicle", "Vehicle", "star", 11),
    ):
        group = background[background["set"] == name]
        if len(group):
            marker = {"symbol": symbol, "size": size, "color": colour("background" if name == "decoy" else "muted")}
            hover = [f"<b>{safe(item)}</b><br>{name}" for item in group["name"]]
            figure.add_trace(_points(group, hover, name=label, marker=marker))
    size = 8 if len(points) <= 500 else 5
    if "planted_class" in points:
        colours = class_colours(list(points["planted_class"]))
        called = points["verdict"] != "no hit"
        for name, shade, chosen in [
            (*item, some) for some in (~called, called) for item in colours.items()
        ]:  # called on top
            group = points[(points["planted_class"] == name) & chosen]
            marker = {
                "color": shade,
                "symbol": [SYMBOLS[verdict] for verdict in group["verdict"]],
                "size": [size if verdict == "no hit" else size + 4 for verdict in group["verdict"]],
                "opacity": 0.9,
                "line": {"width": 0},
            }
            same = {"name": safe(name), "legendgroup": name}
            figure.add_trace(_points(group, list(group["hover"]), marker=marker, showlegend=False, **same))
        for name, shade in colours.items():
            same = {"name": safe(name), "legendgroup": name}
            key = {"symbol": "square", "color": shade, "size": 10}
            figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=key, **same))
        for verdict in SYMBOLS:
            if (points["verdict"] == verdict).any():
                marker = {"symbol": SYMBOLS[verdict], "color": colour("ink"), "size": 10}
                figure.add_trace(
                    go.Scatter(x=[None], y=[None], mode="markers", name=VERDICT_NAMES[verdict], marker=marker)
                )
    else:
        for verdict, shade in (("no hit", "plain"), ("refused", "refused"), ("hit", "hit")):
            group = points[points["verdict"] == verdict]
            if len(group):
                marker = {
                    "symbol": SYMBOLS[verdict],
                    "color": colour(shade),
                    "size": size if verdict == "no hit" else size + 4,
                    "opacity": 0.75 if verdict == "no hit" else 1.0,
                }
                figure.add_trace(_points(group, list(group["hover"]), name=VERDICT_NAMES[verdict], marker=marker))
    _draw_regions(figure, x_range, y_range, delta)
    first, second = (safe(name) for name in contexts)
    figure.update_layout(
        **base_layout(margin={"l": 64, "r": 40, "t": 8, "b": 52}),
        hovermode="closest",
        legend={
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "x": 0,
            "xanchor": "left",
            "itemsizing": "constant",
        },
        xaxis=styled_axis(f"effect in {first} (change of U)", range=x_range),
        yaxis=styled_axis(f"effect in {second} (change of U)", range=y_range),
    )
    hits = points[points["verdict"] == "hit"]
    crowd = np.concatenate([points[["x", "y"]].to_numpy(float), background[["x", "y"]].to_numpy(float)])
    result = as_json(figure)
    result["labels"] = {
        kind: [
            _annotation(label) for label in place_labels(hits.head(MAX_NAMED[kind]), crowd, x_range, y_range, size=area)
        ]
        for kind, area in AREAS.items()
    }
    return result


def axis_ranges(
    points: pd.DataFrame, background: pd.DataFrame, delta: float | None
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return (low, high) of both axes: all points, zero and the ±δ band, with 6 % of air."""
    ranges = []
    for axis in "xy":
        values = np.concatenate([points[axis].to_numpy(float), background[axis].to_numpy(float)])
        values = np.append(values[np.isfinite(values)], [0.0, -1.5 * (delta or 0.01), 1.5 * (delta or 0.01)])
        air = 0.06 * (values.max() - values.min())
        ranges.append((float(values.min() - air), float(values.max() + air)))
    return ranges[0], ranges[1]


def write_png(
    path: Path,
    points: pd.DataFrame,
    background: pd.DataFrame,
    *,
    contexts: tuple[str, str],
    delta: float | None,
    title: str,
) -> Path:
    """Write the scatter with named hits as a 1440 x 960 PNG, atomically; the arguments are those of :func:`scatter`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x_range, y_range = axis_ranges(points, background, delta)
    figure = Figure(figsize=(9, 6), dpi=160, facecolor=colour("page"), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=colour("surface"))
    if delta is not None:
        axes.axhspan(-delta, delta, color=colour("sunken"), zorder=0)
        axes.fill_between([delta, x_range[1]], -delta, delta, color=colour("hit_tint"), zorder=0.5, linewidth=0)
    low, high = max(x_range[0], y_range[0]), min(x_range[1], y_range[1])
    axes.plot([low, high], [low, high], color=colour("background"), linestyle="--", linewidth=1, zorder=1)
    axes.axhline(0, color=colour("line"), linewidth=0.8, zorder=1)
    axes.axvline(0, color=colour("line"), linewidth=0.8, zorder=1)
    decoys = background[background["set"] == "decoy"]
    axes.scatter(
        decoys["x"],
        decoys["y"],
        s=14,
        marker="x",
        color=colour("background"),
        linewidth=0.8,
        label="Decoys (the null)",
        zorder=2,
    )
    colours = class_colours(list(points["planted_class"])) if "planted_class" in points else None
    markers = {"no hit": ("o", 26, "plain"), "refused": ("X", 60, "refused"), "hit": ("D", 52, "hit")}
    for verdict, (marker, size, shade) in markers.items():
        group = points[points["verdict"] == verdict]
        if len(group):
            shades = [colours[name] for name in group["planted_class"]] if colours else colour(shade)
            kwargs = {"alpha": 0.8} if verdict == "no hit" else {"edgecolors": colour("ink")}
            name = f"{VERDICT_NAMES[verdict]} ({len(group)})"
            axes.scatter(group["x"], group["y"], s=size, marker=marker, c=shades, linewidths=0.6, zorder=3, **kwargs)
            axes.scatter([], [], s=size, marker=marker, color=colour("ink" if colours else shade), label=name)
    if colours:
        for name, shade in colours.items():
            axes.scatter([], [], s=30, marker="s", color=shade, label=name)
    hits = points[points["verdict"] == "hit"].head(MAX_NAMED["wide"])
    crowd = np.concatenate([points[["x", "y"]].to_numpy(float), background[["x", "y"]].to_numpy(float)])
    for label in place_labels(hits, crowd, x_range, y_range, size=(560, 340), font=8):
        axes.annotate(
            label.text.replace("$", r"\$"), (label.x, label.y), xytext=(label.dx, label.dy), textcoords="offset points", fontsize=8,
            ha=label.align, va="center", color=colour("ink"), zorder=4,
            arrowprops={"arrowstyle": "-", "color": colour("muted"), "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3},
        )  # fmt: skip
    axes.set(xlim=x_range, ylim=y_range)
    axes.set_xlabel(f"effect in {contexts[0]} (change of U)".replace("$", r"\$"))
    axes.set_ylabel(f"effect in {contexts[1]} (change of U)".replace("$", r"\$"))
    axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=11, color=colour("ink"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def _points(group: pd.DataFrame, hover: list[str], **kwargs: Any) -> go.Scatter:
    x, y = short(group["x"]), short(group["y"])
    return plotly().Scatter(x=x, y=y, mode="markers", text=hover, hovertemplate="%{text}<extra></extra>", **kwargs)


def _draw_regions(
    figure: go.Figure, x_range: tuple[float, float], y_range: tuple[float, float], delta: float | None
) -> None:
    """Draw zero lines, the diagonal of no split, the ±δ band and, within it, where hits lie."""
    if delta is not None:
        figure.add_hrect(y0=-delta, y1=delta, fillcolor=colour("sunken"), line_width=0, layer="below")
        inside = {"x0": delta, "x1": x_range[1], "y0": -delta, "y1": delta}
        figure.add_shape(type="rect", **inside, fillcolor=colour("hit_tint"), line_width=0, layer="below")
        edge = {"color": colour("hit"), "width": 1, "dash": "dot"}
        figure.add_shape(type="line", x0=delta, x1=delta, y0=y_range[0], y1=y_range[1], line=edge, layer="below")
    low, high = max(x_range[0], y_range[0]), min(x_range[1], y_range[1])
    dash = {"color": colour("background"), "width": 1.5, "dash": "dash"}
    figure.add_shape(type="line", x0=low, y0=low, x1=high, y1=high, line=dash, layer="below")


def _annotation(label: Label) -> dict[str, Any]:
    return {
        "x": label.x, "y": label.y, "ax": label.dx, "ay": -label.dy, "text": f"<b>{safe(label.text)}</b>",
        "xanchor": label.align, "yanchor": "middle", "showarrow": True, "arrowhead": 0, "arrowwidth": 1, "standoff": 6,
        "arrowcolor": colour("muted"), "font": {"size": 12, "color": colour("ink")},
    }  # fmt: skip
