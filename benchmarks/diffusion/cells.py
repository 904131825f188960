"""Blood cells to write, the models that write them, and what judges them: no judge has seen a cell that a model learnt from."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import kendalltau
from sklearn.linear_model import LogisticRegression

import c2s
from benchmarks.annotation.labels import PBMC3K_TO_PBMC4K
from benchmarks.annotation.splits import labelled
from c2s.metrics import PCAEmbedder, SentenceRoad, scfid
from c2s.models.cell_lm import CellLM
from c2s.models.loading import load_cell_lm
from c2s.sentences.background import Background
from c2s.sentences.corpus import CellSentences

KEPT = 3000  # genes of the vocabulary: those in most cells
DIMENSIONS = 6  # of scFID: within a tenth of the cells written
TRAINING: dict[str, Any] = {
    "task": "cell_generation", "model": "c2s-mini", "labels_key": "label", "batch_size": 16, "learning_rate": 1e-3, "steps": 1200,
    "validation_share": 0.05, "threads": 1, "checkpoint_steps": 100,
}  # fmt: skip


def place() -> Path:
    """Return the folder of the data."""
    found = os.environ.get("C2S_DATA_DIR")
    if not found:
        msg = "set C2S_DATA_DIR to the folder that holds pbmc3k/ and pbmc4k_soupx/"
        raise SystemExit(msg)
    return Path(found)


@functools.cache
def pool(length: int) -> tuple[ad.AnnData, np.ndarray]:
    """Return cells of pbmc3k and pbmc4k that express at least ``length`` genes, and the part of each: 0 learns, 1 judges, 2 is held out."""
    sets = {name: labelled(place(), name).copy() for name in ("pbmc3k", "pbmc4k")}
    sets["pbmc3k"].obs["label"] = sets["pbmc3k"].obs["label"].map(PBMC3K_TO_PBMC4K)
    cells = ad.concat(sets, join="inner", label="source", index_unique="-")
    cells = cells[cells.obs["label"].notna().to_numpy()].copy()
    expressed = np.asarray((cells.X > 0).sum(axis=0)).ravel()
    cells = cells[:, np.sort(np.argsort(-expressed, kind="stable")[:KEPT])].copy()
    cells = cells[np.asarray((cells.X > 0).sum(axis=1)).ravel() >= length].copy()
    part = np.zeros(cells.n_obs, dtype=int)
    rng = np.random.default_rng(0)
    kinds = cells.obs["label"].to_numpy(dtype=str)
    for kind in np.unique(kinds):
        rows = rng.permutation(np.flatnonzero(kinds == kind))
        part[rows] = np.array([0, 0, 0, 1, 2])[np.arange(len(rows)) % 5]
    return cells, part


def model(objective: str, length: int, seed: int, folder: Path) -> CellLM:
    """Return the model of an objective and a length, trained where it is not there yet."""
    out = folder / f"{objective}-{length}-{seed}"
    if not (out / "model" / "c2s.json").is_file():
        cells, part = pool(length)
        begun = (out / "config.json").is_file()
        c2s.train(
            cells[part == 0].copy(),
            out,
            objective=objective,
            n_genes=length,
            seed=seed,
            progress=False,
            resume=begun,
            **TRAINING,
        )
    return load_cell_lm(out)


@dataclass(frozen=True)
class Judges:
    """What written cells are held against: held-out cells, as many of each type, since as many are written."""

    kinds: LogisticRegression
    embedder: PCAEmbedder
    road: SentenceRoad
    real: ad.AnnData
    held_out: CellSentences
    ranks: dict[str, np.ndarray]


@functools.cache
def judges(length: int) -> Judges:
    """Return a classifier and components of the judging cells, and the held-out cells."""
    cells, part = pool(length)
    background = Background.fit(cells[part == 1])
    decoder = c2s.RankDecoder.fit(cells[part == 1], background=background)
    road = SentenceRoad(decoder, background.vocabulary, background, n_genes=length)
    known = c2s.encode(cells[part == 1], vocabulary=background.vocabulary, background=background)
    kinds = cells.obs["label"].to_numpy(dtype=str)
    classifier = LogisticRegression(C=1.0, max_iter=3000).fit(ranked(known, length), kinds[part == 1])
    rows = balanced(kinds, np.flatnonzero(part == 2))
    real = road(cells[rows])
    embedder = PCAEmbedder.fit(road(cells[part == 1]), n_components=DIMENSIONS, n_top_genes=None)
    held = c2s.encode(cells[rows], n_genes=length, vocabulary=background.vocabulary, background=background)
    held = held.with_obs(pd.DataFrame({"cell_type": kinds[rows]}, index=held.obs.index))
    weight = ranked(known, length).toarray()
    ranks = {kind: weight[kinds[part == 1] == kind].mean(0) for kind in np.unique(kinds)}
    return Judges(classifier, embedder, road, real, held, ranks)


def balanced(kinds: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return rows with as many of each kind as there are of the rarest."""
    n = min(np.count_nonzero(kinds[rows] == kind) for kind in np.unique(kinds[rows]))
    return np.sort(np.concatenate([rows[kinds[rows] == kind][:n] for kind in np.unique(kinds[rows])]))


def ranked(sentences: CellSentences, length: int) -> sp.csr_matrix:
    """Return a weight of each gene, (n_cells, n_genes): 1 for the first of a sentence, falling to 0 behind its last."""
    rows = [sentences.row(i)[:length] for i in range(len(sentences))]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    weight = np.concatenate([1 - np.arange(len(row)) / length for row in rows])
    return sp.csr_matrix((weight, np.concatenate(rows), indptr), shape=(len(rows), len(sentences.vocabulary)))


def quality(written: CellSentences, length: int) -> dict[str, Any]:
    """Return share of cells of their label, scFID with the floor of real halves, rank agreement and overlap, and whether all cells are valid.

    Agreement with mean ranks is highest for the mean itself, and overlap of two cells of a type for a model that writes one cell: both are to be
    as they are of real cells, not more.
    """
    found = judges(length)
    asked = written.obs["cell_type"].to_numpy(dtype=str)
    weight = ranked(written, length)
    rows = [written.row(i) for i in range(len(written))]
    results = {
        row.metric: row for row in scfid(found.real, found.road(written), embedder=found.embedder, n_resamples=200)
    }
    distance = results["scFID, all cells"]
    tau = [kendalltau(cell, found.ranks[kind]).statistic for cell, kind in zip(weight.toarray(), asked)]
    right = found.kinds.predict(weight) == asked
    return {
        "label accuracy": float(np.mean(right)), "right": right.astype(int).tolist(), "overlap": overlap(rows, asked),
        "scFID": distance.value, "scFID low": distance.low, "scFID high": distance.high,
        "scFID of halves": results["scFID between halves of the real cells, all cells"].value,
        "tau": float(np.mean(tau)),
        "valid": float(np.mean([len(row) == length == len(set(row.tolist())) for row in rows])),
    }  # fmt: skip


def overlap(rows: Sequence[np.ndarray], kinds: np.ndarray) -> float:
    """Return the mean Jaccard index of the genes of two cells of one type."""
    sets = [set(row.tolist()) for row in rows]
    pairs = [(a, b) for b in range(len(sets)) for a in range(b) if kinds[a] == kinds[b]]
    return float(np.mean([len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs]))
