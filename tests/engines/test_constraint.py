"""Masks against a walk in plain Python; no sampler can write an answer that is not one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.engines.constraint import Constraint, Segment
from c2s.errors import ConfigError
from tests.memory import LargestTensor

quick = settings(deadline=None, max_examples=60)


@st.composite
def constraints(draw):
    """Return a constraint and what it was made of; token ids are shuffled, so that 0 may be an item, a stop or the pad."""
    n_items, n_segments = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    n_tokens = n_items + n_segments + 1 + draw(st.integers(0, 2))
    order = draw(st.permutations(range(n_tokens)))
    items, stops, pad = order[:n_items], order[n_items : n_items + n_segments], order[n_items + n_segments]
    segments, left = [], n_items
    for stop in stops:
        low = draw(st.integers(0, left))
        left -= low
        segments.append(Segment(low + draw(st.integers(0, 3)), stop, low))
    return Constraint(torch.tensor(items), segments, n_tokens=n_tokens, pad=pad), items, segments, n_tokens, pad


def walk(prefix, items, segments, pad):
    """Return the set of tokens that may follow ``prefix``, one token at a time."""
    stops = [segment.stop for segment in segments]
    segment, here, used = 0, 0, []
    for token in prefix:
        if token in items:
            used.append(token)
            here += 1
        elif token in stops:
            segment, here = segment + 1, 0
    if segment >= len(segments):
        return {pad}
    now = segments[segment]
    needed_later = sum(s.min_items for s in segments[segment + 1 :])
    allowed = set()
    if here < now.max_items and (here < now.min_items or len(items) - len(used) > needed_later):
        allowed |= set(items) - set(used)
    if here >= now.min_items:
        allowed.add(now.stop)
    return allowed


def as_sets(mask):
    return [set(torch.nonzero(row)[:, 0].tolist()) for row in mask]


@quick
@given(constraints(), st.data())
def test_step_equals_a_plain_walk(made, data):
    """Along random valid answers, whose every step has a way on, to an end within ``max_length``."""
    constraint, items, segments, n_tokens, pad = made
    prefix: list[int] = []
    for _ in range(constraint.max_length + 2):
        mask = constraint.step(torch.tensor([prefix], dtype=torch.long))
        assert mask.shape == (1, n_tokens)
        assert mask.dtype == torch.bool
        expected = walk(prefix, items, segments, pad)
        assert as_sets(mask) == [expected]
        assert expected, f"dead end after {prefix}"
        prefix.append(data.draw(st.sampled_from(sorted(expected))))
    assert prefix[-2:] == [pad, pad]
    answer = prefix[: prefix.index(segments[-1].stop) + 1]
    genes = [token for token in answer if token in items]
    assert len(genes) == len(set(genes))
    start = 0
    for segment in segments:
        stop = answer.index(segment.stop)
        assert segment.min_items <= stop - start <= segment.max_items
        start = stop + 1


@quick
@given(constraints(), st.data())
def test_sequence_equals_step_at_every_place_for_any_ids(made, data):
    """Also for rows that are not answers: what a loss sees and what a sampler sees are one mask."""
    constraint, items, segments, n_tokens, pad = made
    length = data.draw(st.integers(0, 9))
    rows = data.draw(
        st.lists(st.lists(st.integers(0, n_tokens - 1), min_size=length, max_size=length), min_size=1, max_size=3)
    )
    ids = torch.tensor(rows, dtype=torch.long).reshape(len(rows), length)
    whole = constraint.sequence(ids)
    assert whole.shape == (len(rows), length, n_tokens)
    for t in range(length):
        assert torch.equal(whole[:, t], constraint.step(ids[:, :t]))
        assert as_sets(whole[:, t]) == [walk(row[:t], items, segments, pad) for row in rows]


def test_a_step_makes_nothing_larger_than_its_mask():
    """One byte per row and token, of which a library has many."""
    rows, n_tokens = 40, 5000
    constraint = Constraint(torch.arange(2, n_tokens), [Segment(9, 1)], n_tokens=n_tokens, pad=0)
    prefix = torch.stack([torch.randperm(n_tokens - 2)[:7] + 2 for _ in range(rows)])
    with LargestTensor() as largest:
        mask = constraint.step(prefix)
    assert largest.nbytes == mask.numel() == rows * n_tokens
    assert not mask.gather(1, prefix).any()
    assert mask.sum(1).tolist() == [n_tokens - 2 - 7 + 1] * rows


def test_min_items_of_a_later_segment_keep_their_genes():
    """Three items, the second list needs two: the first may take one, and no more."""
    constraint = Constraint(torch.tensor([0, 1, 2]), [Segment(3, 3), Segment(3, 4, 2)], n_tokens=6, pad=5)
    assert as_sets(constraint.step(torch.empty(1, 0, dtype=torch.long))) == [{0, 1, 2, 3}]
    assert as_sets(constraint.step(torch.tensor([[1]]))) == [{3}]
    assert as_sets(constraint.step(torch.tensor([[1, 3, 0]]))) == [{2}]


def test_max_length_is_reached_by_the_longest_answer_only():
    constraint = Constraint(torch.tensor([0, 1, 2]), [Segment(2, 3), Segment(1, 4)], n_tokens=6, pad=5)
    assert constraint.max_length == 5
    assert as_sets(constraint.step(torch.tensor([[0, 1, 3, 2, 4]]))) == [{5}]
    assert as_sets(constraint.step(torch.tensor([[0, 1, 3, 2]]))) == [{4}]


MASK = 99  # outside the model's output, as some diffusion models have it


def completions(row, items, segments, pad):
    """Return all answers, padded to the canvas's length, that agree with what is written in ``row``."""
    n, found = len(row), []

    def grow(prefix):
        if len(prefix) == n:
            if prefix[-1] in {segments[-1].stop, pad}:
                found.append(tuple(prefix))
            return
        written = row[len(prefix)]
        for token in walk(prefix, items, segments, pad):
            if written in (MASK, token):
                grow([*prefix, token])

    grow([])
    return found


@st.composite
def canvases(draw, constraint, items, segments, pad):
    """Return a canvas that can be completed: an answer, padded, some of whose places are open."""
    prefix: list[int] = []
    while len(prefix) < constraint.max_length:
        prefix.append(draw(st.sampled_from(sorted(walk(prefix, items, segments, pad)))))
    open_ = draw(st.lists(st.booleans(), min_size=len(prefix), max_size=len(prefix)))
    return [MASK if is_open else token for token, is_open in zip(prefix, open_)]


small = st.composite(
    lambda draw: draw(constraints().filter(lambda made: made[0].max_length <= 6 and len(made[1]) <= 4))
)


@quick
@given(small(), st.data())
def test_places_equal_what_all_completions_hold(made, data):
    """By enumeration of every answer; a token is allowed where some completion of the canvas has it."""
    constraint, items, segments, n_tokens, pad = made
    row = data.draw(canvases(constraint, items, segments, pad))
    every = completions(row, items, segments, pad)
    assert every
    places = torch.arange(len(row))
    mask = constraint.places(torch.tensor(row), places, mask_id=MASK)
    assert mask.shape == (len(row), n_tokens)
    for place, found in enumerate(as_sets(mask)):
        if row[place] == MASK:
            assert found == {answer[place] for answer in every}


@quick
@given(small(), st.data())
def test_places_of_a_canvas_that_nothing_completes_are_empty(made, data):
    constraint, items, segments, n_tokens, pad = made
    n = constraint.max_length
    row = data.draw(
        st.lists(st.sampled_from([MASK, *items, pad, *(s.stop for s in segments)]), min_size=n, max_size=n).filter(
            lambda row: len({t for t in row if t in items}) == sum(t in items for t in row)
        )
    )
    mask = constraint.places(torch.tensor(row), torch.arange(n), mask_id=MASK)
    if not completions(row, items, segments, pad):
        assert not mask.any()


confidences = st.one_of(st.sampled_from([0.0, 0.5, -torch.inf, torch.inf, torch.nan]), st.floats(-5, 5))


@quick
@given(small(), st.data())
def test_commit_equals_a_greedy_pass_over_all_completions(made, data):
    constraint, items, segments, n_tokens, pad = made
    row = data.draw(canvases(constraint, items, segments, pad))
    length = len(row)
    proposals = data.draw(st.lists(st.integers(0, n_tokens - 1), min_size=length, max_size=length))
    confidence = data.draw(st.lists(confidences, min_size=length, max_size=length))
    written = constraint.commit(
        torch.tensor(row), torch.arange(length), torch.tensor(proposals), torch.tensor(confidence), mask_id=MASK
    ).tolist()
    expected, now = [False] * length, list(row)
    level = torch.tensor(confidence).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).tolist()
    for place in sorted(range(length), key=lambda t: (-level[t], t)):
        after = [*now[:place], proposals[place], *now[place + 1 :]]
        if now[place] == MASK and completions(after, items, segments, pad):
            expected[place], now = True, after
    assert written == expected


@quick
@given(constraints(), st.integers(0, 99))
def test_a_canvas_filled_a_few_places_a_step_is_an_answer(made, seed):
    """Random proposals among those allowed, several a step: always ends, in a valid answer with padding behind."""
    constraint, items, segments, n_tokens, pad = made
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((constraint.max_length + 2,), MASK)
    for _ in range(len(ids)):
        places = torch.nonzero(ids == MASK)[:, 0][:4]
        if not len(places):
            break
        allowed = constraint.places(ids, places, mask_id=MASK)
        assert allowed.any(1).all()
        proposals = torch.multinomial(allowed.float(), 1, generator=generator)[:, 0]
        write = constraint.commit(ids, places, proposals, torch.rand(len(places), generator=generator), mask_id=MASK)
        assert write.any()
        ids[places[write]] = proposals[write]
    answer = ids.tolist()
    assert MASK not in answer
    prefix: list[int] = []
    for token in answer:
        assert token in walk(prefix, items, segments, pad)
        prefix.append(token)
    assert answer[-1] == pad


def test_a_stop_and_items_behind_it_go_by_confidence():
    constraint = Constraint(torch.arange(5), [Segment(4, 5)], n_tokens=7, pad=6)
    ids, places, proposals = torch.full((5,), MASK), torch.arange(3), torch.tensor([0, 5, 2])
    for level, expected in (([0.1, 0.9, 0.5], [True, True, False]), ([0.1, 0.5, 0.9], [True, False, True])):
        written = constraint.commit(ids, places, proposals, torch.tensor(level), mask_id=MASK)
        assert written.tolist() == expected


@pytest.mark.parametrize(
    ("items", "segments", "pad", "message"),
    [
        ([0, 1], [], 5, "at least one segment"),
        ([0, 1], [Segment(1, 2), Segment(1, 2)], 5, "must be distinct"),
        ([0, 1], [Segment(1, 1)], 5, "must be distinct"),
        ([0, 1], [Segment(1, 2)], 0, "must be distinct"),
        ([0, 1], [Segment(1, 2)], 2, "must be distinct"),  # the stop is the pad
        ([0, 1], [Segment(1, 2, 2)], 5, "0 <= min_items <= max_items, found Segment"),
        ([0, 1], [Segment(1, 2, -1)], 5, "0 <= min_items"),
        ([0, 1], [Segment(2, 2, 2), Segment(1, 3, 1)], 5, "more items than the 2"),
        ([0, 0, 1], [Segment(3, 2, 3)], 5, "more items than the 2"),
    ],
)
def test_constraints_that_cannot_be_met_are_refused(items, segments, pad, message):
    with pytest.raises(ConfigError, match=message):
        Constraint(torch.tensor(items), segments, n_tokens=6, pad=pad)
