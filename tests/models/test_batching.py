import pytest

from c2s.errors import ConfigError
from c2s.models.batching import by_length


def test_batches_are_sorted_and_bounded_and_hold_every_sequence_once():
    lengths = [3, 9, 1, 0, 7, 9, 2]
    sequences = [[0] * n for n in lengths]
    batches = list(by_length(sequences, tokens=10, rows=2))
    assert sorted(place for places, _ in batches for place in places) == list(range(7))
    for places, batch in batches:
        assert [len(s) for s in batch] == [lengths[place] for place in places]
        assert len(batch) == 1 or (len(batch) <= 2 and len(batch) * len(batch[0]) <= 10)


def test_a_batch_of_none_is_refused():
    with pytest.raises(ConfigError, match="batch_size=0"):
        list(by_length([[1]], tokens=10, rows=0))
