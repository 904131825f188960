"""The face of whatever completes prompts: text in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


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
    finish_reason: Literal["stop", "length"]
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
