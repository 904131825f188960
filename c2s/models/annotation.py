"""Labels by likelihood: what each label of a closed set scores for each cell, what a prior adds, the table of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from c2s.errors import ConfigError, ModelError
from c2s.models.batching import TOKENS, by_length, right_padded
from c2s.models.prefix import PrefixDecoder

CHUNK = 1 << 25  # logits made at once: places x tokens


def label_log_likelihood(
    decoder: PrefixDecoder,
    prompts: Iterable[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    n_tokens: int,
    pad: int,
    batch_size: int,
    done: Callable[[int], object] = lambda _: None,
) -> np.ndarray:
    """Return log p(answer | prompt), shape (n_prompts, n_answers), float64, nats.

    Parameters
    ----------
    decoder : PrefixDecoder
        Attached (see :meth:`PrefixDecoder.attached`).
    prompts : iterable of token ids
        Of each cell, at least one token.
    answers : sequence of token ids
        Of each label, the end among them.
    n_tokens : int
        Tokens that compete: the first ``n_tokens`` of the model's output.
    batch_size : int
        Cells a batch, at most: many labels, or long prompts, make it smaller.
    done
        Is told how many cells each batch added.
    """
    rows = decoder.rows_per_batch(max(map(len, answers)))
    size = min(batch_size, max(1, rows // len(answers)))
    budget = TOKENS.get(decoder.device.type, TOKENS["cpu"])
    found: list[np.ndarray] = []
    order: list[int] = []
    for places, batch in by_length(prompts, tokens=budget, rows=size):
        found.append(_log_likelihood(decoder, batch, answers, n_tokens=n_tokens, pad=pad))
        order += places
        done(len(places))
    scores = np.empty((len(order), len(answers)))
    if order:
        scores[order] = np.concatenate(found)
    return scores


def _log_likelihood(
    decoder: PrefixDecoder,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    n_tokens: int,
    pad: int,
) -> np.ndarray:
    """Return the log-likelihoods of one batch: the first token from the prompt's own last state, the rest from rows beside it."""
    prefix, cells = decoder.prefill(prompts, pad=pad), len(prompts)
    first = torch.log_softmax(decoder.logits(prefix.last, slice(n_tokens)), dim=-1)
    total = first[:, torch.tensor([answer[0] for answer in answers], device=decoder.device)]
    if max(map(len, answers)) > 1:
        begun, seen = right_padded([answer[:-1] for answer in answers], pad, decoder.device)
        wanted, _ = right_padded([answer[1:] for answer in answers], pad, decoder.device)
        begun, seen, wanted = (each.repeat(cells, 1) for each in (begun, seen, wanted))
        hidden = decoder.extend(prefix, decoder.row_cache(begun.shape[1]), begun, seen)
        log_p = _picked(decoder, hidden[seen], wanted[seen], n_tokens)
        later = torch.zeros(seen.shape, device=decoder.device).masked_scatter(seen, log_p)
        total = total + later.sum(1).view(cells, len(answers))
    return total.double().cpu().numpy()


def _picked(decoder: PrefixDecoder, states: Tensor, wanted: Tensor, n_tokens: int) -> Tensor:
    """Return log p of the token ``wanted`` (n,) after each of ``states`` (n, width)."""
    found = torch.empty(len(wanted), device=decoder.device)
    step = max(1, CHUNK // n_tokens)
    for start in range(0, len(wanted), step):
        log_p = torch.log_softmax(decoder.logits(states[start : start + step], slice(n_tokens)), dim=-1)
        found[start : start + step] = log_p.gather(1, wanted[start : start + step, None])[:, 0]
    return found


def checked_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels as a list; fewer than two, one twice (spaces around it aside), no text, or an empty one is a ConfigError."""
    names = [labels] if isinstance(labels, str) else list(labels)
    known = {str(name).strip() for name in names if isinstance(name, str)} - {""}
    if len(names) < 2 or len(known) != len(names):
        msg = f"labels must be a list of at least two different names, found {names}"
        raise ConfigError(msg)
    return names


def log_prior(names: Sequence[str], prior: Mapping[str, float]) -> np.ndarray:
    """Return the logarithm of each name's prior probability; one that is missing or not above 0 is a ConfigError."""
    wanted = np.array([prior.get(name, 0.0) for name in names], dtype=float)
    if not (np.isfinite(wanted) & (wanted > 0)).all():
        msg = f"prior needs a probability above 0 for each of {list(names)}"
        raise ConfigError(msg)
    return np.log(wanted)


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
    if isinstance(prior, str) and prior != "uniform":
        msg = f"prior must be 'training', 'uniform' or a mapping of labels to probabilities, found {prior!r}"
        raise ConfigError(msg)
    wanted = np.zeros(len(names)) if isinstance(prior, str) else log_prior(names, prior)
    return wanted - np.log([share[name] for name in names])


def label_table(scores: np.ndarray, names: Sequence[str], index: pd.Index) -> pd.DataFrame:
    """Return ``label``, ``probability``, ``margin`` and one ``p(<label>)`` a label: the softmax of scores (n, n_labels).

    Raises
    ------
    ModelError
        A score is no number.
    """
    if bad := int((np.isnan(scores).any(axis=1) | ~np.isfinite(scores.max(axis=1))).sum()):
        msg = f"the model's scores of {bad:,} of {len(scores):,} cells are no numbers; load it with dtype='bfloat16' or 'float32', and check its weights"
        raise ModelError(msg)
    probability = np.exp(scores - scores.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    ranked = np.sort(probability, axis=1)
    table = pd.DataFrame(probability, index=index, columns=[f"p({name})" for name in names])
    table.insert(0, "margin", ranked[:, -1] - ranked[:, -2])
    table.insert(0, "probability", ranked[:, -1])
    table.insert(0, "label", np.array(names, dtype=object)[probability.argmax(axis=1)])
    return table
