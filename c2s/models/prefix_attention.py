"""Attention to a shared prefix and to a row's own tokens inside one softmax, and where their keys and values are kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface

from c2s.errors import ModelError

IMPLEMENTATION = "c2s_shared_prefix"
_UNSUPPORTED = ("position_bias", "s_aux")
FEW = 4  # queries of a row and head
ROOM = 64  # places that a cache keeps free for what comes next


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
    first = prefix is None or not prefix.holds(module.layer_idx)  # type: ignore[arg-type]
    if prefix is not None:
        prefix.calls += 1
    if first and not cap and (window is None or window >= length):  # padding is on the right: no token sees it
        out = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=group > 1
        )
        return out.transpose(1, 2), None
    if prefix is not None and prefix.leads and not cap and window is None:
        return _behind_one(query, key, value, *prefix.of_layer(module.layer_idx), scale).transpose(1, 2), None  # type: ignore[arg-type]
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


def _behind_one(query: Tensor, key: Tensor, value: Tensor, far_key: Tensor, far_value: Tensor, scale: float) -> Tensor:
    """Attend causally to the own tokens and wholly to one prefix (1, K, P, D), without ever holding the scores.

    On a CPU, torch's kernel attends to each part and says the logarithm of its sum, by which both are weighed; elsewhere the
    prefix is put before each row's keys.
    """
    rows, heads, length, _ = query.shape
    group = heads // key.shape[1]
    far_key, far_value = (part.expand(rows, -1, -1, -1) for part in (far_key, far_value))
    if query.device.type != "cpu":
        key, value = torch.cat([far_key, key], dim=2), torch.cat([far_value, value], dim=2)
        mask = causal_lower_right(length, key.shape[2])
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scale, enable_gqa=group > 1
        )
    key, value, far_key, far_value = (
        part.repeat_interleave(group, dim=1) if group > 1 else part for part in (key, value, far_key, far_value)
    )
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    near, near_sum = attend(query, key, value, is_causal=True, scale=scale)
    far, far_sum = attend(query, far_key, far_value, scale=scale)
    return torch.lerp(far, near, torch.sigmoid(near_sum - far_sum)[..., None].to(far.dtype))


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
        self.leads = (
            False  # one prefix of all rows, whose many tokens are the first behind it and have no padding before them
        )
        self.last = mask.new_empty(0)  # hidden state of each prefix's last token, (C, width)
        self.calls = 0  # layers that have asked so far: a layer that does not ask computes something else

    def holds(self, layer: int) -> bool:
        """Return whether a layer has read the prefixes already."""
        return self.keys[layer] is not None

    def of_layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return keys and values of a layer."""
        key, value = self.keys[layer], self.values[layer]
        if key is None or value is None:
            msg = f"layer {layer} has no prefix"
            raise ModelError(msg)
        return key, value

    def before(self, rows: RowCache) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Return keys and values, per layer, of this one prefix and of each row behind it, (R, K, P + S, D)."""

        def joined(far: list[Tensor | None], own: list[Tensor | None]) -> list[Tensor | None]:
            pairs = zip(far, own, strict=True)
            return [
                None if a is None or b is None else torch.cat([a.expand(len(b), -1, -1, -1), b], 2) for a, b in pairs
            ]

        return joined(self.keys, rows.keys), joined(self.values, rows.values)

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
        for layer in range(len(self.keys)):
            self._keep(layer, rows)

    def _keep(self, layer: int, rows: Tensor) -> None:
        for store in (self.keys, self.values):
            held = store[layer]
            if held is not None:
                kept = held.new_empty(len(rows), *held.shape[1:])
                kept[:, :, : self.used] = held[rows, :, : self.used]
                store[layer] = kept

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of stored places."""
        return self.used
