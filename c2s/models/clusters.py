"""From cells to clusters: one label for each, how many of its cells agree, and the genes that set it apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from c2s.errors import ConfigError, DataError

if TYPE_CHECKING:
    from c2s.sentences.corpus import CellSentences


def annotate_clusters(
    table: pd.DataFrame,
    clusters: Sequence[str] | pd.Series,
    sentences: CellSentences,
    *,
    markers: Mapping[str, Sequence[str]] | None = None,
    n_markers: int = 10,
    depth: int = 100,
) -> pd.DataFrame:
    """Return the label of each cluster, with its evidence.

    The label has the highest mean probability over the cluster's cells. A gene sets a cluster apart by the share of its cells
    that have the gene among their first ``depth``, less that share among all other cells.

    Parameters
    ----------
    table : DataFrame
        From ``annotate``, one row a cell.
    clusters : sequence of str
        The cluster of each cell.
    sentences : CellSentences
        The same cells, in order.
    markers : mapping of label to gene symbols, optional
        Known markers: those of the label that are among the cluster's genes are listed as evidence.
    n_markers, depth : int

    Returns
    -------
    DataFrame
        Indexed by cluster: ``label``, ``probability`` (mean), ``margin`` (to the next label's mean), ``agreement`` (share of
        cells whose own label it is), ``n_cells``, ``genes`` (tuple of symbols) and, with ``markers``, ``evidence``.

    Raises
    ------
    DataError
        Table, clusters and sentences are of different cells.
    ConfigError
        ``n_markers`` or ``depth`` below 1.
    """
    if n_markers < 1 or depth < 1:
        msg = f"n_markers={n_markers}, depth={depth}; give at least 1"
        raise ConfigError(msg)
    of_cell = pd.Series(np.asarray(clusters, dtype=object)).astype(str)
    if not len(table) == len(of_cell) == len(sentences) or not table.index.equals(sentences.obs.index):
        msg = f"{len(table):,} rows of the table, {len(of_cell):,} clusters, {len(sentences):,} sentences: they must be the same cells in order"
        raise DataError(msg)
    columns = [name for name in table.columns if str(name).startswith("p(")]
    codes, names = pd.factorize(of_cell, sort=True)
    means = table[columns].groupby(codes).mean().to_numpy()
    order = np.argsort(-means, axis=1, kind="stable")
    labels = [str(columns[first])[2:-1] for first in order[:, 0]]
    genes = _apart(sentences, codes, len(names), n_markers, depth)
    found = pd.DataFrame(
        {
            "label": labels,
            "probability": means[np.arange(len(names)), order[:, 0]],
            "margin": means[np.arange(len(names)), order[:, 0]] - means[np.arange(len(names)), order[:, 1]],
            "agreement": [
                float((table["label"].to_numpy()[codes == k] == labels[k]).mean()) for k in range(len(names))
            ],
            "n_cells": np.bincount(codes),
            "genes": genes,
        },
        index=pd.Index(names, name="cluster"),
    )
    if markers is not None:
        found["evidence"] = [
            tuple(gene for gene in own if gene in set(markers.get(label, ())))
            for label, own in zip(labels, genes, strict=True)
        ]
    return found


def _apart(sentences: CellSentences, codes: np.ndarray, n: int, n_markers: int, depth: int) -> list[tuple[str, ...]]:
    """Return the genes that set each cluster apart, the clearest first."""
    top = sentences.truncate(depth)
    counts = np.zeros((n, len(sentences.vocabulary)))
    np.add.at(counts, (np.repeat(codes, top.lengths), top.ids), 1.0)
    sizes = np.bincount(codes, minlength=n).astype(float)[:, None]
    inside = counts / sizes
    outside = (counts.sum(axis=0) - counts) / np.maximum(sizes.sum() - sizes, 1.0)
    apart = inside - outside
    best = np.argsort(-apart, axis=1, kind="stable")[:, :n_markers]
    symbols = sentences.vocabulary.symbols
    return [tuple(symbols[gene] for gene in row if apart[k, gene] > 0) for k, row in enumerate(best)]
