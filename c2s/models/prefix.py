"""One prefix, many continuations: attention in which all rows of a cell share the keys and values of its prompt.

A library of D drugs asks D questions about the same cell. Its prefix is run once; each row keeps keys and values of its
own tokens only. Attention adds both parts inside one softmax, so the result equals that of the full sequence, while
memory and traffic fall from ``D x (P + S)`` to ``P + D x S`` keys a cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from c2s.errors import ModelError
from c2s.models.batching import right_padded
from c2s.models.context import check_context

IMPLEMENTATION = "c2s_shared_prefix"
_UNSUPPORTED = ("position_bias", "s_aux")
_LOGIT_FACTORS = ("logit_scale", "logits_scaling", "logits_scale")  # of Cohere, Granite and the like
ROWS_PER_BATCH = 2048  # at most
FEW = 4  # queries of a row and head
ROOM = 64  # places that a cache keeps free for what comes next
BATCH_BYTES = {"cpu": 1 << 31, "cuda": 1 << 32}  # what the rows of a batch may hold; other devices are taken for a CPU


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    prefix: PrefixCache | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend to the own keys (masked by ``attention_mask``, (R, 1, T, S) bool) and to the cell's prefix together.

    Shapes: query (R, H, T, D); key, value (R, K, S, D) with K dividing H; rows are ordered cell by cell. Caps of the scores
    and sliding windows, where a layer has them, are its own.
    """
    unsupported = [name for name in _UNSUPPORTED if kwargs.get(name) is not None]
    if unsupported or attention_mask is None:
        msg = f"shared-prefix decoding does not support this model's attention ({', '.join(unsupported) or 'no mask'})"
        raise ModelError(msg)
    rows, heads, length, width = query.shape
    kv = key.shape[1]
    group = heads // kv
    scale = width**-0.5 if scaling is None else scaling
    cap, window = kwargs.get("softcap"), kwargs.get("sliding_window")
    first = prefix is None or prefix.keys[module.layer_idx] is None  # type: ignore[index]
    if prefix is not None:
        prefix.calls += 1
    if first and not cap and (window is None or window >= length):  # padding is on the right: no token sees it
        out = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=group > 1
        )
        return out.transpose(1, 2), None
    near = attention_mask
    if prefix is not None and window is not None:
        near = near & (prefix.places[:, None, -length:, None] - prefix.places[:, None, None, :] < window)
    grouped = (query * scale).reshape(rows, kv, group * length, width)
    # keys first: for few queries, as in decoding, the product then reads the keys at the speed of memory
    own = (key @ grouped.transpose(2, 3)).transpose(2, 3) if group * length <= FEW else grouped @ key.transpose(2, 3)
    own = _capped(own, cap).reshape(rows, kv, group, length, -1)
    own = own.masked_fill(~near[:, :, None], torch.finfo(own.dtype).min)
    if prefix is None or first:
        weights = torch.softmax(own, dim=-1)
        out = weights.view(rows, kv, group * length, -1) @ value
        return out.reshape(rows, heads, length, width).transpose(1, 2), None
    prefix_key, prefix_value = prefix.of_layer(module.layer_idx)  # type: ignore[arg-type]
    cells, places = prefix_key.shape[0], prefix_key.shape[2]
    each = rows // cells
    by_cell = grouped.view(cells, each, kv, group * length, width).transpose(1, 2).reshape(cells, kv, -1, width)
    far = _capped(by_cell @ prefix_key.transpose(2, 3), cap)
    far = far.masked_fill(~prefix.mask[:, None, None, :], torch.finfo(far.dtype).min)
    far = far.view(cells, kv, each, group * length, places).transpose(1, 2).reshape(rows, kv, group, length, places)
    if window is not None:
        seen = prefix.places[:, -length:, None] - prefix.far_places.repeat_interleave(each, dim=0)[:, None] < window
        far = far.masked_fill(~seen[:, None, None], torch.finfo(far.dtype).min)
    weights = torch.softmax(torch.cat([far, own], dim=-1), dim=-1)
    far_weights = weights[..., :places].reshape(cells, each, kv, group * length, places).transpose(1, 2)
    out = (far_weights.reshape(cells, kv, -1, places) @ prefix_value).view(cells, kv, each, group * length, width)
    out = out.transpose(1, 2).reshape(rows, kv, group * length, width)
    out = out + weights[..., places:].reshape(rows, kv, group * length, -1) @ value
    return out.reshape(rows, heads, length, width).transpose(1, 2), None


def _capped(scores: Tensor, cap: float | None) -> Tensor:
    return cap * torch.tanh(scores / cap) if cap else scores


AttentionInterface.register(IMPLEMENTATION, shared_prefix_attention)


class PrefixCache:
    """Keys and values of the prefixes of C cells, per layer: (C, K, P, D), with a mask of real places (C, P)."""

    def __init__(self, n_layers: int, mask: Tensor) -> None:
        self.keys: list[Tensor | None] = [None] * n_layers
        self.values: list[Tensor | None] = [None] * n_layers
        self.mask = mask
        self.far_places = (mask.cumsum(-1) - 1).clamp(min=0)
        self.places = self.far_places  # of the rows that attend now, their earlier tokens first
        self.last = mask.new_empty(0)  # hidden state of each prefix's last token, (C, width)
        self.calls = 0  # layers that have asked so far: a layer that does not ask computes something else

    def of_layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return keys and values of a layer."""
        key, value = self.keys[layer], self.values[layer]
        if key is None or value is None:
            msg = f"layer {layer} has no prefix"
            raise ModelError(msg)
        return key, value

    @property
    def lengths(self) -> Tensor:
        """Number of real prefix tokens of each cell, (C,)."""
        return self.mask.sum(-1)


class RowCache:
    """Keys and values of each row's own tokens, written in place; what transformers calls a cache.

    It makes room as it fills, to ``capacity`` places at most.
    """

    is_compileable = False

    def __init__(self, n_layers: int, capacity: int) -> None:
        self.capacity, self.used = capacity, 0
        self.keys: list[Tensor | None] = [None] * n_layers
        self.values: list[Tensor | None] = [None] * n_layers

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Store new keys and values and return all so far."""
        stop = self.used + key.shape[2]
        for store, new in ((self.keys, key), (self.values, value)):
            held = store[layer_idx]
            if held is None or stop > held.shape[2]:
                room = new.new_empty(*new.shape[:2], min(self.capacity, max(stop + ROOM, 2 * self.used)), new.shape[3])
                if held is not None:
                    room[:, :, : self.used] = held[:, :, : self.used]
                store[layer_idx] = held = room
            held[:, :, self.used : stop] = new
        return self.keys[layer_idx][:, :, :stop], self.values[layer_idx][:, :, :stop]  # type: ignore[index]

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) ``rows``, an index tensor."""
        for store in (self.keys, self.values):
            for layer, held in enumerate(store):
                if held is not None:
                    kept = held.new_empty(len(rows), *held.shape[1:])
                    kept[:, :, : self.used] = held[rows, :, : self.used]
                    store[layer] = kept

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of stored places."""
        return self.used


class PrefixDecoder:
    """Runs a causal LM over shared prefixes and growing rows.

    Parameters
    ----------
    model : PreTrainedModel
        A decoder whose attention goes through transformers' attention interface: causal, over all or a window of tokens.

    Raises
    ------
    ModelError
        The model scales its logits, which :meth:`logits` leaves out. Attention that is not as above is refused when it
        runs.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        factors = [name for name in _LOGIT_FACTORS if getattr(model.config, name, None) not in (None, 1)]
        if factors:
            msg = f"shared-prefix decoding does not support {type(model).__name__}, which scales its logits ({factors[0]})"
            raise ModelError(msg)
        self.model = model
        self.decoder = model.get_decoder()
        self.n_layers = model.config.num_hidden_layers
        self.device = model.device

    @property
    def bytes_per_place(self) -> int:
        """Bytes of one token's keys and values in all layers."""
        config = self.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return 2 * self.n_layers * heads * width * self.model.dtype.itemsize

    def rows_per_batch(self, places: int, *, beside: int = 0) -> int:
        """Return how many rows make a batch, at most :data:`ROWS_PER_BATCH` and at least one.

        A row holds keys and values of ``places`` tokens and ``beside`` other bytes; a batch holds :data:`BATCH_BYTES`.
        """
        budget = BATCH_BYTES.get(self.device.type, BATCH_BYTES["cpu"])
        return max(1, min(ROWS_PER_BATCH, budget // (places * self.bytes_per_place + beside)))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Use shared-prefix attention within the block, no gradients, evaluation mode; restore what was before."""
        before, training = self.model.config._attn_implementation, self.model.training
        self.model.set_attn_implementation(IMPLEMENTATION)
        self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.model.set_attn_implementation(before)
            self.model.train(training)

    def prefill(self, prefixes: Sequence[Sequence[int]], *, pad: int) -> PrefixCache:
        """Run the prefixes, one per cell (some or all may be empty), and return their keys and values."""
        ids, mask = right_padded(prefixes, pad, self.device)
        check_context(self.model.config, ids.shape[1])
        if not ids.shape[1]:  # one masked place, so that every cell has a prefix
            ids, mask = ids.new_full((len(ids), 1), pad), mask.new_zeros(len(ids), 1)
        rows = RowCache(self.n_layers, ids.shape[1])
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=self.device).tril()
        allowed = causal & mask[:, None, None, :]
        cache = PrefixCache(self.n_layers, mask)
        hidden = self._run(ids, allowed, cache.far_places, rows, cache)
        cache.last = hidden[torch.arange(len(ids), device=self.device), (mask.sum(1) - 1).clamp(min=0)]
        cache.keys, cache.values = rows.keys, rows.values
        return cache

    def extend(self, prefix: PrefixCache, rows: RowCache, ids: Tensor, seen: Tensor) -> Tensor:
        """Run new tokens of every row.

        Parameters
        ----------
        prefix : PrefixCache
            C cells.
        rows : RowCache
            State of R = C x E rows, ordered cell by cell; extended.
        ids : Tensor, shape (R, T), int64
            New tokens.
        seen : Tensor, shape (R, used + T), bool
            Real places of each row, the new ones included.

        Returns
        -------
        Tensor, shape (R, T, width)
            Last hidden states.
        """
        length, each = ids.shape[1], len(ids) // len(prefix.mask)
        check_context(self.model.config, prefix.mask.shape[1] + rows.used + length)
        places = torch.arange(seen.shape[1], device=self.device)
        causal = places[None, :] <= places[seen.shape[1] - length :, None]
        allowed = causal & seen[:, None, None, :]
        position = (seen.cumsum(-1) - 1).clamp(min=0) + prefix.lengths.repeat_interleave(each)[:, None]
        return self._run(ids, allowed, position, rows, prefix)

    def _run(self, ids: Tensor, allowed: Tensor, places: Tensor, rows: RowCache, prefix: PrefixCache) -> Tensor:
        before, prefix.places = prefix.calls, places
        out = self.decoder(
            input_ids=ids,
            attention_mask=allowed,
            position_ids=places[:, -ids.shape[1] :],
            past_key_values=rows,
            use_cache=True,
            prefix=prefix,
        )
        if prefix.calls - before != self.n_layers:
            msg = (
                f"shared-prefix decoding does not support {type(self.model).__name__}: {prefix.calls - before} of its "
                f"{self.n_layers} layers attend through transformers' attention interface"
            )
            raise ModelError(msg)
        rows.used += ids.shape[1]
        return out.last_hidden_state

    def logits(self, hidden: Tensor, tokens: Tensor | slice) -> Tensor:
        """Return the logits of ``tokens`` only, float32, (..., len(tokens)); a slice of them is not copied."""
        head = self.model.get_output_embeddings()
        out = hidden @ head.weight[tokens].T
        if getattr(head, "bias", None) is not None:
            out = out + head.bias[tokens]
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        out = out.float()
        return cap * torch.tanh(out / cap) if cap else out
