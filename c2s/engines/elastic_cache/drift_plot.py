"""Drift of attention by layer and step, with the layers from which a step refreshed."""

from __future__ import annotations

import os

import numpy as np

from c2s.artefacts import atomic_path
from c2s.engines.elastic_cache.accounting import NO_REFRESH, Accounting
from c2s.errors import ConfigError


def write_drift(path: str | os.PathLike[str], accounting: Accounting, *, request: int = 0) -> None:
    """Write a PNG of one request's drift (one less cosine; grey: not compared), refreshes as marks at their first layer.

    Parameters
    ----------
    path : path
    accounting : Accounting
    request : int
        Place in the order of requests.

    Raises
    ------
    ConfigError
        There is no such request.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not 0 <= request < len(accounting.traces):
        msg = f"request is {request} and there are {len(accounting.traces)}; give one of them, from 0"
        raise ConfigError(msg)
    trace = accounting.traces[request]
    drift = np.array(trace.drift).T  # (L, steps)
    refreshed = np.array(trace.refreshed)
    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.set_facecolor("0.85")
    image = axis.imshow(drift, aspect="auto", origin="lower", cmap="viridis", vmin=0, interpolation="nearest")
    figure.colorbar(image, ax=axis, label="drift (1 - cosine)")
    steps = np.flatnonzero(refreshed != NO_REFRESH)
    axis.plot(steps, refreshed[steps], "^", color="crimson", ms=5, label="refreshed from here up")
    axis.set_xlabel("step")
    axis.set_ylabel("layer")
    axis.set_title(f"{100 * accounting.refresh_rate:.0f} % of steps refreshed", loc="left", fontsize=9)
    axis.legend(frameon=False, fontsize=8, loc="upper right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
