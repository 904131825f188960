"""Upper confidence bounds on a graph of plans whose edges are edits of one layer (UCT; Kocsis and Szepesvári 2006)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from c2s.engines.layer_routing.plan import EXECUTE, REPEAT, SKIP, LayerPlan

EXPLORATION = 0.25  # of values scaled to 0 … 1
WIDENING = 1.0, 0.4  # children of a node that was visited n times: at most a n^b, rounded up


@dataclass
class _Node:
    """A plan that was tried, and what was found below it."""

    untried: list[tuple[int, int]]
    children: list[LayerPlan] = field(default_factory=list)
    visits: int = 0
    total: float = 0.0
    closed: bool = False  # nothing below it is left to try


class UctSearcher:
    """Proposes plans by UCT, beginning with the model as it is.

    A node is a plan, its children are that plan with one more layer changed to skip or repeat; plans reached by other orders of the same
    edits are one node. A node gets a new child where progressive widening allows one, the edit that did best in all plans so far first,
    edits never seen before any other; else the child with the highest upper bound is entered. Values are scaled to 0 … 1 by those seen.

    Parameters
    ----------
    n_layers : int
    rng : Generator
        Breaks ties.
    exploration : float
    widening : pair of float
        As the constants of this module, which were chosen on other rewards than those of the tests.
    """

    def __init__(
        self, n_layers: int, rng: np.random.Generator, *, exploration: float = EXPLORATION,
        widening: tuple[float, float] = WIDENING,
    ) -> None:  # fmt: skip
        self.exploration, self.widening = exploration, widening
        self.root = LayerPlan.execute_all(n_layers)
        self._rng = rng
        self._nodes: dict[LayerPlan, _Node] = {}
        self._path: list[LayerPlan] = []
        self._low, self._high = math.inf, -math.inf
        self._edit_total = np.zeros((n_layers, 3))  # of values of plans with this edit
        self._edit_count = np.zeros((n_layers, 3))

    def ask(self) -> LayerPlan | None:
        """Return a plan that was not tried before; None where all were."""
        if self.root not in self._nodes:
            self._path = [self.root]
            return self.root
        while not self._nodes[self.root].closed:
            path = [self.root]
            while True:
                node = self._nodes[path[-1]]
                entered = [child for child in node.children if not self._nodes[child].closed]
                if node.untried and (not entered or len(node.children) < self._allowed(node)):
                    child = self._expand(path[-1], node)
                    if child not in self._nodes:
                        self._path = [*path, child]
                        return child
                elif entered:
                    path.append(max(entered, key=lambda child, node=node: self._bound(node, child)))  # type: ignore[misc]
                else:
                    node.closed = True
                    break
        return None

    def tell(self, plan: LayerPlan, value: float) -> None:
        """Take the value of the plan that was asked for last."""
        rest = [] if len(plan.edits()) == len(plan) else [
            (layer, action) for layer, done in enumerate(plan) if done == EXECUTE for action in (SKIP, REPEAT)
        ]  # fmt: skip
        self._nodes[plan] = _Node([rest[place] for place in self._rng.permutation(len(rest))])
        self._low, self._high = min(self._low, value), max(self._high, value)
        for edit in plan.edits():
            self._edit_total[edit] += value
            self._edit_count[edit] += 1
        for above in self._path:
            node = self._nodes[above]
            node.visits += 1
            node.total += value

    def _allowed(self, node: _Node) -> int:
        factor, power = self.widening
        return math.ceil(factor * node.visits**power)

    def _expand(self, plan: LayerPlan, node: _Node) -> LayerPlan:
        """Return a new child of a node, by the edit that did best so far."""
        edit = max(node.untried, key=self._edit_mean)
        node.untried.remove(edit)
        child = plan.with_action(*edit)
        node.children.append(child)
        return child

    def _edit_mean(self, edit: tuple[int, int]) -> float:
        count = self._edit_count[edit]
        return self._edit_total[edit] / count if count else math.inf

    def _bound(self, node: _Node, child: LayerPlan) -> float:
        """Return the upper confidence bound of a child."""
        below = self._nodes[child]
        scaled = (below.total / below.visits - self._low) / (self._high - self._low) if self._high > self._low else 0.5
        return scaled + self.exploration * math.sqrt(math.log(max(node.visits, 1)) / below.visits)
