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

    Words are compared as :func:`c2s.metrics.text.words` gives them. The search is exact, over all training texts; its
    time grows with how often the answer's words occur in them.

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
    places: dict[str, list[int]] = {}
    texts: list[int] = []  # the text that each word is of
    for number, text in enumerate(training_texts):
        for word in words(text):
            places.setdefault(word, []).append(len(texts))
            texts.append(number)
        texts.append(number)  # a place without a word: no run crosses it
    found = {word: np.array(each, dtype=np.intp) for word, each in places.items()}
    of_text = np.array(texts, dtype=np.intp)
    nowhere = np.empty(0, dtype=np.intp)
    return [
        _leak([found.get(word, nowhere) for word in words(answer)], of_text, len(training_texts), n)
        for answer in answers
    ]


def _leak(places: Sequence[NDArray[np.intp]], of_text: NDArray[np.intp], n_texts: int, n: int) -> Leak:
    """Return the leak of an answer, given where each of its words stands in the training texts."""
    n_words = len(places)
    size = min(n, n_words)
    longest = np.zeros(n_texts, dtype=np.int64)
    grams = np.zeros(n_texts, dtype=np.int64)
    # runs[j + 1]: words of the run that ends at place j, for the answer's word read last
    runs = np.zeros(len(of_text) + 1, dtype=np.int64)
    before = np.empty(0, dtype=np.intp)
    for here in places:
        lengths = runs[here] + 1
        runs[before + 1] = 0
        runs[here + 1] = lengths
        np.maximum.at(longest, of_text[here], lengths)
        grams[np.unique(of_text[here[lengths >= size]])] += 1
        before = here
    if not longest.any():
        return Leak(None, 0, 0.0, verbatim=False, n_words=n_words)
    nearest = int(np.lexsort((-grams, -longest))[0])
    run = int(longest[nearest])
    return Leak(nearest, run, float(grams[nearest] / (n_words - size + 1)), verbatim=run == n_words, n_words=n_words)
