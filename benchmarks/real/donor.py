"""(a) Donor 101 trains, donor 107 is held out: interferon beta and vehicle on labelled monocytes and lymphocytes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.card import Figure
from benchmarks.real.kang import CONTEXTS, HALLMARK, INTERFERON, LIBRARY, VEHICLE, KangFiles, at_most, read_muscat
from benchmarks.real.measures import Comparison, compare, gene_changes
from c2s.errors import DataError
from c2s.models.cell_lm import CellLM
from c2s.screening.programmes import load_programme
from c2s.screening.screen import screen
from c2s.training.config import TrainConfig
from c2s.training.run import train

TRAINED, HELD_OUT = "101", "107"
# chosen on donor 101 alone: how much of the effect on U its true deltas reach, and what a model of 60 % of its cells says
# of the others
TRAINING: dict[str, Any] = {
    "perturbation_key": "treatment", "control": VEHICLE.name, "context_keys": ("lineage",), "match_by": ("cell_type",),
    "n_treated": 1, "n_controls": 8, "delta_threshold": 1.5, "n_up": 48, "n_down": 16, "steps": 300,
    "validation_share": 0.0, "threads": 1,
}  # fmt: skip
SCREENING: dict[str, Any] = {"unit_key": "donor", "n_decoys": 20}
CELLS_PER_CONTEXT = 64
REDUCED_TRAINING = {"steps": 12}
REDUCED_SCREENING = {"unit_key": "donor", "n_decoys": 0}
REFUSED = "MHC_CLASS_I"


def run(files: KangFiles, out: Path, *, seed: int, reduced: bool) -> tuple[list[Figure], list[str], dict[str, Any]]:
    """Train, screen and return figures, notes and what was looked at."""
    cells = read_muscat(files.muscat)
    training = cells[(cells.obs["donor"] == TRAINED).to_numpy()].copy()
    held_out = cells[(cells.obs["donor"] == HELD_OUT).to_numpy()].copy()
    controls = held_out[(held_out.obs["treatment"] == VEHICLE.name).to_numpy()].copy()
    controls = at_most(controls, 12 if reduced else CELLS_PER_CONTEXT, by=["lineage"], seed=seed)
    config = TrainConfig(**{**TRAINING, **(REDUCED_TRAINING if reduced else {}), "seed": seed})
    model = train(training, out / "run", config=config, library=LIBRARY, overwrite=True, progress=not reduced)

    absent = refused_programme(model, controls, out)
    rows, table = compare(
        model, training=training, controls=controls, held_out=held_out, programme=HALLMARK, gmt=files.hallmark,
        out=out / "screen", settings={**(REDUCED_SCREENING if reduced else SCREENING), "seed": seed}, config=config,
        progress=not reduced,
    )  # fmt: skip
    replication = str(table.attrs["record"]["replication"])
    if "speak for these units only" not in replication:
        msg = f"one held-out donor, but the screen does not say that it bootstraps cells: {replication}"
        raise AssertionError(msg)
    changes = gene_changes(model, training=training, controls=controls, held_out=held_out, seed=seed)
    figures = [
        Figure(
            f"(a) {REFUSED} on the {cells.n_vars:,} genes: refused, absent genes listed", float(len(absent)),
            n=len(load_programme(REFUSED).genes), bar="refused, listing the absent genes", met=True,
        )
    ]  # fmt: skip
    for row in rows:
        figures += held_out_figures(row, seed)
    for context, r in changes.items():
        name = (
            f"(a) donor {HELD_OUT}, {context}: Pearson's r over {r['genes']:,} genes of observed with predicted change"
        )
        figures += [
            Figure(
                name,
                None if math.isnan(r["model"]) else r["model"],
                seeds=[seed],
                reason="the model predicts the same change for every gene" if math.isnan(r["model"]) else None,
            ),
            Figure(f"{name}, baseline: donor {TRAINED}'s change", r["training"]),
        ]
    notes = [
        f"(a) {replication}",
        size_note("(a)", rows, f"donor {TRAINED}'s mean change"),
        "(a) Decoys are made-up drugs with unseen targets. Training held one drug and vehicle, so how the model answers "
        "another drug says nothing of that drug.",
    ]
    looked = {"comparisons": rows, "gene_changes": changes, "table": table, "absent": absent}
    return figures, notes, looked


def refused_programme(model: CellLM, controls: Any, out: Path) -> list[str]:
    """Return the absent genes that the refusal lists; anything but a refusal that lists them all is an error."""
    programme = load_programme(REFUSED)
    expected = list(programme.absent(model.vocabulary))
    try:
        screen(
            model, controls, LIBRARY, out / "refused", context_key="lineage", contexts=CONTEXTS, programme=REFUSED,
            overwrite=True, progress=False,
        )  # fmt: skip
    except DataError as error:
        message = str(error)
    else:
        msg = f"{REFUSED} was screened although {len(expected)} of {len(programme.genes)} genes are absent"
        raise AssertionError(msg)
    print(f"refused, as it must be: {message}\n")
    unlisted = [gene for gene in expected if gene not in message.partition("Absent:")[2]]
    if unlisted or not expected:
        msg = f"the refusal of {REFUSED} does not list {unlisted}: {message}"
        raise AssertionError(msg)
    return expected


def held_out_figures(row: Comparison, seed: int) -> list[Figure]:
    """Return the figures of a context of the held-out donor, the two that have a bar first."""
    at = f"(a) donor {HELD_OUT}, {row.context}:"
    above = row.predicted.low > 0
    zero = row.vehicle.low <= 0 <= row.vehicle.high
    return [
        Figure(
            f"{at} predicted effect of {INTERFERON.name} on U", row.predicted.value, row.predicted.low, row.predicted.high,
            n=row.predicted.n, seeds=[seed], bar="interval above 0", met=above,
            reason=None if above else "the model does not move the programme by more than its sampling noise",
        ),
        Figure(
            f"{at} vehicle against another draw of vehicle", row.vehicle.value, row.vehicle.low, row.vehicle.high,
            n=row.vehicle.n, seeds=[seed], bar="interval contains 0", met=zero,
            reason=None if zero else "two draws of the same model differ by more than the interval of one screen allows",
        ),
        Figure(f"{at} observed effect on U", row.observed.value, row.observed.low, row.observed.high, n=row.observed.n),
        Figure(
            f"{at} baseline: donor {TRAINED}'s mean change of U", row.training.value, row.training.low, row.training.high,
            n=row.training.n,
        ),
        Figure(f"{at} reach of the delta form: the cells' own deltas, applied by the rule", row.reach),
        *([Figure(f"{at} mean effect of 20 decoys on U", row.decoys, seeds=[seed])] if row.decoys == row.decoys else []),
    ]  # fmt: skip


def size_note(part: str, rows: list[Comparison], baseline: str) -> str:
    """Return how large the predicted effects are beside the observed ones, and whether the baseline is nearer."""
    shares = [f"{row.predicted.value / row.observed.value:.0%} in {row.context}" for row in rows]
    reach = [f"{row.reach / row.observed.value:.0%}" for row in rows]
    nearer = [
        row.context for row in rows
        if abs(row.training.value - row.observed.value) < abs(row.predicted.value - row.observed.value)
    ]  # fmt: skip
    text = (
        f"{part} {rows[0].programme}: the model predicts {' and '.join(shares)} of the observed effect on U; true deltas "
        f"applied by the same rule reach {' and '.join(reach)}, since a delta lists few genes and moves each by a median. "
    )
    return text + (
        f"The baseline, {baseline}, is nearer in {' and '.join(nearer)}." if nearer else "No baseline is nearer."
    )
