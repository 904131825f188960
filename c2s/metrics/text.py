"""How alike two texts are: shared words, the longest common run of words in order, and vectors where an embedder is given."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from c2s.errors import DataError
from c2s.tasks.answers import DASHES

Text = str | None  # None is an answer that could not be read

# letters and digits, with signs between them as in HLA-DRA, 12.5 and 1,024, and the sign at the end of CD14+ and CD14-
_WORD = re.compile(r"[^\W_]+(?:(?:[-.'’]|(?<=\d),(?=\d{3}))[^\W_]+)*(?:\+|-(?!\w))?")


class Embedder(Protocol):
    """Turns texts into token vectors, as the last layer of a language model does; c2s ships none and downloads none."""

    def __call__(self, texts: Sequence[str]) -> Sequence[NDArray[np.float32]]:
        """Return one array a text, shape (tokens, d), one ``d`` for all of them, without padding and special tokens."""
        ...


@dataclass(frozen=True, eq=False)
class TextSimilarity:
    """Similarity of ``n`` pairs of texts by the vectors of their tokens; nan where a text is empty.

    Attributes
    ----------
    precision, recall, f1 : ndarray, float64, shape (n,)
        Mean over the prediction's tokens of the largest cosine with a token of the truth; the same of the truth's tokens; their
        harmonic mean, 0 where their sum is not above 0.
    cosine : ndarray, float64, shape (n,)
        Cosine of the two means over tokens.
    reasons : mapping of int to str
        Place of a pair without values → why.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    cosine: NDArray[np.float64]
    reasons: Mapping[int, str]


def words(text: Text) -> list[str]:
    """Return the words of a text as measures compare them: case and punctuation aside; gene names, numbers and ``CD14+`` whole."""
    if text is None:
        return []
    return _WORD.findall(unicodedata.normalize("NFKC", text).translate(DASHES).casefold())


def token_f1(truth: str, predicted: Text) -> float:
    """Return the F1 of shared words, each counted as often as both have it: ``2 shared / (words of one + words of the other)``.

    Order does not count. 0 for an empty prediction, nan for an empty truth.
    """
    one, other = words(truth), words(predicted)
    shared = (Counter(one) & Counter(other)).total()
    return 2 * shared / (len(one) + len(other)) if one else float("nan")


def rouge_l(truth: str, predicted: Text) -> float:
    """Return ROUGE-L F: as :func:`token_f1`, of the longest common subsequence of words instead of all shared words (Lin 2004).

    Precision and recall weigh alike. 0 for an empty prediction, nan for an empty truth.
    """
    one, other = words(truth), words(predicted)
    return 2 * _common_subsequence(one, other) / (len(one) + len(other)) if one else float("nan")


def text_similarity(truth: Sequence[str], predicted: Sequence[Text], *, embedder: Embedder) -> TextSimilarity:
    """Return the similarity of each pair by greedy matching of tokens, as in BERTScore (Zhang et al. 2020), and by mean vectors.

    No idf weights and no rescaling: values of different embedders cannot be compared, and those of unrelated texts are far above 0.
    Say what the embedder is wherever a value is shown.

    Parameters
    ----------
    truth, predicted : sequence of str, equal length
    embedder : Embedder
        Called once, with the distinct texts that are not empty.

    Raises
    ------
    DataError
        Lengths differ, or the embedder returns something else than one finite array of vectors a text.
    """
    if len(truth) != len(predicted):
        msg = f"{len(truth):,} true texts and {len(predicted):,} predicted ones; they must be as many"
        raise DataError(msg)
    pairs = [(one.strip(), (other or "").strip()) for one, other in zip(truth, predicted, strict=True)]
    vectors = _embedded(list(dict.fromkeys(text for pair in pairs for text in pair if text)), embedder)
    values = np.full((4, len(pairs)), np.nan)
    reasons = {}
    for i, pair in enumerate(pairs):
        empty = [name for name, text in zip(("truth", "prediction"), pair) if not text or not len(vectors[text])]
        if empty:
            reasons[i] = f"the {' and the '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty"
        else:
            values[:, i] = _matched(vectors[pair[0]], vectors[pair[1]])
    precision, recall, f1, cosine = values
    return TextSimilarity(precision, recall, f1, cosine, reasons)


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, a row of the table at a time as the bits of a number (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        met = row & places.get(word, 0)
        row = (row + met | row - met) & full
    return len(one) - row.bit_count()


def _embedded(texts: list[str], embedder: Embedder) -> dict[str, NDArray[np.float64]]:
    """Return text → vectors, checked."""
    if not texts:
        return {}
    found = [np.asarray(each, dtype=np.float64) for each in embedder(texts)]
    if len(found) != len(texts):
        msg = f"the embedder returned {len(found):,} arrays for {len(texts):,} texts; expected one a text"
        raise DataError(msg)
    for text, each in zip(texts, found):
        fits = each.ndim == 2 and each.shape[1] == found[0].shape[1]
        if not fits or not np.isfinite(each).all():
            wrong = "values that are not finite" if fits else f"shape {each.shape}"
            msg = f"the embedder returned {wrong} for {text[:40]!r}; expected finite vectors, shape (tokens, d)"
            raise DataError(msg)
    return dict(zip(texts, found))


def _matched(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return precision, recall, F1, and the cosine of the means."""
    cosines = _unit(truth) @ _unit(predicted).T
    precision, recall = float(cosines.max(axis=0).mean()), float(cosines.max(axis=1).mean())
    f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return precision, recall, f1, float(_unit(truth.mean(axis=0)) @ _unit(predicted.mean(axis=0)))


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return vectors of length 1; a vector of zeros stays, and is like nothing."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
