"""Pass rates against counting, and the same answers for the same weights."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from datasets import Dataset

from c2s.engines.rl.evaluation import Evaluation, evaluate, pass_at_k, scored
from c2s.engines.rl.sampling import sample
from c2s.errors import ConfigError, DataError
from tests.engines.rl import toy


@pytest.mark.parametrize("n", [1, 3, 6])
def test_pass_at_k_is_the_share_of_choices_that_hold_a_right_answer(n):
    for right in range(n + 1):
        for k in range(1, n + 1):
            chosen = list(combinations([True] * right + [False] * (n - right), k))
            assert pass_at_k(n, right, k) == pytest.approx(sum(map(any, chosen)) / len(chosen))
    with pytest.raises(ConfigError, match="k is 1 to"):
        pass_at_k(n, 0, n + 1)


def test_means_are_of_prompts_and_pass_rates_of_verdicts():
    found = Evaluation(np.array([[1.0, 0.0], [0.0, 0.0], [np.nan, np.nan]]), 9)
    assert found.mean == 0.25
    with pytest.raises(DataError, match="of verdicts"):
        found.pass_at(1)
    assert Evaluation(np.array([[1.0, 0.0], [0.0, 0.0]]), 9).pass_at(2) == 0.5
    assert np.isnan(Evaluation(np.array([[np.nan]]), 0).mean)


def test_the_same_weights_answer_alike_whatever_the_state_of_the_generator():
    model, words = toy.model(), toy.tokenizer()
    prompts = Dataset.from_list([{"prompt": "a b", "start": 0}, {"prompt": "c", "start": 2}])
    told = []

    def reward(prompts, completions, completion_ids, start):
        told.append((prompts, start))
        return [float(len(ids)) for ids in completion_ids]

    def write(ids, rows, name):
        generator = torch.Generator().manual_seed(len(name) + len(ids))
        return sample(model, ids, max_tokens=4, ends=[1], pad=0, generator=generator)

    def asked():
        return evaluate(
            prompts, reward, write=write, tokenize=lambda texts: words(texts)["input_ids"], decode=words.batch_decode, answers=3,
            batch_size=4,
        )  # fmt: skip

    one = asked()
    torch.manual_seed(99)
    np.testing.assert_array_equal(one.scores, asked().scores)
    assert one.scores.shape == (2, 3) and one.tokens == one.scores.sum()
    assert told[0] == (["a b"] * 3 + ["c"], [0, 0, 0, 2]) and told[1] == (["c"] * 2, [2, 2])


def test_a_reward_must_say_something_of_every_answer():
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    assert np.isnan(scored(lambda **told: [None, 1], rows, [[1], [2]], ["x", "y"])[0])
    with pytest.raises(DataError, match="gave 1 values for 2 answers"):
        scored(lambda **told: [1.0], rows, [[1], [2]], ["x", "y"])
