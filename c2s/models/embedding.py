"""Vectors of cells: hidden states of a language model over a fixed prompt, averaged over the cell's genes or of the last token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from c2s.errors import ConfigError, ModelError
from c2s.models.batching import TOKENS, by_length, right_padded
from c2s.models.context import check_context
from c2s.models.prefix import PrefixDecoder

Pooling = Literal["mean", "last"]


@dataclass(frozen=True)
class Passage:
    """A prompt and the tokens of its cell: ``ids[start:stop]``."""

    ids: Sequence[int]
    start: int
    stop: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def place(self) -> slice:
        """Where the cell's tokens lie."""
        return slice(self.start, self.stop)


class _Reached(Exception):
    """No error: carries the hidden states of a layer out of the model, whose other layers need not run."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Return the blocks of a decoder, whatever they are called.

    Raises
    ------
    ModelError
        There is no list of as many modules as the model has layers.
    """
    n = model.config.num_hidden_layers
    for module in model.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == n:
            return module
    msg = f"{type(model).__name__} has no list of its {n} layers; embed with the last one, layer=None"
    raise ModelError(msg)


def embed_passages(
    model: PreTrainedModel,
    passages: Iterable[Passage],
    *,
    pad: int,
    layer: int | None = None,
    pooling: Pooling = "mean",
    batch_size: int = 1024,
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield vectors, float32 (batch, width), with the places of their passages in the stream.

    What follows the pooled tokens is not run, and what the prompts of a batch begin with alike is run once. Prompts are padded
    on the right, where a causal model does not look, so that a vector does not depend on its batch-mates (but for the rounding
    of differently shaped matrix products, below 1e-5 in float32).

    Parameters
    ----------
    passages : iterable of Passage
    pad : int
        Any token.
    layer : int, optional
        0 is the token embeddings, k the output of block k; None the last, behind the final norm. Negative numbers count
        from the last block, before that norm.
    pooling : {"mean", "last"}
        Mean over the cell's tokens, or the prompt's last token. A cell without genes gets its prompt's last token.
    batch_size : int
        Most prompts of a batch.

    Raises
    ------
    ConfigError
        There is no such layer or pooling, or a prompt is longer than the model can read (:func:`c2s.models.context.check_context`).
    """
    if pooling not in get_args(Pooling):
        msg = f"pooling={pooling!r}; choose {', '.join(map(repr, get_args(Pooling)))}"
        raise ConfigError(msg)
    stop, shared = _checked_layer(model, layer), _shared(model)
    budget = TOKENS.get(model.device.type, TOKENS["cpu"])
    with _evaluated(model), torch.inference_mode():
        needed = (_needed(passage, pooling) for passage in passages)
        for places, batch in by_length(needed, tokens=budget, rows=batch_size):
            sequences, pooled = [passage.ids for passage in batch], [_pooled(passage, pooling) for passage in batch]
            common = shared.common(sequences, most=min(place.start for place in pooled)) if shared else 0
            ids, seen = right_padded([sequence[common:] for sequence in sequences], pad, model.device)
            check_context(model.config, common + ids.shape[1])
            if shared and common:
                with shared.attached():
                    start = shared.prefill([sequences[0][:common]], pad=pad)
                    hidden = _reached(model, stop, partial(shared.extend, start, None, ids, seen))
            else:
                hidden = _reached(model, stop, partial(_whole, model, ids))
            weights = torch.zeros(ids.shape, device=model.device)
            for row, place in enumerate(pooled):
                weights[row, place.start - common : place.stop - common] = 1.0
            weights /= weights.sum(1, keepdim=True)
            vectors = torch.bmm(weights[:, None], hidden.float())[:, 0]
            yield places, vectors.cpu().numpy()


def _needed(passage: Passage, pooling: Pooling) -> Passage:
    """Return the passage without what follows the tokens that are pooled: a causal model does not look there."""
    stop = _pooled(passage, pooling).stop
    return Passage(passage.ids[:stop], passage.start, passage.stop)


def _pooled(passage: Passage, pooling: Pooling) -> slice:
    empty = passage.stop <= passage.start
    return slice(len(passage) - 1, len(passage)) if pooling == "last" or empty else passage.place


def _checked_layer(model: PreTrainedModel, layer: int | None) -> int | None:
    n = model.config.num_hidden_layers
    if layer is None or 0 <= layer <= n:
        return layer
    if -n <= layer < 0:
        return n + 1 + layer
    msg = f"layer={layer}; the model has {n} layers: 0 (embeddings) to {n}, or -1 to -{n}, or None for the normalised last"
    raise ConfigError(msg)


def _shared(model: PreTrainedModel) -> PrefixDecoder | None:
    """Return what runs a common beginning once, where the model's attention can be told of it."""
    try:
        decoder = PrefixDecoder(model)
        with decoder.attached():
            decoder.extend(decoder.prefill([[0]], pad=0), None, *right_padded([[0]], 0, model.device))
    except Exception:  # noqa: BLE001 - whatever a model cannot do with a prefix, it is run whole, as it always could be
        return None
    return decoder


def _whole(model: PreTrainedModel, ids: Tensor) -> Tensor:
    return model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state


def _reached(model: PreTrainedModel, layer: int | None, run: Callable[[], Tensor]) -> Tensor:
    """Return hidden states (B, T, width) of a layer; blocks behind it do not run."""
    if layer is None:
        return run()

    def entered(module: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        raise _Reached(arguments[0] if arguments else named["hidden_states"])

    def left(module: nn.Module, arguments: tuple[Tensor, ...], out: Tensor | tuple[Tensor, ...]) -> None:
        raise _Reached(out if isinstance(out, Tensor) else out[0])

    blocks = layers_of(model)
    handle = (
        blocks[0].register_forward_pre_hook(entered, with_kwargs=True)
        if layer == 0
        else blocks[layer - 1].register_forward_hook(left)
    )
    try:
        run()
    except _Reached as reached:
        return reached.hidden
    finally:
        handle.remove()
    msg = f"layer {layer} of {type(model).__name__} did not run"
    raise ModelError(msg)


@contextmanager
def _evaluated(model: PreTrainedModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def gathered(
    batches: Iterable[tuple[list[int], np.ndarray]], n: int, *, done: Callable[[int], object] = lambda _: None
) -> np.ndarray:
    """Return the vectors of all ``n`` passages in order, float32 (n, width); ``done`` is told how many each batch added."""
    out: np.ndarray | None = None
    for places, vectors in batches:
        if out is None:
            out = np.empty((n, vectors.shape[1]), dtype=np.float32)
        out[places] = vectors
        done(len(places))
    return np.empty((0, 0), dtype=np.float32) if out is None else out
