"""Captions of clusters with their ground truth: marker genes, composition, and what the majority type is. No model writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from c2s.cells.descriptions import definitions, first_sentence
from c2s.cells.ontology import CellOntology
from c2s.cells.reading import complete_column
from c2s.errors import ConfigError
from c2s.sentences.corpus import CellSentences
from c2s.sentences.markers import DEPTH, Marker, marker_genes
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

VERSION = "2"  # changes whenever a template does
TEMPLATES = (
    "The most frequent type of this cluster[ from {tissue}][ of {organism}] is {majority} ({share})[, beside {others}].[ Its marker genes are {markers}.][ {description}]",
    "{share} of the cells of this cluster[ of {organism}][ from {tissue}] are of type {majority}[, beside {others}].[ Genes that set them apart are {markers}.][ {description}]",
    "Cell type: {majority}, {share}[; then {others}].[ Markers: {markers}.][ Tissue: {tissue}.][ Organism: {organism}.][ {description}]",
    "A cluster[ from {tissue}][ of {organism}] in which {majority} comes first with {share}[, before {others}].[ It is marked by {markers}.][ {description}]",
)
SHOWN_OTHERS = 3  # types besides the most frequent one that a caption names
FIELDS = ("organism", "tissue")


@dataclass(frozen=True)
class ClusterFacts:
    """What a caption says of a cluster, as values.

    Attributes
    ----------
    cluster : str
    n_cells : int
    composition : tuple of (str, int)
        Types with their cells, the most frequent first, ties by name.
    markers : tuple of Marker
        Against all other cells (:func:`~c2s.sentences.markers.marker_genes`).
    term : str or None
        Cell Ontology id of the most frequent type.
    description : str
        First sentence of that term's description, or of its definition; empty where there is none.
    organism, tissue : str or None
        Where all cells of the cluster agree.
    """

    cluster: str
    n_cells: int
    composition: Composition
    markers: tuple[Marker, ...]
    term: str | None
    description: str
    organism: str | None
    tissue: str | None


@dataclass(frozen=True)
class Caption:
    """A caption, the facts it was made of, and the place of its template in :data:`TEMPLATES`."""

    text: str
    facts: ClusterFacts
    template: int


def caption_text(facts: ClusterFacts, template: int) -> str:
    """Return the caption that says ``facts``, in one of :data:`TEMPLATES`.

    Every sentence is one of the facts: the most frequent type with its share and the next :data:`SHOWN_OTHERS`, markers, tissue and
    organism, and the description.
    """
    (majority, n), *others = facts.composition
    slots = {
        "majority": majority,
        "share": percent(n, facts.n_cells),
        "others": shares_text(others[:SHOWN_OTHERS], facts.n_cells),
        "markers": joined([marker.gene for marker in facts.markers]),
        "description": facts.description,
        "organism": facts.organism,
        "tissue": facts.tissue,
    }
    return "".join(part for part in fill(TEMPLATES[template], slots) if isinstance(part, str)).strip()


def cluster_facts(
    sentences: CellSentences,
    *,
    cluster_key: str,
    labels_key: str,
    ontology: CellOntology | None = None,
    descriptions: Mapping[str, str] | None = None,
    table: Mapping[str, str] | None = None,
    columns: Columns = None,
    n_markers: int = 5,
    depth: int = DEPTH,
) -> list[ClusterFacts]:
    """Return the facts of every cluster, sorted by name.

    Parameters
    ----------
    sentences : CellSentences
    cluster_key, labels_key : str
        Columns of ``obs``: the cluster of each cell, and its type. They may be the same.
    ontology : CellOntology, optional
        Gives the term of the most frequent type, and its definition.
    descriptions : mapping of str to str, optional
        Term id → text that comes before the definition (:func:`~c2s.cells.descriptions.read_descriptions`).
    table : mapping of str to str, optional
        Labels whose term is known (:meth:`CellOntology.match_all`).
    columns : mapping of str to str, optional
        Columns of ``organism`` and ``tissue``; without it, those of the same name where there are any.
    n_markers, depth : int
        Most markers of a cluster, and the genes of a sentence that count.

    Raises
    ------
    DataError
        A column is missing or has gaps.
    ConfigError
        Descriptions without an ontology to find terms by, or ``columns`` for something else.
    """
    if descriptions is not None and ontology is None:
        msg = "descriptions are kept by Cell Ontology id; pass ontology= to find the id of a label"
        raise ConfigError(msg)
    clusters = complete_column(sentences.obs, cluster_key, "cluster_key").astype(str)
    labels = complete_column(sentences.obs, labels_key, "labels_key")
    fields = chosen_columns(sentences.obs, columns, FIELDS)
    markers = marker_genes(sentences, clusters, n=n_markers, depth=depth)
    texts = {} if ontology is None else {**definitions(ontology), **(descriptions or {})}
    found = []
    for cluster in markers:
        rows = np.flatnonzero(clusters == cluster)
        types = composition(labels[rows])
        term = None if ontology is None else ontology.match(types[0][0], table=table)
        text = texts.get(term, "") if term else ""
        told = {name: known_values(values[rows]) for name, values in fields.items()}
        agreed = {name: told[name][0] if len(told.get(name, ())) == 1 else None for name in FIELDS}
        found.append(
            ClusterFacts(cluster, len(rows), types, markers[cluster], term, first_sentence(text), **agreed)
        )  # fmt: skip
    return found


def captions(facts: list[ClusterFacts], *, per_cluster: int = 1, seed: int = 0) -> list[Caption]:
    """Return ``per_cluster`` captions of each cluster, in as many templates, drawn by ``seed`` and the cluster's name.

    Raises
    ------
    ConfigError
        ``per_cluster`` is below 1, or above the number of templates.
    """
    names = [each.cluster for each in facts]
    drawn = drawn_templates(names, wanted=per_cluster, of=len(TEMPLATES), argument="per_cluster", seed=seed)
    return [
        Caption(caption_text(each, template), each, template)
        for each, templates in zip(facts, drawn, strict=True)
        for template in templates
    ]
