"""Captions of held-out clusters beside the rows they must beat: the caption of the nearest training cluster, and captions of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from c2s.errors import ConfigError, DataError
from c2s.metrics.leaks import leak_check
from c2s.metrics.text import Embedder, Text, rouge_l, text_similarity, token_f1
from c2s.results import Result
from c2s.stats import bootstrap_interval, proportion_interval

NEAREST = "nearest training caption"
SHUFFLED = "shuffled captions"
TRUE = "true captions"
N_SHUFFLES = 20
N_RESAMPLES = 999
WORDS, VECTORS = "words", "token vectors of the embedder"
SPACES = {"token F1": WORDS, "ROUGE-L F": WORDS, "matching F1": VECTORS, "cosine": VECTORS}  # of each measure

Scores = dict[str, NDArray[np.float64]]  # measure → one value a cluster


def caption_results(
    truth: Sequence[str],
    models: Mapping[str, Sequence[Text]],
    *,
    vectors: ArrayLike,
    training_captions: Sequence[str],
    training_vectors: ArrayLike,
    embedder: Embedder | None = None,
    n_shuffles: int = N_SHUFFLES,
    seed: int,
) -> list[Result]:
    """Return the table of caption scores: every measure for every row, what models gain over the plain rows, and leaks.

    ========================== ================================================================================
    row                        what it answers
    ========================== ================================================================================
    a name of ``models``       what that model wrote
    nearest training caption   the caption of the training cluster nearest by Euclidean distance of ``vectors``
    shuffled captions          the true caption of another cluster of the test, mean over ``n_shuffles`` draws
    ========================== ================================================================================

    A result is named ``"<measure>, <row>"``. Measures are token F1, ROUGE-L F and, with an ``embedder``, matching F1 and cosine
    (:func:`~c2s.metrics.text.text_similarity`); an answer that is empty or could not be read scores 0. A gain is the mean difference
    over the same clusters, and names what it is measured against as ``reference``. ``"verbatim, <row>"`` is the share of answers that
    stand word for word in a training caption, ``"longest run, <row>"`` the mean words of the longest run shared with one; read them
    against those of the true captions, whose templates repeat themselves.

    Parameters
    ----------
    truth : sequence of str, length n
        True captions of the held-out clusters.
    models : mapping of str to sequence of (str or None), each of length n
        Name of each row → its answers; general language models are rows like any other. It may be empty.
    vectors, training_vectors : array-like, shapes (n, d) and (m, d)
        What nearness is judged by, such as mean expression in a space fitted to the training clusters.
    training_captions : sequence of str, length m
    embedder : Embedder, optional
    n_shuffles : int
        How often captions are dealt to other clusters.
    seed : int
        Of the dealing, and of the bootstrap over clusters (95 %).

    Raises
    ------
    DataError
        Lengths or shapes do not fit, a true caption is empty, or a vector is not finite.
    ConfigError
        ``n_shuffles`` is below 1, or a model has the name of a plain row.
    """
    places = _nearest(vectors, training_vectors, n_test=len(truth), n_training=len(training_captions))
    _check(truth, models, n_shuffles)
    score = _scorer(truth, embedder)
    answers = {**models, NEAREST: [training_captions[place] for place in places]}
    scores = {name: score(given) for name, given in answers.items()}
    if len(truth) > 1:
        scores[SHUFFLED] = _shuffled(truth, score, n_shuffles, seed)
    table = [
        _mean(f"{measure}, {name}", values, seed, space=SPACES[measure])
        for name in scores
        for measure, values in scores[name].items()
    ]
    if SHUFFLED not in scores:
        reason = "one cluster has no other whose caption it could get"
        table += [_none(f"{measure}, {SHUFFLED}", reason, seed) for measure in scores[NEAREST]]
    for name in models:
        table += [
            _mean(
                f"gain of {measure}, {name}",
                values - scores[plain][measure],
                seed,
                space=SPACES[measure],
                reference=plain,
            )
            for plain in (NEAREST, SHUFFLED)
            if plain in scores
            for measure, values in scores[name].items()
        ]
    for name, given in {**models, TRUE: truth}.items():
        table += _leaks(name, given, training_captions, seed)
    return table


def _nearest(vectors: ArrayLike, training: ArrayLike, *, n_test: int, n_training: int) -> NDArray[np.intp]:
    """Return the place of the training vector nearest to each; the first of equals."""
    one, other = np.asarray(vectors, dtype=np.float64), np.asarray(training, dtype=np.float64)
    if one.ndim != 2 or other.ndim != 2 or one.shape[1:] != other.shape[1:] or not one.size or not other.size:
        msg = f"vectors have shape {one.shape} and training_vectors {other.shape}; expected (n, d) and (m, d), one row a cluster"
        raise DataError(msg)
    if (len(one), len(other)) != (n_test, n_training):
        msg = f"{n_test} true captions with {len(one)} vectors, {n_training} training captions with {len(other)}; expected one each"
        raise DataError(msg)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        msg = "vectors hold values that are not finite"
        raise DataError(msg)
    return np.array([np.square(other - row).sum(axis=1).argmin() for row in one])


def _check(truth: Sequence[str], models: Mapping[str, Sequence[Text]], n_shuffles: int) -> None:
    if taken := sorted({NEAREST, SHUFFLED, TRUE} & set(models)):
        msg = f"{taken[0]!r} is the name of a row that is always there; give the model another"
        raise ConfigError(msg)
    if n_shuffles < 1:
        msg = f"n_shuffles={n_shuffles}; it must be at least 1"
        raise ConfigError(msg)
    for name, given in models.items():
        if len(given) != len(truth):
            msg = f"{name} has {len(given)} answers for {len(truth)} clusters; give one each, None where it could not be read"
            raise DataError(msg)
    if empty := [i for i, text in enumerate(truth) if not text.strip()]:
        msg = f"true caption {empty[0]} is empty"
        raise DataError(msg)


def _scorer(truth: Sequence[str], embedder: Embedder | None) -> Callable[[Sequence[Text]], Scores]:
    """Return what scores answers to all clusters; a text is embedded once, in however many rows it stands."""
    seen: dict[str, NDArray[np.float32]] = {}

    def remembered(texts: Sequence[str]) -> list[NDArray[np.float32]]:
        new = [text for text in texts if text not in seen]
        if embedder is not None and new:
            seen.update(zip(new, embedder(new), strict=True))
        return [seen[text] for text in texts]

    def score(answers: Sequence[Text]) -> Scores:
        found = {
            "token F1": np.array([token_f1(one, other) for one, other in zip(truth, answers)]),
            "ROUGE-L F": np.array([rouge_l(one, other) for one, other in zip(truth, answers)]),
        }
        if embedder is not None:
            alike = text_similarity(truth, answers, embedder=remembered)
            found |= {"matching F1": np.nan_to_num(alike.f1), "cosine": np.nan_to_num(alike.cosine)}
        return found

    return score


def _shuffled(truth: Sequence[str], score: Callable[[Sequence[Text]], Scores], n_shuffles: int, seed: int) -> Scores:
    """Return each cluster's mean score of captions of other clusters."""
    rng, own = np.random.default_rng([seed, 1]), np.arange(len(truth))
    drawn = []
    for _ in range(n_shuffles):
        order = rng.permutation(own)
        while (order == own).any():  # a third of all permutations leave none in its place
            order = rng.permutation(own)
        drawn.append(score([truth[place] for place in order]))
    return {measure: np.mean([each[measure] for each in drawn], axis=0) for measure in drawn[0]}


def _leaks(name: str, answers: Sequence[Text], training_captions: Sequence[str], seed: int) -> list[Result]:
    found = leak_check(answers, training_captions)
    count, n = sum(leak.verbatim for leak in found), len(found)
    share = proportion_interval(count, n)
    runs = np.array([leak.longest_run for leak in found], dtype=np.float64)
    return [
        Result(f"verbatim, {name}", float(share.value), float(share.low), float(share.high), n=n, space=WORDS, seed=seed),
        _mean(f"longest run, {name}", runs, seed, space=WORDS),
    ]  # fmt: skip


def _mean(metric: str, values: NDArray[np.float64], seed: int, *, space: str, reference: str | None = None) -> Result:
    found = bootstrap_interval(values, n_resamples=N_RESAMPLES, seed=seed)
    low, high = float(found.low), float(found.high)
    if np.isnan(low):
        reason = "one cluster cannot be resampled"
        return Result(
            metric, float(found.value), n=len(values), space=space, reference=reference, seed=seed, reason=reason
        )
    return Result(metric, float(found.value), low, high, n=len(values), space=space, reference=reference, seed=seed)


def _none(metric: str, reason: str, seed: int) -> Result:
    return Result(metric, float("nan"), n=1, space=WORDS, seed=seed, reason=reason)
