"""What a layer plan is worth on a cell: how sure the model is of the right label of its closed set, in one forward pass.

Prompt and all labels are one sequence, in which each label sees the prompt and itself. So a plan costs the prompt once, whatever the number
of labels, and plans with the same first layers share them (:class:`~c2s.engines.layer_routing.prefix.PrefixReuse`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.prefix import PrefixReuse
from c2s.errors import ModelError
from c2s.models.context import check_context

if TYPE_CHECKING:
    from c2s.models.cell_lm import CellLM
    from c2s.sentences.corpus import CellSentences

Kind = Literal["log_probability", "correct"]
KEPT = 256  # hidden states of one cell


def packed(
    model: PreTrainedModel, prompt: Sequence[int], answers: Sequence[Sequence[int]]
) -> tuple[dict[str, Any], list[list[int]]]:
    """Return one sequence of a prompt and all answers but their last tokens, and where each answer is foretold.

    Parameters
    ----------
    model : PreTrainedModel
    prompt : sequence of token ids
    answers : sequence of token ids, the end among them

    Returns
    -------
    inputs : dict
        ``input_ids`` and ``position_ids`` of shape (1, T), ``attention_mask`` of shape (1, 1, T, T), added to the scores, and
        ``logits_to_keep``: the last token of the prompt and all behind it.
    places : list of list of int
        For each answer the rows of the logits that foretell its tokens.

    Raises
    ------
    ModelError
        The model looks back over a window that is shorter than that.
    """
    ids, owner, position = list(prompt), [-1] * len(prompt), list(range(len(prompt)))
    places = []
    for answer, tokens in enumerate(answers):
        first = len(ids) - len(prompt) + 1  # row 0 is the last token of the prompt
        places.append([0, *range(first, first + len(tokens) - 1)])
        ids += tokens[:-1]
        owner += [answer] * (len(tokens) - 1)
        position += range(len(prompt), len(prompt) + len(tokens) - 1)
    window = getattr(model.config, "sliding_window", None)
    if window is not None and window <= max(position):
        msg = f"prompt and label take {max(position) + 1} tokens, and the model looks back over {window}; plans are searched for models that see all"
        raise ModelError(msg)
    check_context(model.config, max(position) + 2)
    owners, order = torch.tensor(owner), torch.arange(len(ids))
    seen = ((owners[None] == -1) | (owners[None] == owners[:, None])) & (order[None] <= order[:, None])
    mask = torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~seen, torch.finfo(model.dtype).min)
    inputs = {
        "input_ids": torch.tensor([ids]), "position_ids": torch.tensor([position]), "attention_mask": mask[None, None],
        "logits_to_keep": torch.arange(len(prompt) - 1, len(ids)),
    }  # fmt: skip
    return {name: value.to(model.device) for name, value in inputs.items()}, places


class LabelRewards:
    """Rewards of plans on cells, a :class:`~c2s.engines.layer_routing.rewards.PairReward`.

    ``"log_probability"`` is log p(right label), in nats, of the softmax over the closed set: the margin to the other labels, but one that
    ends at 0, so that being surer of what is right already pays for no layer. ``"correct"`` is 1 where the right label is the first of the
    most likely ones, else 0: with few labels a wrong plan often has it by luck.

    Parameters
    ----------
    model : CellLM
        Without :attr:`~c2s.models.cell_lm.CellLM.routing`.
    sentences : CellSentences
    truth : sequence of str
        Label of each cell, among the model's training labels.
    kind : {"log_probability", "correct"}

    Attributes
    ----------
    executed, naive : int
        Token-layers that were run, and those of whole passes.
    """

    def __init__(
        self, model: CellLM, sentences: CellSentences, truth: Sequence[str], *, kind: Kind = "log_probability"
    ) -> None:
        self.model, self.kind = model, kind
        self.prompts = [passage.ids for passage in model.passages(sentences)]
        labels = list(model.settings.labels)
        self.answers = model.label_tokens(labels, model.vocabulary)
        self.right = [labels.index(label) for label in truth]
        self.executed = self.naive = 0
        self._known: dict[tuple[int, LayerPlan], float] = {}
        self._at: int | None = None
        self._reuse: PrefixReuse

    def __call__(self, samples: Sequence[int], plans: Sequence[LayerPlan], /) -> list[float]:
        """Return the reward of each plan on the cell of the same place; plans of one cell in a row share layers."""
        return [self.reward(cell, plan) for cell, plan in zip(samples, plans, strict=True)]

    def reward(self, cell: int, plan: LayerPlan) -> float:
        """Return the reward of a plan on a cell; a question that was asked before is not asked again."""
        if (cell, plan) not in self._known:
            if self._at != cell:
                self._at, self._reuse = cell, self._begun(cell)
            length, before = self._reuse.inputs["input_ids"].shape[1], (self._reuse.executed, self._reuse.naive)
            self._known[cell, plan] = self._reuse(plan)
            self.executed += length * (self._reuse.executed - before[0])
            self.naive += length * (self._reuse.naive - before[1])
        return self._known[cell, plan]

    def _begun(self, cell: int) -> PrefixReuse:
        inputs, places = packed(self.model.model, self.prompts[cell], self.answers)
        return PrefixReuse(self.model.model, inputs, lambda out: self._score(out.logits[0], places, cell), keep=KEPT)

    def _score(self, logits: Tensor, places: Sequence[Sequence[int]], cell: int) -> float:
        log_p = logits[:, : self.model.n_outputs].double().log_softmax(-1)
        scores = torch.stack([log_p[rows, answer].sum() for rows, answer in zip(places, self.answers)])
        if self.kind == "correct":
            return float(int(scores.argmax()) == self.right[cell])
        return float(scores.log_softmax(0)[self.right[cell]])
