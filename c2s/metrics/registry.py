"""Metrics by the names that tasks give: true values and parsed answers in, one result with its interval out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from c2s.errors import DataError
from c2s.metrics.annotation import annotation_scores
from c2s.metrics.generation import gene_overlap
from c2s.metrics.profiles import correlation_of_changes
from c2s.metrics.text import rouge_l, token_f1
from c2s.results import Result
from c2s.stats import bootstrap_interval

N_RESAMPLES = 999


class Metric(Protocol):
    """What judges the answers to a task.

    ``truths`` and ``answers`` are sequences of equal length, at least 1, of the values that ``task.parse`` returns; for ``pearson_delta``
    of what those values stand for, decoded. An answer that could not be parsed is None: it is wrong, and scores 0.
    """

    def __call__(self, truths: Sequence[Any], answers: Sequence[Any], *, seed: int = 0) -> Result:
        """Return the score over all answers; ``seed`` is the bootstrap's, over answers, 95 %."""
        ...


def label_set_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Return the F1 of two sets of labels, ``2 shared / (labels of one + labels of the other)``; nan if both are empty."""
    one, other = set(truth), set(predicted)
    return 2 * len(one & other) / (len(one) + len(other)) if one or other else float("nan")


def pearson_delta(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return Pearson's correlation of the true and the predicted change of each gene against control.

    0 where the predicted changes are all alike, as those of "no change" are; nan where the true ones are.

    Parameters
    ----------
    truth, predicted : array-like, shape (n_genes,)
        Changes of log1p CP10k.

    Raises
    ------
    DataError
        Shapes differ, or there are fewer than two genes.
    """
    one, other = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape or len(one) < 2:
        msg = f"changes have shapes {one.shape} and {other.shape}; expected one value a gene in both, for at least two genes"
        raise DataError(msg)
    return float(correlation_of_changes(one[None], other[None], 0.0)[0])


def cells_overlap(truth: Sequence[Any], predicted: Sequence[Any]) -> float:
    """Return the mean :func:`~c2s.metrics.generation.gene_overlap` of the true cells of a sample, in percent.

    The cells of a sample have no order: true and predicted ones are paired so that the mean is largest, each at most once. A true cell
    without a partner counts 0; nan where a true cell is empty. Of a gene that a predicted cell names twice, the first counts, and of
    its genes the first, as many as the true cell has.
    """
    if not all(map(len, truth)):
        return float("nan")
    shares = np.array([[_cell_overlap(one, other) for other in predicted] for one in truth])
    rows, columns = linear_sum_assignment(shares.reshape(len(truth), len(predicted)), maximize=True)
    return float(shares[rows, columns].sum() / len(truth)) if len(rows) else 0.0


def _labels(truths: Sequence[Any], answers: Sequence[Any], *, seed: int = 0, name: str) -> Result:
    """Return one of the scores of labels; decisions are labels, too."""
    true, said = [str(one) for one in truths], [None if one is None else str(one) for one in answers]
    rows = annotation_scores(true, np.array(said, dtype=object), classes=sorted(set(true)), seed=seed)
    return next(row for row in rows if row.metric == name)


def _mean(
    truths: Sequence[Any],
    answers: Sequence[Any],
    *,
    seed: int = 0,
    name: str,
    space: str,
    score: Callable[[Any, Any], float],
    within: tuple[float, float] = (0, 1),
) -> Result:
    """Return the mean score of the answers."""
    if len(truths) != len(answers) or not len(truths):
        msg = f"{len(truths):,} truths and {len(answers):,} answers; expected as many, and at least one"
        raise DataError(msg)
    values = np.array([0.0 if said is None else score(true, said) for true, said in zip(truths, answers)])
    if np.isnan(values).any():
        msg = f"truth {int(np.isnan(values).argmax())} is empty or the same everywhere, so that nothing can be scored against it; leave it out"
        raise DataError(msg)
    found = bootstrap_interval(values, n_resamples=N_RESAMPLES, seed=seed, within=within)
    if len(values) < 2:
        return Result(name, float(found.value), n=1, space=space, seed=seed, reason="one answer cannot be resampled")
    return Result(name, float(found.value), float(found.low), float(found.high), n=len(values), space=space, seed=seed)


def _overlap(truth: Any, predicted: Any) -> float:
    """Return the overlap of two cells, or of the cells of two samples."""
    if len(truth) and np.ndim(truth[0]) == 1:
        return cells_overlap(truth, predicted)
    return _cell_overlap(truth, predicted)


def _cell_overlap(truth: Any, predicted: Any) -> float:
    """Return the overlap with as many genes of the prediction as the truth has, its first: a longer answer gains nothing."""
    return gene_overlap(list(truth), list(dict.fromkeys(predicted))[: len(truth)])


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "accuracy": partial(_labels, name="accuracy"),
        "balanced_accuracy": partial(_labels, name="balanced accuracy"),
        "macro_f1": partial(_labels, name="macro F1"),
        "label_set_f1": partial(_mean, name="label set F1", space="labels", score=label_set_f1),
        "gene_overlap": partial(_mean, name="gene overlap, %", space="genes", score=_overlap, within=(0, 100)),
        "pearson_delta": partial(
            _mean, name="Pearson of changes", space="log1p CP10k", score=pearson_delta, within=(-1, 1)
        ),
        "rouge_l": partial(_mean, name="ROUGE-L F", space="words", score=rouge_l),
        "token_f1": partial(_mean, name="token F1", space="words", score=token_f1),
    }
)
