"""Search over plans within a budget of simulations: UCT, random, greedy removal (TALE), all plans; one interface."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng

from c2s.engines.layer_routing.plan import EXECUTE, N_ACTIONS, REPEAT, SKIP, LayerPlan
from c2s.engines.layer_routing.rewards import Counted, Reward
from c2s.engines.layer_routing.uct import UctSearcher
from c2s.errors import ConfigError, DataError

Method = Literal["uct", "random", "greedy", "exhaustive"]
MOST_PLANS = 1_000_000  # that an exhaustive search begins


class Searcher(Protocol):
    """Proposes plans, one after the other, each once."""

    def ask(self) -> LayerPlan | None:
        """Return the next plan to try; None where nothing is left."""

    def tell(self, plan: LayerPlan, value: float) -> None:
        """Take the value of the plan that was asked for last."""


@dataclass(frozen=True)
class SearchResult:
    """What a search tried and found.

    Attributes
    ----------
    tried : tuple of (LayerPlan, float)
        Plans with their rewards, in order; none twice.
    best : LayerPlan
        Of the highest value; of equals the one that runs fewest layers, then the first tried.
    reward : float
        Of ``best``.
    value : float
        ``reward`` − ``length_penalty`` × depth / layers, which was maximised.
    simulations : int
        Plans tried.
    executions : int
        Layers run for it: what a reward that counts has counted, else the depths of the plans tried.
    """

    tried: tuple[tuple[LayerPlan, float], ...]
    best: LayerPlan
    reward: float
    value: float
    simulations: int
    executions: int

    def record(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, fit for JSON."""
        return {
            "tried": [[str(plan), reward] for plan, reward in self.tried], "best": str(self.best), "reward": self.reward,
            "value": self.value, "simulations": self.simulations, "executions": self.executions,
        }  # fmt: skip

    @classmethod
    def restore(cls, record: Mapping[str, Any]) -> Self:
        """Return the result of a :meth:`record`."""
        tried = tuple((LayerPlan.parse(plan), float(reward)) for plan, reward in record["tried"])
        return cls(
            tried, LayerPlan.parse(record["best"]), float(record["reward"]), float(record["value"]),
            int(record["simulations"]), int(record["executions"]),
        )  # fmt: skip


def search(
    reward: Reward,
    n_layers: int,
    *,
    budget: int,
    method: Method = "uct",
    length_penalty: float = 0.0,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> SearchResult:
    """Return the best plan found in at most ``budget`` simulations; the model as it is is tried first.

    Parameters
    ----------
    reward : Reward
    n_layers : int
    budget : int
        Plans to try. No plan is tried twice: where ``reward`` is drawn, :func:`~c2s.engines.layer_routing.rewards.retest` the best.
    method : {"uct", "random", "greedy", "exhaustive"}
        Upper confidence bounds over edits of single layers; plans with a number of edits drawn from 0 to ``n_layers``; removal of the
        layer whose removal helps most until none helps (TALE); all plans, a ConfigError where the budget is less.
    length_penalty : float
        Reward that a plan of the model's depth gives up, others in proportion.
    seed : int
    progress : callable
        Told of each simulation.

    Raises
    ------
    ConfigError
        Budget, penalty or layers are out of range, or the budget does not cover an exhaustive search.
    DataError
        A reward is not finite.
    """
    run = Run(n_layers, budget=budget, method=method, length_penalty=length_penalty, seed=seed)
    before = reward.executed if isinstance(reward, Counted) else 0
    while (plan := run.ask()) is not None:
        run.tell(plan, reward(plan))
        progress(1)
    executions = reward.executed - before if isinstance(reward, Counted) else None
    return run.result(executions=executions)


class Run:
    """A search that is told rewards, so that many can be run side by side (:func:`~c2s.engines.layer_routing.samples.search_samples`)."""

    def __init__(self, n_layers: int, *, budget: int, method: Method, length_penalty: float, seed: int | SeedSequence) -> None:  # fmt: skip
        if n_layers < 1 or budget < 1 or not 0 <= length_penalty < math.inf:
            msg = f"n_layers={n_layers} and budget={budget} must be at least 1, length_penalty={length_penalty} at least 0"
            raise ConfigError(msg)
        self.n_layers, self.budget, self.length_penalty = n_layers, budget, length_penalty
        self.searcher = _searcher(method, n_layers, budget, default_rng(seed))
        self.tried: dict[LayerPlan, float] = {}

    def ask(self) -> LayerPlan | None:
        """Return the next plan to try; None where the search is over."""
        return None if len(self.tried) >= self.budget else self.searcher.ask()

    def tell(self, plan: LayerPlan, reward: float) -> None:
        """Take the reward of the plan that was asked for last; a DataError where it is not finite."""
        if not math.isfinite(reward):
            msg = f"the reward of plan {plan} is {reward}; a search compares finite rewards"
            raise DataError(msg)
        self.tried[plan] = float(reward)
        self.searcher.tell(plan, self.value(plan))

    def value(self, plan: LayerPlan) -> float:
        """Return reward less penalty of a plan that was tried."""
        return self.tried[plan] - self.length_penalty * plan.depth / self.n_layers

    def result(self, *, executions: int | None = None) -> SearchResult:
        """Return what was found; executions None: as many as the plans are deep."""
        best = max(self.tried, key=lambda plan: (self.value(plan), -plan.depth))
        counted = sum(plan.depth for plan in self.tried) if executions is None else executions
        return SearchResult(
            tuple(self.tried.items()), best, self.tried[best], self.value(best), len(self.tried), counted
        )


def _searcher(method: str, n_layers: int, budget: int, rng: Generator) -> Searcher:
    if method == "uct":
        return UctSearcher(n_layers, rng)
    if method == "random":
        return ListSearcher(_random_plans(n_layers, rng))
    if method == "greedy":
        return GreedySearcher(n_layers)
    if method != "exhaustive":
        msg = f"method {method!r} is none of uct, random, greedy, exhaustive"
        raise ConfigError(msg)
    if (n_plans := N_ACTIONS**n_layers) > min(budget, MOST_PLANS):
        msg = f"{n_layers} layers have {n_plans} plans, and budget={budget} (at most {MOST_PLANS}) does not cover them; raise it, or search by uct"
        raise ConfigError(msg)
    others = (LayerPlan(actions) for actions in itertools.product((EXECUTE, SKIP, REPEAT), repeat=n_layers))
    return ListSearcher(others)  # begins with the model as it is


class ListSearcher:
    """Proposes the plans of an iterator that learns nothing."""

    def __init__(self, plans: Iterator[LayerPlan]) -> None:
        self._plans = plans

    def ask(self) -> LayerPlan | None:
        """Return the next plan."""
        return next(self._plans, None)

    def tell(self, plan: LayerPlan, value: float) -> None:
        """Do nothing: what comes next is fixed."""


def _random_plans(n_layers: int, rng: Generator) -> Iterator[LayerPlan]:
    """Yield the model as it is, then plans with a random number of random edits, none twice."""
    base = LayerPlan.execute_all(n_layers)
    seen = {base}
    yield base
    while len(seen) < N_ACTIONS**n_layers:
        actions = np.full(n_layers, EXECUTE)
        edited = rng.permutation(n_layers)[: rng.integers(n_layers + 1)]
        actions[edited] = rng.choice((SKIP, REPEAT), len(edited))
        plan = LayerPlan(actions.tolist())
        if plan not in seen:
            seen.add(plan)
            yield plan


class GreedySearcher:
    """Drops, round after round, the layer without which the value is highest (task-level layer elimination, TALE).

    Parameters
    ----------
    n_layers : int
    to_depth : int or None
        Go on to this depth whether it helps or not; None: end where every removal lowers the value.
    """

    def __init__(self, n_layers: int, *, to_depth: int | None = None) -> None:
        self.to_depth = to_depth
        self.current = LayerPlan.execute_all(n_layers)
        self._value = math.nan
        self._waiting = [self.current]  # of this round, last first
        self._round: dict[LayerPlan, float] = {}

    def ask(self) -> LayerPlan | None:
        """Return the next removal to try."""
        if not self._waiting and not self._next_round():
            return None
        return self._waiting[-1]

    def tell(self, plan: LayerPlan, value: float) -> None:
        """Take the value of a removal."""
        self._waiting.pop()
        self._round[plan] = value

    def _next_round(self) -> bool:
        """Drop the best layer and line up the removals after it; return whether there are any."""
        best = max(self._round, key=self._round.__getitem__)
        helps = math.isnan(self._value) or self._round[best] >= self._value
        if self.to_depth is None and not helps:
            return False
        self.current, self._value = best, self._round[best]
        self._round = {}
        if self.current.depth <= (self.to_depth or 0):
            return False
        self._waiting = [
            self.current.with_action(layer, SKIP) for layer in reversed(range(len(best))) if best[layer] != SKIP
        ]
        return True
