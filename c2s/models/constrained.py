"""The trie constraint within transformers' own ``generate``."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from c2s.engines.trie_constraint import TrieConstraint, TrieState
from c2s.errors import ModelError


class TrieLogits(LogitsProcessor):
    """Sets the logits of tokens that may not come next to minus infinity; the softmax then renormalises the rest.

    One call of ``generate`` writes answers of one constraint behind prompts of one padded length::

        logits = TrieLogits(constraint, inputs["input_ids"].shape[1])
        model.generate(
            **inputs,
            do_sample=True,
            top_k=0,
            max_new_tokens=constraint.max_length + 1,
            eos_token_id=constraint.pad,
            pad_token_id=constraint.pad,
            logits_processor=[logits],
        )

    ``top_k=0``, because by default transformers keeps only the 50 most likely tokens. Where rows changed since the
    last token, as beams do, their state is rebuilt from the start.

    Parameters
    ----------
    constraint : TrieConstraint
    prompt_length : int
        Tokens before the answers, padding on the left included.
    """

    supports_continuous_batching = False

    def __init__(self, constraint: TrieConstraint, prompt_length: int) -> None:
        self.constraint, self.prompt_length = constraint, prompt_length
        self._state: TrieState | None = None
        self._seen = torch.empty(0, 0, dtype=torch.long)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return ``scores``, (B, V), of what the constraint allows after ``input_ids``, (B, T); minus infinity elsewhere."""
        if scores.shape[-1] < self.constraint.n_tokens:
            msg = f"the model has {scores.shape[-1]} tokens, the constraint {self.constraint.n_tokens}; build it from the model's tokenizer"
            raise ModelError(msg)
        state = self._after(input_ids[:, self.prompt_length :])
        allowed = state.allowed(scores.shape[-1]).to(scores.device)
        flat = torch.full((scores.numel(),), -torch.inf, dtype=scores.dtype, device=scores.device)
        return flat.index_copy_(0, allowed, scores.reshape(-1).index_select(0, allowed)).view_as(scores)

    def _after(self, answers: Tensor) -> TrieState:
        """Return the state after ``answers``, (B, T): the last one and a token, if they go on from what was seen."""
        before, seen = answers[:, :-1], self._seen
        self._seen = answers.clone()
        if self._state is not None and answers.shape[1] and before.shape == seen.shape and torch.equal(before, seen):
            self._state.advance(answers[:, -1:])
        else:
            self._state = self.constraint.start(len(answers))
            self._state.advance(answers)
        return self._state
