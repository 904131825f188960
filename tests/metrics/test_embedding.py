"""Scores of embeddings: brute force, planted extremes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from c2s.errors import DataError
from c2s.metrics.embedding import embedding_scores


def scores(*args, **settings):
    return {row.metric: row for row in embedding_scores(*args, **settings)}


@pytest.fixture
def apart():
    """Three types far from each other, two batches mixed within each."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], 40)
    centres = np.eye(3, 5) * 50
    return centres[np.repeat([0, 1, 2], 40)] + rng.normal(size=(120, 5)), labels, np.tile(["x", "y"], 60)


def test_types_apart_and_batches_mixed_score_near_one(apart):
    vectors, labels, batches = apart
    found = scores(vectors, labels, batches=batches)
    assert len(found) == 6 and all(row.value > 0.8 for row in found.values())
    assert found["NMI of k-means and labels"].value == 1 and found["graph connectivity"].value == 1
    assert found["label silhouette"].low <= found["label silhouette"].value <= found["label silhouette"].high


def test_labels_that_mean_nothing_score_at_chance(apart):
    vectors, labels, _ = apart
    found = scores(vectors, np.random.default_rng(1).permutation(labels))
    assert found["neighbours of the same label"].value == pytest.approx(1 / 3, abs=0.08)
    assert abs(found["ARI of k-means and labels"].value) < 0.1
    assert found["label silhouette"].value < 0.5
    assert "batch silhouette" not in found


def test_batches_apart_score_near_zero(apart):
    vectors, labels, batches = apart
    moved = vectors.copy()
    moved[batches == "y", 4] += 1000
    found = scores(moved, labels, batches=batches)
    assert found["batch silhouette"].value < 0.05
    assert found["graph connectivity"].value == pytest.approx(0.5)  # each type falls into two parts


def test_scores_equal_brute_force(apart):
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(60, 3))
    labels, batches = rng.choice(["a", "b"], 60), rng.choice(["x", "y"], 60)
    found = scores(vectors, labels, batches=batches, n_neighbors=4)
    assert found["label silhouette"].value == pytest.approx((silhouette_score(vectors, labels) + 1) / 2)
    same = []
    for i in range(60):
        order = np.argsort(((vectors - vectors[i]) ** 2).sum(axis=1))
        same.append(np.mean(labels[order[1:5]] == labels[i]))
    assert found["neighbours of the same label"].value == pytest.approx(np.mean(same))


@pytest.mark.parametrize("factor", [0.1, 7.0])
def test_scale_and_place_do_not_matter(apart, factor):
    vectors, labels, batches = apart
    one = scores(vectors, labels, batches=batches)
    other = scores(vectors * factor + 3, labels, batches=batches)
    assert all(one[name].value == pytest.approx(other[name].value) for name in one)


def test_no_label_of_two_batches_is_told(apart):
    vectors, labels, _ = apart
    found = scores(vectors, labels, batches=labels)
    assert np.isnan(found["batch silhouette"].value) and "two batches" in found["batch silhouette"].reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["a"] * 119}, "shapes do not fit"),
        ({"labels": ["a"] * 120}, "1 labels for 120 cells"),
        ({"labels": list(map(str, range(120)))}, "120 labels for 120 cells"),
        ({"batches": ["x"] * 120}, "all cells are of one batch"),
        ({"n_neighbors": 120}, "n_neighbors=120 for 120 cells"),
        ({"vectors": np.full((120, 2), np.nan)}, "not finite in 120 rows"),
    ],
)
def test_what_cannot_be_scored_is_refused(apart, change, said):
    vectors, labels, batches = apart
    asked = {"vectors": vectors, "labels": labels, "batches": batches} | change
    with pytest.raises(DataError, match=said):
        embedding_scores(asked.pop("vectors"), asked.pop("labels"), **asked)
