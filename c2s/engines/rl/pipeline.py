"""Answers written ahead of training by a copy of the policy that takes new weights in mid-sentence.

PipelineRL (Piché et al., arXiv 2509.19128), as ScaleRL uses it (arXiv 2510.13786): generation never waits for an update to
end, weights are pushed into it as they come and the keys and values of earlier tokens stay, and the policy that is trained is
never more than ``k`` updates ahead of the oldest weights an answer was begun with. Threads of one process: the two
share its cores.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2s.errors import ModelError

# the copy of the policy, the step, and what is called before each token → whatever is to be known of the step's answers
Write = Callable[[PreTrainedModel, int, Callable[[], None]], Any]


class Written(NamedTuple):
    """Answers of a step, and the version of the weights that wrote their first and last token: updates done by then."""

    answers: Any
    begun: int
    ended: int


class Pipeline:
    """A thread that writes the answers of step after step.

    Parameters
    ----------
    model : PreTrainedModel
        The policy, copied when the pipeline starts.
    write : callable
        ``(copy, step, before_token) → answers``, run in the thread; it calls ``before_token`` before each token.
    fp32_logits : bool
        The copy's output layer runs in float32.
    staleness : int
        k: the answers of step s are begun once s - k updates are done; 0 writes each step's answers by the weights it trains.
    """

    def __init__(self, model: PreTrainedModel, write: Write, *, staleness: int, fp32_logits: bool = False) -> None:
        self._model, self._write, self.staleness, self._fp32_logits = model, write, staleness, fp32_logits
        self._changed = threading.Condition()
        self._version, self._in_use, self._pushed = 0, 0, None  # type: int, int, list[Tensor] | None
        self._written: dict[int, Written] = {}
        self._error: BaseException | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self, step: int) -> None:
        """Begin with the answers of ``step``, by the policy as it is now."""
        self._version = self._in_use = step
        self._copy = policy_copy(self._model, fp32_logits=self._fp32_logits)
        self._thread = threading.Thread(target=self._run, args=(step,), name="c2s-generator", daemon=True)
        self._thread.start()

    def push(self, version: int) -> None:
        """Tell that the policy now has ``version`` updates; the thread takes its weights before the next token."""
        weights = [parameter.detach().clone() for parameter in self._model.parameters()]
        with self._changed:
            self._version, self._pushed = version, weights
            self._changed.notify_all()

    def take(self, step: int) -> Written:
        """Wait for the answers of a step and return them.

        Raises
        ------
        ModelError
            Generation failed; the cause is chained.
        """
        with self._changed:
            self._changed.wait_for(lambda: step in self._written or self._error is not None or self._closed)
            if step not in self._written:
                msg = f"the answers of step {step} were not written: {self._error or 'the pipeline is closed'}"
                raise ModelError(msg) from self._error
            return self._written.pop(step)

    def close(self) -> None:
        """End the thread; answers that were not taken are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, step: int) -> None:
        try:
            while True:
                with self._changed:
                    while not self._closed and self._version < step - self.staleness:
                        self._changed.wait()
                    if self._closed:
                        return
                self._refresh()
                begun = self._in_use
                answers = self._write(self._copy, step, self._refresh)
                with self._changed:
                    self._written[step] = Written(answers, begun, self._in_use)
                    self._changed.notify_all()
                step += 1
        except _ClosedError:
            return
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            with self._changed:
                self._error = error
                self._changed.notify_all()

    @torch.no_grad()
    def _refresh(self) -> None:
        """Take the newest weights, if there are newer ones than those in use."""
        with self._changed:
            if self._closed:
                raise _ClosedError
            weights, version, self._pushed = self._pushed, self._version, None
        if weights is not None:
            for own, new in zip(self._copy.parameters(), weights, strict=True):
                own.copy_(new)
            self._in_use = version


def policy_copy(model: PreTrainedModel, *, fp32_logits: bool = False) -> PreTrainedModel:
    """Return a model of the same class, settings and weights, made anew, in evaluation mode: without dropout, as it is trained.

    A deep copy would not do: trainers put functions in place of ``forward`` that hold on to the original's weights.
    """
    with torch.random.fork_rng():
        made = type(model)(copy.deepcopy(model.config))
    made.to(model.device).load_state_dict(model.state_dict())
    for new, old in zip(made.parameters(), model.parameters(), strict=True):
        new.data = old.detach().clone()  # each in its own precision
    if fp32_logits:
        head_in_float32(made)
    return made.eval()


def head_in_float32(model: PreTrainedModel) -> None:
    """Run a model's output layer in float32, whatever precision is asked for around it, as the loss does."""
    head = model.get_output_embeddings()

    def in_float32(hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            bias = None if head.bias is None else head.bias.float()
            return torch.nn.functional.linear(hidden.float(), head.weight.float(), bias)

    head.forward = in_float32


class _ClosedError(Exception):
    """The pipeline was closed in mid-sentence."""
