"""Which decoders can be routed, where their layers are, and why others cannot be."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from c2s.errors import ModelError

FAMILIES = (
    "gemma2",
    "gpt_neox",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
)  # each is tested against unrolled copies of its weights
_ATTENTION = {"full_attention", "sliding_attention"}
_CACHE_NAMES = ("past_key_values", "layer_past")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True)
class Decoder:
    """What routing needs to know of a model.

    Attributes
    ----------
    model : PreTrainedModel
        The model below any peft wrapper; its ``generate`` is the one that is called in the end.
    body : Module
        What holds the layers: embeddings in, last hidden state out.
    layers : list of Module
    cache_name : str
        Under which a layer is given the key-value cache.
    hidden_size : int
    """

    model: PreTrainedModel
    body: nn.Module
    layers: list[nn.Module]
    cache_name: str
    hidden_size: int

    @property
    def n_layers(self) -> int:
        """Return how many layers there are."""
        return len(self.layers)

    def head(self, hidden: Tensor) -> Tensor:
        """Return the logits of hidden states that left any layer, shape (..., vocabulary)."""
        norm = next(getattr(self.body, name) for name in ("norm", "final_layer_norm") if hasattr(self.body, name))
        logits = self.model.get_output_embeddings()(norm(hidden))
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if cap is None else (logits / cap).tanh() * cap


def decoder_of(model: Any) -> Decoder:
    """Return where the layers of a model are.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        A decoder of one of :data:`FAMILIES`, with or without language modelling head, LoRA-tuned or not.

    Raises
    ------
    ModelError
        It cannot be routed; the message says why.
    """
    if hasattr(model, "_orig_mod"):
        msg = "the model is compiled, and compiled code does not see which layers are routed; give the model itself"
        raise ModelError(msg)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not isinstance(base, PreTrainedModel):
        msg = (
            f"layers of a {type(base).__name__} cannot be routed; give a transformers decoder of {', '.join(FAMILIES)}"
        )
        raise ModelError(msg)
    _refuse(base)
    body = base.base_model
    layers = getattr(body, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        msg = f"{type(base).__name__} keeps its layers elsewhere than in {base.base_model_prefix}.layers, so they cannot be routed"
        raise ModelError(msg)
    told = inspect.signature(type(layers[0]).forward).parameters
    cache_name = next((name for name in _CACHE_NAMES if name in told), None)
    if cache_name is None:
        msg = f"{type(layers[0]).__name__} takes no cache as {' or '.join(_CACHE_NAMES)}; install a newer transformers"
        raise ModelError(msg)
    return Decoder(base, body, list(layers), cache_name, int(base.config.hidden_size))


def _refuse(model: PreTrainedModel) -> None:
    """Raise a ModelError where a model cannot be routed."""
    config = model.config
    kind = str(getattr(config, "model_type", type(model).__name__))
    reason = None
    strange = sorted(set(getattr(config, "layer_types", None) or ()) - _ATTENTION)
    experts = [name for name in _EXPERTS if (getattr(config, name, None) or 0) > 1]
    if getattr(config, "is_encoder_decoder", False):
        reason = "it has an encoder, and plans are of decoders alone"
    elif (getattr(config, "num_kv_shared_layers", None) or 0) > 0:
        reason = "its layers share keys and values, so that a skipped layer would leave others without theirs"
    elif strange:
        reason = f"it has layers of {', '.join(strange)}, whose state is no list of keys that a skipped layer could leave empty"
    elif experts:
        reason = f"it is a mixture of experts ({experts[0]}), whose routers are counted once a layer"
    elif getattr(model, "is_activation_checkpointing", False):
        reason = "gradient checkpointing is on, which runs layers a second time behind the plan's back; call gradient_checkpointing_disable()"
    elif kind not in FAMILIES:
        reason = f"its family is not one of those that were compared with unrolled copies: {', '.join(FAMILIES)}"
    if reason is not None:
        msg = f"layers of {kind} cannot be routed: {reason}"
        raise ModelError(msg)
