"""One cell and 500 drugs: answers sampled on one stored prefix, beside the same rows with their whole prompts."""

from __future__ import annotations

from functools import partial

import anndata as ad
import numpy as np
import torch

from benchmarks.card import Figure
from benchmarks.encoding.timing import in_turn
from c2s.engines.constraint import Constraint, Segment
from c2s.engines.noise import noise_keys
from c2s.models.cell_lm import CellLM
from c2s.models.prefix import PrefixDecoder
from c2s.models.sampling import sample_answers

ROUNDS, SUFFIX = 3, 12
CASES = (
    (200, 25, 500, 3.0),
    (200, 40, 500, 2.3),
    (None, 25, 50, None),
)  # genes of the cell, tokens of the answer, drugs, bar


def library_figures(model: CellLM, cells: ad.AnnData, case: tuple[int | None, int, int, float | None]) -> list[Figure]:
    """Return how many times faster a stored prefix is; the naive side runs each row's whole prompt through the same sampler."""
    n_genes, length, n_drugs, bar = case
    rng = np.random.default_rng(0)
    sentences = model.encode(cells[:50].copy())
    row = int(sentences.lengths.argmax())
    figures: list[Figure] = []
    suffixes = [rng.choice(model.tokens.gene_tokens, SUFFIX).tolist() for _ in range(n_drugs)]
    prefix = model.tokens.gene_tokens[sentences.row(row)[:n_genes]].tolist()
    items = torch.from_numpy(model.tokens.gene_tokens)
    constraint = Constraint(
        items, [Segment(length, model.tokens.marks["end"], length)], n_tokens=len(model.tokens), pad=model.pad
    )
    decoder, keys = PrefixDecoder(model.model), noise_keys(0, ["cell"], 1)
    shared = partial(sample_answers, decoder, [prefix], [suffixes], constraint, keys, pad=model.pad)
    naive = partial(
        sample_answers, decoder, [[*prefix, *suffix[:-1]] for suffix in suffixes], [[suffix[-1:]] for suffix in suffixes],
        constraint, np.repeat(keys, n_drugs, axis=0), pad=model.pad,
    )  # fmt: skip
    with decoder.attached():
        same = float((shared()[0, :, 0] == naive()[:, 0, 0]).float().mean())
        seconds = in_turn({"shared": shared, "naive": naive}, rounds=ROUNDS)
    ours, theirs = np.array(seconds["shared"].wall), np.array(seconds["naive"].wall)
    ratio = float(np.median(theirs) / np.median(ours))
    met = None if bar is None else ratio >= bar
    size = "whole sentence" if n_genes is None else f"{n_genes} genes"
    figures.append(
        Figure(
            f"one cell ({size}, {len(prefix):,} tokens) and {n_drugs} drugs, answers of {length} tokens: stored prefix, times the naive run",
            ratio, float(theirs.min() / ours.max()), float(theirs.max() / ours.min()), n=ROUNDS,
            bar=None if bar is None else f">= {bar:g}", met=met,
            reason=None if met is not False else "the output layer and the noise of 13,000 genes are the same on both sides",
        )
    )  # fmt: skip
    figures.append(
        Figure(f"... answers of {length} tokens, {size}: share of tokens that are the same on both sides", same)
    )
    return figures
