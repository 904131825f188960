"""Which prompts each step asks: epoch after epoch of those that are active, drawn ahead where answers are written ahead."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from c2s.engines.rl.curriculum import Curriculum, CurriculumConfig


class Schedule:
    """Prompts of step 0, 1, …, and what is known of how hard they are.

    Parameters
    ----------
    n_prompts : int
        Prompts there are, 0 … n-1.
    per_step : int
        Asked together.
    drop_mastered : float or None
        Prompts answered right at least as often are not asked again from the next epoch on
        (No-Positive-Resampling; :class:`~c2s.engines.rl.curriculum.Curriculum`).
    seed : int

    Raises
    ------
    ConfigError
        There are fewer prompts than a step asks.
    """

    def __init__(self, n_prompts: int, per_step: int, *, drop_mastered: float | None = None, seed: int = 0) -> None:
        config = CurriculumConfig(drop_mastered=drop_mastered, min_prompts=per_step, seed=seed)
        self.curriculum, self.per_step = Curriculum(n_prompts, config), per_step
        self._waiting: list[int] = []  # of the epoch at hand
        self._epoch = 0
        self._drawn: dict[int, list[int]] = {}  # by step, until they are answered
        self._next = 0  # step to draw
        self._lock = threading.Lock()  # a pipeline draws ahead in its thread

    def prompts(self, step: int) -> list[int]:
        """Return the prompts of a step; those before it that were not drawn yet are drawn first.

        Raises
        ------
        KeyError
            The step was answered already.
        """
        with self._lock:
            while self._next <= step:
                while len(self._waiting) < self.per_step:
                    self._waiting += self.curriculum.epoch(self._epoch).tolist()
                    self._epoch += 1
                self._drawn[self._next] = self._waiting[: self.per_step]
                self._waiting = self._waiting[self.per_step :]
                self._next += 1
            return self._drawn[step]

    def answered(self, step: int, passed: ArrayLike | None) -> None:
        """Take the verdicts of a step, shape (per_step, answers), NaN where there is none, into the history; None: no verifier."""
        with self._lock:
            prompts = self._drawn.pop(step)
            if passed is not None:
                verdicts: NDArray[np.float64] = np.asarray(passed, dtype=np.float64)
                self.curriculum.record(np.repeat(prompts, verdicts.shape[1]), verdicts.ravel())

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, fit for JSON."""
        with self._lock:
            return {
                "curriculum": self.curriculum.state(), "waiting": list(self._waiting), "epoch": self._epoch,
                "next": self._next, "drawn": [[step, prompts] for step, prompts in sorted(self._drawn.items())],
            }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`; a DataError where it is that of other prompts."""
        self.curriculum.restore(state["curriculum"])
        self._waiting, self._epoch, self._next = list(state["waiting"]), int(state["epoch"]), int(state["next"])
        self._drawn = {int(step): list(prompts) for step, prompts in state["drawn"]}
