"""Nearest controls are those of brute force, plans have the marginals they should, and transport finds a planted pairing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from c2s.cells.matching import match_controls
from c2s.cells.pairing import nearest_controls, transport_controls, transport_plan
from c2s.errors import ConfigError, DataError

BY = ["donor", "cell_type"]


def cells(n: int = 120, seed: int = 0):
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "donor": rng.choice(["d1", "d2"], n),
            "cell_type": pd.Categorical(rng.choice(["B", "T"], n)),
            "drug": rng.choice(["DMSO", "x"], n),
        },
        index=[f"c{i}" for i in range(n)],
    )
    is_control = (obs["drug"] == "DMSO").to_numpy()
    return rng.normal(size=(n, 4)), obs, np.flatnonzero(~is_control), np.flatnonzero(is_control)


def transported(vectors, obs, seed=0, **more):
    return transport_controls(vectors, obs, **{"by": BY, "k": 3, "rng": np.random.default_rng(seed), **more})


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.integers(1, 6), st.sampled_from([[], ["donor"], BY]))
def test_the_nearest_are_those_of_brute_force(seed, k, by):
    vectors, obs, treated, control = cells(seed=seed)
    asked = np.concatenate([treated, control])
    matches = nearest_controls(vectors, obs, perturbed=asked, control=control, by=by, k=k)
    assert matches.dtype == np.int64
    distance = cdist(vectors, vectors)
    for cell, found in zip(asked, matches, strict=True):
        same = [
            other for other in control if other != cell and all(obs[c].iloc[other] == obs[c].iloc[cell] for c in by)
        ]
        nearest = sorted(same, key=lambda other: distance[cell, other])
        assert found.tolist() == np.resize(nearest[:k], k).tolist()


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.integers(1, 5), st.sampled_from([[], ["donor"], BY]))
def test_transport_stays_in_the_stratum_and_never_takes_the_cell_itself(seed, k, by):
    vectors, obs, treated, control = cells(seed=seed)
    asked = np.concatenate([treated, control])
    matches = transported(vectors, obs, seed, perturbed=asked, control=control, by=by, k=k, max_cells=20)
    assert matches.shape == (len(asked), k)
    assert matches.dtype == np.int64
    assert np.isin(matches, control).all()
    assert (matches != asked[:, None]).all()
    for column in by:
        values = obs[column].astype(str).to_numpy()
        assert (values[matches] == values[asked][:, None]).all()


def test_the_seed_decides_and_each_pass_has_fresh_pairs():
    vectors, obs, treated, control = cells()
    rng = np.random.default_rng(1)
    first, second = (transported(vectors, obs, perturbed=treated, control=control, regularisation=0.5, rng=rng) for _ in range(2))  # fmt: skip
    again = transported(vectors, obs, 1, perturbed=treated, control=control, regularisation=0.5)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert any(len(set(row)) > 1 for row in first)


@pytest.mark.parametrize("regularisation", [0.02, 0.2, 1.0])
def test_a_plan_has_uniform_marginals_and_is_that_of_a_plain_iteration(regularisation):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(30, 3)), rng.normal(size=(40, 3)) + 0.5
    plan = transport_plan(first, second, regularisation=regularisation)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 30, rtol=1e-3)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 40, rtol=1e-3)
    cost = cdist(first - first.mean(0), second - second.mean(0), "sqeuclidean")
    kernel = -cost / cost.mean() / regularisation
    f, g = np.zeros((30, 1)), np.zeros((1, 40))
    for _ in range(3_000):
        f = -np.log(30) - logsumexp(kernel + g, axis=1, keepdims=True)
        g = -np.log(40) - logsumexp(kernel + f, axis=0, keepdims=True)
    np.testing.assert_allclose(plan, np.exp(kernel + f + g), atol=1e-5)


def test_with_little_entropy_the_plan_is_the_best_assignment_and_with_much_the_product():
    rng = np.random.default_rng(3)
    first = rng.permutation(np.indices((4, 3)).reshape(2, 12).T).astype(float)
    second = rng.permutation(first) + rng.normal(scale=0.1, size=(12, 2))
    rows, columns = linear_sum_assignment(cdist(first, second, "sqeuclidean"))
    sharp = transport_plan(first, second, regularisation=0.01)
    assert sharp.argmax(axis=1)[rows].tolist() == columns.tolist()
    np.testing.assert_allclose(transport_plan(first, second, regularisation=1e3), 1 / 144, rtol=0.02)
    moved = transport_plan(first + [100.0, -3.0], second, regularisation=0.01)
    np.testing.assert_allclose(moved, sharp, atol=1e-6)


def test_draws_follow_the_rows_of_the_plan():
    vectors, obs, treated, control = cells(24)
    obs["donor"], obs["cell_type"] = "d", "B"
    draws = transported(vectors, obs, perturbed=treated, control=control, k=20_000, regularisation=0.3)
    plan = transport_plan(vectors[treated], vectors[control], regularisation=0.3)
    for row, found in zip(plan, draws, strict=True):
        share = (found[:, None] == control).mean(axis=0)
        np.testing.assert_allclose(share, row / row.sum(), atol=0.02)


def test_transport_recovers_a_planted_pairing_that_the_nearest_controls_and_chance_do_not():
    """Treated cell i is control i moved by one large shift; the nearest controls are then those at the cloud's near end."""
    rng = np.random.default_rng(0)
    n = 150
    base = rng.normal(size=(n, 2))
    moved = base + [6.0, 0.0] + rng.normal(scale=0.02, size=base.shape)
    obs = pd.DataFrame({"donor": ["d"] * (2 * n)})
    arguments = {"perturbed": np.arange(n, 2 * n), "control": np.arange(n), "by": ["donor"], "k": 4}
    vectors = np.concatenate([base, moved])

    def error(matches):
        return np.linalg.norm(base[matches] - base[:, None], axis=2).mean()

    by_transport = error(transport_controls(vectors, obs, **arguments, rng=rng, regularisation=0.02))
    by_chance = error(match_controls(obs, **arguments, rng=rng))
    by_distance = error(nearest_controls(vectors, obs, **arguments))
    assert by_transport < 0.25 * by_chance
    assert by_transport < 0.25 * by_distance


def test_a_large_stratum_is_cut_and_every_cell_still_matched(monkeypatch):
    vectors, obs, treated, control = cells(400)
    sizes = []
    plan = transport_plan

    def watched(first, second, **more):
        sizes.append((len(first), len(second)))
        return plan(first, second, **more)

    monkeypatch.setattr("c2s.cells.pairing.transport_plan", watched)
    matches = transported(vectors, obs, perturbed=treated, control=control, by=[], max_cells=30)
    assert matches.shape == (len(treated), 3)
    assert np.isin(matches, control).all()
    assert max(max(pair) for pair in sizes) <= 30
    assert sum(pair[0] for pair in sizes) == len(treated)
    assert len(np.unique(matches)) > 60  # other controls for other groups


def test_cells_that_are_all_alike_are_matched_by_chance():
    obs = pd.DataFrame({"donor": ["d"] * 6})
    matches = transported(np.ones((6, 2)), obs, perturbed=np.arange(3), control=np.arange(3, 6), by=["donor"], k=50)
    assert set(matches.ravel()) == {3, 4, 5}
    lone = transported(np.ones((6, 2)), obs, perturbed=np.array([0]), control=np.array([0, 1]), by=[], k=2)
    assert lone.tolist() == [[1, 1]]
    near = nearest_controls(np.ones((6, 2)), obs, perturbed=np.array([0]), control=np.array([0, 1]), by=[], k=3)
    assert near.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("function", [nearest_controls, transport_controls])
def test_bad_input_is_named(function):
    vectors, obs, treated, control = cells()
    more = {"rng": np.random.default_rng(0)} if function is transport_controls else {}
    arguments = {"perturbed": treated, "control": control, "by": BY, "k": 1, **more}
    broken = vectors.copy()
    broken[[4, 7], 1] = np.nan, np.inf
    with pytest.raises(DataError, match="2 of 120 cells have NaN or infinite vectors, the first is c4; leave them out"):
        function(broken, obs, **arguments)
    for wrong in (vectors[1:], vectors[:, :0], vectors[:, 0]):
        with pytest.raises(DataError, match="expected one of d numbers for each of 120 cells"):
            function(wrong, obs, **arguments)
    with pytest.raises(ConfigError, match="k=0; expected at least 1"):
        function(vectors, obs, **{**arguments, "k": 0})
    with pytest.raises(DataError, match="obs has no column 'batch'"):
        function(vectors, obs, **{**arguments, "by": ["batch"]})
    obs.loc[obs["donor"] == "d2", "drug"] = "x"
    controls = np.flatnonzero(obs["drug"] == "DMSO")
    with pytest.raises(
        DataError, match=r"strata of \(donor\) have no control cell to match: d2. Match by fewer columns"
    ):
        function(vectors, obs, **{**arguments, "by": ["donor"], "control": controls})


def test_settings_of_transport_that_cannot_be():
    vectors, obs, treated, control = cells()
    for wrong in (0, -1.0, np.nan, np.inf):
        with pytest.raises(ConfigError, match="expected a number above 0"):
            transported(vectors, obs, perturbed=treated, control=control, regularisation=wrong)
    with pytest.raises(ConfigError, match="max_cells=1; expected at least 2"):
        transported(vectors, obs, perturbed=treated, control=control, max_cells=1)
    with pytest.raises(
        DataError, match=r"between 30 and 47 cells did not converge .*pass a larger regularisation= \(it is 1e-07\)"
    ):
        transport_plan(vectors[:30], vectors[30:77], regularisation=1e-7)
