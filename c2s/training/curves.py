"""Training curves as JSON and PNG."""

from __future__ import annotations

from pathlib import Path

from c2s.artefacts import atomic_path, write_json


def write_curves(folder: Path, history: list[dict[str, float]]) -> None:
    """Write ``curves.json`` and ``curves.png`` (loss and held-out loss, nats per answer token, against step)."""
    write_json(folder / "curves.json", history)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for key, label in (("loss", "training"), ("eval_loss", "held out")):
        points = [(row["step"], row[key]) for row in history if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    axes.set(xlabel="step", ylabel="loss (nats per answer token)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic_path(folder / "curves.png") as temporary:
        figure.savefig(temporary, dpi=150)
