"""The pictures of docs/method/decoding.md."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

MODELS = ("log_rank", "depth_aware", "gene_aware")


def truth_against_decoded(pairs: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Draw the density of (true, decoded) values for each model."""
    figure, axes = plt.subplots(1, len(MODELS), figsize=(9, 3.2), sharex=True, sharey=True, layout="constrained")
    for axis, model in zip(axes, MODELS, strict=True):
        y, z = pairs[model]
        axis.hexbin(y, z, gridsize=45, bins="log", cmap="viridis", mincnt=1, extent=(0, 6, 0, 6), linewidths=0)
        axis.plot([0, 6], [0, 6], color="0.4", linewidth=0.8)
        axis.set(title=model, xlabel="true, log1p CP10k", xlim=(0, 6), ylim=(0, 6))
    axes[0].set_ylabel("decoded, log1p CP10k")
    _save(figure, path)


def skill_bars(skill: dict[tuple[str, str, str], list[float]], path: Path) -> None:
    """Draw the skill over each gene's mean: a bar for each model, by data and tie order, with the range of the splits."""
    groups = sorted({(data, ties) for data, ties, _ in skill}, key=lambda group: (group[1], group[0]))
    figure, axis = plt.subplots(figsize=(9, 3.2), layout="constrained")
    for place, model in enumerate(MODELS):
        values = [np.median(skill[*group, model]) for group in groups]
        spans = [(np.min(skill[*group, model]), np.max(skill[*group, model])) for group in groups]
        x = np.arange(len(groups)) + 0.26 * (place - 1)
        bars = np.abs(np.array(spans).T - np.array(values))
        axis.bar(x, values, width=0.24, label=model, yerr=bars, error_kw={"linewidth": 0.8})
    axis.set_xticks(np.arange(len(groups)), [f"{data}\n{ties} ties" for data, ties in groups])
    axis.set(ylabel="skill over each gene's mean", ylim=(0, 1.02))
    axis.legend(loc="lower center", ncols=3, bbox_to_anchor=(0.5, 1.0), frameon=False)
    _save(figure, path)


def calibration(ratios: np.ndarray, path: Path) -> None:
    """Draw how often the error stays within so many standard deviations, beside a normal distribution."""
    from scipy.stats import norm

    figure, axis = plt.subplots(figsize=(4.2, 3.2), layout="constrained")
    widths = np.linspace(0, 3.5, 60)
    axis.plot(widths, [np.mean(np.abs(ratios) <= width) for width in widths], label="held-out entries")
    axis.plot(widths, 2 * norm.cdf(widths) - 1, color="0.5", linestyle="--", label="normal distribution")
    axis.set(xlabel="|error| / stated standard deviation, at most", ylabel="share of entries", ylim=(0, 1.02))
    axis.legend(loc="lower right")
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
