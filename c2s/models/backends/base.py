"""The face of whatever completes prompts: text in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from c2s.artefacts import hash_of

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Completion:
    """One answer to a prompt.

    Attributes
    ----------
    text : str
        Without the stop that ended it.
    finish_reason : {"stop", "length"}
        Ended by itself or by a stop, or cut off.
    n_prompt_tokens, n_tokens : int or None
        None where a server does not say.
    """

    text: str
    finish_reason: Finish
    n_prompt_tokens: int | None = None
    n_tokens: int | None = None


class Backend(Protocol):
    """Completes prompts."""

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int,
        temperature: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        n: int = 1,
    ) -> list[list[Completion]]:
        """Return ``n`` answers to each prompt, in order.

        Draws follow the prompt and not its place, so a part of a list asked again gets the answers it had. Equal prompts in one
        call get equal answers; several answers to a prompt are what ``n`` is for.

        Parameters
        ----------
        max_tokens : int
            Most tokens of an answer.
        temperature : float
            0 takes the most likely token.
        seed : int
            Decides the draws, as far as the backend can: each says how far.
        stop : sequence of str
            Texts that end an answer.
        """
        ...


def cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Return the text before the first of the stops, and whether there was one."""
    places = [place for place in (text.find(each) for each in stop) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)


def answer_seed(seed: int, prompt: str, number: int = 0) -> int:
    """Return a seed of 31 bits for one answer, so that no two answers of a run, or of two runs, share their draws."""
    return int(hash_of(seed, prompt, number)[:8], 16) >> 1
