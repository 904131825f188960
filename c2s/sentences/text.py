"""Cell sentences as text and back: rendered in bulk by Arrow, read by hash look-up, generated text repaired.

Two repairs of a sentence that names a gene twice or words that are no gene:

* ``"first"`` keeps the first of each gene and leaves unknown words out;
* ``"mean_rank"`` is the rule of the Cell2Sentence papers, for comparison: unknown words keep their places while, gene by
  gene in order of first appearance, all copies of a repeated gene are taken out and one is put back at the whole part
  of their mean position in the shortened list; unknown words are left out at last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numba
import numpy as np
import pandas as pd

from c2s.cells.genes import GeneVocabulary, listed, require_vocabulary
from c2s.errors import ConfigError, DataError
from c2s.sentences.corpus import UNKNOWN, CellSentences
from c2s.sentences.ranking import over_rows
from c2s.sentences.record import Encoding

if TYPE_CHECKING:
    import pyarrow as pa

Repair = Literal["first", "mean_rank"]
COUNTS = ("n_words", "n_unknown", "n_repeated")
_WORDS = 1 << 22  # genes rendered, or characters / 8 read, at a time


def write_texts(sentences: CellSentences, *, delimiter: str = " ") -> pa.ChunkedArray:
    """Return every sentence as text, ``large_string``, in order; a cell of zeros gives an empty string.

    Raises
    ------
    DataError
        A symbol of the vocabulary holds the delimiter, so that the text could not be split again.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    symbols = sentences.vocabulary.symbols
    holding = [symbol for symbol in symbols if delimiter in symbol]
    if not delimiter or holding:
        msg = f"genes {listed(holding)} hold the delimiter {delimiter!r}; pass another delimiter"
        raise DataError(msg)
    names = pa.array(symbols, type=pa.large_string())
    chunks = []
    for rows in _spans(sentences.offsets, _WORDS):
        start, stop = sentences.offsets[rows.start], sentences.offsets[rows.stop]
        words = names.take(pa.array(sentences.ids[start:stop]))
        offsets = pa.array(sentences.offsets[rows.start : rows.stop + 1] - start, type=pa.int32())
        chunks.append(pc.binary_join(pa.ListArray.from_arrays(offsets, words), pa.scalar(delimiter, pa.large_string())))
    return pa.chunked_array(chunks, type=pa.large_string())


def read_texts(
    texts: Sequence[str] | pa.Array | pa.ChunkedArray,
    vocabulary: GeneVocabulary,
    *,
    repair: Repair = "first",
    obs: pd.DataFrame | None = None,
) -> CellSentences:
    """Return sentences written as text, such as a language model's answers, as gene ids.

    With ``repair="first"`` words are split at any white space and a full stop after the last one is ignored; with
    ``"mean_rank"`` they are split at single spaces and taken as they are. Words are compared letter by letter: map case
    or aliases before.

    Parameters
    ----------
    texts : sequence of str, or Arrow strings, length n
    vocabulary : GeneVocabulary
    repair : {"first", "mean_rank"}
        See the module.
    obs : DataFrame, n rows, optional

    Returns
    -------
    CellSentences
        Each gene at most once in a sentence, ``n_expressed`` unknown (-1). ``obs`` gets ``n_words`` read, ``n_unknown``
        of them no gene and ``n_repeated`` genes that came more than once (copies beyond the first).

    Raises
    ------
    DataError
        A text is missing or no string, or ``obs`` has another number of rows.
    ConfigError
        There is no such repair.
    """
    import pyarrow as pa

    if repair not in get_args(Repair):
        msg = f"repair={repair!r}; choose {', '.join(map(repr, get_args(Repair)))}"
        raise ConfigError(msg)
    require_vocabulary(vocabulary)
    if isinstance(texts, str | bytes):
        msg = f"texts is one {type(texts).__name__}; pass a list of texts, one a cell"
        raise DataError(msg)
    column = pa.chunked_array([texts]) if isinstance(texts, pa.Array) else texts
    if not isinstance(column, pa.ChunkedArray):
        try:
            column = pa.chunked_array([pa.array(list(texts), type=pa.large_string(), from_pandas=True)])
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            msg = f"texts hold something else than strings: {error}. Pass one string a cell"
            raise DataError(msg) from error
    if column.null_count:
        msg = (
            f"{column.null_count} of {len(column)} texts are missing; pass an empty string for a sentence without genes"
        )
        raise DataError(msg)
    symbols = pa.array(vocabulary.symbols, type=pa.large_string())
    ids, lengths, counts = [], [], []
    for chunk in column.chunks:
        for texts_here in _by_size(chunk.cast(pa.large_string())):
            found, offsets = _look_up(texts_here, symbols, repair)
            kept, kept_lengths, kept_counts = _repaired(found, offsets, len(vocabulary), repair)
            ids.append(kept)
            lengths.append(kept_lengths)
            counts.append(kept_counts)
    table = pd.DataFrame(index=pd.RangeIndex(len(column)).astype(str)) if obs is None else obs
    if len(table) != len(column):
        msg = f"{len(column)} texts, but obs has {len(table)} rows"
        raise DataError(msg)
    all_counts = np.concatenate([*counts, np.empty((0, len(COUNTS)), dtype=np.int64)])
    all_lengths = np.concatenate([*lengths, np.empty(0, dtype=np.int64)])
    return CellSentences(
        ids=np.concatenate([*ids, np.empty(0, dtype=np.int32)]),
        offsets=np.concatenate([[0], np.cumsum(all_lengths)]),
        n_expressed=np.full(len(column), UNKNOWN),
        vocabulary=vocabulary,
        obs=table.assign(**dict(zip(COUNTS, all_counts.T, strict=True))),
        encoding=Encoding(),
    )


def _look_up(texts: pa.Array, symbols: pa.Array, repair: Repair) -> tuple[np.ndarray, np.ndarray]:
    """Return the id of each word, int32, -1 where it is no gene, and the offsets of the texts."""
    import pyarrow.compute as pc

    if repair == "first":
        trimmed = pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), r"\.$", "")
        words = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(trimmed))
        empty = np.asarray(pc.equal(pc.utf8_length(trimmed), 0))
    else:
        words = pc.split_pattern(texts, " ")
        empty = np.zeros(len(texts), dtype=bool)
    places = pc.index_in(words.flatten(), value_set=symbols)
    found = places.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    sizes = pc.list_value_length(words).to_numpy(zero_copy_only=False).astype(np.int64)
    if empty.any():  # splitting nothing gives one empty word
        found = found[~np.repeat(empty, sizes)]
        sizes[empty] = 0
    return found, np.concatenate([[0], np.cumsum(sizes)])


def _repaired(
    found: np.ndarray, offsets: np.ndarray, n_genes: int, repair: Repair
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the repaired ids of all texts, their lengths, and :data:`COUNTS` of each, int64, shape (n, 3)."""
    n = len(offsets) - 1
    out = np.empty(len(found), dtype=np.int32)
    counts = np.zeros((n, len(COUNTS)), dtype=np.int64)
    lengths = np.zeros(n, dtype=np.int64)

    def work(start: int, stop: int) -> None:
        _repair(found, offsets, n_genes, repair == "mean_rank", out, lengths, counts, start, stop)

    over_rows(work, n)
    keep = np.arange(len(out)) - np.repeat(offsets[:-1], np.diff(offsets)) < np.repeat(lengths, np.diff(offsets))
    return out[keep], lengths, counts


@numba.njit(nogil=True, cache=True)
def _repair(
    found: np.ndarray,
    offsets: np.ndarray,
    n_genes: int,
    mean_rank: bool,
    out: np.ndarray,
    lengths: np.ndarray,
    counts: np.ndarray,
    first: int,
    last: int,
) -> None:
    copies = np.zeros(n_genes, dtype=np.int64)
    for i in range(first, last):
        start, stop = offsets[i], offsets[i + 1]
        size = stop - start
        work = found[start:stop].copy()
        for place in range(size):
            if work[place] >= 0:
                copies[work[place]] += 1
            else:
                counts[i, 1] += 1
        counts[i, 0] = size
        for place in range(start, stop):
            gene = found[place]
            if gene < 0:
                continue
            if copies[gene] > 1:
                counts[i, 2] += copies[gene] - 1
                size = _gather(work, size, gene, mean_rank)
            copies[gene] = 0  # done, and clean for the next text
        kept = 0
        for place in range(size):
            if work[place] >= 0:
                out[start + kept] = work[place]
                kept += 1
        lengths[i] = kept


@numba.njit(nogil=True, cache=True)
def _gather(work: np.ndarray, size: int, gene: int, mean_rank: bool) -> int:
    """Leave one copy of ``gene`` among the first ``size`` entries of ``work``, and return how many are left."""
    total, n, kept, leading = 0, 0, 0, 0
    for place in range(size):
        if work[place] == gene:
            if n == 0:
                leading = place
            total += place
            n += 1
        else:
            work[kept] = work[place]
            kept += 1
    target = min(total // n, kept) if mean_rank else leading
    for place in range(kept, target, -1):
        work[place] = work[place - 1]
    work[target] = gene
    return kept + 1


def _spans(offsets: np.ndarray, size: int) -> Iterator[slice]:
    """Yield spans of whole rows of about ``size`` entries; no rows give one empty span."""
    start, n = 0, len(offsets) - 1
    while start < n or n == start == 0:
        stop = min(max(int(np.searchsorted(offsets, offsets[start] + size, side="right")) - 1, start + 1), n)
        yield slice(start, stop)
        if stop == n:
            return
        start = stop


def _by_size(texts: pa.Array) -> Iterator[pa.Array]:
    import pyarrow.compute as pc

    sizes = pc.binary_length(texts).to_numpy(zero_copy_only=False)
    for rows in _spans(np.concatenate([[0], np.cumsum(sizes)]), 8 * _WORDS):
        yield texts.slice(rows.start, rows.stop - rows.start)
