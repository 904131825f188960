"""Scripted policies in a small world: masks, counts, limits."""

from __future__ import annotations

import math

import pytest

from c2s.engines.rl.episodes import MultiTurn, Reply, play
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
    """Return a sampler that says the next turn of the script, to every context alike; the limit cuts it."""
    left, seen = list(turns), []

    def sample(contexts, rooms):
        seen.append((contexts, rooms))
        turn = left.pop(0)
        said = [turn[:room] for room in rooms]
        cut = [len(each) < len(turn) for each in said]
        return Answers(
            said, [[-0.5] * len(each) for each in said], [[1] * len(each) for each in said], [False] * len(said), cut
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
    assert seen[0] == ([[9], [8, 7]], [10, 10]) and seen[1] == ([[9, 1, 4], [8, 7, 1, 5]], [8, 8])
    assert found.answers.cut == [False, False]
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
    assert short.answers.cut == [True]
    sample, _ = scripted([1], [2, 0])
    cut = played(sample, rows=({"heat": "hot"},), max_tokens=3)
    assert cut.answers.ids == [[1, 4, 2]] and cut.finished == [False] and cut.turns == [2]  # a turn cut off is not read


def test_each_episode_has_its_own_room():
    class Two(Room):
        def respond(self, said):
            return Reply("hot cold hot" if self.heat == "hot" else "cold", called=True, succeeded=True)

    sample, seen = scripted([1], [1])
    play(
        [[9], [8]],
        [{"heat": "hot"}, {"heat": "cold"}],
        MultiTurn(Two, (0,), 2),
        sample=sample,
        decode=decode,
        encode=encode,
        max_tokens=10,
    )
    assert seen[1][1] == [6, 8]
    with pytest.raises(ConfigError, match="at least one of each"):
        played(sample, turns=0)
