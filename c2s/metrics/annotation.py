"""Scores of predicted cell types: accuracies, macro F1, parse rate and calibration, each with an interval.

An answer that could not be parsed is wrong. Intervals are of the cells of the test set, not of training runs or donors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from c2s.errors import DataError
from c2s.results import Result
from c2s.stats import Interval, bootstrap_interval, proportion_interval

N_BINS = 10
N_RESAMPLES = 999
SPACE = "labels"
_WRONG = -1  # the code of an answer that is no class, or none at all


def annotation_scores(
    truth: ArrayLike,
    predicted: pd.DataFrame | ArrayLike,
    *,
    classes: Sequence[str],
    parsed: ArrayLike | None = None,
    seed: int,
    n_bins: int = N_BINS,
) -> list[Result]:
    """Return accuracy, balanced accuracy, macro F1, parse rate and expected calibration error.

    ========================== ==============================================================================
    accuracy                   share of cells whose label is right
    balanced accuracy          mean over the classes present in the test of the share found (recall)
    macro F1                   mean over the same classes of ``2 tp / (2 tp + fp + fn)``; 0 for one never said
    parse rate                 share of answers that were parsed, with Clopper & Pearson's interval
    expected calibration error ``sum over bins of n_bin / n * |accuracy - mean probability|``, probabilities of the
                               predicted label in ``n_bins`` bins of equal width (Naeini et al. 2015)
    ========================== ==============================================================================

    Parameters
    ----------
    truth : array-like of str, shape (n,)
    predicted : DataFrame, shape (n, n_classes), or array-like of str, shape (n,)
        Probabilities, columns named by class (the first of equals is the prediction), or labels; a missing label and a row
        of zeros were not parsed, a label outside ``classes`` is wrong.
    classes : sequence of str
        Every label there is; those of ``truth`` and the columns of ``predicted`` are among them.
    parsed : array-like of bool, shape (n,), optional
        False where the answer could not be read; such an answer is wrong whatever ``predicted`` holds.
    seed : int
        Of the bootstrap: cells for accuracy and calibration, cells within their true class for the other two. A resampled
        calibration error is larger on average than that of the sample; its interval is no test of being 0.
    n_bins : int
        Bins of the calibration error.

    Raises
    ------
    DataError
        Lengths differ, no cells, labels outside ``classes``, or values that are no probabilities.
    """
    names = list(classes)
    true = _codes(truth, names)
    n = len(true)
    said, confidence = _answers(predicted, names, n)
    mask = ~_missing(predicted) if confidence is None else confidence > 0
    if parsed is not None:
        mask = np.asarray(parsed, dtype=bool)
        _require_length(len(mask), n, "parsed")
    said = np.where(mask, said, _WRONG)
    correct = (said == true).astype(np.float64)
    accuracy = bootstrap_interval(correct, seed=seed, n_resamples=N_RESAMPLES, within=(0, 1))
    balanced = bootstrap_interval(correct, strata=true, seed=seed, n_resamples=N_RESAMPLES, within=(0, 1))
    rate = proportion_interval(int(mask.sum()), n)
    rows = [
        _row("accuracy", accuracy, n, seed),
        _row("balanced accuracy", balanced, n, seed),
        _row("macro F1", _macro_f1(true, said, len(names), seed), n, seed),
        Result("parse rate", float(rate.value), float(rate.low), float(rate.high), n=n, space=SPACE, seed=seed),
    ]
    title = f"expected calibration error, {n_bins} bins of equal width"
    if confidence is None:
        reason = "labels carry no probabilities"
        return [*rows, Result(title, float("nan"), n=n, space=SPACE, seed=seed, reason=reason)]
    return [*rows, _row(title, _calibration(correct, confidence, n_bins, seed), n, seed)]


def _codes(truth: ArrayLike, names: list[str]) -> NDArray[np.intp]:
    labels = np.asarray(truth, dtype=object)
    if labels.ndim != 1 or not len(labels):
        msg = f"truth has shape {labels.shape}; pass one label a cell"
        raise DataError(msg)
    codes = pd.Index(names).get_indexer(pd.Index(labels))
    if (codes < 0).any():
        unknown = sorted({str(label) for label in labels[codes < 0]})
        msg = f"truth holds {', '.join(unknown)}, which {'is' if len(unknown) == 1 else 'are'} not among the classes "
        msg += f"{', '.join(names)}; name every label there is"
        raise DataError(msg)
    return codes


def _answers(
    predicted: pd.DataFrame | ArrayLike, names: list[str], n: int
) -> tuple[NDArray[np.intp], NDArray[np.float64] | None]:
    """Return the code of each predicted class, and its probability where there are any."""
    if not isinstance(predicted, pd.DataFrame):
        labels = np.asarray(predicted, dtype=object)
        _require_length(len(labels), n, "predicted")
        return pd.Index(names).get_indexer(pd.Index(labels)), None
    _require_length(len(predicted), n, "predicted")
    columns = pd.Index(names).get_indexer(predicted.columns)
    if (columns < 0).any():
        msg = f"columns {', '.join(map(str, predicted.columns[columns < 0]))} are not among the classes {', '.join(names)}"
        raise DataError(msg)
    values = predicted.to_numpy(dtype=np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and (values.sum(axis=1) <= 1 + 1e-4).all()):
        msg = "predicted holds values that are no probabilities: each is 0 to 1 and a cell's sum to 1"
        raise DataError(msg)
    return columns[values.argmax(axis=1)], values.max(axis=1)


def _missing(labels: ArrayLike) -> NDArray[np.bool_]:
    return np.asarray(pd.isna(pd.Series(np.asarray(labels, dtype=object))))


def _require_length(found: int, n: int, name: str) -> None:
    if found != n:
        msg = f"{name} has {found} rows for {n} true labels; pass one a cell"
        raise DataError(msg)


def _row(metric: str, interval: Interval, n: int, seed: int) -> Result:
    low, high = float(interval.low), float(interval.high)
    if np.isnan(low):
        reason = "too few cells to resample"
        return Result(metric, float(interval.value), n=n, space=SPACE, seed=seed, reason=reason)
    return Result(metric, float(interval.value), low, high, n=n, space=SPACE, seed=seed)


def _macro_f1(true: NDArray[np.intp], said: NDArray[np.intp], n_classes: int, seed: int) -> Interval:
    """Return macro F1 with the percentiles of resamples of cells within their true class (rows of the confusion)."""
    confusion = np.zeros((n_classes, n_classes + 1), dtype=np.int64)
    np.add.at(confusion, (true, np.where(said < 0, n_classes, said)), 1)
    sizes = confusion.sum(axis=1)
    present = np.flatnonzero(sizes)
    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [rng.multinomial(sizes[row], confusion[row] / sizes[row], size=N_RESAMPLES) for row in present], axis=1
    )
    samples = _f1(drawn, present).mean(axis=-1)
    value = float(_f1(confusion[present], present).mean())
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(value, float(low), float(high), 0.95, float(samples.std(ddof=1)))


def _f1(confusion: NDArray[np.int64], present: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return F1 of the classes ``present``, shape (..., n_present), of their rows of confusions (..., n_present, any)."""
    own = confusion[..., np.arange(len(present)), present]
    truly, answered = confusion.sum(axis=-1), confusion.sum(axis=-2)[..., present]
    return 2 * own / (truly + answered)


def _calibration(correct: NDArray[np.float64], confidence: NDArray[np.float64], n_bins: int, seed: int) -> Interval:
    n = len(correct)
    bins = np.minimum((confidence * n_bins).astype(np.intp), n_bins - 1)
    gaps = np.zeros((n, n_bins))
    gaps[np.arange(n), bins] = (correct - confidence) / n
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
    samples = np.abs(drawn @ gaps).sum(axis=1)
    low, high = np.quantile(samples, [0.025, 0.975])
    value = float(np.abs(gaps.sum(axis=0)).sum())
    # few cells make every resample further off than the sample; the interval still holds the value
    return Interval(value, min(float(low), value), max(float(high), value), 0.95, float(samples.std(ddof=1)))
