"""Real blood cells: encode, annotate and decode the 700 cells that ship with scanpy."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from c2s.cells.normalise import to_log1p_cp10k
from c2s.cells.reading import expression
from c2s.sentences.encode import encode
from c2s.training.config import TrainConfig
from c2s.training.run import train

LABELS = "bulk_labels"
TRAINING: dict[str, Any] = {
    "task": "cell_type_annotation",
    "labels_key": LABELS,
    "layer": "raw",
    "n_genes": 64,
    "steps": 300,
    "validation_share": 0.0,
}


def run_real_cells(out: Path, *, seed: int, quick: bool = False, progress: bool = True) -> dict[str, float]:
    """Return how well 30 % held-out cells of ``scanpy.datasets.pbmc68k_reduced`` are annotated and decoded.

    Returns
    -------
    dict of str to float
        ``n_test``, ``accuracy``, ``balanced_accuracy`` of the model, ``logistic_accuracy`` and
        ``logistic_balanced_accuracy`` of a logistic regression on log1p values of all genes on the same split,
        ``majority`` (share of the largest training class) and ``decoding_r2`` (over expressed genes of test cells).
    """
    import scanpy as sc
    from sklearn.metrics import balanced_accuracy_score, r2_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = sc.datasets.pbmc68k_reduced()
    labels = adata.obs[LABELS].astype(str).to_numpy()
    train_rows, test_rows = train_test_split(np.arange(adata.n_obs), test_size=0.3, stratify=labels, random_state=seed)
    fitted, held_out = adata[train_rows].copy(), adata[test_rows].copy()
    config = TrainConfig(**{**TRAINING, "seed": seed, **({"steps": 20} if quick else {})})
    model = train(fitted, out, config=config, progress=progress)
    sentences = encode(held_out, layer="raw", vocabulary=model.vocabulary, background=model.background)
    predicted = model.annotate(sentences)["label"].to_numpy()

    values = {}
    for name, rows in (("train", train_rows), ("test", test_rows)):
        values[name] = to_log1p_cp10k(expression(adata[rows], layer="raw")[0])[0]
    logistic = LogisticRegression(max_iter=2000).fit(values["train"], labels[train_rows]).predict(values["test"])
    truth = labels[test_rows]
    decoded = model.decoder.decode(sentences).X.toarray()
    observed = values["test"].toarray()
    expressed = observed > 0
    return {
        "n_test": float(len(truth)),
        "accuracy": float((predicted == truth).mean()),
        "balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
        "logistic_accuracy": float((logistic == truth).mean()),
        "logistic_balanced_accuracy": float(balanced_accuracy_score(truth, logistic)),
        "majority": float((truth == max(set(labels[train_rows]), key=list(labels[train_rows]).count)).mean()),
        "decoding_r2": float(r2_score(observed[expressed], decoded[expressed])),
    }
