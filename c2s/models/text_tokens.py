"""Parts to the tokens of any tokenizer, as words; symbols of genes as the checkpoint was taught to read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from c2s.errors import ModelError
from c2s.models.embedding import Passage
from c2s.tasks.base import Genes, Mark, Part
from c2s.tasks.wording import SentenceStyle, render_text


class TextTokens:
    """Renders parts as words.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Of the checkpoint.

    Attributes
    ----------
    pad : int
        What fills up batches: the tokenizer's padding, or its end, or 0.
    end : int or None
        What ends an answer.
    front : tuple of int
        What the tokenizer puts in front of every text, such as a beginning-of-sequence token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.end: int | None = tokenizer.eos_token_id
        self.pad: int = next(t for t in (tokenizer.pad_token_id, self.end, 0) if t is not None)
        begun = tokenizer("a")["input_ids"]
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        if not bare:
            msg = "the tokenizer finds no token in the letter 'a'; it is not one that reads words"
            raise ModelError(msg)
        self.front: tuple[int, ...] = tuple(begun[: begun.index(bare[0])])

    def __len__(self) -> int:
        return len(self.tokenizer)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts, nothing put in front or behind; ``<s>`` in a text is text."""
        if not texts:
            return []
        found = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)
        return list(found["input_ids"])

    def prompts(
        self, prompts: Sequence[Sequence[Part]], symbols: Sequence[str], style: SentenceStyle
    ) -> list[list[int]]:
        """Return the tokens of prompts, each behind what the tokenizer puts in front."""
        texts = [render_text(prompt, symbols, style) for prompt in prompts]
        return [[*self.front, *ids] for ids in self.encode(texts)]

    def answers(
        self, answers: Sequence[Sequence[Part]], symbols: Sequence[str], style: SentenceStyle
    ) -> list[list[int]]:
        """Return the tokens of answers; ``Mark("end")`` is the tokenizer's end where it has one."""
        found = self.encode([render_text(answer, symbols, style) for answer in answers])
        ends = [[self.end] if self.end is not None and Mark("end") in answer else [] for answer in answers]
        return [ids + end for ids, end in zip(found, ends, strict=True)]

    def passages(
        self, prompts: Sequence[Sequence[Part]], symbols: Sequence[str], style: SentenceStyle
    ) -> list[tuple[Passage, list[slice]]]:
        """Return prompts of one cell with the place of its genes, and the tokens of each gene.

        A token that stands for parts of two genes belongs to both.

        Raises
        ------
        ModelError
            The tokenizer does not tell which characters its tokens stand for (it has no fast version).
        """
        if not self.tokenizer.is_fast:
            msg = f"{type(self.tokenizer).__name__} does not tell which characters a token stands for; use its fast version"
            raise ModelError(msg)
        texts, spans = [], []
        for prompt in prompts:
            text, genes = "", []
            for part in prompt:
                if isinstance(part, Genes):
                    genes += _gene_spans(part, symbols, style, len(text))
                text += render_text((part,), symbols, style)
            texts.append(text)
            spans.append(genes)
        found = self.tokenizer(
            texts, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
        )
        return [
            _passage(self.front, ids, offsets, genes)
            for ids, offsets, genes in zip(found["input_ids"], found["offset_mapping"], spans, strict=True)
        ]


def _gene_spans(genes: Genes, symbols: Sequence[str], style: SentenceStyle, start: int) -> list[tuple[int, int]]:
    """Return the first character of each gene in a text where the run begins at ``start``, and the first behind it."""
    lengths = np.array([len(symbols[gene]) for gene in genes.ids], dtype=np.int64)
    starts = start + np.concatenate(([0], np.cumsum(lengths[:-1] + len(style.delimiter)))) if len(lengths) else lengths
    return list(zip(starts.tolist(), (starts + lengths).tolist(), strict=True))


def _passage(
    front: tuple[int, ...], ids: list[int], offsets: Sequence[tuple[int, int]], genes: Sequence[tuple[int, int]]
) -> tuple[Passage, list[slice]]:
    """Return the passage, and for each gene the tokens that stand for any of its characters."""
    firsts, lasts = np.array([offset[0] for offset in offsets]), np.array([offset[1] for offset in offsets])
    shift = len(front)
    places = [
        slice(shift + int(np.searchsorted(lasts, start, side="right")), shift + int(np.searchsorted(firsts, stop)))
        for start, stop in genes
    ]
    span = (places[0].start, places[-1].stop) if places else (shift + len(ids), shift + len(ids))
    return Passage([*front, *ids], *span), places
