"""Attention of some rows to all keys: fused, or by hand where the weights themselves are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from c2s.errors import ModelError

IMPLEMENTATION = "c2s_elastic"
_UNSUPPORTED = ("position_bias", "s_aux")  # relative position biases and attention sinks


@dataclass(frozen=True)
class Kind:
    """How a layer scores: factor, cap (``cap * tanh(score / cap)``), and how far it sees to either side."""

    scale: float
    cap: float | None = None
    window: int | None = None


class Attending(Protocol):
    """Who keeps keys and values while a layer runs."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, kind: Kind) -> Tensor:
        """Return attention's output (1, R, H, D) for queries (1, H, R, D), new keys and values (1, K, R, D)."""


def elastic_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    elastic: Attending | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Hand a layer's rows to who holds the cache; the layers' argument ``elastic`` says who."""
    unsupported = [name for name in _UNSUPPORTED if kwargs.get(name) is not None]
    if unsupported or elastic is None:
        found = f"attention with {', '.join(unsupported)}" if unsupported else "layers that do not pass arguments on"
        msg = f"{type(module).__name__} has {found}, which elastic decoding does not know; use another family"
        raise ModelError(msg)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return elastic.attend(query, key, value, Kind(scale, softcap, sliding_window)), None


AttentionInterface.register(IMPLEMENTATION, elastic_attention)


def weights(query: Tensor, key: Tensor, kind: Kind, rows: Tensor) -> Tensor:
    """Return attention weights, float32 at least, shape (H, r, n).

    Parameters
    ----------
    query : Tensor, shape (H, r, D)
    key : Tensor, shape (n, K, D)
        K divides H.
    kind : Kind
    rows : Tensor, shape (r,), int64
        Places of the queries; key ``i`` is at place ``i``.
    """
    heads, count, width = query.shape
    kv = key.shape[1]
    grouped = query.reshape(kv, heads // kv * count, width)
    scores = torch.baddbmm(
        query.new_empty(1).expand(kv, 1, 1), grouped, key.permute(1, 2, 0), beta=0, alpha=kind.scale
    ).view(heads, count, -1)
    if kind.cap:
        scores = scores.div_(kind.cap).tanh_().mul_(kind.cap)
    if (seen := _seen(kind, rows, key.shape[0])) is not None:
        scores.masked_fill_(~seen, -torch.inf)
    return torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))


def weighted(weight: Tensor, value: Tensor) -> Tensor:
    """Return values (n, K, D) averaged by weights (H, r, n), shape (1, r, H, D)."""
    heads, count, length = weight.shape
    kv = value.shape[1]
    out = weight.to(value.dtype).view(kv, heads // kv * count, length) @ value.transpose(0, 1)
    return out.view(heads, count, -1).transpose(0, 1)[None]


def fused(query: Tensor, key: Tensor, value: Tensor, kind: Kind, rows: Tensor) -> Tensor:
    """Return attention's output (1, r, H, D), without its weights where torch can do without them.

    Shapes as in :func:`weights`; value is (n, K, D).
    """
    if kind.cap:
        return weighted(weights(query, key, kind, rows), value)
    out = functional.scaled_dot_product_attention(
        query[None], key.transpose(0, 1)[None], value.transpose(0, 1)[None],
        attn_mask=_seen(kind, rows, key.shape[0]), scale=kind.scale, enable_gqa=key.shape[1] != query.shape[0],
    )  # fmt: skip
    return out.transpose(1, 2)


def _seen(kind: Kind, rows: Tensor, length: int) -> Tensor | None:
    """Return which keys each row sees, (r, n); None where all do."""
    if kind.window is None or kind.window >= length - 1:
        return None
    places = torch.arange(length, device=rows.device)
    return (rows[:, None] - places).abs() <= kind.window


class Whole:
    """Keeps nothing: rows attend to one another. Counts the layers that asked, and notes the widths of keys and values."""

    def __init__(self, length: int, device: torch.device) -> None:
        self.rows = torch.arange(length, device=device)
        self.asked = 0
        self.widths = (0, 0)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, kind: Kind) -> Tensor:
        """See :class:`Attending`."""
        self.asked += 1
        self.widths = (query.shape[1] * query.shape[3], query.shape[1] * value.shape[3])
        return fused(query[0], key[0].transpose(0, 1), value[0].transpose(0, 1), kind, self.rows)
