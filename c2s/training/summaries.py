"""Summaries of data sets with their ground truth: organism, tissue, assay, numbers and composition. No model writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from c2s.cells.reading import complete_column
from c2s.tasks.text_task import Columns
from c2s.tasks.wording import fill
from c2s.training.composition import (
    Composition,
    chosen_columns,
    composition,
    drawn_templates,
    joined,
    known_values,
    percent,
    shares_text,
)

VERSION = "1"  # changes whenever a template does
TEMPLATES = (
    "{n_cells} cells[ of {organism}][ from {tissue}][, measured with {assay}][, of {n_donors} donors]. By type they are {types}.",
    "This data set holds {n_cells} cells.[ Organism: {organism}.][ Tissue: {tissue}.][ Assay: {assay}.][ Donors: {n_donors}.] Cell types: {types}.",
    "Cell types of this data set[ of {organism}][ {tissue}] are {types}. It holds {n_cells} cells[ of {n_donors} donors][, measured with {assay}].",
)
SHOWN_TYPES = 8
FIELDS = ("organism", "tissue", "assay", "donor")


@dataclass(frozen=True)
class SummaryFacts:
    """What a summary says of a data set, as values.

    Attributes
    ----------
    dataset : str
    n_cells : int
    composition : tuple of (str, int)
        Types with their cells, the most frequent first, ties by name.
    organisms, tissues, assays, donors : tuple of str
        Values that occur, the most frequent first; none where they are not known.
    """

    dataset: str
    n_cells: int
    composition: Composition
    organisms: tuple[str, ...]
    tissues: tuple[str, ...]
    assays: tuple[str, ...]
    donors: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """A summary, the facts it was made of, and the place of its template in :data:`TEMPLATES`."""

    text: str
    facts: SummaryFacts
    template: int


def summary_text(facts: SummaryFacts, template: int) -> str:
    """Return the summary that says ``facts``, in one of :data:`TEMPLATES`; types after the first :data:`SHOWN_TYPES` are counted together."""
    shown, rest = facts.composition[:SHOWN_TYPES], facts.composition[SHOWN_TYPES:]
    types = shares_text(shown, facts.n_cells)
    if rest:
        types += f" and {len(rest)} more ({percent(sum(count for _, count in rest), facts.n_cells)})"
    slots = {
        "n_cells": f"{facts.n_cells:,}", "types": types, "organism": joined(facts.organisms), "tissue": joined(facts.tissues),
        "assay": joined(facts.assays), "n_donors": len(facts.donors) if len(facts.donors) > 1 else None,
    }  # fmt: skip
    return "".join(part for part in fill(TEMPLATES[template], slots) if isinstance(part, str))


def summary_facts(
    obs: pd.DataFrame, *, labels_key: str, dataset_key: str | None = None, columns: Columns = None
) -> list[SummaryFacts]:
    """Return the facts of every data set, sorted by name.

    Parameters
    ----------
    obs : DataFrame
    labels_key : str
        Column of the cell types.
    dataset_key : str, optional
        Column that tells data sets apart; None takes all cells for one, called ``""``.
    columns : mapping of str to str, optional
        Columns of ``organism``, ``tissue``, ``assay`` and ``donor``; without it, those of the same name where there are any.

    Raises
    ------
    DataError
        A column is missing, or that of types or data sets has gaps.
    ConfigError
        ``columns`` for something else.
    """
    labels = complete_column(obs, labels_key, "labels_key")
    sets = np.full(len(obs), "", dtype=object)
    if dataset_key is not None:
        sets = complete_column(obs, dataset_key, "dataset_key").astype(str)
    fields = chosen_columns(obs, columns, FIELDS)
    found = []
    for name in sorted(set(sets)):
        rows = np.flatnonzero(sets == name)
        told: Mapping[str, tuple[str, ...]] = {field: known_values(values[rows]) for field, values in fields.items()}
        found.append(
            SummaryFacts(name, len(rows), composition(labels[rows]), *(told.get(field, ()) for field in FIELDS))
        )  # fmt: skip
    return found


def summaries(facts: list[SummaryFacts], *, per_dataset: int = 1, seed: int = 0) -> list[Summary]:
    """Return ``per_dataset`` summaries of each data set, in as many templates, drawn by ``seed`` and the data set's name.

    Raises
    ------
    ConfigError
        ``per_dataset`` is below 1, or above the number of templates.
    """
    names = [each.dataset for each in facts]
    drawn = drawn_templates(names, wanted=per_dataset, of=len(TEMPLATES), argument="per_dataset", seed=seed)
    return [
        Summary(summary_text(each, template), each, template)
        for each, templates in zip(facts, drawn, strict=True)
        for template in templates
    ]
