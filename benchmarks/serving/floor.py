"""The least time a pass can take: floating-point operations of its matrix products over the rate measured at their shapes."""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn
from transformers import PreTrainedModel

ROUNDS = 7


def linear_flops(model: PreTrainedModel) -> int:
    """Return operations of all linear layers of the blocks for one token, 2 for each weight."""
    linears = [module for module in model.get_decoder().modules() if isinstance(module, nn.Linear)]
    return sum(2 * module.weight.numel() for module in linears)


def pass_flops(model: PreTrainedModel, n_prompt: float, answers: list[int], n_outputs: int) -> float:
    """Return operations of one prompt and the answers scored behind it.

    ``2 T² w`` of causal attention a layer (scores and sums), ``4 T w`` of each later token, the output layer where a token is
    judged, and nothing else: norms, activations and rotations are left out.

    Parameters
    ----------
    n_prompt : float
        Tokens of the prompt, T.
    answers : list of int
        Tokens of each answer; the first of each is judged from the prompt's last state.
    """
    config = model.config
    width, layers = config.hidden_size, config.num_hidden_layers
    later = sum(length - 1 for length in answers)
    tokens = n_prompt + later
    attention = layers * (2 * n_prompt**2 * width + 4 * later * n_prompt * width)
    judged = (1 + later) if answers else 0
    return linear_flops(model) * tokens + attention + 2 * judged * n_outputs * width


def matrix_rate(model: PreTrainedModel, tokens: int) -> float:
    """Return operations per second of the linear layers of one block, as many tokens at a time: the median of seven rounds."""
    block = next(
        m
        for m in model.get_decoder().modules()
        if isinstance(m, nn.ModuleList) and len(m) == model.config.num_hidden_layers
    )[0]
    linears = [module for module in block.modules() if isinstance(module, nn.Linear)]
    inputs = [
        torch.randn(tokens, module.in_features, dtype=module.weight.dtype, device=module.weight.device)
        for module in linears
    ]
    operations = sum(2 * module.weight.numel() * tokens for module in linears)
    seconds = []
    with torch.inference_mode():
        for _ in range(ROUNDS + 2):
            _wait(model)
            start = time.perf_counter()
            for module, each in zip(linears, inputs, strict=True):
                module(each)
            _wait(model)
            seconds.append(time.perf_counter() - start)
    return operations / statistics.median(seconds[2:])


def _wait(model: PreTrainedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize()
