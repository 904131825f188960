"""A decoder whose places see one another both ways, and which decoders cannot become one."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from c2s.engines.elastic_cache.shadow import shadow
from c2s.errors import ModelError

Model = TypeVar("Model", bound=nn.Module)

_BLOCK_FIELDS = ("block_size", "block_length", "bd_size", "canvas_length")
_BLOCK_TYPES = ("llada2", "sdar", "bd3lm", "fast_dllm", "diffusion_gemma")
_ATTENTION = ("full_attention", "sliding_attention")


def make_bidirectional(model: Model) -> Model:
    """Return the model, changed in place so that every place sees every other (sliding windows become symmetric).

    The change is kept with the model's configuration (``is_causal``), and is undone by setting it back.

    Raises
    ------
    ModelError
        The model has an encoder, is causal from block to block, has layers that are not attention or share keys and values,
        is set to a static cache, or sees no further although it was told to.
    """
    check_decoder(model)
    config: Any = model.config
    causal = [module for module in model.modules() if getattr(module, "is_causal", False)]
    before = getattr(config, "is_causal", None)
    config.is_causal = False
    for module in causal:
        module.is_causal = False  # type: ignore[assignment]
    if not sees_both_ways(model):
        for module in causal:
            module.is_causal = True  # type: ignore[assignment]
        if before is None:
            del config.is_causal
        else:
            config.is_causal = before
        msg = f"{type(model).__name__} stays causal with config.is_causal=False: it builds its mask without asking; use another family"
        raise ModelError(msg)
    return model


def sees_both_ways(model: nn.Module) -> bool:
    """Return whether another last token changes what the model says at the first place."""
    device = next(model.parameters()).device
    ids = torch.tensor([[0, 1, 0], [0, 1, 2]], device=device)
    with torch.no_grad():
        logits = shadow(model)(ids).logits[:, 0]
    return not torch.equal(logits[0], logits[1])


def check_decoder(model: nn.Module) -> None:
    """Raise ModelError, with the reason, for a model whose places cannot all see one another in every layer."""
    config: Any = model.config
    name = type(model).__name__
    kind = str(getattr(config, "model_type", ""))
    if getattr(config, "is_encoder_decoder", False):
        msg = f"{name} has an encoder and a decoder; masked diffusion fills one sequence. Use a decoder-only model"
        raise ModelError(msg)
    fields = [field for field in _BLOCK_FIELDS if getattr(config, field, None)]
    if fields or kind.startswith(_BLOCK_TYPES):
        found = f"{fields[0]}={getattr(config, fields[0])}" if fields else f"model_type={kind!r}"
        msg = (
            f"{name} is causal from block to block ({found}): what is before a block is cached exactly and what is behind it is "
            "never computed, so there is nothing to refresh. Use the model's own sampler"
        )
        raise ModelError(msg)
    types = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or []
    other = sorted({kind for kind in types if kind not in _ATTENTION})
    layers = int(getattr(config, "num_hidden_layers", 0) or 0)
    attending = sum(hasattr(module, "is_causal") and hasattr(module, "layer_idx") for module in model.modules())
    if other or attending < layers:
        found = f"layers of type {', '.join(other)}" if other else f"{attending} attention layers of {layers}"
        msg = f"{name} has {found}; a recurrent or linear layer runs one way only. Use a model of attention layers"
        raise ModelError(msg)
    if getattr(config, "num_kv_shared_layers", 0) or getattr(config, "use_cla", False):
        msg = f"{name} shares keys and values between layers, which a refresh from one layer on would tear apart. Use another family"
        raise ModelError(msg)
    generation = getattr(model, "generation_config", None)
    cache = getattr(generation, "cache_implementation", None) or getattr(config, "cache_implementation", None)
    if cache is not None and ("static" in cache or "hybrid" in cache):
        msg = f"{name} is set to a {cache} cache, whose rows cannot be rewritten; set generation_config.cache_implementation to None"
        raise ModelError(msg)
