"""Prompts leave when mastered or hopeless, come back on schedule, and never are none; resuming changes nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.engines.rl.curriculum import Curriculum, CurriculumConfig, TargetMix, curate
from c2s.errors import ConfigError, DataError


def answered(passes, answers, **knobs):
    """Return a curriculum whose prompts had so many passes of so many answers."""
    curriculum = Curriculum(len(passes), CurriculumConfig(**knobs))
    for prompt, (right, n) in enumerate(zip(passes, answers)):
        curriculum.record([prompt] * n, [1] * right + [0] * (n - right))
    return curriculum


def test_mastered_prompts_are_not_asked_again():
    curriculum = answered([9, 8, 16, 0, 0], [10, 10, 16, 16, 0])
    assert curriculum.active.tolist() == [1, 3, 4]  # exactly 0.9 is mastered; never asked is not
    np.testing.assert_allclose(curriculum.pass_rates, [0.9, 0.8, 1.0, 0.0, np.nan])
    assert sorted(curriculum.epoch(2)) == [1, 3, 4]
    curriculum.record([0] * 2, [0, 0])  # 9 of 12: a history, not the last group
    assert 0 in curriculum.active
    assert answered([9, 8], [10, 10], drop_mastered=None).active.tolist() == [0, 1]


def test_a_prompt_needs_its_answers_before_it_is_mastered():
    assert answered([3, 4], [3, 4], min_answers=4).active.tolist() == [0]


def test_never_empties_and_the_hardest_come_back_first():
    curriculum = answered([10, 19, 0, 28], [10, 20, 16, 30], min_prompts=2, hopeless_after=16)
    assert curriculum.mastered.tolist() == [True, True, False, True] and curriculum.aside.tolist() == [
        False,
        False,
        True,
        False,
    ]
    assert curriculum.active.tolist() == [1, 3]  # 0.95 and 0.933 before 1.0; what is hopeless last
    assert answered([5], [5]).active.tolist() == [0]


def test_hopeless_prompts_wait_and_return_on_schedule():
    knobs = {"hopeless_after": 16, "return_every": 100, "return_count": 2, "seed": 5}
    curriculum = answered([0] * 6 + [8, 0], [16] * 6 + [16, 15], **knobs)
    assert curriculum.active.tolist() == [6, 7]
    assert curriculum.advance(99).tolist() == []
    first = curriculum.advance(100).tolist()
    assert len(first) == 2 and curriculum.active.tolist() == sorted([*first, 6, 7])
    assert curriculum.advance(100).tolist() == []
    second = curriculum.advance(350).tolist()  # 200 and 300 at once
    assert len(second) == 4 and curriculum.active.tolist() == list(range(8)) and curriculum.advance(1000).tolist() == []
    steps = answered([0] * 6 + [8, 0], [16] * 6 + [16, 15], **knobs)
    assert steps.advance(150).tolist() == first  # by the seed, not by how often it was asked


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_resumed_in_the_middle_is_the_same(data):
    n = data.draw(st.integers(1, 8))
    config = CurriculumConfig(
        hopeless_after=2, return_every=3, return_count=1, min_prompts=data.draw(st.integers(1, n)), seed=9
    )
    straight, resumed = Curriculum(n, config), Curriculum(n, config)
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    for step in range(12):
        asked = data.draw(st.lists(st.integers(0, n - 1), max_size=6))
        passed = data.draw(st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=len(asked), max_size=len(asked)))
        for curriculum in (straight, resumed):
            curriculum.record(asked, passed)
            curriculum.advance(step)
        state, resumed = json.loads(json.dumps(resumed.state())), Curriculum(n, config)
        resumed.restore(state)
        assert np.array_equal(straight.epoch(step), resumed.epoch(step)) and straight.state() == resumed.state()
        assert config.min_prompts <= len(straight.active) == len(set(straight.active.tolist()))
    assert np.array_equal(before, np.random.get_state()[1])


def test_probing_is_resumed_by_what_is_missing():
    assert answered([1, 0, 2], [8, 3, 8]).unprobed(8).tolist() == [1]


def test_curation_gives_the_target_shares_without_the_solved_and_the_unsolved():
    rates = np.repeat([0.0, 0.125, 0.25, 0.5, 0.75, 0.875, 1.0, np.nan], [30, 5, 5, 40, 20, 20, 30, 3])
    found = curate(rates, TargetMix(hard=1, medium=2, easy=1), seed=3)
    assert found.found == {"hard": 10, "medium": 40, "easy": 40} and found.taken == {
        "hard": 10,
        "medium": 20,
        "easy": 10,
    }
    chosen = rates[found.prompts]
    assert len(set(found.prompts.tolist())) == 40 and chosen.min() > 0 and chosen.max() < 1
    assert (chosen <= 0.25).sum() == 10 and (chosen >= 0.75).sum() == 10
    assert np.array_equal(found.prompts, curate(rates, TargetMix(hard=1, medium=2, easy=1), seed=3).prompts)
    assert curate(rates, size=8).taken == {"hard": 2, "medium": 4, "easy": 2}
    assert curate(rates[:30]).prompts.tolist() == []  # nothing of any use
    assert curate(rates, TargetMix(hard=0, medium=1, easy=0)).taken == {"hard": 0, "medium": 40, "easy": 0}


def test_what_is_refused():
    curriculum = Curriculum(3)
    with pytest.raises(DataError, match="passed is 0, 1 or NaN"):
        curriculum.record([0], [0.5])
    with pytest.raises(DataError, match="numbered 0 to 2"):
        curriculum.record([3], [1])
    with pytest.raises(DataError, match="knows 2 prompts"):
        curriculum.restore(Curriculum(2).state())
    with pytest.raises(ConfigError, match="min_prompts is 4"):
        Curriculum(3, CurriculumConfig(min_prompts=4))
    with pytest.raises(ConfigError, match="below easy_from"):
        TargetMix(hard_up_to=0.8)
