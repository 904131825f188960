"""What a decoder fits to training sentences: the line, the surface and the ladder, each where its model asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from c2s.errors import DataError
from c2s.sentences.corpus import CellSentences
from c2s.sentences.ends import order_falls
from c2s.sentences.ladder import Ladder
from c2s.sentences.surface import Surface

LOG_RANK_END = 999  # ranks the line of the literature is fitted to: log10(1 + rank) < 3

DecoderModel = Literal["gene_aware", "depth_aware", "log_rank"]


@dataclass(frozen=True, eq=False)
class Entries:
    """Whole training sentences with what their genes stand for.

    Parameters
    ----------
    sentences : CellSentences
    values : float64 (total,), log1p CP10k of every id
    counts : float64 (total,) or None
        Where the matrix held counts.
    totals : float64 (n,) or None
        Counts of each cell.
    """

    sentences: CellSentences
    values: np.ndarray
    counts: np.ndarray | None = None
    totals: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Self:
        """Return the cells where ``rows`` (bool) is true."""
        kept = np.repeat(rows, self.sentences.lengths)
        counts = None if self.counts is None else self.counts[kept]
        totals = None if self.totals is None else self.totals[rows]
        return type(self)(self.sentences[rows], self.values[kept], counts, totals)


@dataclass(frozen=True, eq=False)
class Curves:
    """Intercept and slope of the line, and the surface and ladder where the model has them."""

    intercept: float
    slope: float
    surface: Surface | None
    ladder: Ladder | None

    @classmethod
    def fit(cls, model: DecoderModel, entries: Entries) -> Self:
        """Return what ``model`` needs, fitted to ``entries``.

        Raises
        ------
        DataError
            Every cell expresses a single gene.
        """
        sentences = entries.sentences
        lengths = sentences.lengths
        ranks = np.arange(len(sentences.ids)) - np.repeat(sentences.offsets[:-1], lengths)
        intercept, slope = _log_rank_line(ranks, entries.values)
        surface, ladder = None, None
        if model != "log_rank":
            sizes = np.repeat(sentences.n_expressed, lengths)
            surface = Surface.fit(sentences.ids, ranks, sizes, entries.values, n_genes=len(sentences.vocabulary))
        if surface is not None and model == "depth_aware":
            surface = surface.without_genes()
        if model == "gene_aware" and entries.counts is not None and entries.totals is not None:
            background = sentences.background
            ladder = Ladder.fit(
                sentences.ids,
                sentences.offsets,
                entries.counts,
                entries.totals,
                n_genes=len(sentences.vocabulary),
                falls=None
                if background is None
                else order_falls(sentences.ids, background.tie_ranks(sentences.vocabulary)),
            )
        return cls(intercept, slope, surface, ladder)


def _log_rank_line(ranks: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return intercept and slope of ordinary least squares on log10(1 + rank), for ranks below 999."""
    near = ranks < LOG_RANK_END
    x, y = np.log10(1.0 + ranks[near]), values[near]
    spread = float(np.mean((x - x.mean()) ** 2))
    if spread == 0:
        msg = "every training cell expresses a single gene: no line can be fitted through one rank"
        raise DataError(msg)
    slope = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread
    return float(y.mean() - slope * x.mean()), slope
