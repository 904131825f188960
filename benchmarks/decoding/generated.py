"""Sentences that a small trained model wrote, decoded, beside real held-out cells of the same type."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp

import c2s
from benchmarks.card import ROOT, code_hash
from benchmarks.decoding.scores import log_values
from c2s.sentences.corpus import UNKNOWN, CellSentences
from c2s.sentences.decode import RankDecoder

TYPES = 4  # the most frequent
CELLS = 150  # generated of each
STEPS = 600
N_GENES = 200
VOCABULARY = 2000  # genes that most training cells express: a small model on a CPU learns no more


def frequent_genes(train: ad.AnnData) -> np.ndarray:
    """Return the columns of the genes that most cells express, in their order."""
    detected = np.bincount(sp.csr_matrix(train.X).indices, minlength=train.n_vars)
    return np.sort(np.argsort(-detected, kind="stable")[:VOCABULARY])


def written(train: ad.AnnData) -> dict[str, CellSentences]:
    """Return sentences by cell type of a ``c2s-mini`` trained on ``train``; kept beside the card while the code is the same."""
    kinds = train.obs["cell_type"].value_counts().index[:TYPES]
    store = ROOT / "benchmarks" / "decoding" / "runs" / code_hash()
    if not all((store / f"{number}" / "corpus.json").is_file() for number in range(len(kinds))):
        with tempfile.TemporaryDirectory() as place:
            model = c2s.train(
                train, Path(place) / "run", task="cell_generation", model="c2s-mini", steps=STEPS, n_genes=N_GENES,
                validation_share=0.0, seed=0, progress=False,
            )  # fmt: skip
        for number, kind in enumerate(kinds):
            model.generate(n=CELLS, seed=0, cell_type=str(kind)).write(store / f"{number}", overwrite=True)
    return {str(kind): c2s.read_sentences(store / f"{number}") for number, kind in enumerate(kinds)}


def profiles(
    decoder: RankDecoder, sentences: dict[str, CellSentences], test: ad.AnnData, ties: str, background: object
) -> tuple[dict[str, float], dict[str, float]]:
    """Return scores of generated sentences, and of real ones cut and stripped in the same way: there only decoding errs.

    The truth is log1p CP10k of the held-out cells of a type, where the gene is among the first of its sentence. A decoder is
    judged by the mean profile of each type, over genes that a tenth of the cells names, and by the mean value of a gene
    that a sentence names.
    """
    scores = []
    for generated in (True, False):
        kept: dict[str, list[float]] = {"profile": [], "named": []}
        for kind, made in sentences.items():
            cells = test[(test.obs["cell_type"] == kind).to_numpy()].copy()
            real = c2s.encode(cells, ties=ties, background=background, n_genes=N_GENES, vocabulary=decoder.vocabulary)
            shown = sp.csr_matrix((np.ones(len(real.ids)), real.ids, real.offsets), (len(real), len(real.vocabulary)))
            truth = log_values(cells).multiply(shown).tocsr()
            stripped = CellSentences(
                real.ids, real.offsets, np.full(len(real), UNKNOWN), real.vocabulary, real.obs, real.encoding
            )
            decoded = sp.csr_matrix(decoder.decode(made if generated else stripped).X)
            kept["profile"].append(_r2(truth, decoded, named=False))
            kept["named"].append(_r2(truth, decoded, named=True))
        scores.append({
            "R2 of the mean profile of a type": float(np.mean(kept["profile"])),
            "R2 of the mean value where named": float(np.mean(kept["named"])),
        })  # fmt: skip
    return scores[0], scores[1]


def _r2(truth: sp.csr_matrix, decoded: sp.csr_matrix, *, named: bool) -> float:
    shares = [np.asarray((cells > 0).mean(axis=0)).ravel() for cells in (truth, decoded)]
    kept = np.minimum(*shares) >= 0.1 if named else np.maximum(*shares) >= 0.1
    y, z = (np.asarray(cells.mean(axis=0)).ravel()[kept] for cells in (truth, decoded))
    if named:
        y, z = y / shares[0][kept], z / shares[1][kept]
    return float(1 - np.sum((y - z) ** 2) / np.sum((y - y.mean()) ** 2))
