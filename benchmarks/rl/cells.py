"""Blood cells written for a label, and reinforced: is a cell what it was asked to be, and is it like real ones?

The cells of pbmc3k fall into three parts. A model learns from the first to write a cell for a label; a classifier learnt on the second says
whether a written cell is of its label, and overlap with cells of the second says how like a real one it is; a classifier of another kind, learnt
on the third, judges what is held out. No part of the reward has seen the cells the model learnt from.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch
from datasets import Dataset
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB
from transformers import PreTrainedModel

import c2s
from benchmarks.annotation.splits import labelled
from c2s.engines.constraint import Constraint, Segment
from c2s.engines.rl.problem import Problem
from c2s.models.cell_lm import CellLM
from c2s.tasks import CellGeneration

N_GENES, KEPT, REAL = (
    40,
    1500,
    24,
)  # genes of a sentence; of the vocabulary, those in most cells; real cells a label is compared with
STEPS = 250  # of supervised training: right about half the time


@functools.cache
def parts() -> tuple[ad.AnnData, np.ndarray]:
    """Return pbmc3k's cells over the genes most cells express, and the part of each: 0, 1 or 2."""
    place = os.environ.get("C2S_DATA_DIR")
    if not place:
        msg = "set C2S_DATA_DIR to the folder that holds pbmc3k/"
        raise SystemExit(msg)
    cells = labelled(Path(place), "pbmc3k")
    expressed = np.asarray((cells.X > 0).sum(axis=0)).ravel()
    cells = cells[:, np.sort(np.argsort(-expressed, kind="stable")[:KEPT])].copy()
    labels = cells.obs["label"].to_numpy(dtype=str)
    part = np.zeros(cells.n_obs, dtype=int)
    rng = np.random.default_rng(0)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        part[rows] = np.arange(len(rows)) % 3
    return cells, part


@functools.cache
def writer(seed: int) -> CellLM:
    """Return a model that learnt to write cells of the first part."""
    cells, part = parts()
    with tempfile.TemporaryDirectory() as folder:
        return c2s.train(
            cells[part == 0].copy(), Path(folder) / "run", model="c2s-mini", seed=seed, steps=STEPS, task="cell_generation", labels_key="label",
            n_genes=N_GENES, batch_size=16, learning_rate=1e-3, validation_share=0.0, threads=torch.get_num_threads(),
            progress=False,
        )  # fmt: skip


def problem() -> Problem:
    """Return the problem: one prompt a label."""
    cells, part = parts()
    sentences = c2s.encode(cells, n_genes=N_GENES)
    labels = sentences.obs["label"].to_numpy(dtype=str)
    names = sorted(set(labels))
    bag = _bag([sentences.row(i) for i in range(len(sentences))], len(sentences.vocabulary))
    judge = LogisticRegression(C=1.0, max_iter=2000).fit(bag[part == 1], labels[part == 1])
    other = BernoulliNB().fit(bag[part == 2], labels[part == 2])
    rng = np.random.default_rng(1)
    real = {name: bag[rng.choice(np.flatnonzero((part == 1) & (labels == name)), REAL)].toarray() for name in names}
    first = writer(0)
    task, tokens = CellGeneration(n_genes=N_GENES), first.tokens
    texts = [f"<cell_type>{name}<sentence>" for name in names]
    for text, name in zip(texts, names, strict=True):
        assert tokens.tokenizer(text)["input_ids"] == tokens.render(task.prompt({"cell_type": name}))
    gene_of = {int(token): gene for gene, token in enumerate(tokens.gene_tokens)}

    def written(completion_ids: Sequence[Sequence[int]]) -> sp.csr_matrix:
        return _bag([[gene_of[t] for t in ids if t in gene_of] for ids in completion_ids], len(sentences.vocabulary))

    def of_its_label(completion_ids: Any, label: Sequence[str], **columns: Any) -> list[float]:
        return [float(said == true) for said, true in zip(judge.predict(written(completion_ids)), label, strict=True)]

    def by_another(completion_ids: Any, label: Sequence[str], **columns: Any) -> list[float]:
        return [float(said == true) for said, true in zip(other.predict(written(completion_ids)), label, strict=True)]

    def like_real_cells(completion_ids: Any, label: Sequence[str], **columns: Any) -> list[float]:
        rows = written(completion_ids).toarray()
        shared = [
            (real[name] @ row) / np.maximum(real[name].sum(1) + row.sum() - real[name] @ row, 1)
            for row, name in zip(rows, label)
        ]
        return [float(each.mean()) for each in shared]

    prompts = Dataset.from_list([{"prompt": text, "label": name} for text, name in zip(texts, names)])
    items = torch.from_numpy(tokens.gene_tokens)
    constraint = Constraint(items, [Segment(N_GENES, tokens.marks["end"], 10)], n_tokens=len(tokens), pad=tokens.pad)
    return Problem(
        policy, tokens.tokenizer, prompts, prompts, rewards=[like_real_cells], verifier=of_its_label, held_out_reward=by_another,
        constraint=constraint, chance=1 / len(names), same_prompts=True,
    )  # fmt: skip


def policy(seed: int) -> PreTrainedModel:
    """Return the weights to begin with; the tokenizer is the same for every seed."""
    from c2s.engines.rl.pipeline import policy_copy

    return policy_copy(writer(seed).model)


def _bag(rows: Sequence[Any], n_genes: int) -> sp.csr_matrix:
    indices = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return sp.csr_matrix((np.ones(len(indices), dtype=np.float32), indices, indptr), shape=(len(rows), n_genes))
