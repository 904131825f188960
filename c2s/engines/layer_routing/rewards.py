"""What a plan is worth: the protocols rewards keep to, and the test of a plan on draws that did not choose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.stats import permutation_test

from c2s.engines.layer_routing.plan import LayerPlan
from c2s.errors import ConfigError, DataError

N_RESAMPLES = 9_999


class Reward(Protocol):
    """How good a plan is; higher is better. It may be drawn anew at each call."""

    def __call__(self, plan: LayerPlan, /) -> float:
        """Return the reward of a plan."""


class PairReward(Protocol):
    """How good plans are on samples, one plan a sample, many at once."""

    def __call__(self, samples: Sequence[int], plans: Sequence[LayerPlan], /) -> Sequence[float]:
        """Return the reward of each plan on the sample of the same place."""


@runtime_checkable
class Counted(Protocol):
    """A reward that counts the layers it runs (:class:`~c2s.engines.layer_routing.prefix.PrefixReuse`)."""

    executed: int


@dataclass(frozen=True)
class Retest:
    """A plan against another on fresh draws.

    Attributes
    ----------
    plan, against : LayerPlan
    difference : float
        Mean reward of the plan, less that of the other.
    p : float
        Of a difference this great if signs were tossed, one-sided; the least there can be is 2^-n.
    n : int
        Fresh draws.
    holds : bool
        ``p`` is at most ``alpha``: the plan counts.
    """

    plan: LayerPlan
    against: LayerPlan
    difference: float
    p: float
    n: int
    holds: bool


def retest(
    plan: LayerPlan,
    fresh: Sequence[Reward],
    *,
    against: LayerPlan | None = None,
    margin: float = 0.0,
    alpha: float = 0.05,
    seed: int = 0,
) -> Retest:
    """Return whether a plan that a search chose is better on draws that did not choose it.

    The best of many tries is partly the luckiest: on questions with four answers a wrong one turns right by chance in one of four.

    Parameters
    ----------
    plan : LayerPlan
    fresh : sequence of Reward
        Each of another draw: held-out inputs, or another seed of the sampler. Both plans are asked of each.
    against : LayerPlan or None
        What it is to beat; None: the model as it is.
    margin : float
        How much worse than ``against`` would still do, for a plan that saves layers; 0 asks for an improvement.
    alpha : float
        Divide it by the number of plans where several are tested.
    seed : int
        Of the signs, where all 2^n are too many.

    Raises
    ------
    ConfigError
        There are so few draws that no difference could hold, or ``margin`` or ``alpha`` is out of range.
    DataError
        A reward is not finite.
    """
    if not (0 <= margin < float("inf") and 0 < alpha < 1):
        msg = f"margin={margin} must be at least 0, and alpha={alpha} between 0 and 1"
        raise ConfigError(msg)
    if not fresh or 0.5 ** len(fresh) > alpha:
        need = int(np.ceil(-np.log2(alpha)))
        msg = f"{len(fresh)} fresh draws cannot tell a plan from a lucky one at alpha={alpha}; give at least {need}"
        raise ConfigError(msg)
    other = LayerPlan.execute_all(len(plan)) if against is None else against
    differences = np.array([float(reward(plan)) - float(reward(other)) for reward in fresh])
    if not np.isfinite(differences).all():
        msg = f"the reward of fresh draw {int(np.flatnonzero(~np.isfinite(differences))[0])} is not finite; leave that draw out"
        raise DataError(msg)
    found = permutation_test(
        (differences + margin,), np.mean, permutation_type="samples", alternative="greater", n_resamples=N_RESAMPLES,
        vectorized=True, rng=np.random.default_rng(seed),
    )  # fmt: skip
    p = float(found.pvalue)
    return Retest(plan, other, float(differences.mean()), p, len(fresh), p <= alpha)
