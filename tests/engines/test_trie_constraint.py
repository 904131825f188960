"""Tries against languages that are written out in full, and sampling against closed-form probabilities."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from c2s.engines.constraint import Constraint, Segment
from c2s.engines.token_trie import TokenTrie
from c2s.engines.trie_constraint import TrieConstraint
from c2s.errors import ConfigError

quick = settings(deadline=None, max_examples=120)
DELIMITERS, LETTERS, N_TOKENS = (0, 1), (2, 3, 4), 9  # 5 and 6 are stops, 7 pads, 8 is nobody's


def sentences(items, first, segments, pad):
    """Return every valid answer, with two tokens of padding."""
    whole = []

    def write(so_far, used, s):
        if s == len(segments):
            whole.append((*so_far, pad, pad))
            return
        segment = segments[s]
        free = [i for i in range(len(items)) if i not in used]
        for n in range(segment.min_items, min(segment.max_items, len(free)) + 1):
            for chosen in itertools.permutations(free, n):
                tokens = [t for place, i in enumerate(chosen) for t in (items[i] if place else first[i])]
                write((*so_far, *tokens, segment.stop), {*used, *chosen}, s + 1)

    write((), set(), 0)
    return whole


def ways_on(whole):
    """Return what may follow each beginning of the answers."""
    ways: dict[tuple[int, ...], set[int]] = {}
    for answer in whole:
        for t, token in enumerate(answer):
            ways.setdefault(answer[:t], set()).add(token)
    return ways


def as_sets(mask):
    return [set(torch.nonzero(row)[:, 0].tolist()) for row in mask]


@st.composite
def languages(draw):
    """Return items with prefixes among them, their first forms, segments and pad; the last stop may be a letter of items."""
    body = st.lists(st.sampled_from((*LETTERS, 5)), min_size=1, max_size=3).map(tuple)
    bodies = draw(st.lists(body, min_size=1, max_size=5, unique=True))
    items = [(draw(st.sampled_from(DELIMITERS)), *tokens) for tokens in bodies]
    bodies = [tokens for tokens in bodies if tokens[0] != 5]  # a stop begins no item
    items = [item for item in items if item[1] != 5]
    if not items:
        items, bodies = [(0, 2), (1, 2, 3)], [(2,), (2, 3)]
    first = bodies if draw(st.booleans()) else items
    n_segments = draw(st.integers(1, 2 if len(items) < 4 else 1))
    low = [draw(st.integers(0, len(items) // n_segments)) for _ in range(n_segments)]
    highs = [n + draw(st.integers(0, 2)) for n in low]
    stops = [6, 5][-n_segments:]
    segments = [Segment(high, stop, n) for high, stop, n in zip(highs, stops, low, strict=True)]
    pad = draw(st.sampled_from((7, 8)))
    return items, first, segments, pad


@quick
@given(languages())
def test_a_step_allows_what_the_written_out_language_does(made):
    """After every beginning of every valid answer: neither more nor less."""
    items, first, segments, pad = made
    trie = TokenTrie(items, first=None if first is items else first)
    constraint = TrieConstraint(trie, segments, n_tokens=N_TOKENS, pad=pad)
    whole = sentences(items, first, segments, pad)
    ways = ways_on(whole)
    by_length: dict[int, list[tuple[int, ...]]] = {}
    for beginning in ways:
        by_length.setdefault(len(beginning), []).append(beginning)
    for length, beginnings in by_length.items():
        mask = constraint.step(torch.tensor(beginnings, dtype=torch.long).reshape(len(beginnings), length))
        assert mask.shape == (len(beginnings), N_TOKENS)
        assert as_sets(mask) == [ways[beginning] for beginning in beginnings]
    assert max(map(len, whole)) - 2 <= constraint.max_length


@quick
@given(languages(), st.data())
def test_sequence_and_a_kept_state_equal_step_at_every_place_for_any_ids(made, data):
    items, first, segments, pad = made
    constraint = TrieConstraint(TokenTrie(items, first=first), segments, n_tokens=N_TOKENS, pad=pad)
    answers = data.draw(st.lists(st.sampled_from(sentences(items, first, segments, pad)[:50]), min_size=1, max_size=3))
    longest = max(map(len, answers))
    ids = torch.tensor([[*answer, *[pad] * (longest - len(answer))] for answer in answers])
    if data.draw(st.booleans()):
        row, place = data.draw(st.integers(0, len(ids) - 1)), data.draw(st.integers(0, longest - 1))
        ids[row, place] = data.draw(st.integers(-1, N_TOKENS + 1))
    whole, state = constraint.sequence(ids), constraint.start(len(ids))
    for t in range(longest):
        step = constraint.step(ids[:, :t])
        assert torch.equal(whole[:, t], step)
        assert torch.equal(state.mask(), step)
        wide = torch.zeros(len(ids), N_TOKENS + 3, dtype=torch.bool)
        wide[:, :N_TOKENS] = step
        assert sorted(state.allowed(N_TOKENS + 3).tolist()) == wide.reshape(-1).nonzero()[:, 0].tolist()
        state.advance(ids[:, t : t + 1])


def test_items_of_one_token_give_the_masks_of_the_plain_constraint():
    generator = torch.Generator().manual_seed(0)
    segments = [Segment(3, 10, 1), Segment(5, 11, 4)]
    plain = Constraint(torch.arange(8), segments, n_tokens=13, pad=12)
    trie = TrieConstraint(TokenTrie([[i] for i in range(8)]), segments, n_tokens=13, pad=12)
    ids = torch.zeros(200, 0, dtype=torch.long)
    for _ in range(plain.max_length + 1):
        mask = plain.step(ids)
        assert torch.equal(trie.step(ids), mask)
        ids = torch.cat([ids, torch.multinomial(mask.float(), 1, generator=generator)], 1)
    assert trie.max_length == trie.mean_length == plain.max_length


def test_samples_follow_the_masked_and_renormalised_distribution():
    """Frequencies of whole sentences against the product of their steps' probabilities."""
    items, first = [(0, 2), (0, 2, 3), (0, 2, 5, 4), (1, 4)], [(2,), (2, 3), (2, 5, 4), (4,)]
    segments, pad, n = [Segment(3, 5, 1)], 7, 20_000
    constraint = TrieConstraint(TokenTrie(items, first=first), segments, n_tokens=N_TOKENS, pad=pad)
    logits = torch.randn(12, N_TOKENS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = sentences(items, first, segments, pad)
    ways = ways_on(whole)
    longest = max(map(len, whole))
    expected = {}
    for answer in whole:
        padded = (*answer, *[pad] * (longest - len(answer)))
        steps = [logits[t].exp()[sorted(ways[answer[:t]])].sum() for t in range(len(answer))]
        expected[padded] = float(np.prod([logits[t, token].exp() / steps[t] for t, token in enumerate(answer)]))
    assert sum(expected.values()) == pytest.approx(1)

    generator, state = torch.Generator().manual_seed(2), constraint.start(n)
    drawn = []
    for t in range(longest):
        scores = logits[t].expand(n, -1).masked_fill(~state.mask(), -torch.inf)
        drawn.append(torch.multinomial(scores.softmax(-1), 1, generator=generator))
        state.advance(drawn[-1])
    found = Counter(map(tuple, torch.cat(drawn, 1).tolist()))
    assert set(found) <= set(expected)
    common = [answer for answer, p in expected.items() if n * p >= 5]
    rare = n - sum(found[answer] for answer in common)
    observed = [*(found[answer] for answer in common), rare]
    counts = [n * expected[answer] for answer in common]
    assert chisquare(observed, [*counts, n - sum(counts)]).pvalue > 1e-3


def test_a_stop_that_an_item_goes_on_with_is_an_end_once_padding_follows():
    """TBCE, TBCE.1 and a full stop."""
    constraint = TrieConstraint(TokenTrie([(0, 2), (0, 2, 5, 3)]), [Segment(2, 5)], n_tokens=9, pad=7)

    def after(*tokens):
        return as_sets(constraint.step(torch.tensor([tokens], dtype=torch.long)))[0]

    assert after(0, 2) == {0, 5}
    assert after(0, 2, 5) == {3, 7}
    assert after(0, 2, 5, 7) == {7}
    assert after(0, 2, 5, 3) == {0, 5}
    assert after(0, 2, 5, 3, 0, 2) == {5}  # the longer one is used
    assert after(0, 2, 5, 3, 0, 2, 5) == {7}
    assert after(0, 2, 0, 2) == {5}  # the shorter one is used; the full stop leads on only
    assert after(0, 2, 0, 2, 5) == {3}


def test_the_pad_may_be_the_last_stop():
    constraint = TrieConstraint(TokenTrie([(0, 2), (0, 3)]), [Segment(1, 6), Segment(1, 7)], n_tokens=9, pad=7)
    assert as_sets(constraint.sequence(torch.tensor([[0, 2, 6, 0, 3, 7, 7]]))[0]) == [
        {0, 6}, {2, 3}, {6}, {0, 7}, {3}, {7}, {7}
    ]  # fmt: skip


def test_after_a_token_that_is_not_allowed_only_the_pad_is():
    constraint = TrieConstraint(TokenTrie([(0, 2), (0, 3)]), [Segment(2, 5)], n_tokens=9, pad=7)
    for wrong in ([2], [0, 5], [0, 2, 0, 2], [0, 8], [0, -1], [0, 99], [7]):
        assert as_sets(constraint.step(torch.tensor([wrong]))) == [{7}]


@pytest.mark.parametrize(
    ("items", "first", "message"),
    [
        ([], None, "at least one item"),
        ([(0,)], [(0,), (1,)], "2 have a first form"),
        ([(0,), ()], None, r"item 1 is \[\]"),
        ([(0, -2)], None, "none negative"),
        ([(0, 2), (1,), (0, 2)], None, r"items 0 and 2 are the same tokens, \[0, 2\]"),
        ([(0, 2), (1, 2)], [(2,), (2,)], r"items 0 and 1 are the same tokens, \[2\]"),
        ([(0,), (1, 2), (0, 1), (2,)], None, r"item 0, \[0\], may go on with token 1 to item 2, \[0, 1\], or be followed by item 1, \[1, 2\]"),
        ([(0, 2), (3, 2)], [(2,), (2, 3)], "may go on with token 3 to item 1"),
    ],
)  # fmt: skip
def test_items_that_cannot_be_told_apart_are_refused(items, first, message):
    with pytest.raises(ConfigError, match=message):
        TokenTrie(items, first=first)


@pytest.mark.parametrize(
    ("segments", "pad", "message"),
    [
        ([], 7, "at least one segment"),
        ([Segment(1, 5, 2)], 7, "0 <= min_items <= max_items, found Segment"),
        ([Segment(2, 5, 2), Segment(2, 6, 1)], 7, "more items than the 2"),
        ([Segment(1, 0)], 7, "the stop 0 begins an item"),
        ([Segment(1, 2)], 7, "the stop 2 begins an item"),
        ([Segment(1, 5)], 3, "pad 3 is an item's token or a stop"),
        ([Segment(1, 5), Segment(1, 6)], 5, "pad 5 is an item's token or a stop before the last"),
        ([Segment(1, 3), Segment(1, 6)], 7, "item 0 may stop with token 3 or go on with it"),
        ([Segment(1, 9)], 7, "tokens 0 to 9; the model has 9"),
        ([Segment(1, 5)], -1, "tokens -1 to 5"),
    ],
)
def test_constraints_that_cannot_be_met_are_refused(segments, pad, message):
    trie = TokenTrie([(0, 2), (0, 2, 3)], first=[(2,), (2, 3)])
    with pytest.raises(ConfigError, match=message):
        TrieConstraint(trie, segments, n_tokens=9, pad=pad)
