"""How alike two cell sentences are, and how many generated ones are valid and no repeats."""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau

from c2s.cells.genes import listed
from c2s.errors import ConfigError, DataError

Sentence = Sequence[Hashable]  # genes by falling expression, as symbols or ids, none twice


def gene_overlap(truth: Sentence, predicted: Sentence) -> float:
    """Return the percentage of the truth's genes that the prediction names, whatever their order; nan for an empty truth.

    Raises
    ------
    DataError
        A gene occurs twice in a sentence: :func:`validity` says how often that happens.
    """
    one, other = _genes(truth, "truth"), _genes(predicted, "predicted")
    return 100.0 * len(one & other) / len(one) if one else float("nan")


def top_k_jaccard(truth: Sentence, predicted: Sentence, *, k: int) -> float:
    """Return shared genes over all genes of the first ``k`` of each; a shorter sentence counts with what it has. nan if both are empty."""
    if k < 1:
        msg = f"k={k}; it must be at least 1"
        raise ConfigError(msg)
    one, other = _genes(truth[:k], "truth"), _genes(predicted[:k], "predicted")
    return len(one & other) / len(one | other) if one or other else float("nan")


def rank_biased_overlap(truth: Sentence, predicted: Sentence, *, p: float = 0.98) -> float:
    """Return the extrapolated rank-biased overlap (RBO_ext) of two sentences, between 0 and 1; nan if both are empty.

    Parameters
    ----------
    p : float, between 0 and 1
        How deep it looks: about 1 / (1 - p) genes, 50 at 0.98.

    Notes
    -----
    With lists of length s ≤ l and X_d genes shared by depth d,
    RBO_ext = (1 - p)/p · [Σ_{d=1..l} X_d/d p^d + Σ_{d=s+1..l} X_s (d - s)/(s d) p^d] + [(X_l - X_s)/l + X_s/s] p^l
    (equation 32 of Webber, Moffat and Zobel, ACM TOIS 28, 2010). Equal lists give 1, disjoint ones 0.

    Raises
    ------
    ConfigError
        ``p`` is not between 0 and 1.
    DataError
        A gene occurs twice in a sentence.
    """
    if not 0 < p < 1:
        msg = f"p={p}; it must lie between 0 and 1, both left out"
        raise ConfigError(msg)
    _genes(truth, "truth")
    _genes(predicted, "predicted")
    short, long = sorted((truth, predicted), key=len)
    s, n = len(short), len(long)
    if not s:
        return 0.0 if n else float("nan")
    place = {gene: d for d, gene in enumerate(short, start=1)}
    meets = np.zeros(n + 1)
    for d, gene in enumerate(long, start=1):
        if gene in place:
            meets[max(d, place[gene])] += 1
    shared = np.cumsum(meets)[1:]  # X_1 … X_n
    depth = np.arange(1, n + 1)
    agreement = shared / depth
    agreement[s:] += shared[s - 1] * (depth[s:] - s) / (s * depth[s:])
    total = (1 - p) / p * float((agreement * p**depth).sum())
    return total + float((shared[-1] - shared[s - 1]) / n + shared[s - 1] / s) * p**n


def rank_kendall(truth: Sentence, predicted: Sentence, *, genes: Sequence[Hashable] | None = None) -> float:
    """Return Kendall's tau-b between the ranks of genes in two sentences.

    Parameters
    ----------
    genes : sequence, optional
        The genes compared, such as a programme. None compares those that occur in either sentence.

    Notes
    -----
    A gene that a sentence lacks has the rank "length + 1" there; several such genes are tied, as tau-b corrects for. Over the union, two
    sentences of the same genes in the same order give 1; sentences that share no gene give below 0. nan where tau is not defined: fewer
    than two genes, or one sentence that ties them all.

    Raises
    ------
    DataError
        A gene occurs twice in a sentence.
    """
    _genes(truth, "truth")
    _genes(predicted, "predicted")
    compared = list(dict.fromkeys((*truth, *predicted) if genes is None else genes))
    if len(compared) < 2:
        return float("nan")
    ranks = []
    for sentence in (truth, predicted):
        place = {gene: rank for rank, gene in enumerate(sentence, start=1)}
        ranks.append([place.get(gene, len(sentence) + 1) for gene in compared])
    if min(len(set(each)) for each in ranks) < 2:
        return float("nan")
    return float(kendalltau(*ranks).statistic)


@dataclass(frozen=True)
class Validity:
    """Shares of ``n`` generated sentences, each nan where ``n`` is 0.

    Attributes
    ----------
    valid : float
        Not empty, every gene known, none twice, and of the length asked for where one was.
    unique : float
        Different sentences among them, over n: 1 where no two are equal.
    novel : float
        Equal to no training sentence; nan where none were given.
    empty, foreign, repeated, wrong_length : float
        What is wrong with the others; one sentence may be in several.
    n : int
    """

    valid: float
    unique: float
    novel: float
    empty: float
    foreign: float
    repeated: float
    wrong_length: float
    n: int


def validity(
    sentences: Sequence[Sentence],
    *,
    known: Container[Hashable],
    n_genes: int | None = None,
    training: Sequence[Sentence] | None = None,
) -> Validity:
    """Return how many generated sentences can be used, and how many say something new.

    Parameters
    ----------
    known : container
        The genes that exist, such as a ``GeneVocabulary`` or a set of ids.
    n_genes : int, optional
        The length every sentence was asked to have.
    training : sequence, optional
        Training sentences, for ``novel``.
    """
    empty = [not len(each) for each in sentences]
    foreign = [any(gene not in known for gene in each) for each in sentences]
    repeated = [len(set(each)) < len(each) for each in sentences]
    wrong = [n_genes is not None and len(each) != n_genes for each in sentences]
    bad = [any(flags) for flags in zip(empty, foreign, repeated, wrong)]
    keys = [tuple(each) for each in sentences]
    seen = None if training is None else {tuple(each) for each in training}

    def share(flags: Sequence[bool]) -> float:
        return sum(flags) / len(flags) if flags else float("nan")

    return Validity(
        valid=share([not flag for flag in bad]),
        unique=len(set(keys)) / len(keys) if keys else float("nan"),
        novel=float("nan") if seen is None else share([key not in seen for key in keys]),
        empty=share(empty),
        foreign=share(foreign),
        repeated=share(repeated),
        wrong_length=share(wrong),
        n=len(sentences),
    )


def _genes(sentence: Sentence, name: str) -> set[Hashable]:
    found = set(sentence)
    if len(found) != len(sentence):
        twice = sorted({str(gene) for gene in sentence if list(sentence).count(gene) > 1})
        msg = f"{name} names genes twice ({listed(twice)}); keep the first of each, or score it as invalid (validity)"
        raise DataError(msg)
    return found
