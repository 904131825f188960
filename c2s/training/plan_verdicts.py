"""What a search found on one cell, tried again on other cells of its type: the luckiest of many tries is not the best."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.rewards import Retest, retest
from c2s.engines.layer_routing.searching import SearchResult
from c2s.sentences.progress import progress_bar
from c2s.training.label_rewards import LabelRewards
from c2s.training.plan_settings import PlanSearchConfig

RIGHT = {"log_probability": math.log(0.5), "correct": 0.5}  # rewards above which a cell's type is named
BLIND = 4  # times as many candidates are looked at where some read no gene


@dataclass(frozen=True)
class Verdict:
    """What became of a cell's search.

    Attributes
    ----------
    plan : str
        The first candidate that held on fresh cells; the model as it is where none did.
    candidate : str
        The best plan that the search found.
    difference, p : float
        Of the plan that held, else of the first tested, on fresh cells (:class:`~c2s.engines.layer_routing.rewards.Retest`); 0 and 1 where
        there was none.
    tested : int
        Candidates tested.
    blind : int
        Candidates that were not: under them the model does not tell cells of other types.
    """

    plan: str
    candidate: str
    difference: float
    p: float
    tested: int
    blind: int = 0


def verdicts(
    rewards: LabelRewards, found: Sequence[SearchResult], alike: Sequence[NDArray[np.intp]], others: Sequence[NDArray[np.intp]], path: Path,
    config: PlanSearchConfig, *, progress: bool,
) -> list[Verdict]:  # fmt: skip
    """Return what fresh cells say of each search; a line a cell is kept, so that a killed run goes on.

    Parameters
    ----------
    rewards : LabelRewards
    found : sequence of SearchResult
        Of cells, in order.
    alike : sequence of ndarray
        For each of them the cells that its plans are tested on, none of which had a part in its search.
    others : sequence of ndarray
        For each of them cells of other types.
    path : Path
        Of the lines.
    config : PlanSearchConfig
    """
    said = [Verdict(**json.loads(line)) for line in _whole_lines(path)]
    with (
        path.open("a", encoding="utf-8") as handle,
        progress_bar(len(found), done=len(said), what="testing plans", unit="cells", shown=progress) as bar,
    ):
        for place in range(len(said), len(found)):
            said.append(_verdict(rewards, found[place], alike[place], others[place], config))
            handle.write(json.dumps(asdict(said[-1])) + "\n")
            handle.flush()
            bar.update()
    return said


def _whole_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, and cut off a last one that is not whole."""
    if not path.exists():
        return
    whole = path.read_bytes()
    os.truncate(path, whole.rfind(b"\n") + 1)
    yield from path.read_text(encoding="utf-8").splitlines()


def _verdict(
    rewards: LabelRewards, found: SearchResult, alike: NDArray[np.intp], others: NDArray[np.intp], config: PlanSearchConfig
) -> Verdict:  # fmt: skip
    n_layers = len(found.best)
    full = LayerPlan.execute_all(n_layers)
    values = {plan: reward - config.length_penalty * plan.depth / n_layers for plan, reward in found.tried}
    better = sorted(
        (plan for plan in values if values[plan] > values[full]), key=lambda plan: (-values[plan], plan.depth)
    )
    told = [int(cell) for cell in others if rewards.reward(int(cell), full) > RIGHT[config.reward]]
    tests: list[Retest] = []
    blind = 0
    for plan in better:
        if len(tests) == config.candidates or blind == BLIND * config.candidates:
            break
        if told and sum(rewards.reward(cell, plan) > RIGHT[config.reward] for cell in told) < len(told) / 2:
            blind += 1
            continue
        tests.append(
            retest(
                plan, [partial(rewards.reward, int(cell)) for cell in alike],
                margin=config.margin if plan.depth < n_layers else 0.0, alpha=config.alpha / config.candidates,
                seed=config.seed,
            )
        )  # fmt: skip
        if tests[-1].holds:
            break
    best = str(better[0] if better else full)
    if not tests:
        return Verdict(str(full), best, 0.0, 1.0, 0, blind)
    last = tests[-1]
    shown = last if last.holds else tests[0]
    return Verdict(str(last.plan if last.holds else full), best, shown.difference, shown.p, len(tests), blind)
