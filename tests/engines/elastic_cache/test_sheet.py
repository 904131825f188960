"""Windows, what is written of a step's proposals, and what a stop closes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.engines.constraint import Constraint, Segment
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.engines.elastic_cache.sheet import Request, Sheet
from tests.engines.elastic_cache.families import MASK, N_TOKENS, PAD, STOP, answers_of

PROMPT = torch.tensor([5])


def blank(n_places=8, constraint=None, **told):
    return Sheet(Request(PROMPT, n_places, constraint, **told), mask_id=MASK, n_tokens=N_TOKENS)


def test_a_window_slides_and_a_block_waits():
    sheet = blank()
    slides, waits = DecodeSettings(window=3), DecodeSettings(window=3, scheme="blocks", refresh="block")
    assert sheet.window(slides) == sheet.window(waits) == [0, 1, 2]
    sheet.write([0, 1, 2], [7, 8, 9], [0.95, 0.1, 0.95], slides)
    assert sheet.new == [0, 2]
    assert sheet.window(slides) == [1, 3, 4]
    assert sheet.window(waits) == [1]
    sheet.write([1], [8], [0.2], waits)
    assert sheet.window(waits) == [3, 4, 5]
    assert sheet.answer.tolist() == [7, 8, 9] + [MASK] * 5


def test_ties_and_limits_go_to_the_left():
    sheet = blank()
    assert sheet.write([0, 1, 2], [7, 8, 9], [0.5, 0.5, 0.5], DecodeSettings()) == 1
    assert sheet.new == [0]
    assert sheet.write([1, 2, 3], [8, 9, 10], [0.95, 0.99, 0.95], DecodeSettings(max_commits=2)) == 2
    assert sheet.new == [1, 2]


def test_a_stop_closes_what_is_behind_it():
    sheet = blank(stop=STOP, pad=PAD)
    sheet.write([4], [9], [1.0], DecodeSettings())
    assert sheet.write([1, 2, 3], [7, STOP, 8], [0.99, 0.95, 0.95], DecodeSettings()) == 3
    assert sheet.answer.tolist() == [MASK, 7, STOP, PAD, PAD, PAD, PAD, PAD]
    assert sheet.new == [1, 2, 3, 4, 5, 6, 7]
    assert sheet.open == [0]
    again = blank(3, stop=STOP)
    again.write([0], [STOP], [0.1], DecodeSettings())
    assert again.answer.tolist() == [STOP] * 3
    assert not again.open


def test_equal_items_are_written_once():
    sheet = blank(6, answers_of(5))
    assert sheet.write([0, 1, 2], [7, 7, 8], [0.92, 0.97, 0.95], DecodeSettings()) == 2
    assert sheet.answer[:3].tolist() == [MASK, 7, 8]
    assert not sheet.allowed([0])[0, [7, 8]].any()


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_any_proposals_end_in_a_valid_answer(data):
    """Whatever is proposed of what is allowed, N steps at most, and the answer is one that the constraint could have written in order."""
    n_items, low = data.draw(st.integers(1, 6)), data.draw(st.integers(0, 1))
    constraint = Constraint(
        torch.arange(2, 2 + n_items),
        [Segment(data.draw(st.integers(1, 4)), 20, low), Segment(2, 21)],
        n_tokens=N_TOKENS,
        pad=0,
    )
    n_places = constraint.max_length + data.draw(st.integers(0, 3))
    sheet = blank(n_places, constraint)
    told = DecodeSettings(window=data.draw(st.integers(1, 6)), commit=data.draw(st.sampled_from([0.0, 0.5, 1.0])))
    steps = 0
    while sheet.open:
        window = sheet.window(told)
        allowed = sheet.allowed(window)
        tokens = [data.draw(st.sampled_from(torch.nonzero(row)[:, 0].tolist())) for row in allowed]
        sheet.write(window, tokens, [data.draw(st.floats(0.01, 1)) for _ in window], told)
        steps += 1
    assert steps <= n_places
    for place in range(n_places):
        assert constraint.step(sheet.answer[None, :place])[0, sheet.answer[place]]


def test_a_request_without_a_constraint_has_no_list():
    with pytest.raises(ValueError, match="a request without a constraint allows all"):
        blank().allowed([0])
