"""What can be trained on, and what is refused before anything runs."""

from __future__ import annotations

import pytest
from datasets import Dataset

from c2s.engines.rl.problem import Problem, load_problem
from c2s.errors import ConfigError
from tests.engines.rl import toy


def ones(completions, **columns):
    return [1.0] * len(completions)


def halves(completions, **columns):
    return [None if said == "?" else 0.5 for said in completions]


MADE = toy.problem(rewards=[ones])


def test_held_out_answers_are_judged_by_the_verifier_or_the_sum():
    both = toy.problem(rewards=[ones, halves])
    assert both.judge(completions=["a", "?"]) == [1.5, 1.0]
    assert toy.problem(rewards=[halves]).judge(completions=["?"]) == [None]
    assert toy.problem(rewards=[ones], verifier=halves).judge is halves
    assert toy.problem(rewards=[ones], verifier=halves, held_out_reward=ones).judge is ones


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "nothing is rewarded"),
        ({"rewards": [ones], "prompts": Dataset.from_list([])}, "prompts has 0 rows"),
        (
            {"rewards": [ones], "held_out": Dataset.from_list([{"text": "a"}])},
            "held_out has 1 rows and the columns text",
        ),
        (
            {"rewards": [ones], "prompts": Dataset.from_list([{"prompt": [{"role": "user", "content": "a"}]}])},
            "no texts",
        ),
        ({"rewards": [ones], "verifier": ones}, "told apart by their names, and these are ones, ones"),
        ({"rewards": [ones], "held_out": toy.prompts(2)}, "2 held-out prompts are trained on, such as 'a'"),
    ],
)
def test_problems_that_cannot_be_trained_on(changes, said):
    with pytest.raises(ConfigError, match=said):
        toy.problem(**changes)


def test_the_same_prompts_may_be_all_there_are():
    assert len(toy.problem(rewards=[ones], held_out=toy.prompts(2), same_prompts=True).held_out) == 2


def test_a_problem_is_found_by_name():
    here = "tests.engines.rl.test_problem"
    assert isinstance(load_problem(f"{here}:MADE"), Problem)
    for spec, said in (
        ("nothing", "names nothing"), ("no.such:thing", "cannot be imported"), (f"{here}:nobody", "has no 'nobody'"),
        (f"{here}:toy", "is a module"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            load_problem(spec)
