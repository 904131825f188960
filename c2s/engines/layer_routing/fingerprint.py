"""Which weights a decoder has, whether in float32 or bfloat16 and whatever adapters lie on it."""

from __future__ import annotations

from typing import Any

import torch

from c2s.artefacts import hash_of
from c2s.engines.layer_routing.support import decoder_of

_SAMPLED = 64  # values of each weight
_WRAPPER = ".base_layer"
_ADAPTERS = ("lora_", "modules_to_save", "prompt_encoder")


def fingerprint(model: Any) -> str:
    """Return 16 hex digits of a decoder's own weights: names, shapes, and 64 values of each, spread evenly, in bfloat16.

    Those of the output layer are among them. Adapters are left out, so that a LoRA-tuned model is known by what it was tuned from; merged, it is
    another one, as is a model in float16, which rounds otherwise.
    """
    decoder = decoder_of(model)
    told: list[Any] = []
    head = decoder.model.get_output_embeddings() if hasattr(decoder.model, "get_output_embeddings") else None
    outputs = [] if head is None else [(f"head.{name}", weight) for name, weight in head.named_parameters()]
    for name, weight in (*decoder.body.named_parameters(), *outputs):
        if any(part in name for part in _ADAPTERS):
            continue
        flat = weight.detach().reshape(-1)
        places = torch.linspace(0, flat.numel() - 1, min(_SAMPLED, flat.numel()), dtype=torch.float64).long()
        values = flat[places.to(flat.device)].to("cpu", torch.bfloat16).view(torch.int16).numpy()
        told += [name.replace(_WRAPPER, ""), list(weight.shape), values]
    return hash_of(decoder.model.config.model_type, *told)
