"""What a router of a model of cells must beat: at the same depth the same layers for every cell, chosen on training cells, and early exit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.rivals import ConfidenceExit, block_influence, random_removal, shortgpt, tale
from c2s.engines.layer_routing.routing import mean_depth
from c2s.engines.layer_routing.support import decoder_of
from c2s.models.routed_prefix import Plans
from c2s.training.routing import prompt_batches

if TYPE_CHECKING:
    from c2s.models.cell_lm import CellLM
    from c2s.training.searched_plans import SearchedPlans

_HALVINGS = 14  # of the threshold of early exit
_SUREST = 36.0  # log-odds: the highest that float64 can tell from certainty


class RoutingRivals:
    """Plans that cost what a router costs, fitted to training cells.

    Parameters
    ----------
    model : CellLM
    training : SearchedPlans
        Cells with labels; their plans are not read.
    draws : int
        Random removals at each depth.
    seed : int
        Of these.
    """

    def __init__(self, model: CellLM, training: SearchedPlans, *, draws: int, seed: int) -> None:
        self.model, self.training, self.draws, self.seed = model, training, draws, seed
        self.n_layers = decoder_of(model.model).n_layers
        self._influence = block_influence(model.model, prompt_batches(model, training.sentences))
        self._rewards: dict[LayerPlan, float] = {}

    def at(self, depth: float) -> Iterator[tuple[str, Plans]]:
        """Yield names and plans of ``depth`` layers, rounded up where a rival removes whole layers, so that it has no less."""
        whole = min(self.n_layers, int(np.ceil(depth - 1e-9)))
        yield f"ShortGPT, {whole} layers", shortgpt(self._influence, depth=whole)
        yield f"TALE, {whole} layers", tale(self.reward, self.n_layers, depth=whole)
        for draw in range(self.draws):
            yield (
                f"random removal {draw + 1}, {whole} layers",
                random_removal(self.n_layers, depth=whole, seed=self.seed + draw),
            )
        found, reached = self.early_exit(depth)
        yield f"early exit, {reached:.2f} layers", found

    def reward(self, plan: LayerPlan) -> float:
        """Return the mean log-probability of the right label of the training cells when all run one plan."""
        if plan not in self._rewards:
            with self.model.routed(plan):
                table = self.model.annotate(self.training.sentences)
            right = [table[f"p({label})"].iloc[place] for place, label in enumerate(self.training.labels)]
            self._rewards[plan] = float(np.log(np.maximum(right, 1e-300)).mean())
        return self._rewards[plan]

    def early_exit(self, depth: float) -> tuple[ConfidenceExit, float]:
        """Return early exit with the threshold at which training cells run nearest to ``depth`` layers on average, and that mean."""
        decoder = decoder_of(self.model.model)
        tried: dict[float, float] = {}
        low, high = -_SUREST, _SUREST
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            threshold = 1 / (1 + math.exp(-middle))
            with self.model.routed(ConfidenceExit(decoder, threshold, 1)):
                tried[threshold] = mean_depth(self.model.plans(self.training.sentences))
            low, high = (middle, high) if tried[threshold] < depth else (low, middle)
        nearest = min(tried, key=lambda each: abs(tried[each] - depth))
        return ConfidenceExit(decoder, nearest, 1), tried[nearest]
