"""Sums over groups against torch on each group alone."""

from __future__ import annotations

import pytest
import torch

from c2s.engines.rl.groups import Groups
from c2s.errors import DataError


def test_each_group_alone():
    ids, counted = torch.tensor([9, 2, 9, 2, 2, 5]), torch.tensor([True, True, True, False, True, False])
    values = torch.tensor([1.0, 4.0, 3.0, torch.nan, 8.0, 7.0], dtype=torch.float64)
    groups = Groups(ids, counted)
    assert groups.n == 3 and groups.sizes.tolist() == [2, 0, 2] and groups.index.tolist() == [2, 0, 2, 0, 0, 1]
    assert groups.sum(values).tolist() == [12, 0, 4] and groups.mean(values).tolist() == [6, 0, 2]
    assert groups.low(values).tolist() == [4, torch.inf, 1] and groups.high(values).tolist() == [8, -torch.inf, 3]
    for correction in (0, 1):
        alone = [float(torch.tensor([4.0, 8.0], dtype=torch.float64).std(correction=correction)), 0.0]
        assert groups.std(values, correction=correction).tolist()[:2] == pytest.approx(alone)
    assert groups.flat(values).tolist() == [False, True, False]


def test_flat_is_relative_to_the_size_of_the_values():
    ids = torch.tensor([0, 0, 1, 1, 2, 2, 3])
    values = torch.tensor([1e9, 1e9 + 64, 1e-9, 2e-9, 0.0, 0.0, 5.0], dtype=torch.float64)
    assert Groups(ids).flat(values).tolist() == [True, False, True, True]
    assert Groups(ids).flat(values, tolerance=0.0).tolist() == [False, False, True, True]


def test_lengths_must_agree():
    with pytest.raises(DataError, match="one of each an answer"):
        Groups(torch.zeros(3, dtype=torch.long), torch.ones(2, dtype=torch.bool))
