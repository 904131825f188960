"""Plans applied to a decoder inside a context manager: layers of a frozen model are skipped, run, or run twice.

A plan is decided once a sequence, while its prompt is read, and frozen: it lies in the sequence's cache, or in the call of ``generate``
where there is no cache. Rows of one batch may differ: each layer is run on the rows that run it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from c2s.engines.layer_routing.decisions import Decider, FixedPlans, Reading
from c2s.engines.layer_routing.plan import EXECUTE, REPEAT, LayerPlan
from c2s.engines.layer_routing.slots import (
    UNDECIDED,
    Slot,
    again_slot,
    check_cache,
    find_plans,
    freeze_plans,
    keep_rows,
    write_ghost,
)
from c2s.engines.layer_routing.support import Decoder, decoder_of
from c2s.errors import ConfigError, ModelError


@dataclass
class GenerateCall:
    """One call of ``generate``."""

    rows: int | None
    actions: Tensor | None = None  # as frozen, for generation without a cache


@dataclass
class Routing:
    """A decoder under plans.

    Attributes
    ----------
    decoder : Decoder
    decider : Decider
    executed : int
        Token-layers that were run since the block was entered, padding included.
    whole : int
        Token-layers that the model as it is would have run.
    """

    decoder: Decoder
    decider: Decider
    executed: int = 0
    whole: int = 0
    _request: GenerateCall | None = None
    _mask: Any = None
    _reading: Reading | None = field(default=None, repr=False)

    @property
    def plans(self) -> list[LayerPlan]:
        """Return the plan of each row of the last forward pass; a ModelError before there was one."""
        if self._reading is None or bool((self._reading.actions == UNDECIDED).any()):
            msg = "no plan was decided: nothing was run under these plans yet"
            raise ModelError(msg)
        return [LayerPlan(row) for row in self._reading.actions.tolist()]

    def begin(self, hidden: Tensor, cache: Any) -> None:
        """Find the plans of a pass that is about to enter the first layer, or begin new ones."""
        batch, n_layers, request = hidden.shape[0], self.decoder.n_layers, self._request
        rows = None if request is None else request.rows
        frozen = None
        if cache is not None:
            check_cache(cache)
            frozen = find_plans(cache)
            decided = frozen is not None
            frozen = frozen or freeze_plans(cache, batch, n_layers)
            actions = frozen.actions
            if decided and isinstance(self.decider, FixedPlans) and not self.decider.has(actions):
                msg = "the cache was filled under other plans than those of this block; begin with an empty one"
                raise ModelError(msg)
        elif request is not None and request.actions is not None:
            decided, actions = True, request.actions
        else:
            decided, actions = False, torch.full((batch, n_layers), UNDECIDED, dtype=torch.int8)
            if request is not None:
                request.actions = actions
        if len(actions) != batch:
            msg = f"the plans were decided for {len(actions)} rows, and {batch} come now; a sequence keeps its plan from its prompt on"
            raise ModelError(msg)
        self._reading = Reading(self._mask, actions, decided, rows, cache, frozen)

    def run(
        self, index: int, layer: Callable[..., Tensor], hidden: Tensor, args: Any, kwargs: dict[str, Any]
    ) -> Tensor:
        """Return what leaves a layer, of shape ``hidden``, given what enters it."""
        if index == 0:
            self.begin(hidden, kwargs.get(self.decoder.cache_name))
        reading = self._reading
        assert reading is not None
        if not reading.decided:
            reading.actions[:, index] = self.decider.decide(index, hidden, reading).to("cpu", torch.int8)
        actions = reading.actions[:, index]
        self.whole += hidden.shape[0] * hidden.shape[1]
        first, second = actions >= EXECUTE, actions == REPEAT
        if first.any():
            hidden = self._run_rows(index, first, layer, hidden, args, kwargs)
        elif reading.cache is not None:
            write_ghost(reading.cache, index, hidden)
        if second.any():
            if reading.cache is not None:
                assert reading.frozen is not None
                again = again_slot(reading.cache, reading.frozen, index)
                kwargs = {**kwargs, self.decoder.cache_name: Slot(reading.cache, again)}
                hidden = self._run_rows(again, second, layer, hidden, args, kwargs)
            else:
                hidden = self._run_rows(index, second, layer, hidden, args, kwargs)
        return hidden

    def _run_rows(self, slot: int, rows: Tensor, layer: Callable[..., Tensor], hidden: Tensor, args: Any, kwargs: dict[str, Any]) -> Tensor:  # fmt: skip
        """Run a layer on the rows that are marked; the others leave as they entered."""
        self.executed += int(rows.sum()) * hidden.shape[1]
        if bool(rows.all()):
            return layer(hidden, *args, **kwargs)
        reading = self._reading
        assert reading is not None
        if reading.cache is not None and not reading.decided:
            keep_rows(reading.cache, slot, rows.clone())
        chosen = rows.nonzero()[:, 0].to(hidden.device)
        told = {name: _rows_of(value, chosen, len(rows)) for name, value in kwargs.items()}
        left = layer(hidden[chosen], *_rows_of(args, chosen, len(rows)), **told)
        return hidden.index_copy(0, chosen, left)


def _rows_of(value: Any, chosen: Tensor, batch: int) -> Any:
    """Return masks, positions and the like of some rows; what has no row for each stays."""
    if isinstance(value, Tensor):
        return value[chosen.to(value.device)] if value.ndim and value.shape[0] == batch else value
    if isinstance(value, tuple):
        return tuple(_rows_of(each, chosen, batch) for each in value)
    if type(value).__name__ == "BlockMask":
        msg = "rows of a batch cannot have different plans under flex attention; load the model with attn_implementation='sdpa' or 'eager'"
        raise ModelError(msg)
    return value


@dataclass
class _Routed:
    """What stands in for the ``forward`` of a layer."""

    routing: Routing
    index: int
    layer: Callable[..., Tensor]

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.routing.run(self.index, self.layer, hidden_states, args, kwargs)


@contextmanager
def decided(model: Any, decider: Decider, *, whole_prompts: bool = True) -> Iterator[Routing]:
    """Let ``decider`` say, while a prompt is read, which layers each sequence skips, runs or repeats.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
    decider : Decider
    whole_prompts : bool
        Refuse a prompt that ``generate`` reads in chunks: what is decided may depend on all of it.

    Raises
    ------
    ModelError
        The model cannot be routed, or is already; or, inside the block, its cache cannot hold plans.
    """
    decoder = decoder_of(model)
    routing = Routing(decoder, decider)
    if any(isinstance(layer.__dict__.get("forward"), _Routed) for layer in decoder.layers):
        msg = "the model is under plans already; leave the inner `with`, or decide all in one"
        raise ModelError(msg)
    handle = decoder.body.register_forward_pre_hook(_mask_reader(routing), with_kwargs=True)
    before = [(layer, layer.__dict__.get("forward")) for layer in decoder.layers]
    generate = decoder.model.__dict__.get("generate")
    try:
        for index, layer in enumerate(decoder.layers):
            layer.forward = _Routed(routing, index, layer.forward)
        if hasattr(decoder.model, "generate"):
            decoder.model.generate = _request_maker(routing, decoder.model.generate, whole_prompts)
        yield routing
    finally:
        handle.remove()
        for module, name, own in [
            *((layer, "forward", own) for layer, own in before),
            (decoder.model, "generate", generate),
        ]:
            module.__dict__.pop(name, None)
            if own is not None:
                module.__dict__[name] = own


def _mask_reader(routing: Routing) -> Callable[..., None]:
    def read(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        routing._mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)

    return read


def _request_maker(routing: Routing, generate: Callable[..., Any], whole_prompts: bool) -> Callable[..., Any]:
    def requested(inputs: Tensor | None = None, generation_config: Any = None, *args: Any, **kwargs: Any) -> Any:
        config = generation_config or getattr(routing.decoder.model, "generation_config", None)
        chunk = kwargs.get("prefill_chunk_size", getattr(config, "prefill_chunk_size", None))
        if whole_prompts and chunk is not None:
            msg = f"prefill_chunk_size={chunk} reads a prompt in parts, and these plans are decided on all of it; leave it out"
            raise ConfigError(msg)
        given = next(
            (each for each in (inputs, kwargs.get("input_ids"), kwargs.get("inputs_embeds")) if each is not None), None
        )
        outer, routing._request = routing._request, GenerateCall(None if given is None else len(given))
        try:
            return generate(inputs, generation_config, *args, **kwargs)
        finally:
            routing._request = outer

    return requested


@contextmanager
def routed(model: Any, plans: LayerPlan | Sequence[LayerPlan]) -> Iterator[Routing]:
    """Run a decoder under a plan, or under one plan a row; forward passes and every way to ``generate``.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        Llama, Mistral, Qwen 2, Qwen 3, GPT-NeoX or Gemma 2; frozen, tuned or with adapters. It is as before when the block is left.
    plans : LayerPlan or sequence of LayerPlan
        For all rows, or one for each row of the batches inside the block.

    Yields
    ------
    Routing
        Counts token-layers, and knows the plans of the rows it ran last.

    Raises
    ------
    ConfigError
        A plan is of another number of layers; inside the block, there are neither one plan nor as many as rows.
    ModelError
        The model cannot be routed, or is already; inside the block, its cache is none that can hold plans, or was filled under others.

    Notes
    -----
    A skipped layer leaves zeros of shape (B, 1, T, 1) in its slot of the cache, because a model takes the length of all layers from one
    of them. The second run of a repeated layer has a slot of its own: the layer's would show it the keys of the first. With
    ``output_hidden_states`` a repeated layer is seen once, with ``output_attentions`` twice and a skipped one not at all.
    """
    told = [plans] if isinstance(plans, LayerPlan) else list(plans)
    n_layers = decoder_of(model).n_layers
    if not told:
        msg = "there is no plan; give one, or one a row"
        raise ConfigError(msg)
    if wrong := [plan for plan in told if len(plan) != n_layers]:
        msg = f"plan {wrong[0]} is of {len(wrong[0])} layers; the model has {n_layers}"
        raise ConfigError(msg)
    with decided(model, FixedPlans(told), whole_prompts=False) as routing:
        yield routing
