"""Seconds of ways to decode, in interleaved rounds of one process with one thread; ratios with intervals over rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.diffusion.rows import Row, rows
from c2s.engines.constraint import Constraint, Segment
from c2s.engines.elastic_cache import DecoderParts, Request, make_bidirectional

ROUNDS = 5
N_GENES, WIDTH, LAYERS = 3000, 512, 6
STEPS = 24  # that the uncached decoder is timed for; a step costs the same wherever it is
TRAINED = (
    "uncached, one gene a step",
    "uncached",
    "dual block cache",
    "elastic, calibrated",
    "elastic, one gene a step",
)


def wall(parts: DecoderParts, requests: Sequence[Request], made: Mapping[float, Mapping[str, Row]]) -> dict[str, Any]:
    """Return seconds, token-layers and refresh rates of rows at each level of commits, one request a round."""
    every = {f"{name}, {level}": row for level, each in made.items() for name, row in each.items() if name in TRAINED}
    found: dict[str, dict[str, list[float]]] = {
        name: {"seconds": [], "token_layers": [], "refreshed": []} for name in every
    }
    for number in range(ROUNDS + 1):
        for name, row in every.items():
            decoded, seconds = row.timed(parts, [requests[number]])
            if number:  # the first is not counted
                account = decoded[0].accounting
                found[name]["seconds"].append(seconds[0])
                found[name]["token_layers"].append(int(account.token_layers[0]))
                found[name]["refreshed"].append(account.refresh_rate)
    return {"rows": found}


def wide(length: int, seed: int) -> dict[str, Any]:
    """Return seconds of decoding with wide weights after a few steps of training: timing only.

    The uncached decoder is timed for some of its steps, each on all places, and multiplied.
    """
    torch.manual_seed(seed)
    n_tokens, mask, end, pad = N_GENES + 5, N_GENES + 4, N_GENES, N_GENES + 1
    config = LlamaConfig(
        vocab_size=n_tokens, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=8, num_key_value_heads=8,
        intermediate_size=1376, max_position_embeddings=2048, tie_word_embeddings=True, pad_token_id=pad, eos_token_id=end, bos_token_id=None,
    )  # fmt: skip
    model = make_bidirectional(AutoModelForCausalLM.from_config(config))
    _briefly(model, length, mask, seed)
    parts = DecoderParts.of(model.eval(), mask_id=mask)
    constraint = Constraint(torch.arange(N_GENES), [Segment(length, end, length)], n_tokens=n_tokens, pad=pad)
    prompt = torch.tensor([N_GENES + 2, 5, 9, N_GENES + 3])
    requests = [Request(prompt, length + 1, constraint, key) for key in range(ROUNDS + 2)]
    made = rows(parts, requests[-1:], commit=0.9, temperature=1.0)
    together = rows(parts, requests[-1:], commit=0.0, temperature=1.0)
    few = Constraint(torch.arange(N_GENES), [Segment(STEPS, end, STEPS)], n_tokens=n_tokens, pad=pad)
    timed: dict[str, Callable[[int], tuple[float, int]]] = {
        "uncached, one gene a step": lambda i: _steps(parts, made["uncached, one gene a step"], few, length, i),
        "elastic, one gene a step": lambda i: _whole(parts, made["elastic, one gene a step"], requests[i]),
        "never refreshed, one gene a step": lambda i: _whole(
            parts, Row(made["never refreshed"].run, made["never refreshed"].settings.with_(max_commits=1)), requests[i]
        ),
        "elastic, four genes a step": lambda i: _whole(
            parts, Row(together["elastic, calibrated"].run, together["elastic, calibrated"].settings.with_(max_commits=4)), requests[i]
        ),
    }  # fmt: skip
    found: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "steps": []} for name in timed}
    for number in range(ROUNDS + 1):
        for name, one in timed.items():
            seconds, steps = one(number)
            if number:
                found[name]["seconds"].append(seconds)
                found[name]["steps"].append(steps)
    return {"rows": found, "width": WIDTH, "layers": LAYERS}


def _whole(parts: DecoderParts, row: Row, request: Request) -> tuple[float, int]:
    decoded, seconds = row.timed(parts, [request])
    return seconds[0], int(decoded[0].accounting.steps[0])


def _steps(parts: DecoderParts, row: Row, few: Constraint, length: int, key: int) -> tuple[float, int]:
    """Return seconds of decoding ``length`` places from those of the last few: the prompt holds the places before."""
    filled = torch.randperm(N_GENES, generator=torch.Generator().manual_seed(key))[: length - STEPS]
    request = Request(torch.cat([torch.tensor([N_GENES + 2, 5, 9, N_GENES + 3]), filled]), STEPS + 1, few, key)
    decoded, seconds = row.timed(parts, [request])
    steps = int(decoded[0].accounting.steps[0])
    return seconds[0] / steps * (length + 1), length + 1


def _briefly(model: Any, length: int, mask: int, seed: int) -> None:
    """Train for eight steps on random sentences of a few genes, so that weights are not as they were drawn."""
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-4)
    for _ in range(8):
        ids = torch.multinomial(1 / torch.arange(1, N_GENES + 1).float(), 2 * min(length, 128), generator=draw).view(
            2, -1
        )
        hidden = torch.rand(ids.shape, generator=draw) < 0.5
        logits = model(input_ids=ids.masked_fill(hidden, mask)).logits[hidden]
        loss = torch.nn.functional.cross_entropy(logits, ids[hidden])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def ratio(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, float, float]:
    """Return the median over rounds of slow / fast, with its least and greatest."""
    each = np.array(slow) / np.array(fast)
    return float(np.median(each)), float(each.min()), float(each.max())
