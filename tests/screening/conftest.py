"""A small synthetic screen with a known answer, for the tests of what is drawn and written about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from c2s.screening.effects import ScreenEffects
from c2s.screening.hits import call_hits
from c2s.screening.programmes import load_programme

CLASSES = ("inert", "activator", "amplifier", "repressor", "off-programme", "ceiling")
MEANS = {
    "inert": (0, 0),
    "activator": (0.16, 0.15),
    "amplifier": (0.13, 0.004),
    "repressor": (-0.08, -0.07),
    "off-programme": (0, 0),
    "ceiling": (0.07, 0.005),
}
CONTEXTS = ("interferon low", "neutral")


def make_effects(
    *, n_drugs: int = 60, n_decoys: int = 160, n_cells: int = 30, n_units: int = 6, seed: int = 0
) -> ScreenEffects:
    """Return a screen in which drug i has class ``CLASSES[i % 6]``; ``n_cells`` are per unit and context."""
    rng = np.random.default_rng(seed)
    programme = load_programme("MHC_CLASS_I")
    genes = list(programme.genes)
    k, max_rank = len(genes), 100
    kinds = [CLASSES[i % len(CLASSES)] for i in range(n_drugs)]
    rows = pd.DataFrame(
        {
            "name": [f"drug-{i:02d}" for i in range(n_drugs)] + [f"decoy {i}" for i in range(n_decoys)] + ["IFNG", "vehicle"],
            "role": ["drug"] * n_drugs + ["decoy"] * n_decoys + ["positive_control", "vehicle"],
            "targets": [f"GENE{i % 9}" if i % 4 else f"GENE{i % 9}|KIN{i}" for i in range(n_drugs)] + [f"DEC{i}" for i in range(n_decoys)] + ["IFNGR1|IFNGR2", ""],
            "mechanism": [f"{'inhibitor' if i % 2 else 'agonist'} of GENE{i % 9}" for i in range(n_drugs)] + [""] * n_decoys + ["cytokine", ""],
            "support": [("seen target", "seen target", "unseen")[(i // 6) % 3] for i in range(n_drugs)]
            + ["seen target" if i % 2 else "unseen" for i in range(n_decoys)] + ["seen", "seen"],
            "set": ["library"] * n_drugs + ["decoy"] * n_decoys + ["reference", "vehicle"],
        }
    )  # fmt: skip
    cells = pd.DataFrame(
        [(context, f"donor {u}") for context in CONTEXTS for u in range(n_units) for _ in range(n_cells)],
        columns=["context", "unit"],
    )
    cells.insert(0, "cell", [f"cell{i}" for i in range(len(cells))])
    means = np.zeros((len(rows), 2))
    for i, kind in enumerate(kinds):
        means[i] = np.asarray(MEANS[kind]) * rng.uniform(0.8, 1.25) + rng.normal(0, 0.004, 2)
    means[n_drugs : n_drugs + n_decoys] = rng.normal(0, 0.012, (n_decoys, 1)) + rng.normal(0, 0.006, (n_decoys, 2))
    means[-2] = 0.2, 0.16
    side = (cells["context"] == CONTEXTS[1]).to_numpy().astype(int)
    unit = cells["unit"].str[-1].astype(int).to_numpy()
    noise = rng.normal(0, 0.04, (len(rows), len(cells))) + rng.normal(0, 0.006, (len(rows), n_units))[:, unit]
    u = means[:, side] + noise - noise.mean(axis=1, keepdims=True)
    u[rng.random(u.shape) < 0.15] = 0.0
    share = rng.dirichlet(np.full(k, 0.6), len(rows))
    share[[i for i, kind in enumerate(kinds) if kind == "ceiling"]] = np.eye(k)[genes.index("B2M")]
    shift = -means[:, :, None] * share[:, None, :] * (k * (max_rank + 1) - k * (k + 1) / 2)
    shift[:, 1, genes.index("B2M")] = np.clip(shift[:, 1, genes.index("B2M")], -1, 1)
    control_rank = np.clip(rng.normal([[70], [76]], 18, (2, k)), 12, max_rank + 1)
    present = np.clip((max_rank + 8 - control_rank) / 60, 0.02, 1)
    control_rank[:, genes.index("B2M")], present[:, genes.index("B2M")] = (40, 2.4), (0.95, 1.0)
    control_rank[1, genes.index("NLRC5")], present[1, genes.index("NLRC5")] = max_rank, 0.05
    as_float = {"u": u, "logit_u": 4.2 * u, "log_expression": 2.5 * u}
    shift = np.maximum(shift, 1 - control_rank)
    return ScreenEffects(
        rows=rows,
        cells=cells,
        effect={key: value.astype(np.float32) for key, value in as_float.items()},
        vehicle_score={key: np.full(len(cells), 0.3, np.float32) for key in as_float},
        rank_shift=shift.astype(np.float32),
        control_rank=control_rank.astype(np.float32),
        present=present.astype(np.float32),
        programme=programme,
        gene_symbols=genes,
        contexts=CONTEXTS,
        max_rank=max_rank,
    )


def make_table(effects: ScreenEffects, *, delta: float = 0.03, planted: bool = True) -> pd.DataFrame:
    """Return the called hits, with planted classes and two baselines beside them."""
    table = call_hits(effects, delta=delta)
    if planted:
        rng = np.random.default_rng(1)
        table["planted_class"] = [CLASSES[int(name.split("-")[1]) % len(CLASSES)] for name in table["perturbation"]]
        table["ridge_split"] = 0.5 * table["split"] + rng.normal(0, 0.02, len(table))
        table["knn_split"] = 0.3 * table["split"] + rng.normal(0, 0.03, len(table))
    return table


def make_record(
    effects: ScreenEffects, table: pd.DataFrame, *, delta: float = 0.03, demo: bool = True
) -> dict[str, Any]:
    """Return a record such as ``screen.json`` holds."""
    record = {
        "version": "0.1.0",
        "created": "2025-01-01T00:00:00+00:00",
        "config": {"delta": delta, "alpha": 0.05, "fdr": 0.1, "n_samples": 4, "contexts": list(effects.contexts), "co_treatment": False},
        "contexts": list(effects.contexts),
        "programme": {"name": effects.programme.name, "genes": effects.gene_symbols, "absent": ["HLA-H"], "subsets": {}},
        "counts": {"library": len(table), "decoys": 160, "cells": {CONTEXTS[0]: 180, CONTEXTS[1]: 180}, "samples": 4},
        "replication": table.attrs["replication"],
        "smallest_p": table.attrs["smallest_p"],
        "timings": {"generate": 38.2, "score": 1.4, "report": 2.2},
        "seeds": {"screen": 0, "model": 1},
        "model": {"path": "runs/demo/model", "hash": "1f3a9c0e77ab12cd", "parameters": 1_104_320, "training": {"steps": 1440, "held_out_loss": 2.113}},
        "gates": [
            {"name": "drug", "question": "Does the model read the drug?", "answer": "Yes: shuffling the drug's name and targets changes the answer.", "passed": True, "detail": "Spread between drugs is 6.1 times that between repeats of one drug.", "values": {"ratio": 6.1, "p": 0.001}},
            {"name": "context", "question": "Does the model read the context?", "answer": "It reads the cell, but hardly the context tag.", "passed": False, "detail": "2 × 2 swap: cell 0.11, tag 0.004.", "values": {"cell": 0.11, "tag": 0.004}},
            {"name": "vehicle", "question": "Is the effect of vehicle zero?", "answer": "Yes, in both contexts.", "passed": True, "detail": "", "values": {}},
            {"name": "controls", "question": "Do named controls behave as they should?", "answer": "No control was named.", "passed": None, "detail": "Name one with --positive-control.", "values": {}},
            {"name": "support", "question": "How far are the drugs from training?", "answer": "40 have a seen target, 20 have none.", "passed": True, "detail": "", "values": {"seen": 0, "seen target": 40, "unseen": 20}},
            {"name": "baselines", "question": "Does the model beat ridge and nearest neighbours?", "answer": "Yes: 0.97 against 0.81 and 0.74.", "passed": True, "detail": "", "values": {"model": 0.97, "ridge": 0.81, "knn": 0.74}},
        ],
        "notes": ["Sampling noise is shared between drug and vehicle."],
        "simulated": demo,
    }  # fmt: skip
    if demo:
        record["demo"] = {
            "auc": {"model": 0.97, "ridge": 0.81, "knn": 0.74},
            "auc_unseen": {"model": 0.63, "ridge": 0.5, "knn": float("nan")},
            "precision": 0.9,
            "recall": 0.8,
        }
    return record


@pytest.fixture(scope="session")
def effects() -> ScreenEffects:
    return make_effects()


@pytest.fixture(scope="session")
def table(effects: ScreenEffects) -> pd.DataFrame:
    return make_table(effects)


@pytest.fixture(scope="session")
def record(effects: ScreenEffects, table: pd.DataFrame) -> dict[str, Any]:
    return make_record(effects, table)


@pytest.fixture(scope="session")
def tiny_screen():
    """Return a simulated screen of 8 cells, 10 library rows and 300 genes, and a model trained on it for 6 steps."""
    from c2s.models.loading import load_cell_lm
    from tests import tiny

    return tiny.simulated(), load_cell_lm(tiny.run_folder())
