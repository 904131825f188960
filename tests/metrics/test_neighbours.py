"""Neighbours give cells their labels: against scikit-learn by brute force, planted collapse and memory, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from c2s.errors import ConfigError, DataError
from c2s.metrics.neighbours import neighbour_accuracy

REPEATED = "generated cells that lie on a training cell"
NEAREST = "generated cells whose nearest cell is a training cell"


def clouds(n: int, seed: int, *, spread: float = 1.0, apart: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Return cells of three labels in six dimensions."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(["a", "b", "c"], n)
    centres = apart * np.eye(6)[np.repeat([0, 1, 2], n)]
    return centres + spread * rng.normal(size=(3 * n, 6)), labels


def scored(real, generated, **more) -> dict[str, float]:
    rows = neighbour_accuracy(
        real[0], generated[0], real_labels=real[1], generated_labels=generated[1], space="given", **more
    )
    assert all(row.space == "given" for row in rows)
    return {row.metric: row.value for row in rows}


@pytest.mark.parametrize("k", [1, 4, 5, 10, 25])
def test_scikit_learn_by_brute_force_gives_the_same(k):
    real, generated = clouds(40, 0, apart=1.5), clouds(30, 1, apart=1.5)
    found = scored(real, generated, n_neighbors=k)
    there = KNeighborsClassifier(k, algorithm="brute").fit(*real).score(*generated)
    back = KNeighborsClassifier(k, algorithm="brute").fit(*generated).score(*real)
    assert found[f"kNN accuracy, generated cells among real ones, k = {k}"] == pytest.approx(there, abs=1e-12)
    assert found[f"kNN accuracy, real cells among generated ones, k = {k}"] == pytest.approx(back, abs=1e-12)


def test_each_way_sees_what_the_other_does_not():
    real, (one, labels) = clouds(60, 0), clouds(60, 1)
    assert min(scored(real, (one, labels)).values()) > 0.95
    assert max(scored(real, (one, np.roll(labels, 60))).values()) < 0.05
    place = np.repeat([0.0, 10.0, 6.0], 60)[:, None] * np.eye(1, 6)  # cells of "a" lie on either side of "b"
    noise = [np.random.default_rng(seed).normal(size=(180, 6)) / 2 for seed in (2, 3)]
    names = np.repeat(["a", "a", "b"], 60)
    part = np.r_[0:60, 120:180]  # one of the two is never generated
    found = scored((place + noise[0], names), (place[part] + noise[1][part], names[part]), n_neighbors=5)
    assert found["kNN accuracy, generated cells among real ones, k = 5"] == 1
    assert found["kNN accuracy, real cells among generated ones, k = 5"] == pytest.approx(2 / 3, abs=0.02)


def test_labels_of_one_side_only_are_always_missed():
    real, (generated, labels) = clouds(30, 0), clouds(30, 1)
    found = scored(real, (generated, np.where(labels == "c", "d", labels)), n_neighbors=5)
    assert found["kNN accuracy, generated cells among real ones, k = 5"] <= 2 / 3


def test_memory_is_found_and_its_absence_is_a_half():
    training, real, fresh = clouds(200, 0)[0], clouds(200, 1), clouds(200, 2)
    found = scored(real, fresh, training=training)
    assert found[NEAREST] == pytest.approx(0.5, abs=0.06)
    assert found[REPEATED] == 0
    copied = fresh[0].copy()
    copied[:150] = training[300:450].astype(np.float32)  # a file's precision does not hide a copy
    found = scored(real, (copied, fresh[1]), training=training)
    assert found[REPEATED] == 150 / 600
    assert found[NEAREST] > 0.55
    same = scored(real, fresh, training=real[0])
    assert same[NEAREST] == pytest.approx(0.5)


def test_fewer_cells_than_neighbours_have_a_reason_and_no_value():
    real, generated = clouds(30, 0), clouds(5, 1)
    rows = neighbour_accuracy(real[0], generated[0], real_labels=real[1], generated_labels=generated[1], n_neighbors=25)
    assert rows[0].value > 0.8
    assert rows[0].low < rows[0].value
    assert np.isnan(rows[1].value)
    assert rows[1].reason == "15 generated cells; 25 neighbours need as many"


def test_many_cells_are_drawn_by_the_seed():
    real, generated = clouds(200, 0, apart=1.0), clouds(200, 1, apart=1.0)
    asked = {"real_labels": real[1], "generated_labels": generated[1], "max_cells": 100}
    one, again = (neighbour_accuracy(real[0], generated[0], seed=3, **asked) for _ in range(2))
    assert one == again
    assert one[0].n == 100
    assert one != neighbour_accuracy(real[0], generated[0], seed=4, **asked)


def test_what_cannot_be_compared_is_refused():
    (real, labels), (generated, _) = clouds(30, 0), clouds(30, 1)
    asked = {"real_labels": labels, "generated_labels": labels}
    with pytest.raises(ConfigError, match="n_neighbors=0"):
        neighbour_accuracy(real, generated, n_neighbors=0, **asked)
    with pytest.raises(ConfigError, match="n_neighbors=.., max"):
        neighbour_accuracy(real, generated, n_neighbors=(), **asked)
    with pytest.raises(DataError, match=r"no label is on both sides: real cells are a, b, c; generated ones x"):
        neighbour_accuracy(real, generated, real_labels=labels, generated_labels=np.repeat("x", 90))
    with pytest.raises(DataError, match=r"real labels have shape .3,. for 90 cells"):
        neighbour_accuracy(real, generated, real_labels=labels[:3], generated_labels=labels)
    with pytest.raises(DataError, match="6 dimensions, generated ones 5"):
        neighbour_accuracy(real, generated[:, :5], **asked)
    with pytest.raises(DataError, match="training vectors have 5 dimensions"):
        neighbour_accuracy(real, generated, training=real[:, :5], **asked)
    with pytest.raises(DataError, match="1 generated vectors hold values that are not finite"):
        neighbour_accuracy(real, np.where(np.arange(90)[:, None] == 3, np.nan, generated), **asked)
    with pytest.raises(DataError, match=r"training vectors have shape .0, 6."):
        neighbour_accuracy(real, generated, training=real[:0], **asked)
