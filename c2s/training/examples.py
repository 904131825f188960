"""Rendered examples, flat in memory, and how they become batches: loss on the answer, no token of it ever cut off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from c2s.artefacts import hash_of
from c2s.errors import ConfigError, DataError
from c2s.tasks.base import Example, Genes

if TYPE_CHECKING:
    from c2s.models.tokenizer import PartTokenizer


@dataclass(frozen=True, eq=False)
class RenderedExamples:
    """Token ids of all examples, one after another.

    Attributes
    ----------
    ids : ndarray, int32, all tokens
    offsets : ndarray, int64, shape (n + 1,)
    answer_starts : ndarray, int64, shape (n,)
        Length of each prompt.
    weights : ndarray, float32, all tokens
        Loss weight, 0 on prompts.
    """

    ids: np.ndarray
    offsets: np.ndarray
    answer_starts: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> dict[str, Any]:
        span = slice(self.offsets[i], self.offsets[i + 1])
        return {
            "ids": self.ids[span],
            "weights": self.weights[span],
            "length": int(self.offsets[i + 1] - self.offsets[i]),
        }

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, int64."""
        return np.diff(self.offsets)

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt."""
        return int(self.answer_starts.max())

    @property
    def hash(self) -> str:
        """16 hex digits that name the examples."""
        return hash_of(self.ids, self.offsets, self.weights)


def render_examples(examples: Iterable[Example], tokens: PartTokenizer, *, max_length: int) -> RenderedExamples:
    """Return the examples as token ids.

    Raises
    ------
    DataError
        There is no example.
    ConfigError
        An example is longer than ``max_length``: nothing is cut, because the cut would fall on the answer.
    """
    ids: list[int] = []
    weights: list[float] = []
    offsets, starts = [0], []
    for example in examples:
        new, new_weights, n_prompt = rendered(example, tokens)
        require_length(n_prompt, len(new) - n_prompt, max_length)
        ids += new
        weights += new_weights
        starts.append(n_prompt)
        offsets.append(len(ids))
    if not starts:
        msg = "there is no training example; check the columns and the split"
        raise DataError(msg)
    return RenderedExamples(
        np.array(ids, dtype=np.int32), np.array(offsets), np.array(starts), np.array(weights, dtype=np.float32)
    )


def rendered(example: Example, tokens: PartTokenizer) -> tuple[list[int], list[float], int]:
    """Return the token ids of an example, the loss weight of each, and how many are the prompt's."""
    prompt, answer = tokens.render(example.prompt), tokens.render(example.answer)
    return prompt + answer, [0.0] * len(prompt) + _answer_weights(example, len(answer)), len(prompt)


def require_length(n_prompt: int, n_answer: int, max_length: int) -> None:
    """Raise a ConfigError where an example is longer than the model reads."""
    if n_prompt + n_answer > max_length:
        msg = (
            f"an example has {n_prompt} prompt and {n_answer} answer tokens; the model reads {max_length}. "
            "Lower n_genes or n_answer"
        )
        raise ConfigError(msg)


def _answer_weights(example: Example, length: int) -> list[float]:
    if example.weights is None:
        return [1.0] * length
    if not isinstance(example.answer[0], Genes) or len(example.weights) != len(example.answer[0].ids):
        msg = f"{len(example.weights)} weights for an answer that starts with {example.answer[0]!r}; give one per gene"
        raise ConfigError(msg)
    return [*example.weights.tolist(), *[1.0] * (length - len(example.weights))]


class Collator:
    """Pads a batch on the right; labels are the ids themselves, weights say where the loss lies."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return ``input_ids``, ``attention_mask`` and ``weights``, each (B, longest)."""
        longest = max(len(example["ids"]) for example in examples)
        ids = torch.full((len(examples), longest), self.pad, dtype=torch.long)
        weights = torch.zeros(len(examples), longest)
        for row, example in enumerate(examples):
            ids[row, : len(example["ids"])] = torch.from_numpy(example["ids"].astype(np.int64))
            weights[row, : len(example["ids"])] = torch.from_numpy(example["weights"])
        lengths = torch.tensor([len(example["ids"]) for example in examples])
        mask = torch.arange(longest)[None] < lengths[:, None]
        return {"input_ids": ids, "attention_mask": mask.long(), "weights": weights}
