"""Training of masked-diffusion models: a random share of an answer's places is hidden, and is foretold from the rest in both directions.

For ``t ~ U(0, 1)`` each place of an answer of N places is hidden with probability ``p = (1 - ε) t + ε``, and the loss of an example is
``Σ_hidden w_i (-log q(x_i | seen)) / p / Σ_i w_i``, with equal weights in expectation a bound on the answer's negative log-likelihood per place (Nie et al. 2025, LLaDA;
Sahoo et al. 2024). The times of a batch are stratified, since 1/p makes the loss vary much. Prompts are never hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers.trainer_utils import EvalLoopOutput

from c2s.errors import ConfigError
from c2s.training.order import Shuffled
from c2s.training.sft import AnswerTrainer, answer_decoder, answer_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from c2s.training.cell_data import CellExamples
    from c2s.training.examples import RenderedExamples

LEAST_SHARE = 1e-3  # ε: hidden at the least
EVALUATION_SEED = 0  # of what is hidden of held-out examples, so that losses can be compared


def hiding_times(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Return stratified times, shape (n,), float32: one in each n-th of (0, 1), in random order."""
    shift = torch.rand((), generator=generator)
    return ((torch.arange(n) + shift) / n)[torch.randperm(n, generator=generator)]


def masked_diffusion_loss(
    model: PreTrainedModel, batch: dict[str, Tensor], *, mask_id: int, generator: torch.Generator | None = None
) -> Tensor:
    """Return the mean over examples of the weighted loss per place, nats, scalar; see the module.

    Parameters
    ----------
    model : PreTrainedModel
        Bidirectional (:func:`c2s.engines.elastic_cache.bidirectional.make_bidirectional`), or a peft model around one.
    batch : dict
        ``input_ids``, ``attention_mask`` and ``weights``, each (B, T); places with a weight above 0 are the answer's.
    mask_id : int
        Written where a token is hidden.
    generator : torch.Generator, optional
        On the CPU. Left out: torch's own state, which the trainer saves and restores.
    """
    ids, weights = batch["input_ids"], batch["weights"]
    share = (1 - LEAST_SHARE) * hiding_times(len(ids), generator) + LEAST_SHARE
    drawn = torch.rand(ids.shape, generator=generator) < share[:, None]
    hidden = drawn.to(ids.device) & (weights > 0)
    states = answer_decoder(model)(
        input_ids=ids.masked_fill(hidden, mask_id), attention_mask=batch["attention_mask"], use_cache=False
    ).last_hidden_state
    loss = nn.functional.cross_entropy(answer_logits(model, states[hidden]), ids[hidden], reduction="none")
    scale = weights / (share.to(weights.device)[:, None] * weights.sum(1, keepdim=True))
    return (loss * scale[hidden]).sum() / len(ids)


def require_canvas(examples: RenderedExamples | CellExamples | None, n_places: int, max_length: int) -> None:
    """Raise a ConfigError where a prompt and an answer of ``n_places`` are longer than the model reads."""
    n_prompt = examples.longest_prompt if examples is not None else 0
    if n_prompt + n_places > max_length:
        msg = f"a prompt of {n_prompt} tokens and an answer of {n_places} places; the model reads {max_length}. Lower n_genes or n_answer"
        raise ConfigError(msg)


class CanvasCollator:
    """Pads answers to a canvas of ``n_places``, padding to be foretold like any token, then the batch on the right.

    Parameters
    ----------
    pad : int
    n_places : int
        Places of an answer, stops included.
    """

    def __init__(self, pad: int, n_places: int) -> None:
        self.pad, self.n_places = pad, n_places

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return ``input_ids``, ``attention_mask`` and ``weights``, each (B, longest)."""
        starts = [int((example["weights"] > 0).argmax()) for example in examples]
        longest = max(starts) + self.n_places
        ids = torch.full((len(examples), longest), self.pad, dtype=torch.long)
        weights = torch.zeros(len(examples), longest)
        seen = torch.zeros(len(examples), longest, dtype=torch.long)
        for row, (example, start) in enumerate(zip(examples, starts, strict=True)):
            n = len(example["ids"])
            ids[row, :n] = torch.from_numpy(example["ids"].astype("int64"))
            weights[row, start : start + self.n_places] = 1.0
            weights[row, :n] = torch.from_numpy(example["weights"])
            seen[row, : start + self.n_places] = 1
        return {"input_ids": ids, "attention_mask": seen, "weights": weights}


class DiffusionTrainer(AnswerTrainer):
    """Trainer whose loss is :func:`masked_diffusion_loss`."""

    def __init__(self, *args: Any, mask_id: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mask_id = mask_id
        self._held_out = torch.Generator().manual_seed(EVALUATION_SEED)

    def batch_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch."""
        generator = None if model.training else self._held_out
        return masked_diffusion_loss(model, inputs, mask_id=self.mask_id, generator=generator)

    def batch_weight(self, inputs: dict[str, Tensor]) -> float:
        """Return the number of examples, of which the loss is the mean."""
        return float(len(inputs["input_ids"]))

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Return the held-out loss; the same places are hidden in every evaluation."""
        self._held_out = torch.Generator().manual_seed(EVALUATION_SEED)
        return super().evaluation_loop(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        """Shuffle: all answers are padded to one length."""
        examples = train_dataset if train_dataset is not None else self.train_dataset
        return Shuffled(len(examples), seed=self.args.data_seed)
