"""Marker genes of groups of cells by one simple rule on their sentences: in how many of its cells a gene ranks high, and elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from c2s.errors import ConfigError, DataError
from c2s.sentences.corpus import CellSentences

DEPTH = 200  # genes of a sentence that count as ranking high
MIN_SHARE = 0.25
MIN_DIFFERENCE = 0.1
BLOCK = 65_536  # cells counted at a time


@dataclass(frozen=True)
class Marker:
    """A gene that ranks high in more cells of a group than elsewhere.

    Attributes
    ----------
    gene : str
    share, elsewhere : float
        Share of the group's cells, and of all other cells, that have it among their first ``depth`` genes.
    """

    gene: str
    share: float
    elsewhere: float


def high_shares(
    sentences: CellSentences, groups: ArrayLike, *, depth: int = DEPTH
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return the groups by name, and the shares of their cells, and of all other cells, with each gene among the first ``depth``.

    Parameters
    ----------
    groups : array-like of str, shape (n_cells,)

    Returns
    -------
    names : list of str, sorted
    share, elsewhere : ndarray, shape (n_groups, n_genes)
        ``elsewhere`` is nan where one group holds all cells.

    Raises
    ------
    DataError
        ``groups`` is not one name a cell.
    ConfigError
        ``depth`` is below 1.
    """
    given = np.asarray(groups, dtype=object)
    if given.shape != (len(sentences),):
        msg = f"groups have shape {given.shape} for {len(sentences):,} cells; expected one name a cell"
        raise DataError(msg)
    if depth < 1:
        msg = f"depth={depth}; expected at least 1"
        raise ConfigError(msg)
    names, codes = np.unique(given.astype(str), return_inverse=True)
    n_genes = len(sentences.vocabulary)
    flat = np.zeros(len(names) * n_genes, dtype=np.int64)
    for start in range(0, len(sentences), BLOCK):
        part = sentences[start : start + BLOCK].truncate(depth)
        flat += np.bincount(
            np.repeat(codes[start : start + BLOCK], part.lengths) * n_genes + part.ids, minlength=len(flat)
        )
    counts, sizes = flat.reshape(len(names), n_genes), np.bincount(codes, minlength=len(names))[:, None]
    rest = np.where(sizes < len(sentences), len(sentences) - sizes, np.nan)
    return names.tolist(), counts / sizes, (counts.sum(axis=0) - counts) / rest


def marker_genes(
    sentences: CellSentences,
    groups: ArrayLike,
    *,
    n: int = 5,
    depth: int = DEPTH,
    min_share: float = MIN_SHARE,
    min_difference: float = MIN_DIFFERENCE,
) -> dict[str, tuple[Marker, ...]]:
    """Return the markers of each group, the strongest first; groups sorted by name.

    A gene is a marker of a group if it is among the first ``depth`` genes of at least ``min_share`` of the group's cells, and that share
    exceeds the share of all other cells by at least ``min_difference``. The largest difference comes first, ties by symbol. Ranks of a
    cell do not depend on how deep it was sequenced, but how many genes it has does: ``depth`` should not exceed what most cells have.

    Parameters
    ----------
    groups : array-like of str, shape (n_cells,)
    n : int
        Most markers of a group. One group alone has none: there is nothing to tell it from.

    Raises
    ------
    DataError
        ``groups`` is not one name a cell.
    ConfigError
        ``n`` or ``depth`` is below 1.
    """
    if n < 1:
        msg = f"n={n}; expected at least 1"
        raise ConfigError(msg)
    names, share, elsewhere = high_shares(sentences, groups, depth=depth)
    symbols = np.array(sentences.vocabulary.symbols, dtype=object)
    out: dict[str, tuple[Marker, ...]] = {}
    for name, here, there in zip(names, share, elsewhere):
        genes = np.flatnonzero(
            (here >= min_share) & (here - there >= min_difference)
        )  # none where there is no other cell
        order = genes[np.lexsort((symbols[genes].astype(str), there[genes] - here[genes]))][:n]
        out[name] = tuple(Marker(symbols[i], float(here[i]), float(there[i])) for i in order)
    return out
