"""Sampling of texts whose items are several tokens long: one prompt, many answers, each with noise of its own.

As in :mod:`c2s.models.sampling`, ``argmax (logit / temperature + gumbel)`` over what the constraint allows draws from the
model's own distribution, masked and renormalised, and the noise belongs to the answer and not to the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from c2s.engines.noise import keyed_gumbel_at
from c2s.engines.trie_constraint import TrieConstraint
from c2s.errors import ConfigError
from c2s.models.prefix import PrefixDecoder
from c2s.models.prefix_attention import RowCache

BYTES_PER_TOKEN = 8  # of each row beside its cache: two matrices of logits


def sample_texts(
    decoder: PrefixDecoder,
    prompt: Sequence[int],
    constraint: TrieConstraint,
    keys: np.ndarray,
    *,
    temperature: float = 1.0,
    done: Callable[[int], object] = lambda _: None,
) -> list[list[int]]:
    """Return one answer for each noise key, as token ids without the padding behind them.

    Parameters
    ----------
    decoder : PrefixDecoder
        Attached.
    prompt : token ids, at least one
        It is run once a batch.
    constraint : TrieConstraint
    keys : ndarray, shape (n,), int64
        See :func:`c2s.engines.noise.noise_keys`.
    temperature : float
        0 takes the most likely token.
    done
        Is told how many answers each batch added.

    Raises
    ------
    ConfigError
        The temperature is negative or not a number.
    """
    if not 0 <= temperature < float("inf"):
        msg = f"temperature is {temperature}; give 0 (the most likely token) or a number above it"
        raise ConfigError(msg)
    beside = BYTES_PER_TOKEN * constraint.n_tokens + 4 * len(constraint.trie.token)
    size = decoder.rows_per_batch(constraint.mean_length, beside=beside)
    found: list[list[int]] = []
    for start in range(0, len(keys), size):
        part = torch.from_numpy(keys[start : start + size].copy()).to(decoder.device)
        answers = _sample(decoder, prompt, constraint, part, temperature)
        found += [[token for token in row if token != constraint.pad] for row in answers.tolist()]
        done(len(part))
    return found


def _sample(
    decoder: PrefixDecoder, prompt: Sequence[int], constraint: TrieConstraint, keys: Tensor, temperature: float
) -> Tensor:
    """Draw the answers of one batch, (n, longest), padded."""
    device, n, n_tokens = decoder.device, len(keys), constraint.n_tokens
    prefix, state = decoder.prefill([prompt], pad=constraint.pad), constraint.start(n)
    rows = RowCache(decoder.n_layers, constraint.max_length + 1)
    hidden = prefix.last.expand(n, -1)
    written: list[Tensor] = []
    for place in range(constraint.max_length + 1):
        logits = decoder.logits(hidden, slice(n_tokens)).reshape(-1)
        allowed = state.allowed(n_tokens).to(device)
        scores = logits.index_select(0, allowed)
        if temperature > 0:
            row, token = allowed // n_tokens, allowed % n_tokens
            scores = scores / temperature + keyed_gumbel_at(keys[row], place, token)
        chosen = torch.full_like(logits, -torch.inf).index_copy_(0, allowed, scores).view(n, n_tokens).argmax(-1)
        written.append(chosen)
        if bool((chosen == constraint.pad).all()):
            break
        state.advance(chosen[:, None])
        seen = torch.ones(n, place + 1, dtype=torch.bool, device=device)
        hidden = decoder.extend(prefix, rows, chosen[:, None], seen)[:, -1]
    return torch.stack(written, dim=1)
