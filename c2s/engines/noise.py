"""Gumbel noise that belongs to a question and not to the batch.

The noise of token ``v`` at place ``t`` is a hash of (key, t, v); adding it to logits and taking the largest draws from their softmax (Maddison et
al. 2014).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

SLAB = 1 << 22  # elements of noise made at once


def noise_keys(seed: int, names: Sequence[str], n_samples: int) -> np.ndarray:
    """Return one 64-bit key per name and sample, shape (n_names, n_samples), int64."""
    digests = [
        hashlib.blake2b(f"{seed}\x00{name}\x00{sample}".encode(), digest_size=8).digest()
        for name in names
        for sample in range(n_samples)
    ]
    return np.frombuffer(b"".join(digests), dtype=np.int64).reshape(len(names), n_samples)


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
    states = _mix(keys + _signed((place + 1) * 0x9E3779B97F4A7C15))
    steps = (tokens + 1) * _signed(0xC2B2AE3D27D4EB4F)
    noise = torch.empty(len(keys), len(tokens), device=keys.device)
    for rows in slabs(noise):
        noise[rows] = _gumbel(_mix(states[rows, None] + steps))
    return noise


def keyed_gumbel_at(keys: Tensor, place: int, tokens: Tensor) -> Tensor:
    """Return the noise of key i and token i only, float32 (n,): the values of :func:`keyed_gumbel`."""
    states = _mix(keys + _signed((place + 1) * 0x9E3779B97F4A7C15))
    return _gumbel(_mix(states + (tokens + 1) * _signed(0xC2B2AE3D27D4EB4F))).float()


def _gumbel(bits: Tensor) -> Tensor:
    """Return Gumbel noise of random 64-bit integers, float64."""
    uniform = ((bits >> 40) & 0xFFFFFF).to(torch.float64).add_(0.5).mul_(1.0 / (1 << 24))
    return uniform.log_().neg_().log_().neg_()


def slabs(matrix: Tensor) -> Iterator[slice]:
    """Yield spans of rows of at most :data:`SLAB` elements, so that what is computed on the way to them stays small."""
    size = max(1, SLAB // matrix.shape[1])
    yield from (slice(start, start + size) for start in range(0, len(matrix), size))


def _signed(x: int) -> int:
    """Return ``x`` modulo 2^64 as a signed 64-bit integer."""
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(x: Tensor) -> Tensor:
    """Scramble 64-bit integers (the finaliser of splitmix64; shifts made logical by masking)."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _signed(0x94D049BB133111EB)
    return x ^ ((x >> 31) & 0x1FFFFFFFF)
