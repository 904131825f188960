"""Our scores of embeddings against scib-metrics, the scIB authors' own package (extra ``metrics``)."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from c2s.metrics.embedding import embedding_scores

scib_metrics = pytest.importorskip("scib_metrics", reason="scib-metrics is not installed: pip install 'c2s[metrics]'")


def test_values_are_those_of_scib_metrics():
    from scib_metrics.nearest_neighbors import NeighborsResults

    rng = np.random.default_rng(0)
    labels, batches = np.repeat(["a", "b", "c"], 60), np.tile(["one", "two"], 90)
    vectors = rng.normal(size=(180, 8)) + 2.5 * np.eye(8)[np.repeat([0, 1, 2], 60)]
    vectors[:, 5] += 1.0 * (batches == "two")
    ours = {row.metric: row.value for row in embedding_scores(vectors, labels, batches=batches, n_neighbors=15)}
    assert ours["label silhouette"] == pytest.approx(scib_metrics.silhouette_label(vectors, labels), abs=1e-5)
    assert ours["batch silhouette"] == pytest.approx(scib_metrics.silhouette_batch(vectors, labels, batches), abs=1e-5)
    clusters = scib_metrics.nmi_ari_cluster_labels_kmeans(vectors, labels)  # k-means of its own, of another start
    assert ours["NMI of k-means and labels"] == pytest.approx(clusters["nmi"], abs=0.03)
    assert ours["ARI of k-means and labels"] == pytest.approx(clusters["ari"], abs=0.03)
    distances, indices = NearestNeighbors(n_neighbors=16).fit(vectors).kneighbors(vectors)  # itself among them
    near = NeighborsResults(indices=indices, distances=distances)
    assert ours["graph connectivity"] == pytest.approx(scib_metrics.graph_connectivity(near, labels), abs=1e-9)
