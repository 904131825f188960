"""Does an answer repeat a training text? The longest run of words it shares with one, and the share of its n-grams found there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from c2s.errors import ConfigError
from c2s.metrics.text import Text, words

N_GRAM = 8  # words; shorter runs are common between texts that know nothing of one another


@dataclass(frozen=True)
class Leak:
    """What one answer shares with the training text nearest to it.

    Attributes
    ----------
    nearest : int or None
        Place of the training text that shares the longest run of words, then most n-grams, then comes first; None where no word is shared.
    longest_run : int
        Words of that run.
    share : float
        Share of the answer's n-grams that stand in that text. An answer of fewer words has one, itself. 0 for an empty answer.
    verbatim : bool
        The whole answer stands in that text, word for word, case and punctuation aside. A short answer does so by right.
    n_words : int
        Words of the answer.
    """

    nearest: int | None
    longest_run: int
    share: float
    verbatim: bool
    n_words: int


def leak_check(answers: Sequence[Text], training_texts: Sequence[str], *, n: int = N_GRAM) -> list[Leak]:
    """Return, for each answer, what it shares with the nearest training text.

    Words are compared as :func:`c2s.metrics.text.words` gives them. The search is exact: every answer against every text, in time
    (words of the answer) × (words of the training texts).

    Parameters
    ----------
    answers : sequence of str or None
    training_texts : sequence of str
        Every text the model was trained on, prompts apart.
    n : int
        Words of an n-gram.

    Raises
    ------
    ConfigError
        ``n`` is below 1.
    """
    if n < 1:
        msg = f"n={n}; an n-gram has at least 1 word"
        raise ConfigError(msg)
    known: dict[str, int] = {}
    flat: list[int] = []
    starts: list[int] = []
    for text in training_texts:
        starts.append(len(flat))
        flat += [known.setdefault(word, len(known)) for word in words(text)]
        flat.append(-1)  # no run crosses it
    corpus, begins = np.array(flat, dtype=np.int64), np.array(starts, dtype=np.intp)
    return [_leak([known.get(word, -2) for word in words(answer)], corpus, begins, n) for answer in answers]


def _leak(answer: Sequence[int], corpus: NDArray[np.int64], begins: NDArray[np.intp], n: int) -> Leak:
    n_words = len(answer)
    size = min(n, n_words)
    longest = np.zeros(len(begins), dtype=np.int64)
    grams = np.zeros(len(begins), dtype=np.int64)
    runs = np.zeros(len(corpus) + 1, dtype=np.int64)  # runs[j + 1]: the run that ends at word j of the corpus
    for word in answer if len(begins) else ():
        runs[1:] = np.where(corpus == word, runs[:-1] + 1, 0)
        best = np.maximum.reduceat(runs[1:], begins)
        np.maximum(longest, best, out=longest)
        grams += best >= size
    if not longest.any():
        return Leak(None, 0, 0.0, verbatim=False, n_words=n_words)
    nearest = int(np.lexsort((-grams, -longest))[0])
    run = int(longest[nearest])
    return Leak(nearest, run, float(grams[nearest] / (n_words - size + 1)), verbatim=run == n_words, n_words=n_words)
