"""Answers in several turns: the policy speaks, an environment replies, and what the environment wrote carries no loss.

For models whose tokenizers have no template of tool calls: a turn ends with a token of the problem's, and the environment reads
its text. Yu et al. (arXiv 2510.11701) watch for the policy that stops calling, and give wrong answers a small bonus for calls
(:func:`c2s.engines.rl.overlong.tool_bonus`); a turn that cannot be read fails the episode, or lucky answers behind nonsense would be rewarded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from c2s.engines.rl.sampling import Answers
from c2s.errors import ConfigError

Sample = Callable[[list[list[int]], list[int]], Answers]  # contexts, most tokens of each → one turn each


class Reply(NamedTuple):
    """What an environment makes of a turn.

    Attributes
    ----------
    text : str or None
        What the policy reads next; None ends the episode.
    called, succeeded : bool
        Whether the turn called a tool, and whether the call could be carried out.
    """

    text: str | None
    called: bool = False
    succeeded: bool = False


class Environment(Protocol):
    """One episode's world; made anew for each."""

    def reset(self, **row: Any) -> None:
        """Begin with a row of the prompts."""
        ...

    def respond(self, said: str) -> Reply:
        """Return the reply to a turn's text; deterministic, or replays would differ."""
        ...


class MultiTurn(NamedTuple):
    """How episodes go.

    Attributes
    ----------
    environment : callable
        Returns an :class:`Environment`.
    ends : tuple of int
        Tokens that end a turn; the tokenizer's end token ends the episode as well.
    turns : int
        At most.
    """

    environment: Callable[[], Environment]
    ends: tuple[int, ...]
    turns: int = 8


class Episodes(NamedTuple):
    """Whole episodes as answers, and what was done in them.

    Attributes
    ----------
    answers : Answers
        ``own`` is 0 for tokens of the environment.
    calls, succeeded, turns : list of int
        Of each episode: calls, calls that were carried out, turns of the policy.
    finished : list of bool
        The environment ended it, not the limit.
    """

    answers: Answers
    calls: list[int]
    succeeded: list[int]
    turns: list[int]
    finished: list[bool]

    def measures(self) -> dict[str, float]:
        """Return calls an episode, the share of them that succeeded (nan without any), own tokens a turn, and the share of episodes ended in time."""
        n, calls = len(self.calls), sum(self.calls)
        return {
            "calls": calls / n,
            "call_success": sum(self.succeeded) / calls if calls else math.nan,
            "tokens_per_turn": sum(map(sum, self.answers.own)) / max(1, sum(self.turns)),
            "finished": sum(self.finished) / n,
        }


def play(
    prompts: Sequence[Sequence[int]],
    rows: Sequence[dict[str, Any]],
    problem: MultiTurn,
    *,
    sample: Sample,
    decode: Callable[[list[int]], str],
    encode: Callable[[str], list[int]],
    max_tokens: int,
) -> Episodes:
    """Return one episode of each prompt.

    Parameters
    ----------
    prompts : sequence of token ids
    rows : sequence of dict
        What each environment is reset with.
    sample : callable
        Writes a turn of each context given, of at most so many tokens; what ends a turn is the caller's affair. A turn that was cut off
        is not read, and ends the episode.
    decode, encode : callable
        Token ids to text, and text to token ids without special ones.
    max_tokens : int
        Of an episode, the environment's included. A reply that would not fit ends it.

    Raises
    ------
    ConfigError
        No turn is allowed.
    """
    if problem.turns < 1 or max_tokens < 1:
        msg = f"turns={problem.turns}, max_tokens={max_tokens}; an episode has at least one of each"
        raise ConfigError(msg)
    n = len(prompts)
    worlds = [problem.environment() for _ in range(n)]
    for world, row in zip(worlds, rows, strict=True):
        world.reset(**row)
    ids: list[list[int]] = [[] for _ in range(n)]
    log_probs: list[list[float]] = [[] for _ in range(n)]
    own: list[list[int]] = [[] for _ in range(n)]
    calls, succeeded, turns, finished = [0] * n, [0] * n, [0] * n, [False] * n
    going = list(range(n))
    for _ in range(problem.turns):
        if not going:
            break
        said = sample([[*prompts[i], *ids[i]] for i in going], [max_tokens - len(ids[i]) for i in going])
        left = []
        for place, i in enumerate(going):
            ids[i] += said.ids[place]
            log_probs[i] += said.log_probs[place]
            own[i] += said.own[place]
            turns[i] += 1
            if said.cut[place]:  # no whole turn: nobody could read it
                continue
            reply = worlds[i].respond(decode(said.ids[place]))
            calls[i] += reply.called
            succeeded[i] += reply.called and reply.succeeded
            if reply.text is None:
                finished[i] = True
                continue
            written = encode(reply.text)
            if len(ids[i]) + len(written) < max_tokens:  # with room for a word of the policy's own
                ids[i] += written
                log_probs[i] += [0.0] * len(written)
                own[i] += [0] * len(written)
                left.append(i)
        going = left
    cut = [not done for done in finished]
    return Episodes(Answers(ids, log_probs, own, [False] * n, cut), calls, succeeded, turns, finished)
