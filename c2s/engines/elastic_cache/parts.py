"""What decoding needs of a model: embedding, layers that run on chosen rows, head; and its own forward pass to compare with."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from c2s.engines.elastic_cache.accounting import Shape
from c2s.engines.elastic_cache.attention import IMPLEMENTATION, Attending, Whole
from c2s.engines.elastic_cache.bidirectional import check_decoder, sees_both_ways
from c2s.engines.elastic_cache.shadow import shadow
from c2s.errors import ModelError

PROBE = 7  # tokens on which the parts are compared with the model


@dataclass(frozen=True)
class Head:
    """Logits of some tokens: ``weight @ hidden + bias``, capped.

    Attributes
    ----------
    weight : Tensor, shape (v, d)
    bias : Tensor, shape (v,), or None
    cap : float or None
    scale : float
    tokens : Tensor, shape (v,), int64, or None
        None is all.
    """

    weight: Tensor
    bias: Tensor | None = None
    cap: float | None = None
    scale: float = 1.0
    tokens: Tensor | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return logits (…, v) of hidden states (…, d)."""
        logits = functional.linear(hidden, self.weight, self.bias)
        if self.scale != 1.0:
            logits = logits * self.scale
        return self.cap * torch.tanh(logits / self.cap) if self.cap else logits

    def of(self, tokens: Tensor) -> Head:
        """Return the head of some tokens only."""
        bias = None if self.bias is None else self.bias[tokens]
        return Head(self.weight[tokens], bias, self.cap, self.scale, tokens)


class Places(Protocol):
    """What layers are told of places (their rotations, say), for sequences up to a length."""

    def at(self, rows: Tensor) -> Any:
        """Return what :meth:`DecoderParts.layer` wants for rows at these places, (R,) int64."""


class DecoderParts(ABC):
    """A decoder taken apart. The model itself is never changed: layers are a second tree over its weights.

    Attributes
    ----------
    mask_id : int
        The token of an open place.
    right_shift : bool
        Logits at a place are of the token behind it (Dream and other models that were causal).
    n_layers, n_tokens : int
    layer_weights : list of int
        Entries of the matrices of each layer, by which every row is multiplied once.
    head : Head
    widths : (int, int)
        Of keys and of values, all heads of queries together.
    """

    mask_id: int
    right_shift: bool
    n_layers: int
    n_tokens: int
    layer_weights: list[int]
    head: Head
    widths: tuple[int, int]

    @staticmethod
    @torch.no_grad()
    def of(model: nn.Module, *, mask_id: int, right_shift: bool = False) -> DecoderParts:
        """Return the parts of a model, after a check that they compute what it does.

        Parameters
        ----------
        model : Module
            A transformers decoder made bidirectional (:func:`~c2s.engines.elastic_cache.bidirectional.make_bidirectional`), or a
            module with LLaDA's names.
        mask_id : int
        right_shift : bool

        Raises
        ------
        ModelError
            The model is causal, of a kind that cannot be decoded like this, has no such token, or its parts say something else.
        """
        from c2s.engines.elastic_cache.llada import LladaParts, is_llada

        kind: type[DecoderParts] = LladaParts if is_llada(model) else TransformersParts
        parts = kind(model, mask_id=mask_id, right_shift=right_shift)  # type: ignore[call-arg]
        if not 0 <= mask_id < parts.n_tokens:
            msg = f"mask_id is {mask_id} and {type(model).__name__} has {parts.n_tokens} tokens; give the id of its mask token"
            raise ModelError(msg)
        _check(parts, type(model).__name__)
        return parts

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    @property
    def shape(self) -> Shape:
        """Sizes that operations follow from."""
        return Shape(tuple(self.layer_weights), self.head.weight.shape[1], *self.widths)

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """Return what the first layer is given, (R, d)."""

    @abstractmethod
    def places(self, length: int) -> Places:
        """Return what layers are told of the places of sequences up to ``length``."""

    @abstractmethod
    def layer(self, index: int, hidden: Tensor, told: Any, attending: Attending) -> Tensor:
        """Return hidden states (1, R, d) behind a layer, for rows whose places were told."""

    @abstractmethod
    def norm(self, hidden: Tensor) -> Tensor:
        """Return hidden states as the head takes them."""

    @abstractmethod
    def plain(self, ids: Tensor, rows: Tensor) -> Tensor:
        """Return the model's own logits (r, V) at some rows of one sequence (n,), from a full forward pass."""


class TransformersParts(DecoderParts):
    """The parts of a decoder of transformers: see :class:`DecoderParts`."""

    def __init__(self, model: Any, *, mask_id: int, right_shift: bool) -> None:
        check_decoder(model)
        name = type(model).__name__
        if not sees_both_ways(model):
            msg = f"{name} is causal; give make_bidirectional(model)"
            raise ModelError(msg)
        self.model: Any = shadow(model)
        ours: Any = shadow(model, attention=IMPLEMENTATION)
        base = ours.base_model
        norms = [getattr(base, field) for field in ("norm", "final_layer_norm") if hasattr(base, field)]
        output = ours.get_output_embeddings()
        if not hasattr(base, "layers") or not norms or output is None:
            msg = f"{name} does not keep its layers, last norm and head where decoders do; an adapter is needed (DecoderParts)"
            raise ModelError(msg)
        self.layers, self._norm, self._embedding = list(base.layers), norms[0], ours.get_input_embeddings()
        self.mask_id, self.right_shift, self.n_layers = mask_id, right_shift, len(self.layers)
        self.layer_weights = [sum(p.numel() for p in layer.parameters() if p.ndim == 2) for layer in self.layers]
        cap = getattr(model.config, "final_logit_softcapping", None)
        scale = getattr(model.config, "logit_scale", 1.0) / getattr(
            model.config, "logits_scaling", 1.0
        )  # Cohere, Granite
        bias = None if output.bias is None else output.bias.detach()
        self.head = Head(output.weight.detach(), bias, cap, scale)
        self.n_tokens = len(self.head.weight)
        self._shortened = "logits_to_keep" in inspect.signature(type(model).forward).parameters
        self._factor: Tensor | None = None
        ids = torch.arange(PROBE, device=self.device) % self.n_tokens
        given, embedded = _Told(self, PROBE).given[0].double(), self.embed(ids).double()
        if not torch.allclose(given, embedded):  # Gemma and Granite multiply
            factor = (given * embedded).sum() / (embedded * embedded).sum()
            if not torch.allclose(given, embedded * factor, rtol=1e-2, atol=1e-2 * float(given.abs().max())):
                msg = f"{name} adds something to its embeddings (learned places, say), which elastic decoding does not know; use another family"
                raise ModelError(msg)
            self._factor = factor.to(self.head.weight.dtype)

    def embed(self, ids: Tensor) -> Tensor:
        """See :meth:`DecoderParts.embed`."""
        hidden = self._embedding(ids)
        return hidden if self._factor is None else hidden * self._factor

    def places(self, length: int) -> Places:
        """See :meth:`DecoderParts.places`."""
        return _Told(self, length)

    def layer(self, index: int, hidden: Tensor, told: Any, attending: Attending) -> Tensor:
        """See :meth:`DecoderParts.layer`."""
        out = self.layers[index](hidden, elastic=attending, **told[index])
        return out[0] if isinstance(out, tuple) else out

    def norm(self, hidden: Tensor) -> Tensor:
        """See :meth:`DecoderParts.norm`."""
        return self._norm(hidden)

    def plain(self, ids: Tensor, rows: Tensor) -> Tensor:
        """See :meth:`DecoderParts.plain`."""
        if self._shortened:
            return self.model(input_ids=ids[None], use_cache=False, logits_to_keep=rows).logits[0]
        return self.model(input_ids=ids[None], use_cache=False).logits[0, rows]


class _Told:
    """Arguments that a model gives its layers, taken down from one pass in which no layer computes anything."""

    def __init__(self, parts: TransformersParts, length: int) -> None:
        probe: Any = shadow(parts.model.base_model)
        told: list[dict[str, Any]] = []
        inputs: list[Tensor] = []

        def note(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            inputs.append(hidden_states)
            told.append({**kwargs, "attention_mask": None})
            return hidden_states

        for layer in probe.layers:
            layer.forward = note
        ids = torch.arange(length, device=parts.device)[None] % parts.n_tokens
        probe(input_ids=ids, use_cache=False)
        if len(told) != parts.n_layers:
            msg = f"{type(parts.model).__name__} called {len(told)} of its {parts.n_layers} layers, and once each is needed; use another family"
            raise ModelError(msg)
        self.given, self.length, self._told = inputs[0], length, told

    def at(self, rows: Tensor) -> list[dict[str, Any]]:
        """See :class:`Places`."""
        cut: dict[int, Any] = {}  # layers are told the same tensors

        def sliced(value: Any) -> Any:
            if id(value) not in cut:
                if isinstance(value, tuple | list):
                    cut[id(value)] = tuple(sliced(part) for part in value)
                elif isinstance(value, Tensor) and value.ndim > 1 and value.shape[1] == self.length:
                    cut[id(value)] = value[:, rows]
                else:
                    cut[id(value)] = value
            return cut[id(value)]

        return [{name: sliced(value) for name, value in each.items()} for each in self._told]


def _check(parts: DecoderParts, name: str) -> None:
    """Raise ModelError where the parts, put together, say something else than the model."""
    rows = torch.arange(PROBE, device=parts.device)
    ids = rows % parts.n_tokens
    whole = Whole(PROBE, parts.device)
    told = parts.places(PROBE).at(rows)
    hidden = parts.embed(ids)[None]
    for index in range(parts.n_layers):
        hidden = parts.layer(index, hidden, told, whole)
    if whole.asked != parts.n_layers:
        msg = f"{whole.asked} of {name}'s {parts.n_layers} layers asked for attention; the others attend in a way of their own. Use another family"
        raise ModelError(msg)
    parts.widths = whole.widths
    ours, theirs = parts.head(parts.norm(hidden[0])).double(), parts.plain(ids, rows).double()
    error, size = float((ours - theirs).abs().max()), float(theirs.abs().max())
    precise = parts.head.weight.dtype in (torch.float32, torch.float64)
    if not error <= (1e-4 if precise else 5e-2) * (1 + size):
        msg = (
            f"{name} taken apart is {error:.2g} away from its own logits (up to {size:.2g}): it does something between its layers, "
            "or behind its head, that elastic decoding does not know. Use another family, or an adapter (DecoderParts)"
        )
        raise ModelError(msg)
