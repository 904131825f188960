"""(b) 2,000 cells without donors: predicted types, a random-cell split, and class I antigen presentation in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from benchmarks.card import Figure
from benchmarks.real.donor import TRAINING, size_note
from benchmarks.real.kang import (
    HALLMARK,
    LIBRARY,
    LINEAGE,
    VEHICLE,
    KangFiles,
    at_most,
    read_harmony,
    read_muscat,
    split_at_random,
    without_cells_of,
)
from benchmarks.real.measures import Comparison, compare
from c2s.cells.normalise import to_log1p_cp10k
from c2s.cells.reading import expression
from c2s.screening.programmes import Programme, load_programme
from c2s.sentences.encode import encode
from c2s.stats import proportion_interval
from c2s.training.config import TrainConfig
from c2s.training.run import train

SPLIT = "random-cell split, not by donor"
CLASSIFIER: dict[str, Any] = {
    "task": "cell_type_annotation", "labels_key": "cell_type", "n_genes": 64, "steps": 300, "validation_share": 0.0, "threads": 1,
}  # fmt: skip
STEPS = 400
MIN_SHARE = 0.05  # of the training half that expresses a gene; rarer ones fill a delta with noise and are left out
CELLS_PER_CONTEXT = 32
# programme -> decoys; the parts of MHC_CLASS_I are screened again by themselves
PROGRAMMES = {HALLMARK: 20, "MHC_CLASS_I": 20, "MHC_CLASS_I_SURFACE": 0, "MHC_CLASS_I_LOADING": 0}


def run(files: KangFiles, out: Path, *, seed: int, reduced: bool) -> tuple[list[Figure], list[str], dict[str, Any]]:
    """Label, split, train, screen; return figures, notes and what was looked at."""
    cells = read_harmony(files.harmony)
    if reduced:
        known = (cells.obs["known_type"] != "").to_numpy()
        cells = cells[known | (np.arange(cells.n_obs) % 5 == 0)].copy()
    labelled, figures = label(
        cells, without_cells_of(read_muscat(files.muscat), cells), out, seed=seed, reduced=reduced
    )
    training, held_out = split_at_random(labelled, by=["treatment", "cell_type"], seed=seed)
    genes = usual_genes(training, [gene for name in PROGRAMMES for gene in load(name, files).genes])
    training, held_out = training[:, genes].copy(), held_out[:, genes].copy()
    controls = held_out[(held_out.obs["treatment"] == VEHICLE.name).to_numpy()].copy()
    controls = at_most(controls, 6 if reduced else CELLS_PER_CONTEXT, by=["lineage"], seed=seed)
    config = TrainConfig(**{**TRAINING, "steps": 6 if reduced else STEPS, "seed": seed})
    model = train(training, out / "run", config=config, library=LIBRARY, overwrite=True, progress=not reduced)
    rows: list[Comparison] = []
    tables = {}
    for programme, n_decoys in PROGRAMMES.items():
        found, tables[programme] = compare(
            model, training=training, controls=controls, held_out=held_out, programme=programme, gmt=files.hallmark,
            out=out / f"screen_{programme.lower()}", settings={"n_decoys": 0 if reduced else n_decoys, "seed": seed},
            config=config, progress=not reduced,
        )  # fmt: skip
        rows += found
    for row in rows:
        at = f"(b) {SPLIT}, {row.programme}, {row.context}:"
        for what, part in (
            ("predicted", row.predicted),
            ("observed", row.observed),
            ("baseline: training half's", row.training),
        ):
            seeds = [seed] if what == "predicted" else None
            figures.append(Figure(f"{at} {what} effect on U", part.value, part.low, part.high, n=part.n, seeds=seeds))
        figures.append(Figure(f"{at} reach of the delta form", row.reach))
    notes = [
        f"(b) The model knows {len(genes):,} of {cells.n_vars:,} genes: those that {MIN_SHARE:.0%} of the training half expresses, "
        "and the programmes'.",
        f"(b) {SPLIT}: the file names no donor, so both halves hold cells of the same donors, and the baseline (the training half's "
        "mean change) has seen them. Types are predictions of the classifier; it knows five types, so natural killer and "
        "dendritic cells are called the nearest of them.",
        "(b) The 114 cells of known type are also in the excerpt that trains the classifier; they were taken out of it first.",
        *(size_note("(b)", rows[i : i + 2], "the training half's mean change") for i in range(0, len(rows), 2)),
    ]
    return figures, notes, {"comparisons": rows, "tables": tables, "labelled": labelled}


def load(programme: str, files: KangFiles) -> Programme:
    """Return a programme, the hallmark set from its file."""
    return load_programme(programme, gmt=files.hallmark if programme == HALLMARK else None)


def usual_genes(training: AnnData, wanted: list[str]) -> list[str]:
    """Return the genes that at least :data:`MIN_SHARE` of the training cells express, and those of ``wanted`` there are."""
    share = expression(training)[0].getnnz(axis=0) / training.n_obs
    return list(training.var_names[(share >= MIN_SHARE) | training.var_names.isin(wanted)])


def label(cells: AnnData, reference: AnnData, out: Path, *, seed: int, reduced: bool) -> tuple[AnnData, list[Figure]]:
    """Return the cells with predicted ``cell_type`` and ``lineage``, and the agreement on the cells of known type."""
    held = set(reference.var_names)
    shared = [gene for gene in cells.var_names if gene in held]
    fitted, asked = reference[:, shared].copy(), cells[:, shared].copy()
    config = TrainConfig(**{**CLASSIFIER, **({"steps": 12} if reduced else {}), "seed": seed})
    model = train(fitted, out / "classifier", config=config, overwrite=True, progress=not reduced)
    sentences = encode(asked, vocabulary=model.vocabulary, background=model.background)
    predicted = model.annotate(sentences)["label"].to_numpy(dtype=str)
    values = [to_log1p_cp10k(expression(part)[0])[0] for part in (fitted, asked)]
    logistic = LogisticRegression(max_iter=2000).fit(values[0], fitted.obs["cell_type"]).predict(values[1])
    labelled = cells.copy()
    labelled.obs["cell_type"] = logistic if reduced else predicted  # 12 steps tell no two types apart
    labelled.obs["lineage"] = labelled.obs["cell_type"].map(LINEAGE)
    known = (cells.obs["known_type"] != "").to_numpy()
    truth = cells.obs["known_type"].to_numpy()[known].astype(str)
    figures = []
    for name, labels in (("c2s-mini", predicted), ("baseline: logistic regression", logistic)):
        said = np.asarray(labels)[known].astype(str)
        same = proportion_interval(int((said == truth).sum()), len(truth))
        lineage = [LINEAGE[a] == LINEAGE[b] for a, b in zip(said, truth)]
        at = f"(b) cells of known type, {len(shared):,} genes, {name}:"
        figures += [
            Figure(f"{at} agreement", same.value, same.low, same.high, n=len(truth), seeds=[seed]),
            Figure(f"{at} balanced accuracy", float(balanced_accuracy_score(truth, said)), n=len(truth), seeds=[seed]),
            Figure(f"{at} agreement on lineage", float(np.mean(lineage)), n=len(truth), seeds=[seed]),
        ]
    return labelled, figures
