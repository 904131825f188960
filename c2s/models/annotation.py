"""Labels by likelihood: what each label of a closed set scores for each cell, what a prior adds, the table of both."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from c2s.errors import ConfigError
from c2s.models.prefix import PrefixDecoder, RowCache, right_padded

CHUNK = 1 << 25  # logits made at once: places x tokens


def label_log_likelihood(
    decoder: PrefixDecoder,
    prompts: Iterable[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    n_tokens: int,
    pad: int,
    batch_size: int,
) -> np.ndarray:
    """Return log p(answer | prompt), shape (n_prompts, n_answers), float64, nats.

    Parameters
    ----------
    decoder : PrefixDecoder
        Attached (see :meth:`PrefixDecoder.attached`).
    prompts : iterable of token ids
        Of each cell.
    answers : sequence of token ids
        Of each label, the end among them.
    n_tokens : int
        Tokens that compete: the first ``n_tokens`` of the model's output.
    batch_size : int
        Cells a batch, at most: many labels make it smaller.
    """
    rows = decoder.rows_per_batch(max(map(len, answers)))
    size = max(1, min(batch_size, rows // len(answers)))
    cells = iter(prompts)
    batches = iter(lambda: list(itertools.islice(cells, size)), [])
    found = [_log_likelihood(decoder, batch, answers, n_tokens=n_tokens, pad=pad) for batch in batches]
    return np.concatenate([np.empty((0, len(answers))), *found])


def _log_likelihood(
    decoder: PrefixDecoder,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    n_tokens: int,
    pad: int,
) -> np.ndarray:
    prefix = decoder.prefill([prompt[:-1] for prompt in prompts], pad=pad)
    rows = [[prompt[-1], *answer] for prompt in prompts for answer in answers]
    ids, seen = right_padded(rows, pad, decoder.device)
    hidden = decoder.extend(prefix, RowCache(decoder.n_layers, ids.shape[1]), ids, seen)[:, :-1]
    asked, tokens = seen[:, 1:], torch.arange(n_tokens, device=decoder.device)
    wanted, states = ids[:, 1:][asked], hidden[asked]
    found = torch.empty(len(wanted), device=decoder.device)
    step = max(1, CHUNK // n_tokens)
    for start in range(0, len(wanted), step):
        log_p = torch.log_softmax(decoder.logits(states[start : start + step], tokens), dim=-1)
        found[start : start + step] = log_p.gather(1, wanted[start : start + step, None])[:, 0]
    total = torch.zeros(asked.shape, device=decoder.device).masked_scatter(asked, found).sum(1)
    return total.view(len(prompts), len(answers)).double().cpu().numpy()


def prior_shift(
    names: Sequence[str], prior: Mapping[str, float] | str, *, labels: Sequence[str], shares: Sequence[float]
) -> np.ndarray:
    """Return what a prior adds to the log likelihood of each of ``names``: ``log prior - log share``, in nats.

    Parameters
    ----------
    prior : {"training", "uniform"} or mapping of label to probability
        ``"training"`` adds nothing; ``"uniform"`` takes the share away.
    labels, shares : sequences
        The training labels and their shares among training cells.

    Raises
    ------
    ConfigError
        A name's share is not known, or the prior has no probability above 0 for it.
    """
    if prior == "training":
        return np.zeros(len(names))
    share = dict(zip(labels, shares, strict=True))
    unknown = [name for name in names if name not in share]
    if unknown:
        msg = f"prior={prior!r} needs each label's share in training; {unknown} are not among the training labels"
        raise ConfigError(msg)
    if isinstance(prior, str):
        if prior != "uniform":
            msg = f"prior must be 'training', 'uniform' or a mapping of labels to probabilities, found {prior!r}"
            raise ConfigError(msg)
        wanted = np.ones(len(names))
    else:
        wanted = np.array([prior.get(name, 0.0) for name in names], dtype=float)
        if (wanted <= 0).any():
            msg = f"prior needs a probability above 0 for each of {list(names)}"
            raise ConfigError(msg)
    return np.log(wanted) - np.log([share[name] for name in names])


def label_table(scores: np.ndarray, names: Sequence[str], index: pd.Index) -> pd.DataFrame:
    """Return ``label``, ``probability``, ``margin`` and one ``p(<label>)`` a label: the softmax of scores (n, n_labels)."""
    probability = np.exp(scores - scores.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    ranked = np.sort(probability, axis=1)
    table = pd.DataFrame(probability, index=index, columns=[f"p({name})" for name in names])
    table.insert(0, "margin", ranked[:, -1] - ranked[:, -2])
    table.insert(0, "probability", ranked[:, -1])
    table.insert(0, "label", np.array(names, dtype=object)[probability.argmax(axis=1)])
    return table
