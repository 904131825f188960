"""Parts to tokens: a gene is one token where a gene is meant; everything else is sub-words with byte fallback.

Gene tokens sit in the tokenizer's vocabulary without merges, so no text can ever become one: the label ``CD4 T cell``
is words. The folder it writes is an ordinary transformers tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ModelError
from c2s.tasks.base import MARKS, Genes, Mark, Part

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def build_tokenizer(
    vocabulary: GeneVocabulary, texts: Iterable[str], *, n_pieces: int = 512, with_mask: bool = False
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with marks and one token per gene.

    Parameters
    ----------
    vocabulary : GeneVocabulary
    texts : iterable of str
        Labels, names, mechanisms: what sub-words are learned from.
    n_pieces : int
        Byte and sub-word tokens, at least 256.
    with_mask : bool
        Add ``<mask>``, behind all others, for masked-diffusion models.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(vocab_size=n_pieces, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(sorted(set(texts)), trainer)
    import json

    learned = json.loads(learner.to_str())["model"]
    specials = ["<pad>", *(f"<{mark}>" for mark in MARKS)]
    tokens = [*specials, *sorted(learned["vocab"], key=learned["vocab"].get)]
    tokens += [gene_token(symbol) for symbol in vocabulary.symbols]
    tokens += ["<mask>"] * with_mask
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        mask_token="<mask>" if with_mask else None,
        additional_special_tokens=[f"<{mark}>" for mark in MARKS if mark != "end"],
        padding_side="left",
    )


def gene_token(symbol: str) -> str:
    """Return the surface form of a gene's token."""
    return f"<gene:{symbol}>"


class PartTokenizer:
    """Renders parts as token ids and reads answers back.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        From :func:`build_tokenizer`.
    vocabulary : GeneVocabulary

    Raises
    ------
    ModelError
        The tokenizer lacks a mark or a gene of the vocabulary: model and vocabulary do not belong together.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vocabulary: GeneVocabulary) -> None:
        self.tokenizer, self.vocabulary = tokenizer, vocabulary
        known = tokenizer.get_vocab()
        missing = [t for t in [*(f"<{m}>" for m in MARKS), *map(gene_token, vocabulary.symbols)] if t not in known]
        if missing:
            msg = f"the tokenizer has no token for {len(missing)} of the marks and genes, such as {missing[0]}; it was built for another vocabulary"
            raise ModelError(msg)
        self.marks = {mark: known[f"<{mark}>"] for mark in MARKS}
        self.gene_tokens = np.array([known[gene_token(symbol)] for symbol in vocabulary.symbols], dtype=np.int64)
        self.pad: int = tokenizer.pad_token_id
        self._mark_of = {token: mark for mark, token in self.marks.items()}
        self._gene_of = {int(token): i for i, token in enumerate(self.gene_tokens)}
        self._text = lru_cache(maxsize=65536)(self._encode_text)

    def __len__(self) -> int:
        return len(self.tokenizer)

    @property
    def mask(self) -> int:
        """The token of a hidden place, which masked-diffusion models have.

        Raises
        ------
        ModelError
            There is none.
        """
        found = self.tokenizer.mask_token_id
        if found is None:
            msg = "the tokenizer has no <mask>, without which a masked-diffusion model cannot be asked; the files belong to different models"
            raise ModelError(msg)
        return int(found)

    def _encode_text(self, text: str) -> tuple[int, ...]:
        # split_special_tokens: "<end>" in a label is text, not a mark
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def render(self, parts: Sequence[Part]) -> list[int]:
        """Return the token ids of ``parts``."""
        ids: list[int] = []
        for part in parts:
            if isinstance(part, Mark):
                ids.append(self.marks[part.name])
            elif isinstance(part, Genes):
                ids.extend(self.gene_tokens[part.ids].tolist())
            else:
                ids.extend(self._text(part))
        return ids

    def parts(self, ids: Iterable[int]) -> list[Part]:
        """Return the parts that ``ids`` spell, padding left out."""
        return list(self._parts(ids))

    def _parts(self, ids: Iterable[int]) -> Iterator[Part]:
        genes: list[int] = []
        text: list[int] = []
        for token in [*ids, None]:
            if genes and token not in self._gene_of:
                yield Genes(np.array(genes, dtype=np.int32))
                genes = []
            is_text = (
                token is not None and token != self.pad and token not in self._gene_of and token not in self._mark_of
            )
            if text and not is_text:
                yield self.tokenizer.decode(text).strip()
                text = []
            if token is None or token == self.pad:
                continue
            if token in self._gene_of:
                genes.append(self._gene_of[token])
            elif token in self._mark_of:
                yield Mark(self._mark_of[token])
            else:
                text.append(token)
