"""A policy's answers to prompts: in one piece or in turns, under the problem's constraint, from draws that a name decides."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from c2s.engines.rl.episodes import play
from c2s.engines.rl.problem import Problem
from c2s.engines.rl.sampling import Answers, Interruption, sample
from c2s.engines.rl.settings import RunSettings


class Writer:
    """Asks a model what a problem asks.

    Parameters
    ----------
    problem : Problem
    settings : RunSettings
        Length and temperature.
    tokenizer : PreTrainedTokenizerBase
    ends : sequence of int
        Tokens that end an answer.
    interruption : Interruption or None
        Where the recipe interrupts.
    autocast : callable
        The precision that the trainer runs the model in, as a context; without a cache of casts, or weights that change between two
        tokens would be changed in part.
    """

    def __init__(
        self, problem: Problem, settings: RunSettings, tokenizer: PreTrainedTokenizerBase, *, ends: Sequence[int],
        interruption: Interruption | None, autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:  # fmt: skip
        self.problem, self.settings, self.tokenizer, self.ends = problem, settings, tokenizer, list(ends)
        self.interruption, self.autocast = interruption, autocast

    def __call__(
        self, model: PreTrainedModel, prompt_ids: list[list[int]], rows: list[dict[str, Any]], name: str,
        before_token: Callable[[], None] | None = None,
    ) -> tuple[Answers, dict[str, float]]:  # fmt: skip
        """Return one answer to each prompt, and what was measured of its turns where the problem has several.

        Parameters
        ----------
        rows : list of dict
            What environments are reset with; they are told the calls of their episode.
        name : str
            All draws follow from it: no state that a checkpoint would have to hold.
        before_token : callable, optional
            See :func:`~c2s.engines.rl.sampling.sample`.
        """
        turns = self.problem.multi_turn
        if turns is None:
            whole = {"constraint": self.problem.constraint, "interruption": self.interruption, "ends": self.ends}
            return self._sampled(
                model, prompt_ids, name, self.settings.max_tokens, before_token=before_token, **whole
            ), {}
        number, ends = itertools.count(), [*self.ends, *turns.ends]

        def turn(contexts: list[list[int]], rooms: list[int]) -> Answers:
            told = f"{name}, turn {next(number)}"
            return self._sampled(model, contexts, told, max(rooms), ends=ends, before_token=before_token, limits=rooms)

        episodes = play(
            prompt_ids, rows, turns, sample=turn, decode=lambda ids: self.decode([ids])[0], max_tokens=self.settings.max_tokens,
            encode=lambda text: self.tokenizer(text, add_special_tokens=False)["input_ids"],
        )  # fmt: skip
        for row, calls, succeeded in zip(rows, episodes.calls, episodes.succeeded, strict=True):
            row |= {"calls": calls, "succeeded_calls": succeeded}
        return episodes.answers, episodes.measures()

    def decode(self, ids: list[list[int]]) -> list[str]:
        """Return the texts of answers."""
        return list(self.tokenizer.batch_decode(ids, skip_special_tokens=True))

    def _sampled(
        self, model: PreTrainedModel, prompt_ids: list[list[int]], name: str, max_tokens: int, **more: Any
    ) -> Answers:
        seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")
        with self.autocast():
            return sample(
                model, prompt_ids, max_tokens=max_tokens, pad=self.tokenizer.pad_token_id,
                generator=torch.Generator().manual_seed(seed), temperature=self.settings.temperature, **more,
            )  # fmt: skip
