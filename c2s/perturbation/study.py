"""A perturbation study in memory: its cells, its library, and which column is what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anndata as ad
import pandas as pd

from c2s.cells.library import Perturbation, check_library

PERTURBATION = "perturbation"  # the column that loaders write


@dataclass(frozen=True)
class Study:
    """Cells that were perturbed, and what is needed to split and to train on them.

    Attributes
    ----------
    cells : AnnData
        ``obs`` has the column ``perturbation`` and the context columns; what the file called them is there, too.
    library : list of Perturbation
        A row a value of ``perturbation``, the control first.
    control : str
    context_keys : tuple of str
        Columns on which treated and control cells should agree.
    perturbation_key : str
    """

    cells: ad.AnnData
    library: list[Perturbation]
    control: str
    context_keys: tuple[str, ...]
    perturbation_key: str = PERTURBATION


def study_of(
    cells: ad.AnnData,
    columns: Mapping[str, Any],
    library: list[Perturbation],
    control: str,
    context_keys: tuple[str, ...],
) -> Study:
    """Return the study with its columns written; what a column of the same name held is kept under ``given_<name>``."""
    for name, values in columns.items():
        if name in cells.obs:
            cells.obs[f"given_{name}"] = cells.obs[name]
        cells.obs[name] = pd.Categorical(values)
    return Study(cells, check_library(library), control, context_keys)
