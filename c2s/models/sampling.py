"""Sampling under a constraint, with Gumbel noise that belongs to the question and not to the batch.

``argmax_v (logit_v / temperature + gumbel_v)`` draws from the constrained softmax (Maddison et al. 2014). The noise of
token ``v`` at place ``t`` is a hash of (key, t, v), the key standing for (seed, cell, sample): it does not depend on
batch-mates, on the order of drugs or on resuming, and all drugs of a cell share it, so differences between drugs are
differences in what the model says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from c2s.engines.constraint import Constraint
from c2s.errors import ConfigError
from c2s.models.prefix import PrefixDecoder, RowCache, left_padded


def noise_keys(seed: int, cells: Sequence[str], n_samples: int) -> np.ndarray:
    """Return one 64-bit key per cell and sample, shape (n_cells, n_samples), int64."""
    digests = [
        hashlib.blake2b(f"{seed}\x00{cell}\x00{sample}".encode(), digest_size=8).digest()
        for cell in cells
        for sample in range(n_samples)
    ]
    return np.frombuffer(b"".join(digests), dtype=np.int64).reshape(len(cells), n_samples)


def keyed_gumbel(keys: Tensor, place: int, tokens: Tensor) -> Tensor:
    """Return standard Gumbel noise, shape (n_keys, n_tokens), float32.

    Parameters
    ----------
    keys : Tensor, shape (n_keys,), int64
    place : int
        Place in the answer.
    tokens : Tensor, shape (n_tokens,), int64
        Token ids.
    """
    state = _mix(keys + _signed((place + 1) * 0x9E3779B97F4A7C15))
    bits = _mix(state[:, None] + (tokens[None, :] + 1) * _signed(0xC2B2AE3D27D4EB4F))
    uniform = ((bits >> 40) & 0xFFFFFF).to(torch.float64).add_(0.5).mul_(1.0 / (1 << 24))
    return uniform.log_().neg_().log_().neg_().float()


def _signed(x: int) -> int:
    """Return ``x`` modulo 2^64 as a signed 64-bit integer."""
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(x: Tensor) -> Tensor:
    """Scramble 64-bit integers (the finaliser of splitmix64; shifts made logical by masking)."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _signed(0x94D049BB133111EB)
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def sample_answers(
    decoder: PrefixDecoder,
    prefixes: Sequence[Sequence[int]],
    suffixes: Sequence[Sequence[Sequence[int]]],
    constraint: Constraint,
    keys: np.ndarray,
    *,
    pad: int,
    temperature: float = 1.0,
) -> Tensor:
    """Draw one answer per cell, suffix and sample.

    Parameters
    ----------
    decoder : PrefixDecoder
        Attached (see :meth:`PrefixDecoder.attached`).
    prefixes : sequence of token ids, length C
        Prompt of each cell up to what its rows share.
    suffixes : sequence, length C, of E token sequences each
        The rest of each row's prompt; E is the same for all cells.
    constraint : Constraint
        What an answer may hold.
    keys : ndarray, shape (C, n_samples), int64
        Noise keys.
    temperature : float
        0 takes the most likely token.

    Returns
    -------
    Tensor, shape (C, E, n_samples, max_length), int64, on CPU
        Answers, ``pad`` after the last stop.
    """
    if not 0 <= temperature < float("inf"):
        msg = f"temperature is {temperature}; give 0 (the most likely token) or a number above it"
        raise ConfigError(msg)
    device = decoder.device
    n_cells, each, n_samples = len(prefixes), len(suffixes[0]), keys.shape[1]
    prefix = decoder.prefill(prefixes, pad=pad)
    flat = [suffix for row in suffixes for suffix in row]
    ids, seen = left_padded(flat, pad, device)
    rows = RowCache(decoder.n_layers, ids.shape[1] + constraint.max_length)
    hidden = decoder.extend(prefix, rows, ids, seen)[:, -1]
    # rows of a cell: suffix-major, samples innermost
    repeat = torch.arange(n_cells * each, device=device).repeat_interleave(n_samples)
    rows.select(repeat)
    hidden, seen = hidden[repeat], seen[repeat]
    key_index = (
        (torch.arange(n_cells, device=device)[:, None, None] * n_samples + torch.arange(n_samples, device=device))
        .expand(n_cells, each, n_samples)
        .reshape(-1)
    )
    all_keys = torch.from_numpy(keys.copy()).to(device).reshape(-1)

    stops = torch.tensor([segment.stop for segment in constraint.segments], device=device)
    tokens = torch.cat([torch.nonzero(constraint.is_item.to(device))[:, 0], stops])
    answers = torch.full((len(repeat), constraint.max_length), pad, dtype=torch.long, device=device)
    alive = torch.arange(len(repeat), device=device)  # rows still writing, ordered cell by cell, equally many a cell
    prefix_answers = answers[:, :0]
    for place in range(constraint.max_length):
        logits = decoder.logits(hidden, tokens)
        if temperature > 0:
            logits = logits / temperature + keyed_gumbel(all_keys, place, tokens)[key_index[alive]]
        allowed = constraint.step(prefix_answers)
        logits = logits.masked_fill(~allowed[:, tokens], -torch.inf)
        chosen = tokens[logits.argmax(-1)]
        chosen = chosen.masked_fill(allowed[:, constraint.pad], pad)
        answers[alive, place] = chosen
        done = (answers[alive] == stops[-1]).any(-1)
        if done.all() or place + 1 == constraint.max_length:
            break
        per_cell = len(alive) // n_cells
        writing = (~done).view(n_cells, per_cell)
        keep = int(writing.sum(1).max())
        if keep <= 0.8 * per_cell:  # drop finished rows, keeping the rectangle cells x rows
            order = torch.argsort(done.view(n_cells, per_cell).int(), dim=1, stable=True)[:, :keep]
            picked = (order + torch.arange(n_cells, device=device)[:, None] * per_cell).reshape(-1)
            rows.select(picked)
            alive, seen, chosen = alive[picked], seen[picked], chosen[picked]
        prefix_answers = answers[alive, : place + 1]
        seen = torch.cat([seen, torch.ones(len(alive), 1, dtype=torch.bool, device=device)], dim=1)
        hidden = decoder.extend(prefix, rows, chosen[:, None], seen)[:, -1]
    return answers.view(n_cells, each, n_samples, -1).cpu()
