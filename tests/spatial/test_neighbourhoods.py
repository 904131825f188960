"""Neighbourhoods against brute force; coordinates read with errors that help."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.errors import ConfigError, DataError
from c2s.spatial.neighbourhoods import Neighbourhoods, coordinates_of


def brute(places, *, radius=None, k=None, sample=None):
    """Every pair looked at: the neighbours of each cell, by distance and row."""
    found = []
    for i, here in enumerate(places):
        near = [
            (float(np.sqrt(((there - here) ** 2).sum())), j)
            for j, there in enumerate(places)
            if j != i and (sample is None or sample[i] == sample[j])
        ]
        near = sorted(near) if radius is None else sorted(each for each in near if each[0] <= radius)
        found.append([j for _, j in near[:k]])
    return found


# cells on a coarse grid: many at one place, many at exactly the same distance
cells = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 1)), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(cells, st.integers(1, 6), st.sampled_from([0.1, 0.5, 1.0, np.sqrt(2) * 0.1]), st.booleans())
def test_neighbours_are_those_of_brute_force(grid, k, radius, in_samples):
    places = np.array([each[:2] for each in grid]) * 0.1
    sample = [each[2] for each in grid] if in_samples else None
    by_radius = Neighbourhoods.of(places, radius=radius, sample=sample)
    assert [list(row) for row in by_radius.rows(range(len(grid)))] == brute(places, radius=radius, sample=sample)
    by_number = Neighbourhoods.of(places, k=k, sample=sample)
    assert [list(row) for row in by_number.rows(range(len(grid)))] == brute(places, k=k, sample=sample)


def test_ties_go_to_the_lower_row_in_a_grid_larger_than_a_leaf_of_the_tree():
    grid = np.array([[x, y] for x in range(15) for y in range(15)], dtype=float)
    places = np.random.default_rng(0).permutation(grid)
    for setting in ({"k": 5}, {"radius": 2.0}):
        assert [list(row) for row in Neighbourhoods.of(places, **setting).rows(range(225))] == brute(places, **setting)


def test_neighbours_in_three_dimensions_with_distances():
    places = np.random.default_rng(0).normal(size=(60, 3))
    found = Neighbourhoods.of(places, k=5)
    assert [list(row) for row in found.rows(range(60))] == brute(places, k=5)
    for i in range(60):
        distances = found.distances[found.offsets[i] : found.offsets[i + 1]]
        np.testing.assert_allclose(distances, np.linalg.norm(places[found.row(i)] - places[i], axis=1))
        assert (np.diff(distances) >= 0).all()


def test_rows_can_be_cut_and_the_matrix_says_the_same():
    found = Neighbourhoods.of([[0, 0], [1, 0], [3, 0], [9, 9]], radius=3)
    assert [list(row) for row in found.rows([1, 3], most=1)] == [[0], []]
    assert found.sizes.tolist() == [2, 2, 2, 0] and len(found) == 4
    assert found.adjacency().toarray().astype(int).tolist() == [[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    with pytest.raises(DataError, match="rows run from 0 to 3"):
        found.row(4)


def test_samples_that_lie_on_one_another_do_not_mix():
    places = np.tile([[0.0, 0.0], [1.0, 0.0]], (2, 1))
    found = Neighbourhoods.of(places, k=3, sample=["a", "a", "b", "b"])
    assert [list(row) for row in found.rows(range(4))] == [[1], [0], [3], [2]]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, ConfigError, "exactly one"),
        ({"radius": 1, "k": 1}, ConfigError, "exactly one"),
        ({"radius": 0}, ConfigError, "above 0"),
        ({"radius": np.nan}, ConfigError, "above 0"),
        ({"k": 0}, ConfigError, "at least 1"),
        ({"k": 1, "sample": ["a"]}, DataError, "one a cell"),
        ({"k": 1, "sample": ["a", None]}, DataError, "1 of them missing"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments, error, says):
    with pytest.raises(error, match=says):
        Neighbourhoods.of([[0, 0], [1, 1]], **arguments)


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ([[0, np.nan], [0, 1]], "1 of 2 cells are NaN"),
        ([[0, 0, 0, 0]], r"shape \(1, 4\)"),
        ([0, 1], r"shape \(2,\)"),
        (np.empty((0, 2)), r"shape \(0, 2\)"),
        ([["left", "up"]], "no numbers"),
    ],
)
def test_coordinates_that_are_none_are_refused(places, says):
    with pytest.raises(DataError, match=says):
        Neighbourhoods.of(places, k=1)


def test_coordinates_are_read_from_either_place():
    obs = pd.DataFrame({"x": [1, 2], "y": [3.0, 4.0], "type": ["a", "b"], "hole": [0.5, np.nan]}, index=["c", "d"])
    adata = ad.AnnData(np.ones((2, 3), dtype=np.float32), obs=obs, obsm={"spatial": np.array([[5, 6], [7, 8]])})
    assert coordinates_of(adata).tolist() == [[5, 6], [7, 8]] and coordinates_of(adata).dtype == np.float64
    assert coordinates_of(adata, obs_keys=("x", "y")).tolist() == [[1, 3], [2, 4]]
    with pytest.raises(DataError, match=r"obsm has no 'pixels'; found spatial\..*x, y, hole"):
        coordinates_of(adata, obsm_key="pixels")
    with pytest.raises(DataError, match="obs has no column 'z'; found x, y, type, hole"):
        coordinates_of(adata, obs_keys=("x", "z"))
    with pytest.raises(DataError, match="NaN or infinite"):
        coordinates_of(adata, obs_keys=("x", "hole"))
    with pytest.raises(DataError, match="no numbers"):
        coordinates_of(adata, obs_keys=("x", "type"))
    with pytest.raises(DataError, match="two or three columns"):
        coordinates_of(adata, obs_keys=("x",))
