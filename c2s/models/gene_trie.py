"""Gene names as any tokenizer spells them: the trie and the constraint of a sentence of genes in text."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from c2s.cells.genes import listed
from c2s.engines.constraint import Segment
from c2s.engines.token_trie import TokenTrie
from c2s.engines.trie_constraint import TrieConstraint
from c2s.errors import DataError, ModelError
from c2s.tasks.wording import SentenceStyle

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_ANCHORS = 4  # genes that others are spelled behind, till one does not merge with the delimiter
_SENTENCES, _GENES = 8, 20  # how many sentences, of how many genes, are spelled as a whole and compared


def gene_trie(
    tokenizer: PreTrainedTokenizerBase,
    symbols: Sequence[str],
    style: SentenceStyle | None = None,
    *,
    lead: str = "",
) -> TokenTrie:
    """Return the token sequences of genes: item ``i`` is ``symbols[i]`` with its delimiter.

    A gene is spelled as the tokenizer spells it behind another gene, and its first form as it spells an answer that
    begins with it. For tokenizers that split at delimiters (byte-level BPE, WordPiece, metaspace) a sentence is then
    spelled as the tokenizer itself would. Others may merge tokens across genes; the trie then holds one spelling of
    each sentence, which decodes to the right text but is not the one the tokenizer would choose, and a warning says so.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
    symbols : sequence of str
    style : SentenceStyle, optional
        Delimiter and case.
    lead : str
        What an answer has before its first gene, such as a space.

    Raises
    ------
    DataError
        A symbol holds the delimiter, or two symbols become the same tokens.
    ModelError
        The tokens of a symbol do not decode to it, for instance because the tokenizer does not know its signs.
    ConfigError
        Sentences of these tokens could be read in two ways; see :class:`TokenTrie`.
    """
    style = style or SentenceStyle()
    names = [symbol.upper() for symbol in symbols] if style.upper else list(symbols)
    if broken := [name for name in names if style.delimiter in name]:
        msg = f"{listed(broken)} hold the delimiter {style.delimiter!r}; pass a SentenceStyle with another one"
        raise DataError(msg)
    follow = _behind(tokenizer, _anchors(names), [style.delimiter + name for name in names])
    first = _encode(tokenizer, [lead + name for name in names])
    _refuse_same(symbols, follow)
    _refuse_same(symbols, first)
    _refuse_other_text(tokenizer, first, [lead + name for name in names])
    _check_sentences(tokenizer, names, first, follow, style, lead)
    return TokenTrie(follow, first=first)


def gene_constraint(
    tokenizer: PreTrainedTokenizerBase,
    symbols: Sequence[str],
    style: SentenceStyle | None = None,
    *,
    n_genes: int,
    min_genes: int = 1,
    lead: str = "",
) -> TrieConstraint:
    """Return the constraint of one sentence of distinct genes in text, its stop, then the tokenizer's end of sequence.

    Parameters
    ----------
    tokenizer, symbols, style, lead
        As for :func:`gene_trie`. The stop is a token of its own, even where the tokenizer would merge it with the last
        gene; with an empty ``style.stop`` the end of sequence is the stop.
    n_genes, min_genes : int
        At most and at least so many genes.

    Raises
    ------
    ModelError
        The tokenizer has no end-of-sequence token, or the stop is not one token; also as :func:`gene_trie`.
    """
    style = style or SentenceStyle()
    if tokenizer.eos_token_id is None:
        msg = "the tokenizer has no end-of-sequence token, so nothing could follow a sentence; set tokenizer.eos_token"
        raise ModelError(msg)
    trie = gene_trie(tokenizer, symbols, style, lead=lead)
    stop = _stop_token(tokenizer, symbols, style) if style.stop else tokenizer.eos_token_id
    segment = Segment(n_genes, stop, min_genes)
    return TrieConstraint(trie, [segment], n_tokens=len(tokenizer), pad=tokenizer.eos_token_id)


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"]


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[Sequence[int]]) -> list[str]:
    return [text.strip() for text in tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False)]


def _anchors(names: Sequence[str]) -> list[str]:
    """Return a few names spread over all."""
    return list(dict.fromkeys(names[:: max(1, len(names) // _ANCHORS)]))[:_ANCHORS]


def _behind(tokenizer: PreTrainedTokenizerBase, anchors: Sequence[str], tails: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each tail behind an anchor, whose own tokens it leaves as they are."""
    found: dict[int, list[int]] = {}
    for anchor, head in zip(anchors, _encode(tokenizer, anchors), strict=True):
        open_ = [i for i in range(len(tails)) if i not in found]
        if not open_:
            break
        whole = _encode(tokenizer, [anchor + tails[i] for i in open_])
        texts = _decode(tokenizer, whole)
        for i, ids, text in zip(open_, whole, texts, strict=True):
            if len(ids) > len(head) and ids[: len(head)] == head and text == anchor + tails[i]:
                found[i] = ids[len(head) :]
    if lost := [tail for i, tail in enumerate(tails) if i not in found]:
        msg = (
            f"the tokenizer cannot spell {len(lost)} of {len(tails)} genes behind another one so that they are read again: "
            f"{listed(list(map(repr, lost)))}; leave them out, or choose another delimiter"
        )
        raise ModelError(msg)
    return [found[i] for i in range(len(tails))]


def _stop_token(tokenizer: PreTrainedTokenizerBase, symbols: Sequence[str], style: SentenceStyle) -> int:
    """Return the token of the stop behind a gene, or, where words are split at spaces, behind a space."""
    anchors = [symbol.upper() for symbol in _anchors(symbols)] if style.upper else _anchors(symbols)
    for tail in (style.stop, f" {style.stop}"):
        for anchor, head in zip(anchors, _encode(tokenizer, anchors), strict=True):
            ids = _encode(tokenizer, [anchor + tail])[0]
            if ids[:-1] == head and _decode(tokenizer, [ids]) in (
                [anchor + style.stop],
                [f"{anchor} {style.stop.strip()}"],
            ):
                return ids[-1]
    msg = f"the tokenizer has no single token for the stop {style.stop!r} behind a gene; pass SentenceStyle(stop='') to end with {tokenizer.eos_token}"
    raise ModelError(msg)


def _refuse_same(symbols: Sequence[str], spellings: Sequence[Sequence[int]]) -> None:
    seen: dict[tuple[int, ...], str] = {}
    for symbol, ids in zip(symbols, map(tuple, spellings), strict=True):
        if ids in seen:
            msg = (
                f"genes {seen[ids]!r} and {symbol!r} are the same tokens to this model and style; leave one of them out"
            )
            raise DataError(msg)
        seen[ids] = symbol


def _refuse_other_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[Sequence[int]], texts: Sequence[str]) -> None:
    wrong = [(text, read) for text, read in zip(texts, _decode(tokenizer, ids), strict=True) if read != text.strip()]
    if wrong:
        text, read = wrong[0]
        msg = f"the tokens of {len(wrong)} of {len(texts)} texts decode to other text, such as {text!r} to {read!r}; the tokenizer cannot spell them"
        raise ModelError(msg)


def _check_sentences(
    tokenizer: PreTrainedTokenizerBase,
    names: Sequence[str],
    first: Sequence[Sequence[int]],
    follow: Sequence[Sequence[int]],
    style: SentenceStyle,
    lead: str,
) -> None:
    """Refuse sentences that do not decode to their text; warn of those that the tokenizer would spell otherwise."""
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(len(names))[:_GENES] for _ in range(_SENTENCES)]
    texts = [lead + style.delimiter.join(names[i] for i in genes) for genes in drawn]
    ours = [[*first[genes[0]], *(token for i in genes[1:] for token in follow[i])] for genes in drawn]
    _refuse_other_text(tokenizer, ours, texts)
    if other := sum(ids != own for ids, own in zip(_encode(tokenizer, texts), ours, strict=True)):
        logger.warning(
            "the tokenizer itself would spell %d of %d sentences otherwise: it merges tokens across genes",
            other,
            len(texts),
        )
