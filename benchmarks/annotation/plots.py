"""The picture of the curves: macro F1 against size, against cells seen, and LoRA beside all weights."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

SIZES = ("c2s_micro", "c2s_mini", "c2s_midi")
SHARES = ("c2s_mini_quarter", "c2s_mini_half", "c2s_mini")
STARTS = {"c2s_mini": "random\nweights", "c2s_pbmc4k_full": "pbmc4k,\nall weights", "c2s_pbmc4k_lora": "pbmc4k,\nLoRA"}
BESIDE = {"logistic_top_genes": "bag of the same genes", "logistic_variable_genes": "variable genes"}


def curves(runs: dict[tuple[str, int], dict[str, Any]], path: Path) -> None:
    """Draw a dot a seed and a line through the medians; ``runs`` are those of one split, by row and seed."""
    values = {
        row: [run["scores"]["macro F1"]["value"] for (name, _), run in runs.items() if name == row and "scores" in run]
        for row in dict.fromkeys(row for row, _ in runs)
    }
    first = {row: next(run for (name, _), run in runs.items() if name == row) for row in values}
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True, layout="constrained")
    panels: list[tuple[str, list[str], list[Any]]] = []
    there = [row for row in SIZES if values.get(row)]
    panels.append(
        ("weights with embeddings, millions", there, [first[row]["setting"]["parameters"] / 1e6 for row in there])
    )
    there = [row for row in SHARES if values.get(row)]
    panels.append(("cells learnt from", there, [first[row]["setting"]["cells"] for row in there]))
    there = [row for row in STARTS if values.get(row)]
    panels.append(("training starts from", there, [STARTS[row] for row in there]))
    for axis, (title, rows, places) in zip(axes, panels, strict=True):
        for row, place in zip(rows, places, strict=True):
            axis.plot([place] * len(values[row]), values[row], "o", color="tab:blue", markersize=4, alpha=0.6)
        joined = "" if title.startswith("training") else "-"
        axis.plot(
            places, [statistics.median(values[row]) for row in rows], joined + "_", color="tab:blue", markersize=14
        )
        for style, (row, name) in zip((":", "--"), BESIDE.items(), strict=True):
            if values.get(row):
                axis.axhline(statistics.median(values[row]), linestyle=style, color="0.4", linewidth=1, label=name)
        axis.set_xlabel(title)
    if panels[0][1]:
        axes[0].set_xscale("log")
    axes[0].set_ylabel("macro F1, fine labels of pbmc3k")
    axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=90)
    plt.close(figure)
