"""Scripted policies in a small world: masks, counts, limits, and a bonus that never beats being right."""

from __future__ import annotations

import math

import pytest
import torch

from c2s.engines.rl.episodes import MultiTurn, Reply, play, tool_bonus
from c2s.engines.rl.sampling import Answers
from c2s.errors import ConfigError

WORDS = ["<end>", "look", "say", "junk", "hot", "cold"]


class Room:
    """Tells the temperature to who looks; ends with what is said, and with junk."""

    def reset(self, heat, **row):
        self.heat = heat

    def respond(self, said):
        if said == "look":
            return Reply(self.heat, called=True, succeeded=self.heat != "")
        return Reply(None)


def decode(ids):
    return " ".join(WORDS[i] for i in ids if i)


def encode(text):
    return [WORDS.index(word) for word in text.split()]


def scripted(*turns):
    """Return a sampler that says the next turn of the script, to every context alike."""
    left, seen = list(turns), []

    def sample(contexts, room):
        seen.append((contexts, room))
        said = left.pop(0)[:room]
        return Answers(
            [list(said) for _ in contexts],
            [[-0.5] * len(said) for _ in contexts],
            [[1] * len(said) for _ in contexts],
            [False] * len(contexts),
        )

    return sample, seen


def played(sample, *, rows=({"heat": "hot"}, {"heat": "cold"}), turns=4, max_tokens=10):
    return play(
        [[9], [8, 7]][: len(rows)],
        rows,
        MultiTurn(Room, (0,), turns),
        sample=sample,
        decode=decode,
        encode=encode,
        max_tokens=max_tokens,
    )


def test_what_the_environment_wrote_is_read_and_not_learned():
    sample, seen = scripted([1], [2, 0])
    found = played(sample)
    assert found.answers.ids == [[1, 4, 2, 0], [1, 5, 2, 0]]
    assert found.answers.own == [[1, 0, 1, 1], [1, 0, 1, 1]]
    assert found.answers.log_probs[0] == [-0.5, 0.0, -0.5, -0.5]
    assert seen[0] == ([[9], [8, 7]], 10) and seen[1] == ([[9, 1, 4], [8, 7, 1, 5]], 8)
    assert (found.calls, found.succeeded, found.turns, found.finished) == ([1, 1], [1, 1], [2, 2], [True, True])
    assert found.measures() == {"calls": 1.0, "call_success": 1.0, "tokens_per_turn": 1.5, "finished": 1.0}


def test_failed_calls_and_malformed_turns_are_counted():
    sample, _ = scripted([1], [3])
    found = played(sample, rows=({"heat": ""},))
    assert (found.calls, found.succeeded, found.finished) == ([1], [0], [True])
    junk = played(scripted([3])[0], rows=({"heat": "hot"},))
    assert junk.calls == [0] and math.isnan(junk.measures()["call_success"])


def test_limits_of_turns_and_tokens():
    sample, _ = scripted([1], [1], [1])
    found = played(sample, rows=({"heat": "hot"},), turns=3)
    assert (found.turns, found.finished) == ([3], [False])
    assert found.answers.ids == [[1, 4, 1, 4, 1, 4]]
    sample, seen = scripted([1], [1])
    short = played(sample, rows=({"heat": "hot"},), max_tokens=3)
    assert short.answers.ids == [[1, 4, 1]] and len(seen) == 2  # the second reply would leave no room
    with pytest.raises(ConfigError, match="at least one of each"):
        played(sample, turns=0)


def test_the_bonus_is_for_wrong_answers_and_capped():
    verdicts, calls = torch.tensor([1.0, 0.0, 0.0, math.nan]), torch.tensor([5, 1, 50, 5])
    found = tool_bonus(verdicts, calls, per_call=0.1, most=0.3)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.1, 0.3, 0.0]))
    assert (found + verdicts.nan_to_num())[2] < 1
    with pytest.raises(ConfigError, match="most below 1"):
        tool_bonus(verdicts, calls, per_call=0.1, most=1.0)
