"""Sentences drawn under a constraint from random logits, and what is wrong with their text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from c2s.cells.genes import GeneVocabulary
from c2s.engines.trie_constraint import TrieConstraint
from c2s.tasks import ParseError
from c2s.tasks.gene_answers import read_genes
from c2s.tasks.wording import SentenceStyle

ROWS = 500


def random_answers(constraint: TrieConstraint, n: int, *, seed: int = 0, stop_bias: float = 6.0) -> Iterator[Tensor]:
    """Yield ``n`` answers, token ids up to the padding, each step's logits Gaussian.

    The logit of the stop is raised by up to ``stop_bias``, another amount for every answer, so that lengths differ.
    """
    generator = torch.Generator().manual_seed(seed)
    width, stop = constraint.n_tokens, constraint.segments[-1].stop
    windows = torch.randn(width + (1 << 20), generator=generator).unfold(0, width, 1)  # one row's logits at one step
    for begin in range(0, n, ROWS):
        rows = min(ROWS, n - begin)
        state, taken = constraint.start(rows), []
        bias = stop_bias * torch.rand(rows, generator=generator)
        while not taken or (taken[-1] != constraint.pad).any():
            logits = windows[torch.randint(len(windows), (rows,), generator=generator)]
            logits[:, stop] += bias
            taken.append(logits.masked_fill_(~state.mask(), -torch.inf).argmax(-1))
            state.advance(taken[-1][:, None])
        for answer in torch.stack(taken, 1):
            yield answer[: int((answer == constraint.pad).nonzero()[0, 0])]


def faults(
    answers: Iterator[Tensor], tokenizer: PreTrainedTokenizerBase, vocabulary: GeneVocabulary, style: SentenceStyle
) -> dict[str, int]:
    """Return how many answers were read, how many genes they hold, how many are invalid, and how many repeat a gene."""
    found = {"answers": 0, "genes": 0, "invalid": 0, "repeated": 0}
    for answer in answers:
        text = tokenizer.decode(answer, clean_up_tokenization_spaces=False)
        found["answers"] += 1
        try:
            genes = read_genes(text, vocabulary, style)
        except ParseError:
            found["invalid"] += 1
            genes = np.array([], np.int32)
        found["genes"] += len(genes)
        names = text.strip().removesuffix(style.stop).split(style.delimiter)
        found["repeated"] += len(set(names)) < len(names)
    return found
