"""Groups for decisions: true to the map, balanced, and alike where only one cell is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from c2s.errors import ConfigError, DataError
from c2s.spatial.groups import held_out_neighbours, neighbourhood_groups, niche_groups
from c2s.spatial.neighbourhoods import Neighbourhoods


@pytest.fixture(scope="module")
def tissue():
    rng = np.random.default_rng(1)
    places, sample = rng.uniform(0, 20, (400, 2)), np.repeat(["a", "b"], 200)
    return places, sample, Neighbourhoods.of(places, radius=2.5, sample=sample)


def test_neighbourhood_groups_are_what_they_say(tissue):
    places, sample, around = tissue
    groups = neighbourhood_groups(around, n_groups=200, n_cells=4, seed=3)
    assert len(groups) == 200 and groups.together.sum() == 100
    for rows, together in zip(groups.rows, groups.together, strict=True):
        assert len(set(rows.tolist())) == 4 and len(set(sample[rows])) == 1
        distance = np.linalg.norm(places[rows][:, None] - places[rows][None], axis=-1)
        if together:
            assert (distance[0, 1:] <= 2.5).all()
        else:
            assert (distance[np.triu_indices(4, 1)] > 2.5).all()


def test_no_cell_tells_by_itself():
    around = Neighbourhoods.of(np.random.default_rng(0).uniform(0, 20, (100, 2)), radius=3.5)
    groups = neighbourhood_groups(around, n_groups=8000, n_cells=3, seed=0)
    counts = np.array([np.bincount(np.concatenate(groups.rows[kind::2]), minlength=100) for kind in (0, 1)])
    centres = [sorted(int(rows[0]) for rows in groups.rows[kind::2]) for kind in (0, 1)]
    assert centres[0] == centres[1]
    # companions are drawn by one law, but those too near one another are turned away: alike, not equal
    assert np.corrcoef(counts)[0, 1] > 0.9


def test_groups_depend_on_the_seed_alone(tissue):
    *_, around = tissue
    first, again, other = (neighbourhood_groups(around, n_groups=20, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first.rows, again.rows, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first.rows, other.rows, strict=True))


def test_only_cells_allowed_are_used(tissue):
    *_, around = tissue
    mask = np.arange(400) % 3 > 0
    for among in (mask, np.flatnonzero(mask)):
        groups = neighbourhood_groups(around, n_groups=40, n_cells=3, among=among, seed=0)
        assert mask[np.concatenate(groups.rows)].all()
    with pytest.raises(DataError, match="rows from 0 to 399"):
        neighbourhood_groups(around, n_groups=2, among=[400])


def test_neighbours_by_number_need_not_be_mutual():
    places = np.array([[0.0, 0], [1, 0], [1.5, 0], [2, 0], [30, 0], [31, 0], [31.5, 0], [32, 0]])
    groups = neighbourhood_groups(Neighbourhoods.of(places, k=1), n_groups=40, n_cells=2, seed=0)
    near = [rows for rows, together in zip(groups.rows, groups.together, strict=True) if not together]
    assert all(tuple(sorted(rows.tolist())) not in {(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7)} for rows in near)


def test_niche_groups_are_what_they_say(tissue):
    places, sample, _ = tissue
    niches = np.where(places[:, 0] < 7, "left", np.where(places[:, 0] < 14, "middle", "right")).astype(object)
    niches[::10] = None
    groups = niche_groups(niches, n_groups=100, n_cells=3, sample=sample, seed=0)
    assert groups.together.sum() == 50
    for rows, together in zip(groups.rows, groups.together, strict=True):
        assert len(set(rows.tolist())) == 3 and None not in niches[rows] and len(set(sample[rows])) == 1
        assert (len(set(niches[rows])) == 1) == together
    with pytest.raises(DataError, match="there are no two niches of 4 cells in one sample"):
        niche_groups(["a", "a", "b", "b"], n_groups=2)
    with pytest.raises(DataError, match="there are no two niches of 2 cells in one sample"):
        niche_groups(["a", "a", "a"], n_groups=4, n_cells=2)


def test_a_cell_of_a_frequent_niche_does_not_tell_its_group():
    """Of 90 and 10 cells: drawn by cells, groups of several niches would hold the rare one far more often."""
    niches = np.array(["often"] * 90 + ["rare"] * 10 + ["alone"] * 5)
    sample = np.array(["one"] * 100 + ["two"] * 5)
    groups = niche_groups(niches, n_groups=4000, n_cells=3, sample=sample, seed=0)
    rows = np.stack(groups.rows)
    assert rows.max() < 100  # a sample of one niche has no groups of several
    rare = niches[rows] == "rare"
    for place in range(3):
        together, apart = rare[groups.together, place].mean(), rare[~groups.together, place].mean()
        assert abs(together - 0.5) < 0.05 and abs(apart - 0.5) < 0.05


def test_the_neighbour_asked_for_is_not_shown(tissue):
    *_, around = tissue
    mask = np.arange(400) % 4 > 0
    shown, asked = held_out_neighbours(around, n_shown=3, among=mask, seed=1)
    for rows, target in zip(shown, asked, strict=True):
        near = set(around.row(int(rows[0])).tolist())
        assert len(set(rows.tolist())) == 3 and {*rows[1:].tolist(), int(target)} <= near and target not in rows
        assert mask[rows].all() and mask[target]
    enough = [i for i in np.flatnonzero(mask) if mask[around.row(i)].sum() >= 3]
    assert [int(rows[0]) for rows in shown] == enough
    assert np.array_equal(asked, held_out_neighbours(around, n_shown=3, among=mask, seed=1)[1])
    with pytest.raises(DataError, match="no cells with 400 neighbours"):
        held_out_neighbours(around, n_shown=400)
    with pytest.raises(ConfigError, match="n_shown=0"):
        held_out_neighbours(around, n_shown=0)


def test_settings_that_make_no_sense_are_refused(tissue):
    *_, around = tissue
    for wrong in ({"n_groups": 3}, {"n_groups": 0}, {"n_groups": 2, "n_cells": 1}):
        with pytest.raises(ConfigError, match="even number of groups"):
            neighbourhood_groups(around, **wrong)
    with pytest.raises(DataError, match="there are no cells with 3 neighbours"):
        neighbourhood_groups(Neighbourhoods.of([[0, 0], [9, 9]], radius=1), n_groups=2)
