"""The runs of the map of pairs: what a row foretold, kept beside the truth of its seed."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.card import commit
from benchmarks.perturbation.norman import NAME, TIERS, PairWorld, Surface, Values, additive, norman
from benchmarks.perturbation.norman_rows import ROWS, told_by
from benchmarks.perturbation.norman_scores import UNIT, scored
from c2s.artefacts import plain, write_json

__all__ = ["ROWS", "TRUTH", "make", "path_of", "truth_of"]

logger = logging.getLogger(__name__)

TRUTH = "truth"


def make(folder: Path, rows: Sequence[str], seed: int) -> None:
    """Make the runs of a seed that are not in ``folder`` yet."""
    wanted = [row for row in rows if not path_of(folder, row, seed).exists()]
    if not wanted:
        return
    world = norman(seed)
    if not path_of(folder, TRUTH, seed).exists():
        write_json(path_of(folder, TRUTH, seed), truth_of(world, seed))
    for row in wanted:
        begun = time.process_time()
        told = told_by(row, world, seed)
        seconds = time.process_time() - begun
        record = {
            "world": NAME, "row": row, "seed": seed, "commit": commit(), "cpu_seconds": round(seconds, 1), "record": plain(told.record),
            "told": whole(told.fitness),
        }  # fmt: skip
        write_json(path_of(folder, row, seed), record)
        shown = [
            f"{each['tier']}: Pearson {each['Pearson, fitness']:.3f}" for each in scored(record, truth_of(world, seed))
        ]
        logger.info("%s | %s | %d: %s (%.0f CPU s)", NAME, row, seed, "; ".join(shown), seconds)


def path_of(folder: Path, row: str, seed: int) -> Path:
    """Return where a run is kept."""
    return folder / f"{row.replace(' ', '_').replace(',', '')}-{seed}.json"


def truth_of(world: PairWorld, seed: int) -> dict[str, Any]:
    """Return what the answers of a seed are held against, pair by pair: tier, fitness, and the fitness expected of the singles in two ways."""
    known = world.known
    return {
        "world": NAME, "seed": seed, "tiers": [TIERS.index(tier) for tier in world.tiers], "fitness": whole(world.truth),
        "sum": whole(additive(known.single, known.asked)), "surface": whole(Surface.of(known)(known.single, known.asked)),
    }  # fmt: skip


def whole(values: Values) -> list[int | None]:
    """Return values in whole ten-thousandths, None for NaN."""
    return [None if np.isnan(value) else round(value * UNIT) for value in values.tolist()]
