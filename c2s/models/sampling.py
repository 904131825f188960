"""Sampling under a constraint, with Gumbel noise that belongs to the question and not to the batch.

``argmax_v (logit_v / temperature + gumbel_v)`` draws from the constrained softmax (Maddison et al. 2014). The key of the noise stands for (seed,
cell, sample): it does not depend on batch-mates, on the order of drugs or on resuming, and all drugs of a cell share it, so differences between
drugs are differences in what the model says.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from c2s.engines.constraint import Constraint
from c2s.engines.noise import keyed_gumbel, slabs
from c2s.errors import ConfigError
from c2s.models.batching import left_padded
from c2s.models.prefix import PrefixDecoder
from c2s.models.prefix_attention import PrefixCache

BYTES_PER_TOKEN = 11  # of each row at its peak: logits and noise, 4 each, and three masks


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
    """Draw one answer per cell, suffix and sample, in batches of bounded memory; a cell's prefix is run once.

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
    n_cells, each, n_samples = len(prefixes), len(suffixes[0]), keys.shape[1]
    longest = max(len(suffix) for row in suffixes for suffix in row)
    shared = -(-max(map(len, prefixes)) // (each * n_samples))  # a row's part of its cell's prefix
    rows = decoder.rows_per_batch(
        shared + longest + constraint.max_length, beside=BYTES_PER_TOKEN * constraint.n_tokens
    )
    cells = max(1, rows // (each * n_samples))
    samples = min(n_samples, rows)
    drugs = max(1, rows // (cells * samples))
    answers = torch.full((n_cells, each, n_samples, constraint.max_length), pad, dtype=torch.long)
    for c in _spans(n_cells, cells):
        prefix = decoder.prefill(prefixes[c], pad=pad)
        for e, s in itertools.product(_spans(each, drugs), _spans(n_samples, samples)):
            asked = [row[e] for row in suffixes[c]]
            answers[c, e, s] = _sample_batch(
                decoder, prefix, asked, constraint, keys[c, s], pad=pad, temperature=temperature
            )
    return answers


def _spans(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _sample_batch(
    decoder: PrefixDecoder,
    prefix: PrefixCache,
    suffixes: Sequence[Sequence[Sequence[int]]],
    constraint: Constraint,
    keys: np.ndarray,
    *,
    pad: int,
    temperature: float,
) -> Tensor:
    """Draw the answers of one batch, whose cells' prefixes have run; see :func:`sample_answers`."""
    device = decoder.device
    n_cells, each, n_samples = len(suffixes), len(suffixes[0]), keys.shape[1]
    flat = [suffix for row in suffixes for suffix in row]
    ids, seen = left_padded(flat, pad, device)
    rows = decoder.row_cache(ids.shape[1] + constraint.max_length)
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
            logits.div_(temperature)
            noise = keyed_gumbel(all_keys, place, tokens)
            for span in slabs(logits):
                logits[span] += noise[key_index[alive[span]]]
            del noise
        allowed = constraint.step(prefix_answers)
        logits.masked_fill_(~allowed[:, tokens], -torch.inf)
        chosen = tokens[logits.argmax(-1)].masked_fill(allowed[:, constraint.pad], pad)
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
