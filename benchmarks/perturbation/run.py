"""Does a reinforced language model foretell unseen conditions better than it did before, and than sums and means do?

Run: ``python -m benchmarks.perturbation.run`` (``--worlds cytokines --rows "no change" --seeds 0`` does part of it). Every run is kept in
``made/``, condition by condition or pair by pair, with the commit that made it, and is made once; models go to ``--models FOLDER``, from which a run that was cut
short goes on. The card holds what has been made.
"""

from __future__ import annotations

import argparse
import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.card import commit
from benchmarks.perturbation import norman_runs
from benchmarks.perturbation.l1000_world import l1000
from benchmarks.perturbation.norman import NAME as NORMAN
from benchmarks.perturbation.report import report
from benchmarks.perturbation.rows import BASELINES, MODELS, halves, models_in
from benchmarks.perturbation.worlds import WORLDS, World
from c2s.artefacts import plain, write_json
from c2s.baselines.additive import SumOfSingles
from c2s.metrics import PCAEmbedder, response_scores
from c2s.metrics.frechet import frechet_distance

logger = logging.getLogger(__name__)

MADE = Path(__file__).parent / "made"
SEEDS = (0, 1, 2, 3, 4)
KEPT = (
    "Pearson delta", "Pearson delta, 20 genes of largest true |z|", "Pearson delta against the mean perturbation", "discrimination, cosine",
    "weighted MSE, w = z²/Σz²", "responding genes, direction", "responding genes, Spearman of changes", "MMD², unbiased", "energy distance",
    "energy distance, off-programme genes", "Sinkhorn divergence", "two-sample accuracy", "coverage", "variance ratio", "copies of training cells",
)  # fmt: skip
FRECHET = 6  # leading components of scFID: a tenth of half of a condition's cells, so that the ceiling is measured in the same
DIMENSIONS = 12  # of scFID and of the space of distances: a tenth of the cells of a condition
SEEDS_OF = {"kang, unseen donor": (0, 1)}  # as many as there are donors
LIKE_SHIFT = (
    "control + sum of single shifts",
    "sum of single shifts, labels shuffled",
)  # mean shift, where one thing was given
OF_ONE = (*LIKE_SHIFT, "bilinear PCA", "ridge on descriptors", "ridge on descriptors, labels shuffled", "neighbours by descriptors", "mean of training perturbations", "mean of the context", "supervised + GRPO")  # fmt: skip
NOT_ASKED = {  # rows that are another one; those that read what was given where that is one thing; the second stage where no condition is left to hold out
    "cytokines": ("ridge on descriptors, labels shuffled",),
    "cytokines, mean shift": ("ridge on descriptors, labels shuffled",),
    "kang, unseen donor": OF_ONE,
    "kang, unseen cell type": OF_ONE,
    "l1000, unseen drug": (*LIKE_SHIFT, "mean of the context"),
    "l1000, unseen dose": (*LIKE_SHIFT, "half of the real cells"),  # three wells a condition are no two halves
}
CELL_WORLDS: dict[str, Callable[[int], World]] = {
    **WORLDS, "l1000, unseen drug": functools.partial(l1000, split="drug"), "l1000, unseen dose": functools.partial(l1000, split="dose"),
}  # fmt: skip


def main() -> None:
    """Make the runs asked for, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", help="names separated by semicolons; all if left out, none if empty")
    parser.add_argument("--rows", help="names separated by semicolons; all if left out")
    parser.add_argument("--seeds", help="numbers separated by commas")
    parser.add_argument("--models", type=Path, help="folder that keeps trained models")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for each in (logger, norman_runs.logger):
        each.setLevel(logging.INFO)
    torch.set_num_threads(1)
    known_worlds, known_rows = (*CELL_WORLDS, NORMAN), (*BASELINES, *MODELS, *norman_runs.ROWS)
    worlds = list(known_worlds) if asked.worlds is None else [name for name in asked.worlds.split(";") if name]
    rows = list(known_rows) if asked.rows is None else [name for name in asked.rows.split(";") if name]
    for name, known in ((worlds, known_worlds), (rows, known_rows)):
        if unknown := sorted(set(name) - set(known)):
            msg = f"no {', '.join(unknown)}; there are {', '.join(known)}"
            raise SystemExit(msg)
    for seed in SEEDS if asked.seeds is None else map(int, asked.seeds.split(",")):
        if NORMAN in worlds:
            norman_runs.make(MADE / folder_of(NORMAN), [row for row in rows if row in norman_runs.ROWS], seed)
        for name in [each for each in worlds if each != NORMAN and seed in SEEDS_OF.get(each, SEEDS)]:
            left_out = (*NOT_ASKED.get(name, ()), *norman_runs.ROWS)
            wanted = [row for row in rows if row not in left_out and not path_of(name, row, seed).exists()]
            if wanted:
                world = CELL_WORLDS[name](seed)
                for row in wanted:
                    make(name, world, row, seed, asked.models)
    report(MADE)


def folder_of(world: str) -> str:
    """Return the name of a world's folder."""
    return world.replace(", ", "-").replace(" ", "_")


def path_of(world: str, row: str, seed: int) -> Path:
    """Return where a run is kept."""
    return MADE / folder_of(world) / f"{row.replace(' ', '_').replace(',', '')}-{seed}.json"


def make(name: str, world: World, row: str, seed: int, models: Path | None) -> None:
    """Foretell the held-out conditions, score every one, keep what was found."""
    begun = time.process_time()
    if row in BASELINES:
        told = BASELINES[row](world, seed)
    else:
        kept = models_in(models and models / folder_of(name) / str(seed))
        told = (kept.supervised if row == MODELS[0] else kept.reinforced)(world, seed)
    foretold = time.process_time() - begun
    scores = scored(world, told.cells, seed, halved=row == "half of the real cells")
    write_json(
        path_of(name, row, seed),
        {
            "world": name, "row": row, "seed": seed, "commit": commit(), "cpu_seconds": round(foretold, 1), "record": plain(told.record),
            "scores": scores,
        },
    )  # fmt: skip
    means = pd.DataFrame(scores)
    shown = "; ".join(
        f"{tier}: energy {part['energy distance'].mean():.3f}, scFID {part['scFID'].mean():.3f}, Pearson delta {part['Pearson delta'].mean():.3f}"
        for tier, part in means.groupby("tier", sort=False)
    )
    logger.info("%s | %s | %d: %s (%.0f CPU s)", name, row, seed, shown, foretold)


def scored(world: World, predicted: Any, seed: int, *, halved: bool) -> list[dict[str, Any]]:
    """Return the metrics of every held-out condition; all cells have come the same road."""
    training = world.road(world.training)
    real = halves(world, seed)[0] if halved else world.road(world.test)
    space = PCAEmbedder.fit(training, n_components=DIMENSIONS, n_top_genes=None)
    keys = world.keys
    by = [*keys["context_keys"], keys["perturbation_key"]]  # type: ignore[misc]
    table = response_scores(
        real, predicted, training=training, embedder=space, off_programme=world.off_programme, seed=seed, **keys
    )  # type: ignore[arg-type]
    wide = table.set_index([*by, "metric"])["value"].unstack().reset_index()
    tier_of = dict(zip(zip(*(world.test.obs[key].astype(str) for key in by)), world.tiers))
    rows = []
    singles = SumOfSingles().fit(training, library=world.library, **keys) if world.kinds else None  # type: ignore[arg-type]
    known = {row.name: row for row in world.library}
    for _, line in wide.iterrows():
        key = tuple(str(line[name]) for name in by)
        values = {metric: shortened(line.get(metric, float("nan"))) for metric in KEPT}
        own = shortened(frechet(space, *(cells_of(side, by, key) for side in (real, predicted))))
        kind = world.kinds.get(key[-1])
        if singles is not None and kind is not None:
            values["kind"] = kind  # type: ignore[assignment]
            values["beyond the sum"] = beyond(
                real, predicted, by, key, str(keys["control"]), singles.shift(known[key[-1]], key[:-1])
            )
        rows.append({"condition": " | ".join(key), "tier": tier_of[key], "scFID": own, **values})
    return rows


def cells_of(cells: Any, by: list[str], key: tuple[str, ...]) -> Any:
    """Return the cells of a condition."""
    return cells[np.all([cells.obs[name].astype(str) == value for name, value in zip(by, key)], axis=0)]


def frechet(space: PCAEmbedder, real: Any, predicted: Any) -> float:
    """Return scFID in the leading components, extrapolated to samples without end; NaN for fewer than 60 cells."""
    if min(real.n_obs, predicted.n_obs) < 10 * FRECHET:
        return float("nan")
    vectors = [space(side)[:, :FRECHET] for side in (real, predicted)]
    return float(frechet_distance(*vectors, n_resamples=0).value)


def beyond(real: Any, predicted: Any, by: list[str], key: tuple[str, ...], control: str, total: np.ndarray) -> float:
    """Return how many times the sum of single changes the predicted change is, along it, less 1: above 0 where synergy is foretold."""
    sides = cells_of(predicted, by, key), cells_of(real, by, (*key[:-1], control))
    after, before = (np.asarray(side.X.mean(axis=0)).ravel() for side in sides)
    return float((after - before) @ total / (total @ total) - 1)


def shortened(value: float) -> float | None:
    """Return five digits of a number, None for NaN."""
    return None if np.isnan(value) else float(f"{value:.5g}")


if __name__ == "__main__":
    main()
