"""What an evaluation leaves: a table of every condition, a summary, a picture, and the pair of files that cell-eval reads."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from c2s.artefacts import atomic_path, plain, write_json
from c2s.cells.reading import complete_column
from c2s.results import Result

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.metrics.comparison import Comparison

MOST_PANELS = 12
RESULTS = "results.json"


def write_evaluation(folder: str | os.PathLike[str], scores: pd.DataFrame, results: Sequence[Result]) -> None:
    """Write ``scores.csv`` (every condition), ``results.json`` and ``summary.md`` (means with intervals) into a folder that exists."""
    place = Path(folder)
    with atomic_path(place / "scores.csv") as temporary:
        scores.to_csv(temporary, index=False)
    write_json(
        place / RESULTS, {"format": "c2s-evaluation", "results": plain([dataclasses.asdict(row) for row in results])}
    )
    with atomic_path(place / "summary.md") as temporary:
        temporary.write_text(as_markdown(results), encoding="utf-8")


def as_markdown(results: Sequence[Result]) -> str:
    """Return results as a table: metric, value, 95 % interval, n, what it was measured on, and why a value is missing."""
    lines = ["| metric | value | 95 % interval | n | measured on | reference | note |", "|---|---|---|---|---|---|---|"]
    for row in results:
        value = "" if np.isnan(row.value) else f"{row.value:.4g}"
        ends = "" if row.low is None else f"{row.low:.4g} to {row.high:.4g}"
        genes = "" if row.genes is None else f", {row.genes:,} genes"
        lines.append(
            f"| {row.metric} | {value} | {ends} | {row.n} | {row.space or ''}{genes} | {row.reference or ''} | {row.reason or ''} |"
        )
    return "\n".join(lines) + "\n"


def write_changes(path: str | os.PathLike[str], compared: Comparison) -> None:
    """Write a PNG: true against predicted mean change of each gene, a panel a condition, the first twelve by name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from c2s.metrics.conditions import mean_profile

    found, genes = compared.scored, compared.genes
    shown = found[:MOST_PANELS]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.0 * columns, 2.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, each in zip(figure.subplots(rows, columns, squeeze=False).ravel(), shown):
        one, other = (mean_profile(side) - mean_profile(each.control) for side in (each.real, each.predicted))
        ends = [min(one.min(), other.min()), max(one.max(), other.max())]
        axis.plot(ends, ends, color="0.8", lw=1, zorder=0)
        axis.scatter(one, other, s=5, alpha=0.5, lw=0, rasterized=True)
        for gene in np.argsort(-np.abs(one))[:3]:
            side, shift = ("right", -3) if one[gene] > sum(ends) / 2 else ("left", 3)
            axis.annotate(
                str(genes[gene])[:16], (one[gene], other[gene]), fontsize=7, ha=side, xytext=(shift, 2),
                textcoords="offset points",
            ).set_in_layout(False)  # fmt: skip
        axis.set_title(" | ".join(each.key), fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in figure.axes[len(shown) :]:
        axis.set_visible(False)
    left = f"; {len(found) - len(shown)} more conditions are in scores.csv" if len(found) > len(shown) else ""
    figure.supxlabel("true change, log1p CP10k" + left, fontsize=9)
    figure.supylabel("predicted change", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def cell_eval_pair(
    real: AnnData, predicted: AnnData, *, perturbation_key: str, control: str
) -> tuple[AnnData, AnnData]:
    """Return real and predicted cells as ``cell-eval run`` takes them: the same genes in the same order, and the same controls in both.

    Controls among the predicted cells are replaced by the real ones, as every change here is measured against those.
    """
    import anndata as ad

    genes = real.var_names
    is_control = complete_column(real.obs, perturbation_key, "perturbation_key") == control
    treated = complete_column(predicted.obs, perturbation_key, "perturbation_key") != control

    def bare(cells: AnnData, prefix: str) -> AnnData:
        obs = pd.DataFrame({perturbation_key: complete_column(cells.obs, perturbation_key, "perturbation_key")})
        obs.index = prefix + cells.obs_names.astype(str)
        found: Any = ad.AnnData(cells[:, genes].X.copy(), obs=obs, var=pd.DataFrame(index=genes))
        return found

    answer = ad.concat([bare(real[is_control], "control:"), bare(predicted[treated], "predicted:")])
    return bare(real, ""), answer
