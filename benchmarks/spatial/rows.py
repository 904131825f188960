"""Rows without a language model: what a cell, its neighbours, its top genes and pairs of genes tell a linear model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import scipy.sparse as sp

from benchmarks.spatial.questions import Question
from c2s.baselines.annotation import ANNOTATORS
from c2s.baselines.linear import PENALTIES, variable_genes
from c2s.cells.genes import GeneVocabulary
from c2s.cells.normalise import counts_to_log1p_cp10k
from c2s.sentences.encode import encode
from c2s.spatial import PairIndex, PairKnowledge

#: Answers a question: probabilities, a row an item of ``test`` and a column a class, and what was chosen on the way.
Row = Callable[[Question, int], tuple[pd.DataFrame, dict[str, float]]]

N_VARIABLE = 2000
N_TOP = 100  # genes of a sentence
N_COMPONENTS = 30
DIFFERENCES = ("spread", "gene_spread")  # of the cells of a group
KNOWLEDGE = ("lr", "interactions", "both", "permuted")


def rows(question: str) -> dict[str, Row]:
    """Return the rows of a question by their names."""
    if "same" in question:
        return {
            "majority": partial(linear, features=()),
            "cells_one_by_one": partial(linear, features=("mean",)),
            "differences": partial(linear, features=DIFFERENCES),
            "top_genes_differences": partial(linear, features=("top_gene_spread",)),
            **{f"differences+{name}": partial(linear, features=DIFFERENCES, told=name) for name in KNOWLEDGE},
        }
    found: dict[str, Row] = {
        "majority": partial(annotator, name="majority"),
        "knn_pca": partial(annotator, name="knn_pca"),
        "cell": partial(linear, features=("genes",)),
        "cell+neighbours": partial(linear, features=("genes", "genes_around")),
        "top_genes": partial(linear, features=("top_genes",)),
        "top_genes+neighbours": partial(linear, features=("top_genes", "top_genes_around")),
    }
    if question.startswith("starmap"):
        for name in KNOWLEDGE:
            found[f"cell+neighbours+{name}"] = partial(linear, features=("genes", "genes_around"), told=name)
    return found


def annotator(question: Question, seed: int, *, name: str) -> tuple[pd.DataFrame, dict[str, float]]:
    """Answer by a baseline that sees each cell alone."""
    train, test = (np.concatenate(items) for items in (question.train, question.test))
    model = ANNOTATORS[name]().fit(question.cells[train], question.train_labels, seed=seed)
    return model.predict_proba(question.cells[test]), {}


def linear(
    question: Question, seed: int, *, features: tuple[str, ...], told: str | None = None
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Answer by multinomial logistic regression on the named features, and on those of pairs if any are told."""
    blocks = [FEATURES[name](question, seed) for name in features]
    if told:
        blocks.append(pair_features(question, knowledge_of(question, told, seed)))
    n_train = len(question.train)
    values = np.hstack(blocks) if blocks else np.zeros((n_train + len(question.test), 1))
    centre, spread = values[:n_train].mean(axis=0), values[:n_train].std(axis=0)
    values = np.clip((values - centre) / np.where(spread > 0, spread, 1), -10, 10)
    chosen = {"features": float(values.shape[1])}
    if (
        values.shape[1] > n_train
    ):  # a squared penalty lets no weight leave the span of the training rows: turn them into it
        values = values @ np.linalg.svd(values[:n_train], full_matrices=False)[2].T
    train, test = values[:n_train], values[n_train:]
    penalty = _penalty(train, question.train_labels, question.folds)
    model = _fitted(train, question.train_labels, penalty)
    return pd.DataFrame(model.predict_proba(test), columns=model.classes_), chosen | {"penalty": penalty}


def knowledge_of(question: Question, told: str, seed: int) -> list[PairKnowledge]:
    """Return what a row is told; ``permuted`` is both kinds with partners swapped."""
    both = [question.knowledge["lr"], question.knowledge["interactions"]]
    if told == "permuted":
        return [each.permuted(seed) for each in both]
    return both if told == "both" else [question.knowledge[told]]


def pair_features(question: Question, knowledge: list[PairKnowledge]) -> np.ndarray:
    """Return how often both sides of each pair are present, side by side: between a cell and its neighbours, or in a group."""
    index = PairIndex.of(knowledge, GeneVocabulary.from_adata(question.cells))
    counts = sp.csr_matrix(question.cells.X)
    counts.sort_indices()
    genes = [counts.indices[counts.indptr[i] : counts.indptr[i + 1]] for i in range(counts.shape[0])]
    first, second = np.isfinite(index.ranks(genes)).astype(np.float64)
    items = [*question.train, *question.test]
    if question.of_groups:
        found = [
            first[rows].sum(axis=0) * second[rows].sum(axis=0) - (first[rows] * second[rows]).sum(axis=0)
            for rows in items
        ]  # ordered pairs of two different cells
        return np.array(found)
    cells, around = np.concatenate(items), _mean_around(question)
    return np.hstack([(first * (around @ second))[cells], (second * (around @ first))[cells]])


def _genes(question: Question) -> np.ndarray:
    values = counts_to_log1p_cp10k(sp.csr_matrix(question.cells.X))
    seen = np.unique(np.concatenate(question.train))
    return values[:, variable_genes(values[seen], N_VARIABLE)].toarray()


def _top_genes(question: Question) -> np.ndarray:
    sentences = encode(question.cells, n_genes=N_TOP)
    shape = (len(sentences), len(sentences.vocabulary))
    return sp.csr_matrix((np.ones(len(sentences.ids)), sentences.ids, sentences.offsets), shape=shape).toarray()


def _mean_around(question: Question) -> sp.csr_matrix:
    """Return the matrix that takes the mean over the neighbours of each cell; 0 for a cell without any."""
    return sp.diags(1 / np.maximum(question.around.sizes, 1)) @ question.around.adjacency()


def _of_cells(values: np.ndarray, question: Question) -> np.ndarray:
    return values[np.concatenate([*question.train, *question.test])]


def _components(question: Question, seed: int) -> np.ndarray:
    """Return principal components of the cells, fitted to those learnt from, shape (n_items, n_cells of an item, n)."""
    from sklearn.decomposition import PCA

    values = _genes(question)
    seen = np.unique(np.concatenate(question.train))
    places = PCA(N_COMPONENTS, random_state=seed).fit(values[seen]).transform(values)
    return places[np.array([*question.train, *question.test])]


#: Name of a block of features → what makes it, a row an item: those of ``train``, then those of ``test``.
FEATURES: dict[str, Callable[[Question, int], np.ndarray]] = {
    "genes": lambda question, seed: _of_cells(_genes(question), question),
    "genes_around": lambda question, seed: _of_cells(_mean_around(question) @ _genes(question), question),
    "top_genes": lambda question, seed: _of_cells(_top_genes(question), question),
    "top_genes_around": lambda question, seed: _of_cells(_mean_around(question) @ _top_genes(question), question),
    "mean": lambda question, seed: _components(question, seed).mean(axis=1),
    "spread": lambda question, seed: np.log(_components(question, seed).var(axis=1)),
    "gene_spread": lambda question, seed: _genes(question)[np.array([*question.train, *question.test])].var(axis=1),
    "top_gene_spread": lambda question, seed: _top_genes(question)[np.array([*question.train, *question.test])].var(axis=1),
}  # fmt: skip


def _penalty(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> float:
    """Return the C of least log loss where whole blocks, or patients, are held out in turn."""
    from sklearn.model_selection import GroupKFold

    loss = np.zeros(len(PENALTIES))
    for train, test in GroupKFold(min(4, len(np.unique(folds)))).split(features, labels, folds):
        if len(np.unique(labels[train])) < 2:
            continue
        for i, penalty in enumerate(PENALTIES):
            model = _fitted(features[train], labels[train], penalty)
            known = pd.Index(model.classes_).get_indexer(pd.Index(labels[test]))
            found = model.predict_proba(features[test])[np.arange(len(test)), known]
            loss[i] -= np.log(np.maximum(np.where(known >= 0, found, 0), 1e-12)).sum()
    return PENALTIES[int(loss.argmin())]


def _fitted(features: np.ndarray, labels: np.ndarray, penalty: float):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=penalty, max_iter=300, tol=1e-3).fit(features, labels)
