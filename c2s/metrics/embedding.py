"""How well vectors of cells keep what is known of them: types apart, batches together.

The measures are those of scIB (Luecken et al., Nature Methods 19, 41, 2022), scaled as there to 0 (worst) … 1 (best);
clusters are those of k-means with as many as there are labels, which needs no resolution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_samples
from sklearn.neighbors import NearestNeighbors

from c2s.errors import DataError
from c2s.results import Result
from c2s.stats import bootstrap_interval

N_RESAMPLES = 999


def embedding_scores(
    vectors: ArrayLike, labels: ArrayLike, *, batches: ArrayLike | None = None, n_neighbors: int = 15, seed: int = 0
) -> list[Result]:
    """Return scores of an embedding, distances Euclidean; with ``batches``, how well these mix as well.

    Parameters
    ----------
    vectors : array-like, shape (n, d)
        Finite.
    labels : array-like of str, shape (n,)
        At least two, and more cells than labels.
    batches : array-like of str, shape (n,), optional
        At least two.
    n_neighbors : int
        Of a cell in its graph of neighbours, the cell itself not counted.
    seed : int
        Of k-means and of the bootstrap over cells.

    Returns
    -------
    list of Result
        ``label silhouette`` (mean over cells, (s + 1) / 2); ``neighbours of the same label`` (share); ``NMI`` and
        ``ARI`` of k-means and labels; ``graph connectivity`` (mean over labels of the share of its cells in the largest
        connected part of their graph); with batches ``batch silhouette`` (mean over labels of two batches and more of the
        mean of 1 - abs(s) over their cells). Means over cells have 95 % intervals.

    Raises
    ------
    DataError
        Shapes differ, values are not finite, or there are too few cells, labels or batches.
    """
    array, names = np.asarray(vectors, dtype=np.float64), np.asarray(labels).astype(str)
    mixed = None if batches is None else np.asarray(batches).astype(str)
    _refuse(array, names, mixed, n_neighbors)
    kinds = np.unique(names)
    near = NearestNeighbors(n_neighbors=n_neighbors).fit(array).kneighbors(return_distance=False)
    found = KMeans(len(kinds), n_init=10, random_state=seed).fit_predict(array)
    space = f"{array.shape[1]} dimensions"

    def over_cells(metric: str, values: NDArray[np.float64]) -> Result:
        interval = bootstrap_interval(values, n_resamples=N_RESAMPLES, seed=seed, within=(0, 1))
        return Result(metric, float(interval.value), float(interval.low), float(interval.high), n=len(values), space=space, seed=seed)  # fmt: skip

    def plain(metric: str, value: float) -> Result:
        return Result(metric, float(value), n=len(array), space=space, seed=seed)

    scores = [
        over_cells("label silhouette", (silhouette_samples(array, names) + 1) / 2),
        over_cells("neighbours of the same label", (names[near] == names[:, None]).mean(axis=1)),
        plain("NMI of k-means and labels", normalized_mutual_info_score(names, found)),
        plain("ARI of k-means and labels", adjusted_rand_score(names, found)),
        plain("graph connectivity", float(np.mean([_largest_part(near, names == kind) for kind in kinds]))),
    ]
    if mixed is not None:
        scores.append(_batch_silhouette(array, names, mixed, space))
    return scores


def _largest_part(near: NDArray[np.intp], chosen: NDArray[np.bool_]) -> float:
    """Return the share of the chosen cells that lie in the largest connected part of their own graph."""
    rows = np.flatnonzero(chosen)
    places = np.full(len(near), -1)
    places[rows] = np.arange(len(rows))
    ends = places[near[rows]]
    starts = np.broadcast_to(np.arange(len(rows))[:, None], ends.shape)
    kept = ends >= 0
    graph = csr_matrix((np.ones(kept.sum()), (starts[kept], ends[kept])), shape=(len(rows), len(rows)))
    _, parts = connected_components(graph, directed=False)
    return float(np.bincount(parts).max() / len(rows))


def _batch_silhouette(array: NDArray[np.float64], names: NDArray, batches: NDArray, space: str) -> Result:
    metric, values = "batch silhouette", []
    for kind in np.unique(names):
        rows = names == kind
        n_batches = len(np.unique(batches[rows]))
        if 2 <= n_batches < rows.sum():  # a silhouette needs a cell more than there are groups
            values.append(np.mean(1 - np.abs(silhouette_samples(array[rows], batches[rows]))))
    if not values:
        return Result(metric, float("nan"), n=0, space=space, reason="no label has cells of two batches")
    return Result(metric, float(np.mean(values)), n=len(values), space=space)


def _refuse(array: NDArray, names: NDArray, batches: NDArray | None, n_neighbors: int) -> None:
    if array.ndim != 2 or names.shape != (len(array),) or (batches is not None and batches.shape != (len(array),)):
        shapes = f"vectors {array.shape}, labels {names.shape}" + (
            f", batches {batches.shape}" if batches is not None else ""
        )
        msg = f"shapes do not fit: {shapes}; expected vectors (cells, dimensions) and one label a cell"
        raise DataError(msg)
    if not np.isfinite(array).all():
        msg = f"vectors hold values that are not finite in {int((~np.isfinite(array)).any(axis=1).sum()):,} rows; drop or fill them"
        raise DataError(msg)
    n_labels = len(np.unique(names))
    if not 2 <= n_labels < len(array):
        msg = f"{n_labels} labels for {len(array)} cells; expected at least 2, and more cells than labels"
        raise DataError(msg)
    if not 1 <= n_neighbors < len(array):
        msg = f"n_neighbors={n_neighbors} for {len(array)} cells; give 1 to {len(array) - 1}"
        raise DataError(msg)
    if batches is not None and len(np.unique(batches)) < 2:
        msg = "all cells are of one batch; leave batches out"
        raise DataError(msg)
