"""What a search found on one cell, tried again on other cells of its type: the luckiest of many tries is not the best."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.rewards import retest
from c2s.engines.layer_routing.searching import SearchResult
from c2s.sentences.progress import progress_bar
from c2s.training.label_rewards import LabelRewards
from c2s.training.plan_settings import PlanSearchConfig


@dataclass(frozen=True)
class Verdict:
    """What became of a cell's search.

    Attributes
    ----------
    plan : str
        The first candidate that held on fresh cells; the model as it is where none did.
    candidate : str
        That one, or the best of those that did not hold.
    difference, p : float
        Of the candidate on fresh cells (:class:`~c2s.engines.layer_routing.rewards.Retest`); 0 and 1 where there was none.
    tested : int
        Candidates tested.
    """

    plan: str
    candidate: str
    difference: float
    p: float
    tested: int


def verdicts(
    rewards: LabelRewards, found: Sequence[SearchResult], alike: Sequence[NDArray[np.intp]], path: Path,
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
            said.append(_verdict(rewards, found[place], alike[place], config))
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


def _verdict(rewards: LabelRewards, found: SearchResult, alike: NDArray[np.intp], config: PlanSearchConfig) -> Verdict:
    n_layers = len(found.best)
    full = LayerPlan.execute_all(n_layers)
    values = {plan: reward - config.length_penalty * plan.depth / n_layers for plan, reward in found.tried}
    better = sorted(
        (plan for plan in values if values[plan] > values[full]), key=lambda plan: (-values[plan], plan.depth)
    )
    tests = []
    for plan in better[: config.candidates]:
        tests.append(
            retest(
                plan, [partial(rewards.reward, int(cell)) for cell in alike],
                margin=config.margin if plan.depth < n_layers else 0.0, alpha=config.alpha / config.candidates,
                seed=config.seed,
            )
        )  # fmt: skip
        if tests[-1].holds:
            break
    if not tests:
        return Verdict(str(full), str(full), 0.0, 1.0, 0)
    last = tests[-1]
    shown = last if last.holds else tests[0]
    return Verdict(str(last.plan if last.holds else full), str(shown.plan), shown.difference, shown.p, len(tests))
