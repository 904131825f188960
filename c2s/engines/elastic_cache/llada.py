"""The parts of a model with LLaDA's (OLMo's) names: rotation inside the block, no attention interface."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from c2s.engines.elastic_cache.attention import Attending, Kind
from c2s.engines.elastic_cache.parts import DecoderParts, Head, Places
from c2s.engines.elastic_cache.shadow import shadow
from c2s.errors import ModelError

_BLOCK = (
    "attn_norm",
    "ff_norm",
    "q_proj",
    "k_proj",
    "v_proj",
    "attn_out",
    "ff_proj",
    "up_proj",
    "ff_out",
    "rotary_emb",
)


def is_llada(model: nn.Module) -> bool:
    """Return whether a model keeps its blocks where LLaDA does."""
    return hasattr(getattr(getattr(model, "model", None), "transformer", None), "blocks")


class LladaParts(DecoderParts):
    """Parts of ``model.model.transformer``: ``wte``, ``blocks``, ``ln_f``, and ``ff_out`` where weights are not tied."""

    def __init__(self, model: Any, *, mask_id: int, right_shift: bool) -> None:
        self.model: Any = shadow(model)
        self._root = self.model.model.transformer
        self.config: Any = self.model.model.config
        self.blocks = list(self._root.blocks)
        if missing := [name for name in _BLOCK if not hasattr(self.blocks[0], name)]:
            msg = f"{type(model).__name__}'s blocks have no {', '.join(missing)}; only LLaDA's Llama-like blocks are known"
            raise ModelError(msg)
        self.mask_id, self.right_shift, self.n_layers = mask_id, right_shift, len(self.blocks)
        self.layer_weights = [sum(p.numel() for p in block.parameters() if p.ndim == 2) for block in self.blocks]
        self._factor = self.config.d_model**0.5 if getattr(self.config, "input_emb_norm", False) else 1.0
        output = self._root.wte if getattr(self.config, "weight_tying", False) else self._root.ff_out
        bias = getattr(output, "bias", None)
        scale = self.config.d_model**-0.5 if getattr(self.config, "scale_logits", False) else 1.0
        self.head = Head(output.weight.detach(), None if bias is None else bias.detach(), scale=scale)
        self.n_tokens = len(self.head.weight)

    def embed(self, ids: Tensor) -> Tensor:
        """See :meth:`DecoderParts.embed`."""
        return self._root.wte(ids) * self._factor if self._factor != 1.0 else self._root.wte(ids)

    def places(self, length: int) -> Places:
        """See :meth:`DecoderParts.places`."""
        sin, cos = self.blocks[0].rotary_emb.get_rotary_embedding(length, self.device)
        return _Rotations(sin, cos)

    def layer(self, index: int, hidden: Tensor, told: tuple[Tensor, Tensor], attending: Attending) -> Tensor:
        """See :meth:`DecoderParts.layer`."""
        block = self.blocks[index]
        width = self.config.d_model // self.config.n_heads
        normed = block.attn_norm(hidden)
        query, key, value = block.q_proj(normed), block.k_proj(normed), block.v_proj(normed)
        if getattr(block, "q_norm", None) is not None and getattr(block, "k_norm", None) is not None:
            query, key = block.q_norm(query), block.k_norm(key)
        query, key, value = (x.unflatten(-1, (-1, width)).transpose(1, 2) for x in (query, key, value))
        query, key = (self._rotated(block.rotary_emb, x, *told) for x in (query, key))
        out = attending.attend(query, key, value, Kind(width**-0.5))
        hidden = hidden + block.attn_out(out.flatten(2))
        normed = block.ff_norm(hidden)
        return hidden + block.ff_out(block.act(block.ff_proj(normed)) * block.up_proj(normed))

    def _rotated(self, rotary: Any, states: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
        full = getattr(self.config, "rope_full_precision", True)
        x = states.to(torch.promote_types(states.dtype, torch.float32)) if full else states
        return rotary.apply_rotary_pos_emb(sin.type_as(x), cos.type_as(x), x).type_as(states)

    def norm(self, hidden: Tensor) -> Tensor:
        """See :meth:`DecoderParts.norm`."""
        return self._root.ln_f(hidden)

    def plain(self, ids: Tensor, rows: Tensor) -> Tensor:
        """See :meth:`DecoderParts.plain`."""
        return self.model(ids[None]).logits[0, rows]


class _Rotations:
    """Sines and cosines of places, (1, 1, n, D) each."""

    def __init__(self, sin: Tensor, cos: Tensor) -> None:
        self.sin, self.cos = sin, cos

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Places`."""
        return self.sin[:, :, rows], self.cos[:, :, rows]
