"""Our samplers against those they stand for, whose order trained models depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from hypothesis import given
from hypothesis import strategies as st
from transformers.trainer_pt_utils import get_length_grouped_indices

from c2s.training import order
from c2s.training.order import AlikeLengths, Shuffled


@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_shuffled_is_what_the_trainer_would_take(n, monkeypatch):
    monkeypatch.setattr(order, "AT_ONCE", 8)
    ours, theirs = Shuffled(n, seed=5), SeedableRandomSampler(range(n), data_seed=5)
    for epoch in (0, 1, 2, 7):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        assert list(ours) == list(theirs)
    assert sorted(ours) == list(range(n))
    assert len(ours) == n


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=120),
    st.integers(1, 7),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_alike_lengths_is_what_transformers_would_take(lengths, batch_size, seed, epoch):
    ours = AlikeLengths(np.array(lengths, dtype=np.int32), batch_size=batch_size, seed=seed)
    ours.set_epoch(epoch)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    theirs = get_length_grouped_indices(lengths, batch_size, generator=generator)
    assert list(ours) == theirs
    assert list(ours) == theirs  # asked twice
    assert len(ours) == len(lengths)


def test_neither_touches_the_generator_of_the_user():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(Shuffled(50, seed=1))
    list(AlikeLengths(np.arange(1, 51), batch_size=4, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
