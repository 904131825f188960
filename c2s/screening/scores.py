"""Programme scores of cell sentences: the rank U statistic, its logit, and mean decoded expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from c2s.errors import DataError

if TYPE_CHECKING:
    from c2s.sentences.corpus import CellSentences
    from c2s.sentences.decode import RankDecoder


def u_statistic(sentences: CellSentences, gene_ids: ArrayLike, *, max_rank: int) -> NDArray[np.float64]:
    r"""Return how near the top the genes stand in each sentence: 0 when all are absent, 1 when they lead.

    .. math:: 1 - \frac{\sum_g r_g - k(k+1)/2}{k(R+1) - k(k+1)/2}

    with :math:`r_g` the 1-based rank of gene g, :math:`k` genes, :math:`R` = ``max_rank``, and :math:`r_g = R + 1` for
    a gene that is absent or ranks below :math:`R`. This is the Mann-Whitney U of Andreatta & Carmona (2021, UCell),
    scaled between its extremes; their first form divides by :math:`kR`, which does not reach 0.

    Parameters
    ----------
    sentences : CellSentences
        n cells.
    gene_ids : array-like, shape (k,), int
        Distinct ids in the sentences' vocabulary.
    max_rank : int
        Sentence length shared by everything that is compared; at least k.

    Returns
    -------
    ndarray, shape (n,), float64
        Independent of the order of ``gene_ids``.

    Raises
    ------
    DataError
        No gene, a gene twice, or more genes than ranks.
    """
    ids = _gene_ids(gene_ids, max_rank)
    best = len(ids) * (len(ids) + 1) / 2
    total = sentences.ranks(ids, absent=max_rank + 1).sum(axis=1, dtype=np.float64)
    return 1.0 - (total - best) / largest_u(len(ids), max_rank=max_rank)


def largest_u(n_genes: ArrayLike, *, max_rank: int) -> NDArray[np.float64]:
    """Return ``k (max_rank + 1) - k (k + 1) / 2``: how many ranks k genes lose together between leading and absence."""
    k = np.asarray(n_genes, dtype=np.float64)
    return k * (max_rank + 1) - k * (k + 1) / 2


def logit_u(u: ArrayLike, *, n_genes: int, max_rank: int) -> NDArray[np.float64]:
    """Return the log odds of U, natural log, with half a rank added at either end so that 0 and 1 stay finite.

    ``p = (u * largest + 0.5) / (largest + 1)`` with :func:`largest_u`; the result is ``log(p / (1 - p))``.
    """
    largest = largest_u(n_genes, max_rank=max_rank)
    count = np.asarray(u, dtype=np.float64) * largest
    return np.log(count + 0.5) - np.log(largest - count + 0.5)


def mean_log_expression(sentences: CellSentences, gene_ids: ArrayLike, decoder: RankDecoder) -> NDArray[np.float64]:
    """Return the genes' mean decoded expression per sentence, (n,), log1p of counts per 1e4; absent genes are 0."""
    return decoder.values(sentences, np.asarray(gene_ids, dtype=np.int32)).mean(axis=1, dtype=np.float64)


def programme_scores(
    sentences: CellSentences, gene_ids: ArrayLike, *, max_rank: int, decoder: RankDecoder
) -> dict[str, NDArray[np.float64]]:
    """Return the scores ``u``, ``logit_u`` and ``log_expression`` of every sentence, each of shape (n,)."""
    u = u_statistic(sentences, gene_ids, max_rank=max_rank)
    return {
        "u": u,
        "logit_u": logit_u(u, n_genes=np.size(gene_ids), max_rank=max_rank),
        "log_expression": mean_log_expression(sentences, gene_ids, decoder),
    }


def _gene_ids(gene_ids: ArrayLike, max_rank: int) -> NDArray[np.int32]:
    ids = np.asarray(gene_ids, dtype=np.int32).ravel()
    if len(ids) == 0 or len(np.unique(ids)) < len(ids):
        msg = f"a score needs distinct genes; got ids {ids.tolist()}"
        raise DataError(msg)
    if len(ids) > max_rank:
        msg = f"{len(ids)} genes cannot all stand in {max_rank} ranks; use a smaller programme or longer sentences"
        raise DataError(msg)
    return ids
