"""What a router decides, as a picture: how often each layer is run, by cell type."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2s.artefacts import atomic_path


def plot_decisions(decisions: pd.DataFrame, path: Path) -> None:
    """Write a heat map.

    Parameters
    ----------
    decisions : DataFrame, shape (types, layers)
        Mean number of runs, 0 to 2; 1 is the model as it is.
    path : Path
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_types, n_layers = decisions.shape
    figure = Figure(figsize=(2.5 + 0.4 * n_layers, 1.5 + 0.25 * n_types), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(decisions.to_numpy(), cmap="RdBu", vmin=0, vmax=2, aspect="auto")
    axes.set_xticks(range(n_layers), [str(layer + 1) for layer in range(n_layers)], fontsize=8)
    axes.set_yticks(range(n_types), decisions.index.astype(str).tolist(), fontsize=8)
    axes.set_xlabel("layer")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, ticks=[0, 1, 2])
    bar.ax.set_yticklabels(["skipped", "run", "run twice"])
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
