"""Perturbation studies as their makers give them out, read from files that a user downloaded: cells, library, and which column is what."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from c2s.cells.genes import listed
from c2s.cells.library import Perturbation
from c2s.cells.reading import complete_column, read_cells
from c2s.errors import ArtefactError, DataError
from c2s.perturbation.describe import canonical_names, library_of
from c2s.perturbation.drug_datasets import load_l1000, load_sciplex3
from c2s.perturbation.study import PERTURBATION, Study, study_of

__all__ = ["Study", "load_dong", "load_kang", "load_l1000", "load_norman", "load_norman_maps", "load_sciplex3"]

_NOTHING = re.compile(r"^(NegCtrl\d*|ctrl|control)$")  # guides without a target


def load_kang(
    path: str | os.PathLike[str],
    *,
    cell_type_key: str = "cluster_id",
    sample_key: str = "sample_id",
    group_key: str = "group_id",
    control: str = "ctrl",
    stimulated: str = "stim",
) -> Study:
    """Return PBMC of lupus patients after 6 h with and without interferon beta (Kang et al., Nature Biotechnology 2018).

    Parameters
    ----------
    path
        An h5ad with the columns that the R package muscat gives them.
    cell_type_key, sample_key, group_key
        Columns of the cell type, of the sample (group and donor, ``"ctrl101"``; or the donor alone), and of the group.
    control, stimulated
        The two values of ``group_key``.

    Returns
    -------
    Study
        ``perturbation`` is ``"untreated"`` or ``"IFN-beta"``; contexts are ``cell_type`` and ``donor``.

    Raises
    ------
    ArtefactError
        The file cannot be read.
    DataError
        A column is missing or has gaps, or holds other groups.
    """
    cells = read_cells(path)
    group = complete_column(cells.obs, group_key, "group_key")
    if other := sorted(set(group) - {control, stimulated}):
        msg = f"{group_key!r} holds {listed(other)}; expected {control!r} and {stimulated!r}. Pass control= and stimulated="
        raise DataError(msg)
    sample = complete_column(cells.obs, sample_key, "sample_key")
    donor = [name.removeprefix(each).lstrip("_-. ") or name for name, each in zip(sample, group)]
    columns = {
        PERTURBATION: np.where(group == control, "untreated", "IFN-beta"),
        "cell_type": complete_column(cells.obs, cell_type_key, "cell_type_key"),
        "donor": donor,
    }
    library = [
        Perturbation("untreated", role="vehicle", time="6 h"),
        Perturbation(
            "IFN-beta", targets=("IFNAR1", "IFNAR2"), mechanism="type I interferon receptor agonist", time="6 h"
        ),
    ]
    return study_of(cells, columns, library, "untreated", ("cell_type", "donor"))


def load_norman(
    path: str | os.PathLike[str], *, perturbation_key: str | None = None, separators: Sequence[str] = ("+", "_")
) -> Study:
    """Return K562 cells with one or two genes activated by CRISPR (Norman et al., Science 2019).

    Parameters
    ----------
    path
        An h5ad as it is given out by GEARS (``condition``: ``"KLF1+ctrl"``), scPerturb (``perturbation``: ``"BAK1_KLF1"``, ``"control"``) or with the
        guides (``guide_identity``: ``"KLF1_NegCtrl0__KLF1_NegCtrl0"``).
    perturbation_key : str, optional
        The column of perturbations; the first of the three that is there, where left out.
    separators : sequence of str
        What stands between genes.

    Returns
    -------
    Study
        ``perturbation`` is ``"control"``, ``"KLF1"`` or ``"BAK1 + KLF1"``; a gene is its own target. There is no context.

    Raises
    ------
    ArtefactError
        The file cannot be read.
    DataError
        There is no such column, or no cell is a control.
    """
    cells = read_cells(path)
    known = [key for key in ("condition", "perturbation", "guide_identity") if key in cells.obs]
    key = perturbation_key or (known[0] if known else "condition")
    names = [name.split("__")[0] for name in complete_column(cells.obs, key, "perturbation_key")]
    pieces = {piece for name in set(names) for piece in re.split("|".join(map(re.escape, separators)), name)}
    dropped = [piece for piece in pieces if _NOTHING.match(piece)]
    columns = {PERTURBATION: canonical_names(names, control="control", separators=separators, dropped=dropped)}
    obs = pd.DataFrame(columns, index=cells.obs_names)
    library = library_of(obs, perturbation_key=PERTURBATION, control="control", names_are_targets=True)
    library = [row if row.role == "vehicle" else replace(row, mechanism="CRISPR activation") for row in library]
    return study_of(cells, columns, library, "control", ())


def load_norman_maps(
    fitness: str | os.PathLike[str], emap: str | os.PathLike[str], *, negative: str = "negative"
) -> pd.DataFrame:
    """Return the pairs of the genetic interaction map of Norman et al. (Science 2019), a row a pair of different genes.

    Parameters
    ----------
    fitness, emap
        ``processed_fitnesses.csv`` and ``processed_emap.csv``, or the two of the genes of the Perturb-seq screen; ``.gz`` of them, too.
    negative : str
        Row and column of the guides without a target, whose pairs are the single genes' fitness. Maps without it give NaN: the diagonal is a gene
        with two guides, no single.

    Returns
    -------
    DataFrame
        ``a``, ``b`` (in the map's order), ``fitness_a``, ``fitness_b``, ``fitness_ab``, ``gi`` (score of genetic interaction).

    Raises
    ------
    ArtefactError
        A file cannot be read.
    DataError
        A map is not square and symmetric, has gaps, or the two are not of the same genes.
    """
    fitnesses, scores = _map(fitness), _map(emap)
    genes = scores.columns
    if unlike := sorted((set(genes) ^ set(fitnesses.columns)) - {negative}):
        msg = f"{emap} and {fitness} are not of the same genes: only one has {listed(unlike)}"
        raise DataError(msg)
    one, other = np.triu_indices(len(genes), 1)
    pairs = fitnesses.loc[genes, genes].to_numpy()
    single = fitnesses.loc[genes, negative].to_numpy() if negative in fitnesses else np.full(len(genes), np.nan)
    return pd.DataFrame(
        {
            "a": genes[one],
            "b": genes[other],
            "fitness_a": single[one],
            "fitness_b": single[other],
            "fitness_ab": pairs[one, other],
            "gi": scores.to_numpy()[one, other],
        }
    )


def load_dong(
    path: str | os.PathLike[str],
    *,
    perturbation_key: str = "perturbation",
    cell_type_key: str = "cell_type0528",
    exposure_key: str = "chronicity",
    control: str = "No stimulation",
) -> Study:
    """Return PBMC under single and paired cytokines, acute and chronic (Dong et al., Nature Methods 2023).

    No file of this study was at hand: the column names are those that public code reads, and are arguments.

    Parameters
    ----------
    path
        An h5ad with a row a cell.
    perturbation_key, cell_type_key, exposure_key
        Columns of the cytokines (``"IFNb+ IFNg"``), of the cell type, and of acute or chronic exposure.
    control : str
        The value of ``perturbation_key`` in untreated cells.

    Returns
    -------
    Study
        ``perturbation`` is the control or ``"IFNb + IFNg"``; contexts are ``cell_type`` and ``exposure``.

    Raises
    ------
    ArtefactError
        The file cannot be read.
    DataError
        A column is missing or has gaps, or no cell is a control.
    """
    cells = read_cells(path)
    names = complete_column(cells.obs, perturbation_key, "perturbation_key")
    columns = {
        PERTURBATION: canonical_names(names, control=control),
        "cell_type": complete_column(cells.obs, cell_type_key, "cell_type_key"),
        "exposure": complete_column(cells.obs, exposure_key, "exposure_key"),
    }
    obs = pd.DataFrame(columns, index=cells.obs_names)
    library = library_of(obs, perturbation_key=PERTURBATION, control=control)
    return study_of(cells, columns, library, control, ("cell_type", "exposure"))


def _map(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Return a square symmetric table with genes as rows and columns."""
    try:
        table = pd.read_csv(path, index_col=0)
    except (OSError, EOFError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        msg = f"cannot read the map {path}: {error}. Download it again"
        raise ArtefactError(msg) from error
    if list(table.index) != list(table.columns) or not table.columns.is_unique:
        msg = f"{path} has {table.shape[0]} rows and {table.shape[1]} columns that are not the same genes in the same order; is it truncated?"
        raise DataError(msg)
    values = table.apply(pd.to_numeric, errors="coerce")
    if values.isna().to_numpy().any() or not np.allclose(values, values.T, atol=1e-6):
        msg = f"{path} has gaps or is not symmetric; download it again"
        raise DataError(msg)
    return values
