"""Block splits: the buffer holds by brute force, every cell is somewhere once; samples are left out whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.errors import ConfigError, DataError
from c2s.spatial.splits import block_folds, block_split, blocks_of, leave_one_sample_out


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(20, 120),
    dimensions=st.sampled_from([2, 3]),
    n_blocks=st.integers(2, 12),
    share=st.floats(0.1, 0.6),
    buffer=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    on_grid=st.booleans(),
    in_samples=st.booleans(),
)
def test_no_cell_learnt_from_lies_within_the_buffer_of_one_asked(
    seed, n, dimensions, n_blocks, share, buffer, on_grid, in_samples
):
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 12, (n, dimensions))
    if on_grid:  # distances of exactly the buffer
        places = np.round(places * 2) / 2
    sample = rng.integers(0, 2, n) if in_samples else None
    try:
        split = block_split(places, n_blocks=n_blocks, test_share=share, buffer=buffer, seed=seed, sample=sample)
    except DataError as error:
        assert "0 cells to learn from" in str(error)
        return
    every = np.concatenate([split.train, split.test, split.dropped])
    assert sorted(every.tolist()) == list(range(n))
    distance = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
    if in_samples:
        distance[sample[:, None] != sample[None]] = np.inf
    from_test = distance[:, split.test].min(axis=1)
    assert (from_test[split.train] > buffer).all()
    np.testing.assert_array_less(from_test[split.dropped], buffer + 1e-6)


def test_blocks_are_of_equal_width_and_near_to_squares():
    places = np.array([[x, y] for x in range(40) for y in range(10)], dtype=float)
    by_number = blocks_of(places, n_blocks=4)
    assert np.array_equal(by_number, blocks_of(places, n_blocks=(4, 1)))
    assert np.array_equal(by_number, places[:, 0].astype(int) * 4 // 39 - (places[:, 0] == 39))
    assert len(set(blocks_of(places, n_blocks=(4, 2)))) == 8
    two = blocks_of(np.concatenate([places, places]), n_blocks=(2, 1), sample=np.repeat(["a", "b"], 400))
    assert sorted(set(two)) == [0, 1, 2, 3] and set(two[:400]) == {0, 1}
    assert set(blocks_of([[1.0, 5.0], [1.0, 5.0]], n_blocks=3)) == {0}


def test_the_share_asked_is_near_what_was_wanted():
    places = np.random.default_rng(0).uniform(0, 100, (2000, 2))
    for seed in range(5):
        split = block_split(places, n_blocks=(10, 10), test_share=0.3, buffer=1, seed=seed)
        assert len(split.test) / 2000 == pytest.approx(0.3, abs=0.02)
    again = block_split(places, n_blocks=(10, 10), test_share=0.3, buffer=1, seed=4)
    assert np.array_equal(split.test, again.test) and np.array_equal(split.train, again.train)


def test_folds_ask_every_cell_once():
    rng = np.random.default_rng(0)
    places, sample = rng.uniform(0, 10, (300, 2)), rng.integers(0, 2, 300)
    found = dict(block_folds(places, n_blocks=(3, 1), buffer=1.0, sample=sample))
    assert len(found) == 6 and sorted(np.concatenate([split.test for split in found.values()])) == list(range(300))
    for split in found.values():
        distance = np.sqrt(((places[split.train][:, None] - places[split.test][None]) ** 2).sum(-1))
        assert distance[sample[split.train][:, None] == sample[split.test][None]].min() > 1
    with pytest.raises(ConfigError, match="buffer=-1"):
        dict(block_folds(places, n_blocks=2, buffer=-1))


def test_settings_that_make_no_sense_are_refused():
    places = [[0, 0], [1, 1], [2, 2]]
    for wrong in (
        {"n_blocks": 0, "buffer": 1},
        {"n_blocks": (2, 2, 2), "buffer": 1},
        {"n_blocks": 2, "buffer": -1},
        {"n_blocks": 2, "buffer": 1, "test_share": 1.0},
    ):
        with pytest.raises(ConfigError):
            block_split(places, **wrong)
    with pytest.raises(DataError, match="0 cells to learn from, .* smaller buffer="):
        block_split(places, n_blocks=3, buffer=100)


def test_samples_are_left_out_whole():
    found = dict(leave_one_sample_out(["b", "a", "b", "c"]))
    assert list(found) == ["a", "b", "c"]
    assert found["b"].test.tolist() == [0, 2] and found["b"].train.tolist() == [1, 3] and not len(found["b"].dropped)
    with pytest.raises(DataError, match="needs two"):
        list(leave_one_sample_out(["a", "a"]))
    with pytest.raises(DataError, match="1 of them missing"):
        list(leave_one_sample_out(["a", None]))
