"""Matched controls share every stratum, are never the cell itself, and depend on the seed alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.cells.matching import match_controls, pool_alike
from c2s.errors import DataError

BY = ["donor", "cell_type", "ifn"]


def cells(n: int = 480, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "donor": rng.choice(["d1", "d2"], n),
            "cell_type": pd.Categorical(rng.choice(["B", "T", "NK"], n)),
            "ifn": rng.choice(["low", "none"], n),
            "drug": rng.choice(["DMSO", "x", "y"], n),
        },
        index=[f"c{i}" for i in range(n)],
    )


def split(obs):
    is_control = (obs["drug"] == "DMSO").to_numpy()
    return np.flatnonzero(~is_control), np.flatnonzero(is_control)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 5), st.lists(st.sampled_from(BY), unique=True))
def test_matches_share_every_stratum_and_none_is_the_cell_itself(seed, k, by):
    obs = cells(seed=seed)
    treated, control = split(obs)
    cell = np.concatenate([treated, control])  # vehicle cells are matched to other vehicle cells
    matches = match_controls(obs, perturbed=cell, control=control, by=by, k=k, rng=np.random.default_rng(seed))
    assert matches.shape == (len(cell), k)
    assert matches.dtype == np.int64
    assert np.isin(matches, control).all()
    assert (matches != cell[:, None]).all()
    for column in by:
        values = obs[column].astype(str).to_numpy()
        assert (values[matches] == values[cell][:, None]).all()


def test_without_replacement_while_the_stratum_lasts():
    obs = cells(60)
    treated, control = split(obs)
    sizes = obs.iloc[control].groupby(["donor"], observed=True).size()
    k = int(sizes.min())
    rng = np.random.default_rng(0)
    matches = match_controls(obs, perturbed=treated, control=control, by=["donor"], k=k, rng=rng)
    assert all(len(set(row)) == k for row in matches)
    more = match_controls(obs, perturbed=treated, control=control, by=["donor"], k=len(control) + 1, rng=rng)
    assert more.shape == (len(treated), len(control) + 1)


def test_every_control_of_a_stratum_is_drawn_equally_often():
    obs = pd.DataFrame({"drug": ["x"] + ["DMSO"] * 5})
    draws = match_controls(
        obs, perturbed=np.zeros(4000, int), control=np.arange(1, 6), by=[], k=1, rng=np.random.default_rng(3)
    )
    counts = np.bincount(draws.ravel(), minlength=6)
    assert counts[0] == 0
    assert np.square(counts[1:] - 800).sum() / 800 < 18.5  # chi-square, 4 degrees of freedom, p = 0.001


def test_the_seed_decides():
    obs = cells()
    treated, control = split(obs)

    def draw(seed):
        return match_controls(obs, perturbed=treated, control=control, by=BY, k=2, rng=np.random.default_rng(seed))

    assert np.array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))
    np.random.seed(0)  # the global generator plays no part
    assert np.array_equal(draw(1), draw(1))


def test_values_that_hold_the_separator_do_not_merge_strata():
    obs = pd.DataFrame({"a": ["x | y", "x", "x | y"], "b": ["z", "y | z", "z"]})
    matches = match_controls(
        obs, perturbed=np.array([0]), control=np.array([1, 2]), by=["a", "b"], k=4, rng=np.random.default_rng(0)
    )
    assert set(matches.ravel()) == {2}


def test_a_stratum_without_control_is_listed():
    obs = cells()
    obs.loc[(obs["donor"] == "d2") & (obs["cell_type"] == "NK"), "drug"] = "x"
    treated, control = split(obs)
    with pytest.raises(DataError) as error:
        match_controls(obs, perturbed=treated, control=control, by=BY, k=1, rng=np.random.default_rng(0))
    message = str(error.value)
    assert message.startswith("2 strata of (donor, cell_type, ifn) have no control cell to match: ")
    assert "d2 | NK | low; d2 | NK | none. Match by fewer columns" in message


def test_a_long_list_of_strata_is_cut():
    obs = pd.DataFrame({"donor": [f"d{i:02d}" for i in range(12)] + ["other"]})
    with pytest.raises(DataError, match="12 strata.*d00; .*d07 …"):
        match_controls(
            obs, perturbed=np.arange(12), control=np.array([12]), by=["donor"], k=1, rng=np.random.default_rng(0)
        )


def test_a_lone_control_cannot_be_its_own_match():
    obs = pd.DataFrame({"donor": ["a", "a", "b"]})
    arguments = {"control": np.array([0, 2]), "by": ["donor"], "k": 1, "rng": np.random.default_rng(0)}
    assert match_controls(obs, perturbed=np.array([1]), **arguments).tolist() == [[0]]
    with pytest.raises(DataError, match="1 strata of .donor. have no control cell to match: b"):
        match_controls(obs, perturbed=np.array([2]), **arguments)


def test_no_control_at_all():
    with pytest.raises(DataError, match="1 strata of .* have no control cell to match: all cells"):
        match_controls(
            cells(4), perturbed=np.array([0]), control=np.array([], int), by=[], k=1, rng=np.random.default_rng(0)
        )


@pytest.mark.parametrize("function", ["match", "pool"])
def test_a_missing_column_is_named(function):
    obs, rng, rows = cells(), np.random.default_rng(0), np.arange(3)
    with pytest.raises(DataError, match="no column 'batch'; found donor, cell_type, ifn, drug"):
        if function == "match":
            match_controls(obs, perturbed=rows, control=rows, by=["donor", "batch"], k=1, rng=rng)
        else:
            pool_alike(obs, cells=rows, among=rows, by=["donor", "batch"], k=1, rng=rng)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_a_pool_holds_the_cell_first_and_others_of_its_stratum_from_the_rows_allowed(seed, k):
    obs = cells(80, seed)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(80)[:30]
    among = rng.permutation(80)[:60]
    pools = pool_alike(obs, cells=rows, among=among, by=[*BY, "drug"], k=k, rng=rng)
    assert pools.shape == (30, k)
    assert np.array_equal(pools[:, 0], rows)
    label = obs[[*BY, "drug"]].astype(str).agg("/".join, axis=1).to_numpy()
    for cell, pool in zip(rows, pools, strict=True):
        others = set(among[(label[among] == label[cell]) & (among != cell)])
        if not others:
            assert set(pool) == {cell}
        elif k > 1:
            assert set(pool[1:]) <= others
            assert len(set(pool[1:])) == k - 1 or len(others) < k - 1


def test_pools_are_seeded():
    obs, rows = cells(), np.arange(50)
    one, same, other = (
        pool_alike(obs, cells=rows, among=np.arange(480), by=["drug"], k=4, rng=np.random.default_rng(seed))
        for seed in (5, 5, 6)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(2, 30), st.integers(1, 6))
def test_a_control_pool_and_its_matches_share_no_cell(seed, n, k):
    """A pool that takes half of its stratum at most leaves controls to compare it with, however small the stratum."""
    obs = pd.DataFrame({"drug": ["DMSO"] * n})
    rows = np.arange(n)
    pools = pool_alike(
        obs, cells=rows, among=rows, by=[], k=k, rng=np.random.default_rng(seed), halved=np.ones(n, bool)
    )
    assert all(len(set(pool)) == k if k <= n // 2 else len(set(pool)) <= n // 2 for pool in pools)
    assert (pools[:, 0] == rows).all()
    matches = match_controls(
        obs, perturbed=rows, control=rows, by=[], k=3, rng=np.random.default_rng(seed), apart=pools
    )
    assert not (matches[:, :, None] == pools[:, None, :]).any()
