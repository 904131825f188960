"""Decoders of each family, small enough for any machine, their unrolled copies, and rewards of plans with interactions."""

from __future__ import annotations

import copy
import functools

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModelForCausalLM
from transformers.masking_utils import sdpa_mask

N_LAYERS, VOCABULARY, PAD, END = 4, 60, 0, 1
_SHARED = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": N_LAYERS, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 128, "initializer_range": 0.25, "pad_token_id": PAD, "eos_token_id": END, "bos_token_id": None,
}  # fmt: skip
_OWN = {
    "llama": {"num_key_value_heads": 2},
    "gpt_neox": {"hidden_dropout": 0.0, "attention_dropout": 0.0},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 5},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8},
    "qwen2": {"num_key_value_heads": 2},
}
FAMILIES = ("llama", "gpt_neox", "mistral", "qwen3", "gemma2")


def exact_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, softcap=None, **kwargs):
    """Attention with capped logits in the dtype of its inputs: transformers' own takes the softmax in float32."""
    key, value = (each.repeat_interleave(module.num_key_value_groups, dim=1) for each in (key, value))
    logits = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        logits = (logits / softcap).tanh() * softcap
    logits = logits.masked_fill(~attention_mask, torch.finfo(logits.dtype).min)
    return (logits.softmax(-1) @ value).transpose(1, 2).contiguous(), None


def _always_mask(*args, **kwargs):
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


AttentionInterface.register("exact", exact_attention)
AttentionMaskInterface.register("exact", _always_mask)


@functools.cache
def shared(family: str = "llama", dtype=torch.float32):
    """Return a decoder that tests leave as it is; Gemma 2 in float64 has attention that is exact in it."""
    made = model(family, dtype=dtype)
    if family == "gemma2" and dtype == torch.float64:
        made.set_attn_implementation("exact")
    return made


def model(family: str = "llama", *, dtype=torch.float32, seed: int = 0, **more):
    """Return a random decoder; attention is eager where SDPA is not offered."""
    config = AutoConfig.for_model(family, **{**_SHARED, **_OWN[family], **more})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoModelForCausalLM.from_config(config)
    return made.to(dtype).eval()


def unrolled(whole, plan):
    """Return a decoder whose layers are copies of those of ``whole`` that ``plan`` runs, in its order."""
    config = copy.deepcopy(whole.config)
    order = [layer for layer, times in enumerate(plan) for _ in range(times)]
    config.num_hidden_layers = len(order)
    if getattr(config, "layer_types", None):
        config.layer_types = [whole.config.layer_types[layer] for layer in order]
    with torch.random.fork_rng():
        made = type(whole)(config).to(whole.dtype).eval()
    made.load_state_dict(whole.state_dict(), strict=False)
    layers = [copy.deepcopy(whole.base_model.layers[layer]) for layer in order]
    for place, layer in enumerate(layers):
        attention = layer.self_attn if hasattr(layer, "self_attn") else layer.attention
        attention.layer_idx = place
    made.base_model.layers = nn.ModuleList(layers)
    made.config._attn_implementation = whole.config._attn_implementation
    return made


def prompts(lengths=(9, 4, 7), *, seed: int = 0):
    """Return left-padded ``input_ids`` and ``attention_mask``."""
    draw = np.random.default_rng(seed)
    width = max(lengths)
    ids = torch.full((len(lengths), width), PAD)
    mask = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, width - length :] = torch.from_numpy(draw.integers(3, VOCABULARY, length))
        mask[row, width - length :] = 1
    return {"input_ids": ids, "attention_mask": mask}


class ToyReward:
    """Additive effects of actions, interactions of every pair of layers; fixed before any search was tuned."""

    def __init__(self, seed: int, n_layers: int = 6) -> None:
        draw = np.random.default_rng(seed)
        self.single = draw.normal(0, 1, (n_layers, 3))
        self._layers = np.arange(n_layers)
        self.pairs = np.triu(draw.normal(0, 0.35, (3, 3, n_layers, n_layers)), 1)
        self.asked = []

    def __call__(self, plan) -> float:
        self.asked.append(plan)
        actions = np.asarray(plan.actions)
        layers = self._layers
        pairs = self.pairs[actions[:, None], actions[None], layers[:, None], layers[None]]
        return float(self.single[layers, actions].sum() + pairs.sum())
