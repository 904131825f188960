"""The run in one picture: reward, what prompts taught, entropy, answers cut off and clipped, gradient, length."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from c2s.artefacts import atomic_path
from c2s.engines.rl.health import TRUNCATED, Health


def write_dashboard(
    path: str | os.PathLike[str], history: Sequence[Health], evaluations: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write a PNG.

    Parameters
    ----------
    path : path
        Replaced if it is there.
    history : sequence of Health
        At least one log step.
    evaluations : sequence of mapping
        With ``step`` and ``mean`` on held-out prompts.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [each.step for each in history]
    figure = Figure(figsize=(13, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).ravel()

    def lines(axis: Any, title: str, named: Mapping[str, Sequence[float]], *, unit: str = "") -> None:
        drawn = 0
        for name, values in named.items():
            if not all(map(math.isnan, values)):
                axis.plot(steps, values, label=name, lw=1.4, marker="o" if len(steps) < 20 else None, ms=3)
                drawn += 1
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlabel("step")
        axis.set_ylabel(unit)
        if drawn > 1:
            axis.legend(frameon=False, fontsize=8)

    def column(name: str, scale: float = 1.0) -> list[float]:
        return [scale * float(getattr(each, name)) for each in history]

    lines(axes[0], "reward", {"training": column("reward")}, unit="mean reward")
    if evaluations:
        axes[0].plot(
            [row["step"] for row in evaluations],
            [row["mean"] for row in evaluations],
            "s-",
            color="black",
            ms=4,
            label="held out",
        )
    if not math.isnan(history[-1].chance):
        axes[0].axhline(history[-1].chance, color="grey", ls=":", label="chance")
    if evaluations or not math.isnan(history[-1].chance):
        axes[0].legend(frameon=False, fontsize=8)
    lines(
        axes[1], "prompts by their answers",
        {"all right": column("all_right", 100), "all wrong": column("all_wrong", 100), "all rewarded alike": column("flat", 100)},
        unit="% of prompts",
    )  # fmt: skip
    axes[1].set_ylim(-3, 103)
    lines(axes[2], "entropy of the policy", {"entropy": column("entropy")}, unit="nats a token")
    lines(
        axes[3], "answers cut off, interrupted; tokens clipped",
        {"cut off": column("truncated", 100), "interrupted": column("interrupted", 100), "clipped": column("clipped", 100)},
        unit="%",
    )  # fmt: skip
    axes[3].axhline(100 * TRUNCATED, color="tab:red", ls=":", lw=1)
    lines(axes[4], "gradient before clipping", {"norm": column("grad_norm")}, unit="norm")
    lines(axes[5], "length of answers", {"tokens": column("length")}, unit="tokens")
    if any(each.lag > 0 for each in history):
        behind = axes[5].twinx()
        behind.plot(steps, column("lag"), color="tab:orange", lw=1)
        behind.set_ylabel("updates behind", color="tab:orange")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
