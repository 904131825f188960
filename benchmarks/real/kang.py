"""The two public excerpts of Kang et al. 2018 (GSE96583): blood cells of lupus patients with and without interferon beta."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from c2s.artefacts import hash_of
from c2s.cells.library import Perturbation
from c2s.cells.reading import read_cells

MONOCYTES, LYMPHOCYTES = CONTEXTS = ("monocytes", "lymphocytes")
LINEAGE = {
    "CD14+ Monocytes": MONOCYTES, "FCGR3A+ Monocytes": MONOCYTES,
    "B cells": LYMPHOCYTES, "CD4 T cells": LYMPHOCYTES, "CD8 T cells": LYMPHOCYTES,
}  # fmt: skip
INTERFERON = Perturbation("IFN-beta", targets=("IFNAR1", "IFNAR2"), mechanism="type I interferon", time="6 h")
VEHICLE = Perturbation("vehicle", role="vehicle")
LIBRARY = [INTERFERON, VEHICLE]
HALLMARK = "HALLMARK_INTERFERON_ALPHA_RESPONSE"


@dataclass(frozen=True)
class KangFiles:
    """Where the excerpts and the hallmark gene sets are."""

    muscat: Path
    harmony: Path
    hallmark: Path

    @classmethod
    def find(cls) -> KangFiles:
        """Return the files below ``C2S_DATA_DIR``, or end the program with what is missing."""
        folder = os.environ.get("C2S_DATA_DIR")
        if not folder:
            sys.exit("C2S_DATA_DIR is not set: it names the folder that holds kang_ifnb/ and gene_sets/")
        root = Path(folder)
        files = cls(
            root / "kang_ifnb" / "kang_muscat_counts.h5ad",
            root / "kang_ifnb" / "kang_harmony_counts.h5ad",
            root / "gene_sets" / "human_hallmark_v2025.gmt.gz",
        )
        missing = [
            f"{p.parent.name}/{p.name}" for p in (files.muscat, files.harmony, files.hallmark) if not p.is_file()
        ]
        if missing:
            sys.exit(f"C2S_DATA_DIR does not hold {', '.join(missing)}")
        return files


def read_muscat(path: Path) -> AnnData:
    """Return five labelled cell types of donors 101 and 107 with ``donor``, ``treatment``, ``cell_type``, ``lineage``."""
    cells = read_cells(path)
    cell_type = cells.obs["cluster_id"].astype(str)
    cells.obs = pd.DataFrame(
        {
            "barcode": cells.obs_names,
            "donor": cells.obs["sample_id"].astype(str).str.removeprefix("ctrl").str.removeprefix("stim"),
            "treatment": _treatment(cells.obs["group_id"]),
            "cell_type": cell_type,
            "lineage": cell_type.map(LINEAGE),
        },
        index=cells.obs_names,
    )
    return cells


def read_harmony(path: Path) -> AnnData:
    """Return cells of unknown donor with ``barcode``, ``treatment`` and ``known_type`` (empty for all but 114)."""
    cells = read_cells(path)
    known = cells.obs["cell_type_muscat"].astype(object)
    cells.obs = pd.DataFrame(
        {
            "barcode": cells.obs["barcode"].astype(str),
            "treatment": _treatment(cells.obs["condition"]),
            "known_type": known.where(known.notna(), "").astype(str),
        },
        index=cells.obs_names,
    )
    return cells


def without_cells_of(cells: AnnData, other: AnnData) -> AnnData:
    """Return the cells whose barcode and treatment do not occur in ``other``: the two excerpts share cells."""
    taken = set(zip(other.obs["barcode"], other.obs["treatment"]))
    keep = [pair not in taken for pair in zip(cells.obs["barcode"], cells.obs["treatment"])]
    return cells[np.array(keep)].copy()


def at_most(cells: AnnData, n: int, *, by: list[str], seed: int) -> AnnData:
    """Return at most ``n`` cells, drawn at random, of every combination of the columns ``by``."""
    rng = np.random.default_rng([seed, 41])
    groups = cells.obs.groupby(by, observed=True, sort=True).indices
    rows = [np.sort(rng.permutation(members)[:n]) for members in groups.values()]
    return cells[np.sort(np.concatenate(rows))].copy()


def split_at_random(cells: AnnData, *, by: list[str], seed: int) -> tuple[AnnData, AnnData]:
    """Return two random halves of the **cells** within each combination of ``by``; donors are in both."""
    rng = np.random.default_rng([seed, 43])
    first = np.zeros(cells.n_obs, dtype=bool)
    for members in cells.obs.groupby(by, observed=True, sort=True).indices.values():
        first[rng.permutation(members)[: len(members) // 2]] = True
    return cells[first].copy(), cells[~first].copy()


def describe(cells: AnnData) -> dict[str, object]:
    """Return what a card says of its data."""
    x = cells.X
    return {
        "cells": cells.n_obs,
        "genes": cells.n_vars,
        "hash": hash_of(x.indptr, x.indices, x.data, list(cells.var_names)),
    }


def _treatment(condition: pd.Series) -> pd.Series:
    return condition.astype(str).map({"stim": INTERFERON.name, "ctrl": VEHICLE.name})
