"""Serving speed: annotate, embed and generate beside cell2sentence 1.2.0 on one checkpoint, and a drug library on one stored prefix.

Run: ``pip install --no-deps cell2sentence==1.2.0``, then ``C2S_DATA_DIR=… python -m benchmarks.serving.run`` (about ten
minutes on two cores). The GPU has a run of its own: ``benchmarks/serving_gpu``.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import anndata as ad
import numpy as np
import torch

import c2s
from benchmarks.card import Figure, write_card
from benchmarks.encoding.timing import in_turn
from benchmarks.serving.checkpoint import N_GENES, gene_token_twin, write_checkpoint
from benchmarks.serving.drugs import CASES, library_figures
from benchmarks.serving.floor import matrix_rate, pass_flops
from c2s.models.batching import TOKENS
from c2s.models.text_lm import TextLM
from c2s.tasks.base import Genes
from c2s.tasks.wording import render_text

logger = logging.getLogger(__name__)

THREADS = 2
ROUNDS = 5
THEIRS, OURS = 16, 64  # cells of a round
GENERATED = 192  # cells generated at a time


def main() -> None:
    """Measure and write the card."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    begun, load = time.perf_counter(), os.getloadavg()[0]
    place = os.environ.get("C2S_DATA_DIR")
    if not place:
        sys.exit("set C2S_DATA_DIR to the folder that holds pbmc3k/")
    sys.modules.setdefault("plotnine", mock.MagicMock())  # drawing is not measured
    try:
        from cell2sentence.csmodel import CSModel
    except ImportError:
        sys.exit("this benchmark needs the reference: pip install --no-deps cell2sentence==1.2.0")
    torch.set_num_threads(THREADS)
    cells = ad.read_h5ad(Path(place) / "pbmc3k" / "pbmc3k_counts.h5ad")
    cells = cells[:, ~cells.var_names.str.upper().duplicated(keep=False)].copy()  # the reference writes upper case
    cells = cells[cells.obs["cell_type"].notna(), np.asarray(cells.X.sum(axis=0)).ravel() > 0].copy()
    labels = sorted(cells.obs["cell_type"].astype(str).unique())
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(cells, Path(folder) / "checkpoint")
        model = c2s.load_model(Path(folder) / "checkpoint", prompts="cell2sentence", n_genes=N_GENES)
        assert isinstance(model, TextLM)
        reference = CSModel(str(Path(folder) / "checkpoint"), folder, "copy")
        figures = beside_the_reference(cells, labels, model, reference)
        theirs = next(figure.value for figure in figures if figure.name == "annotate: cells/s, reference")
        assert theirs is not None
        parts = (
            partial(gene_tokens, cells, labels, model, theirs),
            *(partial(library_figures, gene_token_twin(cells, labels), cells, case) for case in CASES),
        )
        for part in (list, *parts):  # the card is written after each, so that a run that is cut off leaves what it has
            figures += part()
            write_card(
                Path(__file__).parent, figures,
                data={"cells": f"pbmc3k, {cells.n_obs:,} cells x {cells.n_vars:,} genes", "checkpoint": repr(model), "load before": load},
                notes=notes(), seconds=time.perf_counter() - begun,
            )  # fmt: skip
            logger.info("%d figures after %.0f s", len(figures), time.perf_counter() - begun)


def beside_the_reference(cells: ad.AnnData, labels: list[str], model: TextLM, reference: Any) -> list[Figure]:
    """Return the ratios on one checkpoint, and the share of the floor."""
    sentences = model.encode(cells[:OURS].copy())
    prompts = prompts_of(model, sentences)
    answers = model.label_tokens(labels, sentences.vocabulary)
    longest = max(map(len, answers))
    theirs = reference.generate_from_prompt_batched
    network = model.model
    vocabulary = sentences.vocabulary
    conditions = {"cell_type": labels[0], "organism": "Homo sapiens"}
    asked = task_prompt(model, conditions, vocabulary)
    lengths_written = _tokens_written(model, vocabulary, conditions)
    written = round(statistics.mean(lengths_written))
    works = {
        "annotate": lambda: model.annotate(sentences, labels=labels),
        "annotate, reference": lambda: [
            reference.generate_from_prompt(network, p, max_num_tokens=longest) for p in prompts[:THEIRS]
        ],
        "embed": lambda: model.embed(sentences),
        "embed, reference": lambda: [
            reference.embed_cells_batched(network, prompts[i : i + 8]) for i in range(0, THEIRS, 8)
        ],
        "generate": lambda: model.generate(vocabulary, n=GENERATED, n_genes=N_GENES, conditions=conditions),
        "generate, reference": lambda: theirs(
            network, [asked] * 8, max_num_tokens=written, min_new_tokens=written, do_sample=True
        ),
    }
    for name, work in works.items():
        begun = time.perf_counter()
        work()
        logger.info("%s: %.1f s", name, time.perf_counter() - begun)
    seconds = in_turn(works, rounds=ROUNDS)
    wall = {name: each.wall for name, each in seconds.items()}
    lengths = [len(passage) for passage in model.passages(sentences)]
    rate = matrix_rate(network, TOKENS["cpu"])
    least = {
        "annotate": pass_flops(network, statistics.mean(lengths), [len(a) for a in answers], model.n_outputs) / rate,
        "embed": pass_flops(network, statistics.mean(passage.stop for passage in model.passages(sentences)), [], 0)
        / rate,
    }
    figures = [
        Figure("tokens of a prompt of 200 genes, byte-level BPE", statistics.mean(lengths), n=OURS),
        Figure("tokens of a generated sentence of 200 genes", statistics.mean(lengths_written), n=GENERATED),
        Figure("matrix products at the model's shapes, GFLOP/s", rate / 1e9),
    ]
    for what, bar in (("annotate", 1.5), ("embed", 1.5)):
        ours, others = OURS / np.array(wall[what]), THEIRS / np.array(wall[f"{what}, reference"])
        figures += _speeds(what, "cells/s", ours, others, bar)
        share = least[what] * statistics.median(ours)
        met = share >= 0.6
        figures.append(
            Figure(
                f"{what}: share of the floor", share, n=ROUNDS, bar=">= 0.6", met=met,
                reason=None if met else "attention runs below the rate of matrix products, norms and rotations are memory traffic",
            )
        )  # fmt: skip
    ours = sum(lengths_written) / np.array(wall["generate"])
    others = 8 * written / np.array(wall["generate, reference"])
    figures += _speeds("generate", "tokens/s", ours, others, 3.0)
    few = sentences[:8]
    alone = np.concatenate([model.embed(few[i : i + 1]) for i in range(len(few))])
    apart = float(np.abs(model.embed(sentences)[:8] - alone).max())
    figures.append(
        Figure(
            "embed: largest difference to a batch of one",
            apart,
            n=8,
            bar="<= 1e-5",
            met=apart <= 1e-5,
            reason=None if apart <= 1e-5 else "rounding",
        )
    )
    return figures


def gene_tokens(cells: ad.AnnData, labels: list[str], model: TextLM, theirs: float) -> list[Figure]:
    """Return how much faster a gene as a token is, from AnnData to labels, layers and width being equal; ``theirs`` in cells/s."""
    twin, few = gene_token_twin(cells, labels), cells[:OURS].copy()
    works = {
        "genes": lambda: twin.annotate(twin.encode(few)),
        "words": lambda: model.annotate(model.encode(few), labels=labels),
    }
    for work in works.values():
        work()
    seconds = in_turn(works, rounds=ROUNDS)
    ours, words = OURS / np.array(seconds["genes"].wall), OURS / np.array(seconds["words"].wall)
    return [
        Figure(
            "annotate from AnnData, a gene a token: times the reference's words", float(np.median(ours) / theirs), n=ROUNDS, bar=">= 4",
            met=bool(np.median(ours) / theirs >= 4), reason=None if np.median(ours) / theirs >= 4 else "see the cells per second",
        ),
        Figure("annotate from AnnData, a gene a token: cells/s", float(np.median(ours)), float(ours.min()), float(ours.max()), n=ROUNDS),
        Figure("annotate from AnnData, words, same layers and width: cells/s", float(np.median(words)), float(words.min()), float(words.max()), n=ROUNDS),
    ]  # fmt: skip


def prompts_of(model: TextLM, sentences: c2s.CellSentences) -> list[str]:
    """Return the prompts of both sides as text."""
    task = model.task("cell_type_annotation")
    fields = {"organism": "Homo sapiens"}
    return [
        render_text(task.prompt(sentences, i, fields=fields), sentences.vocabulary.symbols, task.style)
        for i in range(len(sentences))
    ]


def task_prompt(model: TextLM, conditions: dict[str, str], vocabulary: c2s.GeneVocabulary) -> str:
    """Return the prompt that asks for a cell, as text."""
    task = model.task("cell_generation")
    return render_text(task.prompt(conditions, n_genes=N_GENES), vocabulary.symbols, task.style)


def _tokens_written(model: TextLM, vocabulary: c2s.GeneVocabulary, conditions: dict[str, str]) -> list[int]:
    """Return the tokens of each sentence that a round generates."""
    cells = model.generate(vocabulary, n=GENERATED, n_genes=N_GENES, conditions=conditions)
    style = model.task("cell_generation").style
    parts = [(Genes(cells.row(i)),) for i in range(len(cells))]
    return [len(ids) for ids in model.tokens.answers(parts, vocabulary.symbols, style)]


def _speeds(what: str, unit: str, ours: np.ndarray, theirs: np.ndarray, bar: float) -> list[Figure]:
    ratio = float(np.median(ours) / np.median(theirs))
    met = ratio >= bar
    return [
        Figure(f"{what}: {unit}", float(np.median(ours)), float(ours.min()), float(ours.max()), n=len(ours)),
        Figure(f"{what}: {unit}, reference", float(np.median(theirs)), float(theirs.min()), float(theirs.max()), n=len(theirs)),
        Figure(
            f"{what}: times the reference", ratio, float(ours.min() / theirs.max()), float(ours.max() / theirs.min()), n=len(ours),
            bar=f">= {bar:g}", met=met,
            reason=None if met else "the reference runs the same layers; what it wastes is padding, an attention mask and the output layer",
        ),
    ]  # fmt: skip


def notes() -> list[str]:
    """Return how to read the figures."""
    return [
        f"Medians of {ROUNDS} rounds in turn in one process, {THREADS} threads, float32; low and high are the slowest and fastest round (of a ratio: the worst and best pair). Weights are random: speed does not depend on them.",
        "Reference: CSModel.generate_from_prompt cell by cell for as many tokens as the longest label has (its own default is 1,024), embed_cells_batched and generate_from_prompt_batched by eight, its default; the model is loaded once for it, which its own functions do at every call. Ours: prompts written and tokenized in the time, all nine labels scored.",
        "Floor: operations of linear layers, attention and output layer over the rate measured for the linear layers at these shapes; norms, rotary embeddings and activations count nothing.",
        f"Generation: sentences of 200 genes. Ours are constrained to known genes, none twice, {GENERATED} cells at a time; the reference writes freely, by eight, as many tokens as ours have on average.",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
