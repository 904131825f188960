"""Does the full-sentence form read the drug? The same simulated screen with ``target="sentence"``, with and without weight on moved genes.

Cached in ``runs/bench/sentence_target``. Run: ``python -m benchmarks.sentence_target.run [--seeds 0] [--weights 1 4]``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.card import ROOT, Figure, code_hash, write_card
from c2s.artefacts import hash_of, read_json, write_json
from c2s.cells.simulate import simulate_screen
from c2s.demo.simulated import screen_simulated, train_simulated

FOLDER = Path(__file__).parent
RUNS = ROOT / "runs" / "bench" / "sentence_target"
SIMULATION: dict[str, Any] = {"n_genes": 300}
TRAINING: dict[str, Any] = {
    "target": "sentence",
    "n_genes": 24,
    "n_answer": 128,
    "batch_size": 16,
    "steps": 1000,
    "learning_rate": 3e-3,
}
SCREENING: dict[str, Any] = {"n_decoys": 32, "cells_per_unit": 3}
BAR = 0.90


def main() -> None:
    """Run what is missing and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--weights", type=float, nargs="*", default=[1.0, 4.0])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {weight: [one(seed, weight) for seed in arguments.seeds] for weight in arguments.weights}
    figures = []
    for weight, runs in results.items():
        areas = [run["auc"]["model"] for run in runs]
        median = float(np.median(areas))
        wanted = weight == max(results)
        figures.append(
            Figure(
                f"ROC area of the split, full sentences, loss weight {weight:g} on moved genes", median, min(areas), max(areas), len(areas),
                arguments.seeds, f">= {BAR}" if wanted else None, median >= BAR if wanted else None,
                None if median >= BAR else "the drug is read too weakly after this training",
            )
        )  # fmt: skip
    runs = next(iter(results.values()))
    for name, label in (("ridge", "ridge on targets x context"), ("knn", "nearest neighbours on targets")):
        areas = [run["auc"][name] for run in runs]
        figures.append(
            Figure(
                f"ROC area of the split, {label}",
                float(np.median(areas)),
                min(areas),
                max(areas),
                len(areas),
                arguments.seeds,
            )
        )
    write_card(
        FOLDER, figures, data={"name": "simulated screens", "simulation": SIMULATION, "training": TRAINING, "screening": SCREENING, "runs": results},
        notes=["Planted amplifiers against all other held-out drugs with seen targets. Same model size and cells as the demo's, 300 genes."],
        seconds=sum(run["seconds"] for runs in results.values() for run in runs),
    )  # fmt: skip


def one(seed: int, weight: float) -> dict[str, Any]:
    """Return the result of one seed and weight, from the cache or by running it."""
    folder = RUNS / hash_of(SIMULATION, TRAINING, SCREENING, code_hash()) / f"seed{seed}-weight{weight:g}"
    cache = folder / "result.json"
    if cache.is_file():
        return dict(read_json(cache))
    started = time.perf_counter()
    simulated = simulate_screen(seed, **SIMULATION)
    run = folder / "run"
    model = train_simulated(simulated, run, overwrite=run.exists(), progress=False, moved_weight=weight, **TRAINING)
    table = screen_simulated(model, simulated, None, progress=False, **SCREENING)
    means = (
        table[table["support"] != "unseen"].groupby("planted_class")[["effect_first", "effect_second", "split"]].mean()
    )
    gates = {gate["name"]: gate["passed"] for gate in table.attrs["record"]["gates"]}
    out = {
        "seed": seed,
        "weight": weight,
        **table.attrs["record"]["demo"],
        "gates": gates,
        "seconds": time.perf_counter() - started,
        "mean_effects": means.round(4).to_dict(orient="index"),
    }
    write_json(cache, out)
    return out


if __name__ == "__main__":
    main()
