"""Training of the network baselines: a search over settings on held-out training cells, then the best one for longer.

The first part of the budget tries every setting for equally many steps; the setting with the lowest loss on an inner
validation split of the training cells is trained afresh with what is left, and of that run the weights with the lowest
validation loss are kept. With ``steps`` alone the result depends on the seed only; ``seconds`` are turned into steps by
the pace of a few, and are kept about.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from c2s.baselines.counts import Codes, CountsAnnotator, Probabilities
from c2s.baselines.tokens import Tokens
from c2s.errors import ConfigError

logger = logging.getLogger(__name__)

Cells = tuple[
    Tokens, Codes, NDArray[np.intp], NDArray[np.intp]
]  # tokens, labels, rows to train on, rows to validate on
Setting = Mapping[str, Any]  # always with "learning_rate"
SEARCH_SHARE = 0.3  # of the budget
VALIDATION_SHARE = 0.1
CHECKS = 20  # times the validation loss is looked at in a run, but not more often than every MIN_EVERY steps
MIN_EVERY = 20
PACE_STEPS = 5  # steps timed
PACE_MARGIN = 0.15  # for the checks, and for steps that take longer later on
WARM_UP = 0.1
_PREDICTED = 1 << 15  # tokens predicted at once


@dataclass(frozen=True)
class Budget:
    """How long to train: ``steps`` of the long run, or fewer where ``fit`` would take longer than about ``seconds``.

    Attributes
    ----------
    steps : int
    seconds : float or None
        Wall-clock time of ``fit``; None lets ``steps`` decide.
    batch_size : int
    """

    steps: int = 1500
    seconds: float | None = None
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or (self.seconds is not None and self.seconds <= 0):
            msg = f"steps, batch_size and seconds must be above 0; got {self.steps}, {self.batch_size}, {self.seconds}"
            raise ConfigError(msg)


class NetworkAnnotator(CountsAnnotator):
    """A network over gene tokens with a head that names the class; a subclass says which.

    Attributes
    ----------
    setting_ : dict
        The setting chosen.
    search_ : list of dict
        Every setting tried, with its validation loss.
    steps_ : int
        Steps of the long run, and ``best_step_`` the one whose weights are kept.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    @abstractmethod
    def _prepare(self, matrix: sp.csr_matrix) -> None:
        """Fix genes and scales by the training cells."""

    @abstractmethod
    def _settings(self) -> list[Setting]: ...

    @abstractmethod
    def _tokens(self, matrix: sp.csr_matrix, setting: Setting) -> Tokens: ...

    @abstractmethod
    def _network(self, n_classes: int, setting: Setting) -> nn.Module: ...

    def _learn(self, matrix: sp.csr_matrix, codes: Codes, seed: int) -> None:
        begun = time.perf_counter()
        self._prepare(matrix)
        train, held = _inner_split(codes, seed)
        settings = self._settings()
        steps = self.budget.steps
        cells = (self._tokens(matrix, settings[0]), codes, train, held)
        pace = self._pace(cells, settings[0], seed) if self.budget.seconds is not None else 0.0
        if self.budget.seconds is not None:
            left = self.budget.seconds - (time.perf_counter() - begun)
            steps = max(1, min(steps, int((1 - SEARCH_SHARE) * left / pace)))
        trial_steps = max(1, round(SEARCH_SHARE / (1 - SEARCH_SHARE) * steps / len(settings)))
        self.search_: list[dict[str, Any]] = []
        for setting in settings if len(settings) > 1 else ():
            cells = (self._tokens(matrix, setting), codes, train, held)
            _, loss, _ = self._run(cells, setting, trial_steps, seed)
            self.search_.append({**setting, "validation_loss": loss, "steps": trial_steps})
        best = int(np.argmin([trial["validation_loss"] for trial in self.search_])) if self.search_ else 0
        self.setting_ = dict(settings[best])
        cells = (self._tokens(matrix, self.setting_), codes, train, held)
        self.steps_ = steps
        self._model, loss, self.best_step_ = self._run(cells, self.setting_, steps, seed)
        logger.info("%s: %s of %d settings, %d steps, loss %.3f", self.name, self.setting_, len(settings), steps, loss)

    def _pace(self, cells: Cells, setting: Setting, seed: int) -> float:
        """Return seconds a step, checks of the validation loss among them, of a short run after a shorter one."""
        self._run(cells, setting, 2, seed)
        begun = time.perf_counter()
        self._run(cells, setting, PACE_STEPS, seed, checks=1)
        once = time.perf_counter() - begun
        begun = time.perf_counter()
        self._run(cells, setting, 2 * PACE_STEPS, seed, checks=1)
        return max((time.perf_counter() - begun - once) / PACE_STEPS, 1e-4) * (1 + PACE_MARGIN)

    def _run(
        self, cells: Cells, setting: Setting, steps: int, seed: int, *, checks: int = CHECKS
    ) -> tuple[nn.Module, float, int]:
        """Return the network, its validation loss and the step it was best at; the caller's RNG is untouched."""
        tokens, codes, train, held = cells
        where = "cuda" if torch.cuda.is_available() else "cpu"
        targets = torch.from_numpy(codes.astype(np.int64)).to(where)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = self._network(int(codes.max()) + 1, setting).to(where)
            optimizer = torch.optim.AdamW(network.parameters(), lr=setting["learning_rate"], weight_decay=0.01)
            batches = _batches(train, self.budget.batch_size, seed)
            every = max(MIN_EVERY, steps // checks)
            best, best_step, kept = math.inf, 0, copy.deepcopy(network.state_dict())
            for step in range(steps):
                network.train()
                for group in optimizer.param_groups:
                    group["lr"] = setting["learning_rate"] * warm_up_and_cosine(step, steps)
                rows = next(batches)
                loss = F.cross_entropy(network(*_placed(tokens.batch(rows), where)), targets[rows])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                if (step + 1) % every == 0 or step + 1 == steps:
                    value = _loss(network, tokens, codes, held)
                    if value < best:
                        best, best_step, kept = value, step + 1, copy.deepcopy(network.state_dict())
            network.load_state_dict(kept)
        return network.eval(), best, best_step

    def _probabilities(self, matrix: sp.csr_matrix) -> Probabilities:
        tokens = self._tokens(matrix, self.setting_)
        return np.exp(log_probabilities(self._model, tokens, tokens.by_length()))


def log_probabilities(network: nn.Module, tokens: Tokens, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return log p of each class, shape (n, n_classes), of all cells of ``tokens``, NaN in those not among ``rows``."""
    lengths = np.diff(tokens.offsets)
    found: NDArray[np.float64] | None = None
    network.eval()
    where = next(network.parameters()).device
    with torch.no_grad():
        start = 0
        while start < len(rows):
            size = max(1, _PREDICTED // int(lengths[rows[start:]].max()))
            here = rows[start : start + size]
            values = torch.log_softmax(network(*_placed(tokens.batch(here), where)).double(), dim=-1).cpu().numpy()
            if found is None:
                found = np.full((len(tokens), values.shape[1]), np.nan)
            found[here] = values
            start += size
    return np.empty((0, 0)) if found is None else found


def _placed(batch: tuple[torch.Tensor, ...], where: torch.device | str) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.to(where) for tensor in batch)


def _loss(network: nn.Module, tokens: Tokens, codes: Codes, rows: NDArray[np.intp]) -> float:
    found = log_probabilities(network, tokens, rows)
    return float(-found[rows, codes[rows]].mean())


def _inner_split(codes: Codes, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows to train on and rows to validate on; every class keeps a cell to train on."""
    rng = np.random.default_rng([seed, 1])
    held = []
    for code in np.unique(codes):
        rows = rng.permutation(np.flatnonzero(codes == code))
        held.append(rows[: min(max(1, round(VALIDATION_SHARE * len(rows))), len(rows) - 1)])
    validation = np.sort(np.concatenate(held))
    train = np.setdiff1d(np.arange(len(codes)), validation)
    return train, (validation if len(validation) else train)


def _batches(rows: NDArray[np.intp], size: int, seed: int) -> Iterator[NDArray[np.intp]]:
    rng = np.random.default_rng([seed, 2])
    while True:
        order = rng.permutation(rows)
        for start in range(0, max(1, len(order) - size + 1), size):
            yield order[start : start + size]


def warm_up_and_cosine(step: int, steps: int) -> float:
    """Return the share of the learning rate: a linear rise over the first tenth, then half a cosine down to 0."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
