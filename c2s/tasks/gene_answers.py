"""Readers of answers in genes: one sentence, or the cells of a sample; as gene tokens or as text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ConfigError
from c2s.tasks.answers import DASHES, LIST_ITEM, Answer, answer_text, before_end, clean, only_texts, shortened
from c2s.tasks.base import Genes, Mark, ParseError, Part
from c2s.tasks.wording import SentenceStyle

_HEADING = re.compile(r"^[ \t]*cell[ \t]*(\d+)[ \t]*:", re.IGNORECASE | re.MULTILINE | re.ASCII)
_OTHER_DELIMITERS = re.compile(r"[\s,;|]+")


def read_genes(
    answer: Answer,
    vocabulary: GeneVocabulary | None = None,
    style: SentenceStyle | None = None,
    *,
    repair: bool = False,
) -> np.ndarray:
    """Return the gene ids that an answer lists, int32, in order.

    A word is a symbol of ``vocabulary``, or the only one that equals it but for case. Where the style's delimiter does
    not give genes, commas, semicolons, bars and any white space do, if every piece then is a gene.

    Parameters
    ----------
    vocabulary : GeneVocabulary, optional
        Needed to read text.
    style : SentenceStyle, optional
    repair : bool
        Leave out foreign words, later copies of a gene, and a last word that may be cut off, instead of refusing.

    Raises
    ------
    ParseError
        No genes, a word that is no gene, a gene twice, a text that is cut off, or more than one sentence.
    ConfigError
        Text and no vocabulary.
    """
    style = style or SentenceStyle()
    if not isinstance(answer, str | bytes):
        parts = before_end(answer)
        if any(isinstance(part, Genes) for part in parts):
            marks = [part for part in parts if isinstance(part, Mark)]
            words = [part for part in parts if isinstance(part, str) and part.strip() not in ("", style.stop)]
            if marks or (words and not repair):
                msg = f"expected genes and <end>, found {marks[0] if marks else words[0]!r}"
                raise ParseError(msg)
            return _distinct(np.concatenate([p.ids for p in parts if isinstance(p, Genes)]), vocabulary, repair=repair)
    text, ended = answer_text(answer, stop=style.stop)
    if vocabulary is None:
        msg = "genes written as text can only be read with their vocabulary; pass vocabulary=sentences.vocabulary"
        raise ConfigError(msg)
    if not ended and not repair:
        msg = f"the sentence does not end with {style.stop!r}, so its last gene may be cut off: …{text[-40:]!r}"
        raise ParseError(msg)
    return _distinct(_gene_words(text, vocabulary, style, ended=ended, repair=repair), vocabulary, repair=repair)


def read_cells(
    answer: Answer,
    vocabulary: GeneVocabulary | None = None,
    style: SentenceStyle | None = None,
    *,
    n_cells: int | None = None,
    repair: bool = False,
) -> list[np.ndarray]:
    """Return the cells of a sample, as gene ids, int32; each stands behind its heading, ``Cell 1:`` and so on.

    Parameters
    ----------
    vocabulary, style, repair
        As for :func:`read_genes`.
    n_cells : int, optional
        How many cells were asked for.

    Raises
    ------
    ParseError
        As :func:`read_genes` for each cell, with its number; headings that are missing or out of order; another number
        of cells than ``n_cells``.
    """
    style = style or SentenceStyle()
    bodies = _bodies(clean(answer)) if isinstance(answer, str | bytes) else _part_bodies(before_end(answer))
    if n_cells is not None and len(bodies) != n_cells:
        msg = f"{len(bodies)} cells, expected {n_cells}"
        raise ParseError(msg)
    cells = []
    for i, body in enumerate(bodies, start=1):
        if isinstance(body, str) and i == len(bodies) and (closed := re.fullmatch(r"(.*\.)\s*\.\s*", body, re.DOTALL)):
            body = closed[1]  # some wordings close the whole sample with a stop as well
        try:
            cells.append(read_genes(body, vocabulary, style, repair=repair))
        except ParseError as error:
            msg = f"cell {i}: {error}"
            raise ParseError(msg) from error
    return cells


def _gene_words(
    text: str, vocabulary: GeneVocabulary, style: SentenceStyle, *, ended: bool, repair: bool
) -> np.ndarray:
    by_fold = _symbols_by_fold(vocabulary)

    def look_up(word: str) -> int:
        if word in vocabulary:
            return vocabulary.index(word)
        near = by_fold.get(_fold_gene(word), ())
        return near[0] if len(near) == 1 else -1

    words = [word.strip() for word in text.split(style.delimiter) if word.strip()]
    found = [look_up(word) for word in words]
    if -1 in found:
        pieces = [piece for piece in _OTHER_DELIMITERS.split(text) if piece]
        other = [look_up(piece) for piece in pieces]
        if -1 not in other or (repair and len(pieces) > len(words)):
            words, found = pieces, other
    if repair:
        if not ended:
            found = found[:-1]
        return np.array([gene for gene in found if gene >= 0], dtype=np.int32)
    for place, (word, gene) in enumerate(zip(words, found, strict=True), start=1):
        if gene < 0:
            raise ParseError(_why_no_gene(word, place, text, style, by_fold.get(_fold_gene(word), ())))
    return np.array(found, dtype=np.int32)


def _why_no_gene(word: str, place: int, text: str, style: SentenceStyle, near: Sequence[int]) -> str:
    if near:
        return f"word {place}, {word!r}, may be any of {len(near)} genes that differ only in case"
    if LIST_ITEM.match(text):
        return f"the answer is a numbered or bulleted list; expected genes with {style.delimiter!r} between them"
    if style.stop and word.endswith(style.stop):
        return f"a sentence ends at word {place}, {word!r}, and more follows; expected one sentence"
    return f"word {place}, {word[:40]!r}, is no gene of the vocabulary"


def _fold_gene(word: str) -> str:
    return unicodedata.normalize("NFKC", word).translate(DASHES).casefold()


@lru_cache(maxsize=8)
def _symbols_by_fold(vocabulary: GeneVocabulary) -> dict[str, list[int]]:
    by_fold: dict[str, list[int]] = {}
    for i, symbol in enumerate(vocabulary.symbols):
        by_fold.setdefault(_fold_gene(symbol), []).append(i)
    return by_fold


def _distinct(ids: np.ndarray, vocabulary: GeneVocabulary | None, *, repair: bool) -> np.ndarray:
    unique, first = np.unique(ids, return_index=True)
    if not len(unique):
        msg = "the answer names no gene"
        raise ParseError(msg)
    if len(unique) == len(ids):
        return ids.astype(np.int32)
    if repair:
        return ids[np.sort(first)].astype(np.int32)
    later = np.setdiff1d(np.arange(len(ids)), first)[0]
    name = f"gene {ids[later]}" if vocabulary is None else vocabulary.symbols[ids[later]]
    msg = f"{name} comes more than once, again at place {later + 1}"
    raise ParseError(msg)


def _bodies(text: str) -> list[Answer]:
    headings = list(_HEADING.finditer(text))
    numbers = [int(heading[1]) for heading in headings]
    before = text[: headings[0].start()].strip() if headings else text.strip()
    _check_headings(numbers, before)
    stops = [*(heading.start() for heading in headings[1:]), len(text)]
    return [text[heading.end() : stop] for heading, stop in zip(headings, stops, strict=True)]


def _part_bodies(parts: Sequence[Part]) -> list[Answer]:
    if not any(isinstance(part, Genes) for part in parts):
        return _bodies("".join(only_texts(parts)))
    numbers: list[int] = []
    bodies: list[list[Part]] = []
    for part in parts:
        if isinstance(part, Genes) and bodies:
            bodies[-1].append(part)
        elif isinstance(part, str) and (heading := _HEADING.fullmatch(part.strip(" \n."))):
            numbers.append(int(heading[1]))
            bodies.append([])
        elif not isinstance(part, str) or part.strip(" \n."):
            _check_headings(numbers, repr(part))
    _check_headings(numbers, "")
    return [[*body, Mark("end")] for body in bodies]


def _check_headings(numbers: Sequence[int], before: str) -> None:
    if before:
        msg = f"expected a heading such as 'Cell {len(numbers) + 1}:', found {shortened(before)}"
        raise ParseError(msg)
    if not numbers:
        msg = "the answer is empty"
        raise ParseError(msg)
    if list(numbers) != list(range(1, len(numbers) + 1)):
        msg = f"cells must be numbered from 1 on, found {list(numbers)[:10]}"
        raise ParseError(msg)
