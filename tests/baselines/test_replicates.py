from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.baselines.replicates import shuffled_labels, split_half
from c2s.errors import DataError


def cells_of(drugs, donors=None):
    index = [f"c{i}" for i in range(len(drugs))]
    obs = pd.DataFrame({"drug": pd.Categorical(drugs), "donor": donors or ["d"] * len(drugs)}, index=index)
    return ad.AnnData(np.arange(len(drugs), dtype=np.float32)[:, None], obs=obs)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), min_size=1, max_size=30), st.integers(0, 9))
def test_halves_are_a_partition_even_within_each_group(pairs, seed):
    cells = cells_of([drug for drug, _ in pairs], [donor for _, donor in pairs])
    if max(pairs.count(pair) for pair in pairs) < 2:
        with pytest.raises(DataError, match="split by fewer columns"):
            split_half(cells, by=["drug", "donor"], seed=seed)
        return
    first, second = split_half(cells, by=["drug", "donor"], seed=seed)
    assert sorted([*first.obs_names, *second.obs_names]) == sorted(cells.obs_names)
    for half in (first, second):
        assert list(half.obs_names) == [name for name in cells.obs_names if name in set(half.obs_names)]
        np.testing.assert_array_equal(half.X[:, 0], [int(name[1:]) for name in half.obs_names])
    for drug, donor in set(pairs):
        n, m = (((half.obs["drug"] == drug) & (half.obs["donor"] == donor)).sum() for half in (first, second))
        assert n - m in (0, 1)


def test_halves_depend_on_the_seed_and_lone_cells_are_named(caplog):
    cells = cells_of(["a"] * 20 + ["rare"])
    with caplog.at_level("INFO"):
        first, _ = split_half(cells, by=["donor", "drug"], seed=0)
    assert "1 groups have one cell" in caplog.text and "d, rare" in caplog.text and "c20" in first.obs_names
    assert list(first.obs_names) == list(split_half(cells, by=["drug"], seed=0)[0].obs_names)
    assert list(first.obs_names) != list(split_half(cells, by=["drug"], seed=1)[0].obs_names)


def test_labels_are_permuted_among_treated_cells_within_groups():
    rng = np.random.default_rng(0)
    drugs, donors = list(rng.choice(["medium", "a", "b", "c"], 200)), list(rng.choice(["x", "y"], 200))
    cells = cells_of(drugs, donors)
    found = shuffled_labels(cells, perturbation_key="drug", control="medium", within=["donor"], seed=3)
    before, after = np.array(drugs), found.obs["drug"].astype(str).to_numpy()
    np.testing.assert_array_equal(before == "medium", after == "medium")
    for donor in ("x", "y"):
        chosen = np.array(donors) == donor
        assert sorted(before[chosen]) == sorted(after[chosen])
    treated = before != "medium"
    assert 0.2 < (before == after)[treated].mean() < 0.5  # a third by chance
    assert list(cells.obs["drug"]) == drugs and isinstance(found.obs["drug"].dtype, pd.CategoricalDtype)
    np.testing.assert_array_equal(found.X, cells.X)
    again = shuffled_labels(cells, perturbation_key="drug", control="medium", within=["donor"], seed=3)
    assert list(again.obs["drug"]) == list(found.obs["drug"])
    other = shuffled_labels(cells, perturbation_key="drug", control="medium", within=["donor"], seed=4)
    assert list(other.obs["drug"]) != list(found.obs["drug"])


def test_bad_input_is_refused():
    cells = cells_of(["a", "a", "medium"])
    with pytest.raises(DataError, match="no column 'site'.*by="):
        split_half(cells, by=["site"], seed=0)
    with pytest.raises(DataError, match="no column 'site'.*within="):
        shuffled_labels(cells, perturbation_key="drug", control="medium", within=["site"], seed=0)
    with pytest.raises(DataError, match="no column 'treatment'.*perturbation_key="):
        shuffled_labels(cells, perturbation_key="treatment", control="medium", within=[], seed=0)
    with pytest.raises(DataError, match="all 1 cells are controls 'medium'"):
        shuffled_labels(cells[2:], perturbation_key="drug", control="medium", within=[], seed=0)
    gaps = cells.copy()
    gaps.obs["donor"] = [None, "d", "d"]
    with pytest.raises(DataError, match="1 of 3 cells have no value in 'donor'"):
        split_half(gaps, by=["donor"], seed=0)
