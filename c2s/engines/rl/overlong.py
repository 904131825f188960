"""Additions to a reward by sample: what an answer near the limit costs, and what a call of a tool earns."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from c2s.errors import ConfigError, DataError

Array = NDArray[np.float64]


def overlong_penalty(lengths: ArrayLike, *, limit: int, cache: int) -> Array:
    """Return ``clip((limit - cache - length) / cache, -1, 0)``: the soft punishment of DAPO (arXiv 2503.14476).

    0 up to ``limit - cache`` tokens, falling evenly to -1 at ``limit``, and -1 beyond. A cache of 0 is a step: 0 up to the
    limit, -1 beyond, so it costs nothing if no answer can be longer than the limit.

    Parameters
    ----------
    lengths : array-like, shape (n,), int
        Tokens of each answer, at least 0.
    limit, cache : int
        Tokens; ``0 <= cache <= limit``.

    Raises
    ------
    ConfigError
        A cache outside of the limit, or no limit.
    DataError
        A negative length.
    """
    if limit < 1 or not 0 <= cache <= limit:
        msg = f"limit is {limit} and cache {cache}; the cache is the last part of the limit: 0 <= cache <= limit, limit >= 1"
        raise ConfigError(msg)
    tokens = _counts(lengths, "lengths")
    if cache == 0:
        return np.where(tokens > limit, -1.0, 0.0)
    return np.clip((limit - cache - tokens) / cache, -1.0, 0.0) + 0.0  # + 0.0: no negative zero


def tool_bonus(calls: ArrayLike, verdicts: ArrayLike, *, per_call: float = 0.1, cap: float = 0.4) -> Array:
    """Return ``min(per_call * calls, cap)`` for wrong answers and 0 for right ones.

    So it is in the code of Yu et al. (arXiv 2510.11701), where a wrong answer costs 1 and is never paid back more than 0.4 of
    it; their formula, which pays right answers too and has no bound, teaches calling for its own sake. Keep ``cap`` below the
    distance between a right and a wrong answer, and no number of calls is worth as much as being right.

    Parameters
    ----------
    calls : array-like, shape (n,), int
        Calls that an answer made, at least 0; the caller decides whether failed ones count.
    verdicts : array-like, shape (n,)
        1 (or True) for right, 0 for wrong; NaN, not known, earns nothing.

    Raises
    ------
    ConfigError
        A negative bonus or cap.
    DataError
        A negative count, another verdict, or lengths that differ.
    """
    if not (0 <= per_call < np.inf and 0 <= cap < np.inf):
        msg = f"per_call is {per_call} and cap {cap}; neither may be negative or infinite"
        raise ConfigError(msg)
    made, judged = _counts(calls, "calls"), np.asarray(verdicts, dtype=np.float64)
    if judged.shape != made.shape or not np.isin(judged[~np.isnan(judged)], (0.0, 1.0)).all():
        msg = f"verdicts are 0, 1 or NaN, one an answer; found {np.unique(judged)[:5]} in shape {judged.shape} for {made.shape} answers"
        raise DataError(msg)
    return np.where(judged == 0.0, np.minimum(per_call * made, cap), 0.0)


def _counts(values: ArrayLike, name: str) -> Array:
    counts = np.asarray(values, dtype=np.float64)
    if not (counts >= 0).all():
        msg = f"{name} are counts of at least 0; found {counts[~(counts >= 0)][0]}"
        raise DataError(msg)
    return counts
