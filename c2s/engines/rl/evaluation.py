"""How good a policy is on prompts it was not trained on: mean and pass rate of k answers a prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray

from c2s.engines.rl.rewards import Reward, values_of
from c2s.engines.rl.sampling import Answers
from c2s.errors import ConfigError, DataError

Floats = NDArray[np.float64]


class Evaluation(NamedTuple):
    """Scores of answers to held-out prompts.

    Attributes
    ----------
    scores : ndarray, shape (n_prompts, answers), float64
        NaN where there is none.
    tokens : int
        That were written.
    """

    scores: Floats
    tokens: int

    @property
    def mean(self) -> float:
        """Mean over prompts of the mean of their answers (average@k); prompts without a score are left out."""
        scored = self.scores[~np.isnan(self.scores).all(axis=1)]
        return float(np.nanmean(scored, axis=1).mean()) if len(scored) else math.nan

    def pass_at(self, k: int) -> float:
        """Return the chance that one of ``k`` answers is right, :func:`pass_at_k` over prompts; scores must be verdicts."""
        if not np.isin(self.scores, (0.0, 1.0)).all():
            msg = "pass@k is of verdicts, 0 or 1; these are other scores"
            raise DataError(msg)
        return float(pass_at_k(self.scores.shape[1], self.scores.sum(axis=1), k).mean())


def pass_at_k(n: int, right: ArrayLike, k: int) -> Floats:
    """Return ``1 - C(n - c, k) / C(n, k)``: the unbiased chance that k of n answers hold a right one (Chen et al., arXiv 2107.03374).

    Parameters
    ----------
    n : int
        Answers of each prompt.
    right : array-like, shape (n_prompts,), int
        c, those that are right.
    k : int
        1 to n.

    Raises
    ------
    ConfigError
        k is not between 1 and n.
    """
    if not 1 <= k <= n:
        msg = f"k={k}; of {n} answers, k is 1 to {n}"
        raise ConfigError(msg)
    wrong = n - np.asarray(right, dtype=np.int64)
    places = np.arange(k)
    return 1.0 - np.prod(np.clip(wrong[..., None] - places, 0, None) / (n - places), axis=-1)


def evaluate(
    prompts: Dataset,
    reward: Reward,
    *,
    write: Callable[[list[list[int]], list[dict[str, Any]], str], Answers],
    tokenize: Callable[[list[Any]], list[list[int]]],
    decode: Callable[[list[list[int]]], list[str]],
    answers: int,
    batch_size: int,
) -> Evaluation:
    """Ask every prompt ``answers`` times and score what is written.

    Parameters
    ----------
    prompts : Dataset
        With a column ``prompt``; all columns go to the reward.
    reward : callable
        TRL's convention; None is no score.
    write : callable
        Token ids and rows of some prompts, and a name from which all draws follow, to an answer each: so the same weights answer
        alike, whatever was trained in between. It may add columns to the rows, which the reward then reads.
    tokenize, decode : callable
        Prompts to token ids, and token ids to texts.
    batch_size : int
        Answers written at a time.
    """
    rows = [dict(row) for row in prompts for _ in range(answers)]
    ids = [each for each in tokenize(list(prompts["prompt"])) for _ in range(answers)]
    scores: list[float] = []
    tokens = 0
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        written = write(ids[start : start + batch_size], part, f"held out, {start}")
        scores += scored(reward, part, written.ids, decode(written.ids))
        tokens += sum(map(len, written.ids))
    return Evaluation(np.array(scores, dtype=np.float64).reshape(len(prompts), answers), tokens)


def scored(reward: Reward, rows: Sequence[dict[str, Any]], ids: list[list[int]], texts: list[str]) -> list[float]:
    """Return a reward of each answer, NaN for None, told what TRL tells it: prompts, completions, token ids, columns.

    Raises
    ------
    DataError
        The reward gives no list of one number an answer.
    """
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "prompt"} if rows else {}
    found = reward(prompts=[row["prompt"] for row in rows], completions=texts, completion_ids=ids, **columns)
    return [math.nan if value is None else value for value in values_of(reward, found, len(rows))]
