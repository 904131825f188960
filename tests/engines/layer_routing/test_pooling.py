"""Windows against a loop over tokens: all tokens, no padding, sizes that differ by one at most."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2s.engines.layer_routing.pooling import window_means
from c2s.errors import DataError


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 6), st.integers(0, 6))
def test_windows_are_those_of_a_loop(length, n_windows, left, right):
    hidden = torch.randn(
        1, left + length + right, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(length)
    )
    tokens = torch.zeros(1, left + length + right, dtype=torch.bool)
    tokens[:, left : left + length] = True
    hidden[~tokens] = torch.nan
    means, there = window_means(hidden, tokens, n_windows)
    windows: dict[int, list[torch.Tensor]] = {}
    for place, state in enumerate(hidden[0, left : left + length]):
        windows.setdefault(place * min(n_windows, length) // length, []).append(state)
    assert there[0].tolist() == [number in windows for number in range(n_windows)]
    for number, states in windows.items():
        assert torch.allclose(means[0, number], torch.stack(states).mean(0), rtol=0, atol=1e-12)
    assert not means[~there].any()
    sizes = [len(states) for states in windows.values()]
    assert sum(sizes) == length and max(sizes) - min(sizes) <= 1 and len(windows) == min(n_windows, length)


def test_a_row_without_tokens_is_refused():
    with pytest.raises(DataError, match="row 1 has no token"):
        window_means(torch.zeros(2, 3, 4), torch.tensor([[True, True, False], [False, False, False]]), 2)
