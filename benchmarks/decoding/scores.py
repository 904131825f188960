"""Decoded cells beside the true ones: entry by entry, cell by cell, gene by gene, and what downstream steps make of them."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import scanpy as sc
import scipy.sparse as sp
from scipy.stats import pearsonr, spearmanr
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import KNeighborsClassifier

from c2s.cells.normalise import to_log1p_cp10k

MIN_ENTRIES = 20  # held-out cells that express a gene, for a correlation of its own
PCS, NEIGHBOURS = 50, 15


def log_values(adata: ad.AnnData) -> sp.csr_matrix:
    """Return log1p CP10k of counts."""
    return to_log1p_cp10k(sp.csr_matrix(adata.X).astype(np.float32))[0]


def gene_means(values: sp.csr_matrix) -> np.ndarray:
    """Return each gene's mean over the cells that express it; the mean of all entries for a gene that none does."""
    n = np.bincount(values.indices, minlength=values.shape[1])
    sums = np.bincount(values.indices, values.data, minlength=values.shape[1])
    return np.divide(sums, n, out=np.full(len(n), float(values.data.mean())), where=n > 0)


def entry_scores(truth: sp.csr_matrix, decoded: sp.csr_matrix, means: np.ndarray) -> dict[str, float]:
    """Return R2, skill over each gene's training mean, and correlations, over the expressed genes of ``truth``.

    The two matrices must hold the same entries: a sentence names the genes its cell expresses.
    """
    truth, decoded = truth.sorted_indices(), decoded.sorted_indices()
    if not np.array_equal(truth.indices, decoded.indices):
        msg = "decoded cells express other genes than the true ones"
        raise ValueError(msg)
    y, z, baseline = truth.data.astype(float), decoded.data.astype(float), means[truth.indices]
    error = float(np.sum((y - z) ** 2))
    by_cell = [slice(a, b) for a, b in zip(truth.indptr[:-1], truth.indptr[1:], strict=True) if b - a >= MIN_ENTRIES]
    columns, both = truth.tocsc(), decoded.tocsc()
    by_gene = [
        slice(a, b) for a, b in zip(columns.indptr[:-1], columns.indptr[1:], strict=True) if b - a >= MIN_ENTRIES
    ]
    return {
        "R2": 1 - error / float(np.sum((y - y.mean()) ** 2)),
        "skill over each gene's mean": 1 - error / float(np.sum((y - baseline) ** 2)),
        "Pearson": float(pearsonr(y, z)[0]),
        "Spearman": float(spearmanr(y, z)[0]),
        "Pearson per cell, median": _median(pearsonr, y, z, by_cell),
        "Spearman per cell, median": _median(spearmanr, y, z, by_cell),
        "Pearson per gene, median": _median(pearsonr, columns.data, both.data, by_gene),
        "Spearman per gene, median": _median(spearmanr, columns.data, both.data, by_gene),
    }


def worst(truth: sp.csr_matrix, decoded: sp.csr_matrix, labels: np.ndarray) -> float:
    """Return the lowest R2 among cell types, each over the entries of its own cells."""
    y, z = truth.sorted_indices().data.astype(float), decoded.sorted_indices().data.astype(float)
    of_entry = np.repeat(labels, np.diff(truth.indptr))
    spans = [of_entry == label for label in np.unique(labels)]
    return min(1 - float(np.sum((y[s] - z[s]) ** 2)) / float(np.sum((y[s] - y[s].mean()) ** 2)) for s in spans)


def _median(measure: object, y: np.ndarray, z: np.ndarray, spans: list[slice]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a gene with one value throughout has no correlation
        return float(np.nanmedian([measure(y[span], z[span])[0] for span in spans]))


def downstream(
    train: sp.csr_matrix, truth: sp.csr_matrix, decoded: sp.csr_matrix, labels: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    """Return what clustering, markers and a classifier make of decoded cells, and of the true ones for comparison.

    ``labels`` are the cell types of the training and of the held-out cells.
    """
    known, expected = labels
    pca = PCA(PCS, random_state=0).fit(train.toarray())
    model = KNeighborsClassifier(NEIGHBOURS).fit(pca.transform(train.toarray()), known)
    spaces = [pca.transform(cells.toarray()) for cells in (truth, decoded)]
    clusters = [leiden(truth, seed=0), leiden(decoded, seed=0), leiden(truth, seed=1)]
    changes = [fold_changes(cells, expected) for cells in (truth, decoded)]
    return {
        "Leiden ARI, decoded against original": adjusted_rand_score(clusters[0], clusters[1]),
        "Leiden ARI, original against original with another seed": adjusted_rand_score(clusters[0], clusters[2]),
        "marker log-fold changes, Pearson": float(pearsonr(changes[0], changes[1])[0]),
        "kNN label accuracy, original": float(np.mean(model.predict(spaces[0]) == expected)),
        "kNN label accuracy, decoded": float(np.mean(model.predict(spaces[1]) == expected)),
    }


def leiden(values: sp.csr_matrix, *, seed: int) -> np.ndarray:
    """Return Leiden clusters: 50 principal components, 15 neighbours, resolution 1."""
    cells = ad.AnnData(values.copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.pca(cells, n_comps=PCS, random_state=0)
        sc.pp.neighbors(cells, n_neighbors=NEIGHBOURS, random_state=0)
        sc.tl.leiden(cells, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
    return cells.obs["leiden"].to_numpy()


def fold_changes(values: sp.csr_matrix, labels: np.ndarray) -> np.ndarray:
    """Return log1p CP10k of each type less that of the rest, over the genes that a tenth of some type expresses."""
    kinds = np.unique(labels)
    inside = np.stack([np.asarray(values[labels == kind].mean(axis=0)).ravel() for kind in kinds])
    outside = np.stack([np.asarray(values[labels != kind].mean(axis=0)).ravel() for kind in kinds])
    share = np.stack([np.asarray((values[labels == kind] > 0).mean(axis=0)).ravel() for kind in kinds])
    kept = share.max(axis=0) >= 0.1
    return (inside - outside)[:, kept].ravel()
