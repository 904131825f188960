"""Tiny random decoders of several families, made bidirectional, and one with LLaDA's names."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import torch
from torch import nn

from c2s.engines.constraint import Constraint, Segment
from c2s.engines.elastic_cache.bidirectional import make_bidirectional
from c2s.engines.elastic_cache.parts import DecoderParts
from c2s.engines.elastic_cache.sheet import Request

N_TOKENS, MASK, PAD, STOP = 40, 39, 0, 1
FAMILIES = ("llama", "qwen3", "gpt_neox", "gemma2")
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": N_TOKENS,
         "max_position_embeddings": 128, "initializer_range": 0.15, "pad_token_id": 0}  # fmt: skip


def causal(family, dtype=torch.float32, seed=0, **changes):
    """Return an untrained model of a family, as it comes."""
    from transformers import (
        Gemma2Config,
        Gemma2ForCausalLM,
        GPTNeoXConfig,
        GPTNeoXForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    made = {
        "llama": lambda: (LlamaForCausalLM, LlamaConfig(**SIZES | {"num_key_value_heads": 2} | changes)),
        "qwen3": lambda: (Qwen3ForCausalLM, Qwen3Config(**SIZES | {"num_key_value_heads": 2, "head_dim": 8} | changes)),
        "gpt_neox": lambda: (GPTNeoXForCausalLM, GPTNeoXConfig(**SIZES | changes)),
        "gemma2": lambda: (Gemma2ForCausalLM, Gemma2Config(
            **SIZES | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8,
                       "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0} | changes)),
    }  # fmt: skip
    kind, config = made[family]()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(config).to(dtype).eval()


@functools.cache
def model_of(family, dtype=torch.float32, seed=0):
    if family == "llada":
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return LladaLike().to(dtype).eval()
    return make_bidirectional(causal(family, dtype, seed))


@functools.cache
def parts_of(family, dtype=torch.float32, seed=0):
    return DecoderParts.of(model_of(family, dtype, seed), mask_id=MASK)


@functools.cache
def answers_of(max_items=12, min_items=0):
    """Return the constraint of up to 12 distinct items of 36, then the stop."""
    return Constraint(torch.arange(2, 38), [Segment(max_items, STOP, min_items)], n_tokens=N_TOKENS, pad=PAD)


def request(n_prompt=5, n_places=13, *, constraint=None, key=0, seed=0, **told):
    """Return a request with a random prompt."""
    prompt = torch.randint(2, 38, (n_prompt,), generator=torch.Generator().manual_seed(seed))
    return Request(prompt, n_places, constraint, key, **told)


class Rotary(nn.Module):
    def get_rotary_embedding(self, length, device):
        angles = torch.arange(length, dtype=torch.float64)[:, None] / 100 ** (torch.arange(4, dtype=torch.float64) / 4)
        angles = torch.cat([angles, angles], -1).to(device)[None, None]
        return angles.sin(), angles.cos()

    def apply_rotary_pos_emb(self, sin, cos, states):
        first, second = states.chunk(2, -1)
        return states * cos + torch.cat([-second, first], -1) * sin


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn_norm, self.ff_norm = nn.LayerNorm(32), nn.LayerNorm(32)
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(32, 32), nn.Linear(32, 16), nn.Linear(32, 16)
        self.attn_out, self.ff_proj, self.up_proj = nn.Linear(32, 32), nn.Linear(32, 48), nn.Linear(32, 48)
        self.ff_out, self.act, self.rotary_emb = nn.Linear(48, 32), nn.SiLU(), Rotary()

    def forward(self, hidden):
        """Write attention out, without the fused kernel."""
        normed = self.attn_norm(hidden)
        query, key, value = (
            f(normed).unflatten(-1, (-1, 8)).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj)
        )
        sin, cos = self.rotary_emb.get_rotary_embedding(hidden.shape[1], hidden.device)
        query, key = (
            self.rotary_emb.apply_rotary_pos_emb(sin.type_as(x), cos.type_as(x), x).type_as(x) for x in (query, key)
        )
        key, value = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
        weight = (query @ key.transpose(2, 3) * 8**-0.5).softmax(-1)
        hidden = hidden + self.attn_out((weight @ value).transpose(1, 2).flatten(2))
        normed = self.ff_norm(hidden)
        return hidden + self.ff_out(self.act(self.ff_proj(normed)) * self.up_proj(normed))


class LladaLike(nn.Module):
    """A masked-diffusion model whose modules have LLaDA's names."""

    def __init__(self):
        super().__init__()
        inner = nn.Module()
        inner.config = SimpleNamespace(d_model=32, n_heads=4, input_emb_norm=True, scale_logits=True)
        inner.transformer = nn.ModuleDict(
            {"wte": nn.Embedding(N_TOKENS, 32), "blocks": nn.ModuleList(Block() for _ in range(3)), "ln_f": nn.LayerNorm(32),
             "ff_out": nn.Linear(32, N_TOKENS, bias=False)}
        )  # fmt: skip
        self.model = inner
        nn.init.normal_(inner.transformer["ff_out"].weight, std=2.0)

    def forward(self, input_ids):
        inside = self.model.transformer
        hidden = inside["wte"](input_ids) * 32**0.5
        for block in inside["blocks"]:
            hidden = block(hidden)
        return SimpleNamespace(logits=inside["ff_out"](inside["ln_f"](hidden)) * 32**-0.5)
