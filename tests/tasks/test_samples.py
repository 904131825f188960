"""Cells of one group, each at most once, whatever the other groups are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.errors import ConfigError, DataError
from c2s.tasks import draw_samples


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), n_cells=st.integers(1, 8), seed=st.integers(0, 9)
)
def test_samples_are_of_one_group_of_equal_size_and_disjoint(groups, n_cells, seed):
    obs = pd.DataFrame({"donor": groups})
    sizes = {group: groups.count(group) for group in set(groups)}
    if max(sizes.values()) < n_cells:
        with pytest.raises(DataError, match="no group of donor"):
            draw_samples(obs, sample_key="donor", n_cells=n_cells, seed=seed)
        return
    samples = draw_samples(obs, sample_key="donor", n_cells=n_cells, seed=seed)
    used = np.concatenate(samples.rows)
    assert len(np.unique(used)) == len(used)
    assert all(len(rows) == n_cells for rows in samples.rows)
    assert [{groups[row] for row in rows} for rows in samples.rows] == [{group} for group in samples.groups]
    assert len(samples) == sum(size // n_cells for size in sizes.values())
    assert samples.skipped == {group: size for group, size in sizes.items() if size < n_cells}


def test_seed_decides_and_groups_do_not_depend_on_one_another():
    obs = pd.DataFrame({"donor": ["a"] * 20 + ["b"] * 20, "tissue": ["x", "y"] * 20})
    drawn = [draw_samples(obs, sample_key="donor", n_cells=5, seed=seed) for seed in (0, 0, 1)]
    assert all(np.array_equal(*pair) for pair in zip(drawn[0].rows, drawn[1].rows, strict=True))
    assert any(not np.array_equal(*pair) for pair in zip(drawn[0].rows, drawn[2].rows, strict=True))
    alone = draw_samples(obs[:20], sample_key="donor", n_cells=5)
    assert all(np.array_equal(*pair) for pair in zip(alone.rows, drawn[0].rows[:4], strict=True))
    both = draw_samples(obs, sample_key=["donor", "tissue"], n_cells=10, per_group=1)
    assert both.groups == ("a / x", "a / y", "b / x", "b / y")
    assert len(draw_samples(obs, sample_key="donor", n_cells=5, per_group=2)) == 4


def test_small_groups_are_reported_and_bad_arguments_refused(caplog):
    obs = pd.DataFrame({"donor": ["a"] * 3 + ["b"]})
    assert draw_samples(obs, sample_key="donor", n_cells=2).skipped == {"b": 1}
    assert "1 groups have fewer than 2 cells and are left out: b" in caplog.text
    with pytest.raises(ConfigError, match="n_cells=0"):
        draw_samples(obs, sample_key="donor", n_cells=0)
    with pytest.raises(DataError, match="no column 'sample'.*sample_key="):
        draw_samples(obs, sample_key="sample", n_cells=1)
    with pytest.raises(DataError, match="the largest has 3"):
        draw_samples(obs, sample_key="donor", n_cells=9)
