"""Vectors of blood cells: those of a c2s-mini trained on pbmc3k beside PCA, within its data set and joined with another.

Run: ``C2S_DATA_DIR=… python -m benchmarks.embedding.run`` (about five minutes a seed on two cores). Writes ``docs/_static/embedding_umap.png`` too.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch
from sklearn.decomposition import PCA
from transformers import AutoModelForCausalLM

from benchmarks.annotation.c2s_rows import TrainedHere
from benchmarks.annotation.labels import PBMC3K_TO_PBMC4K
from benchmarks.annotation.splits import held_out, labelled
from benchmarks.card import ROOT, Figure, write_card
from c2s.cells.normalise import counts_to_log1p_cp10k
from c2s.metrics.embedding import embedding_scores
from c2s.models.cell_lm import CellLM
from c2s.results import Result

logger = logging.getLogger(__name__)

N_GENES, N_COMPONENTS = 2000, 30
PCA_ROW, MODEL_ROW, RANDOM_ROW = "PCA of variable genes", "c2s-mini, mean of its last layer", "c2s-mini, random weights"
ALONE, JOINED = "held-out cells of pbmc3k, fine labels", "with pbmc4k, coarse labels, data set as batch"
Vectors = Callable[[ad.AnnData], np.ndarray]


def main() -> None:
    """Measure, draw, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    place = os.environ.get("C2S_DATA_DIR")
    if not place:
        msg = "set C2S_DATA_DIR to the folder that holds pbmc3k/ and pbmc4k_soupx/"
        raise SystemExit(msg)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("c2s").setLevel(logging.WARNING)
    torch.set_num_threads(asked.threads)
    begun, found = time.perf_counter(), {}
    for seed in range(asked.seeds):
        train, sets = cells_of(Path(place), seed)
        for row, embed in embeddings(train, seed).items():
            for name, cells in sets.items():
                batches = cells.obs["data_set"] if cells.obs["data_set"].nunique() > 1 else None
                vectors = embed(cells)
                cells.obsm[row] = vectors
                for score in embedding_scores(vectors, cells.obs["label"], batches=batches, seed=seed):
                    found.setdefault((name, row, score.metric), []).append(score)
        if seed == 0:
            draw(sets, ROOT / "docs" / "_static" / "embedding_umap.png")
        logger.info("seed %d after %.0f s", seed, time.perf_counter() - begun)
        write_card(
            Path(__file__).parent, [figure(*key, scores) for key, scores in found.items()],
            data={name: f"{cells.n_obs:,} cells" for name, cells in sets.items()} | {"learnt from": f"{train.n_obs:,} cells of pbmc3k"},
            notes=NOTES, seconds=time.perf_counter() - begun,
        )  # fmt: skip


def cells_of(data: Path, seed: int) -> tuple[ad.AnnData, dict[str, ad.AnnData]]:
    """Return cells to learn from, and the sets to embed; genes are those that both data sets have."""
    one, other = labelled(data, "pbmc3k"), labelled(data, "pbmc4k")
    genes = one.var_names[one.var_names.isin(other.var_names)]
    one, other = one[:, genes].copy(), other[:, genes].copy()
    one.obs["data_set"], other.obs["data_set"] = "pbmc3k", "pbmc4k"
    test = held_out(one.obs["label"].to_numpy(dtype=str), seed)
    train, alone = one[~test].copy(), one[test].copy()
    coarse = alone.copy()
    coarse.obs["label"] = coarse.obs["label"].map(PBMC3K_TO_PBMC4K)
    joined = ad.concat(
        [coarse[coarse.obs["label"].notna().to_numpy()], other], index_unique="-", keys=["pbmc3k", "pbmc4k"]
    )
    return train, {ALONE: alone, JOINED: joined}


def embeddings(train: ad.AnnData, seed: int) -> dict[str, Vectors]:
    """Return what embeds cells, by the name of its row; nothing is fitted to other cells than ``train``."""
    values = counts_to_log1p_cp10k(sp.csr_matrix(train.X)).toarray()
    chosen = np.argsort(-values.var(axis=0), kind="stable")[:N_GENES]
    space = PCA(N_COMPONENTS, random_state=seed).fit(values[:, chosen])
    trained = TrainedHere().fit(train, train.obs["label"].to_numpy(dtype=str), seed=seed).model
    assert trained is not None
    torch.manual_seed(seed)
    blank = AutoModelForCausalLM.from_config(trained.model.config).eval()
    random = CellLM(blank, trained.tokens, trained.background, trained.settings, decoder=trained.decoder)
    return {
        PCA_ROW: lambda cells: space.transform(counts_to_log1p_cp10k(sp.csr_matrix(cells.X)).toarray()[:, chosen]),
        RANDOM_ROW: lambda cells: random.embed(random.encode(cells)),
        MODEL_ROW: lambda cells: trained.embed(trained.encode(cells)),
    }


def figure(name: str, row: str, metric: str, scores: list[Result]) -> Figure:
    """Return the median over seeds, with the ends of the intervals where there are any, of the seeds' values elsewhere."""
    values = [score.value for score in scores]
    low = min(score.value if score.low is None else score.low for score in scores)
    high = max(score.value if score.high is None else score.high for score in scores)
    return Figure(
        f"{name}; {row}: {metric}", statistics.median(values), low, high, n=scores[0].n, seeds=list(range(len(scores)))
    )


def draw(sets: dict[str, ad.AnnData], path: Path) -> None:
    """Draw a UMAP of each set and embedding: types, and data sets where there are two."""
    import matplotlib.pyplot as plt
    from umap import UMAP

    columns = [(ALONE, "label"), (JOINED, "label"), (JOINED, "data_set")]
    rows = (PCA_ROW, MODEL_ROW)
    canvas, axes = plt.subplots(len(rows), len(columns), figsize=(15, 9), layout="constrained")
    for row, of_row in zip(rows, axes, strict=True):
        places = {name: UMAP(random_state=0, n_jobs=1).fit_transform(cells.obsm[row]) for name, cells in sets.items()}
        for (name, key), axis in zip(columns, of_row, strict=True):
            kinds = sets[name].obs[key].astype(str)
            order = np.random.default_rng(0).permutation(len(kinds))  # no kind is drawn over all others
            names = sorted(kinds.unique())
            colours = plt.get_cmap("tab10")(np.searchsorted(names, kinds.to_numpy(dtype=str)))
            axis.scatter(*places[name][order].T, c=colours[order], s=4, linewidths=0)
            axis.set(title=f"{row}\n{name.partition(',')[0]}, by {key.replace('_', ' ')}", xticks=[], yticks=[])
            marks = [
                plt.Line2D([], [], marker="o", linestyle="", color=plt.get_cmap("tab10")(i)) for i in range(len(names))
            ]
            axis.legend(marks, names, fontsize=8, frameon=False, loc="best")
    canvas.savefig(path, dpi=80)
    plt.close(canvas)


NOTES = [
    "Medians over seeds, which draw the held-out cells, the weights and the bootstrap; low and high: of means over cells the least and greatest ends of their 95 % intervals, else of the seeds' values. Scores run from 0 to 1, as in scIB; clusters are those of k-means with as many as there are labels.",
    "PCA: 30 components of the 2,000 most variable genes, log1p CP10k, fitted to the training cells, as the model is; no integration method was used on either. The model was trained to name the fine labels of pbmc3k (PCA was told no label), so its vectors of the same kind of cells are apart by labels it knows: the joined set, whose second half it never saw, is the fairer one.",
    "Random weights: what the architecture gives without training.",
]

if __name__ == "__main__":
    main()
