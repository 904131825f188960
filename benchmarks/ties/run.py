"""Which rule for ties? Annotation from the top genes, and decoding error, on pbmc3k; and the gene-aware decoder on the same cells.

Run: ``C2S_DATA_DIR=… python -m benchmarks.ties.run`` (about two minutes on 2 cores).
"""

from __future__ import annotations

import os
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import StratifiedShuffleSplit

from benchmarks.card import Figure, write_card
from c2s.cells.normalise import counts_to_log1p_cp10k
from c2s.cells.reading import expression, read_cells
from c2s.sentences.background import Background
from c2s.sentences.corpus import CellSentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode

RULES = ("background", "hash", "vocabulary")
TOP = (25, 50, 100, 200)
SEEDS = (0, 1, 2, 3, 4)
TEST_SHARE = 0.3


def main() -> None:
    """Measure every seed and write the card."""
    folder = os.environ.get("C2S_DATA_DIR")
    if not folder:
        msg = "set C2S_DATA_DIR to the folder that holds pbmc3k/pbmc3k_counts.h5ad"
        raise SystemExit(msg)
    begun = time.perf_counter()
    adata = read_cells(Path(folder) / "pbmc3k" / "pbmc3k_counts.h5ad")
    adata = adata[adata.obs["cell_type"].notna()].copy()
    results: dict[str, list[float]] = {}
    for seed in SEEDS:
        splitter = StratifiedShuffleSplit(1, test_size=TEST_SHARE, random_state=seed)
        train, test = next(splitter.split(np.zeros(adata.n_obs), adata.obs["cell_type"]))
        for name, value in one_split(adata[np.sort(train)].copy(), adata[np.sort(test)].copy(), seed).items():
            results.setdefault(name, []).append(value)
    figures = [summary(name, values) for name, values in results.items()]
    figures += [paired(results, f"accuracy, top {k}", rule) for k in TOP for rule in RULES[1:]]
    figures += [paired(results, "R2 of gene_aware decoding", rule) for rule in RULES[1:]]
    figures.append(decoder_gain(results))
    data = {"name": "pbmc3k, labelled cells", "cells": adata.n_obs, "genes": adata.n_vars, "test_share": TEST_SHARE}
    notes = [
        "Each split: background, decoder and classifier see training cells only. Values are medians over five stratified "
        "random splits; low and high are the smallest and largest split. One donor: splits share a batch.",
        "Annotation: L2 logistic regression (C = 1) on presence of genes among the top k of a sentence. 'majority' always "
        "answers the commonest type; 'all values' is the same regression on log1p CP10k of every gene.",
        "Decoding: R2 and root mean squared error in log1p CP10k over the genes in a held-out sentence (full length).",
        "Differences are background minus the other rule, paired by split.",
        "Both decoders are cut off at 0; 'genes below 0' counts entries the literature's line would make negative.",
    ]
    write_card(Path(__file__).parent, figures, data=data, notes=notes, seconds=time.perf_counter() - begun)


def one_split(train: ad.AnnData, test: ad.AnnData, seed: int) -> dict[str, float]:
    """Return every figure of one split."""
    background = Background.fit(train)
    y_train, y_test = (part.obs["cell_type"].astype(str).to_numpy() for part in (train, test))
    truth = counts_to_log1p_cp10k(expression(test)[0])
    found: dict[str, float] = {}
    for rule in RULES:
        options: dict[str, Any] = {
            "ties": rule,
            "seed": seed,
            "background": background if rule == "background" else None,
        }
        sentences = {"train": encode(train, **options), "test": encode(test, **options)}
        for k in TOP:
            x_train, x_test = (bag(sentences[part].truncate(k)) for part in ("train", "test"))
            accuracy, balanced = annotate(x_train, y_train, x_test, y_test)
            found[f"accuracy, top {k}, {rule}"] = accuracy
            found[f"balanced accuracy, top {k}, {rule}"] = balanced
        for model in ("gene_aware", "log_rank"):
            decoder = RankDecoder.fit(train, model=model, **options)
            r2, rmse = error(decoder, sentences["test"], truth)
            found[f"R2 of {model} decoding, {rule}"] = r2
            found[f"RMSE of {model} decoding, {rule}"] = rmse
        if rule == "background":
            line = decoder.intercept + decoder.slope * np.log10(1.0 + np.arange(sentences["test"].lengths.max()))
            below = np.concatenate([line[:n] < 0 for n in sentences["test"].lengths])
            found["share of genes below 0 before clipping, log_rank, background"] = float(below.mean())
            for k in (100,):
                cut = sentences["test"].truncate(k)
                for model in ("gene_aware", "log_rank"):
                    decoder = RankDecoder.fit(train, model=model, **options)
                    found[f"R2 of {model} decoding, top {k} genes only, background"] = error(decoder, cut, truth)[0]
    dummy = DummyClassifier().fit(np.zeros((len(y_train), 1)), y_train)
    found["accuracy, majority"] = accuracy_score(y_test, dummy.predict(np.zeros((len(y_test), 1))))
    values = counts_to_log1p_cp10k(expression(train)[0])
    found["accuracy, all values"] = annotate(values, y_train, truth, y_test)[0]
    return found


def bag(sentences: CellSentences) -> sp.csr_matrix:
    """Return presence of each gene in each sentence, CSR float32 (n, n_genes)."""
    ones = np.ones(len(sentences.ids), np.float32)
    return sp.csr_matrix((ones, sentences.ids, sentences.offsets), (len(sentences), len(sentences.vocabulary)))


def annotate(
    x_train: sp.csr_matrix, y_train: np.ndarray, x_test: sp.csr_matrix, y_test: np.ndarray
) -> tuple[float, float]:
    """Return accuracy and balanced accuracy of logistic regression on held-out cells."""
    seen = np.flatnonzero(np.asarray(x_train.sum(axis=0)).ravel() > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(max_iter=300).fit(x_train[:, seen], y_train)
    answer = model.predict(x_test[:, seen])
    return accuracy_score(y_test, answer), balanced_accuracy_score(y_test, answer)


def error(decoder: RankDecoder, sentences: CellSentences, truth: sp.csr_matrix) -> tuple[float, float]:
    """Return R2 and root mean squared error over the genes in the sentences."""
    cells = np.repeat(np.arange(len(sentences)), sentences.lengths)
    y = np.asarray(truth[cells, sentences.ids], dtype=np.float64).ravel()
    p = np.asarray(decoder.decode(sentences).X[cells, sentences.ids], dtype=np.float64).ravel()
    squared = float(np.sum((y - p) ** 2))
    return 1 - squared / float(np.sum((y - y.mean()) ** 2)), float(np.sqrt(squared / len(y)))


def summary(name: str, values: list[float]) -> Figure:
    """Return the median over splits, with the smallest and largest."""
    return Figure(name, statistics.median(values), min(values), max(values), n=len(values), seeds=list(SEEDS))


def paired(results: dict[str, list[float]], name: str, rule: str) -> Figure:
    """Return the median difference, background minus ``rule``, split by split."""
    gains = [a - b for a, b in zip(results[f"{name}, background"], results[f"{name}, {rule}"], strict=True)]
    return summary(f"{name}: background minus {rule}", gains)


def decoder_gain(results: dict[str, list[float]]) -> Figure:
    """Return R2 of the gene-aware decoder minus the line's, which must be above 0 in every split."""
    one, other = results["R2 of gene_aware decoding, background"], results["R2 of log_rank decoding, background"]
    gains = [a - b for a, b in zip(one, other, strict=True)]
    met = min(gains) > 0
    return Figure(
        "R2 of gene_aware decoding minus log_rank, held-out cells", statistics.median(gains), min(gains), max(gains),
        n=len(gains), seeds=list(SEEDS), bar="> 0 in every split", met=met, reason=None if met else "see the splits",
    )  # fmt: skip


if __name__ == "__main__":
    main()
