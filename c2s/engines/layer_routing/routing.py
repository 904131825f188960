"""Routers at work: what they decide, once a layer and sequence, and how deep a model they leave on average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from c2s.engines.layer_routing.decisions import Reading
from c2s.engines.layer_routing.plan import LayerPlan
from c2s.errors import ConfigError

if TYPE_CHECKING:
    from c2s.engines.layer_routing.router import Router

_WIDEST = 1e4  # a shift at which nothing else counts
_STEPS = 30


class RouterDecider:
    """Takes the action of the highest logit."""

    def __init__(self, router: Router) -> None:
        self.router = router

    def decide(self, layer: int, hidden: Tensor, reading: Reading) -> Tensor:
        """Return the actions of a layer, one a row."""
        with torch.no_grad():
            return self.router.layer_logits(layer, hidden, reading.tokens(hidden)).argmax(-1)


def plans_of(router: Router, model: Any, batches: Iterable[Mapping[str, Tensor]]) -> list[LayerPlan]:
    """Return the plan that the router decides for each row of each batch of prompts.

    Parameters
    ----------
    batches : iterable of mapping
        ``input_ids`` and ``attention_mask``.
    """
    found: list[LayerPlan] = []
    with torch.no_grad(), router.attached(model, other_weights=True) as routing:
        for batch in batches:
            model(**batch, use_cache=False)
            found += routing.plans
    return found


def mean_depth(plans: Sequence[LayerPlan]) -> float:
    """Return how many layers plans run on average."""
    return sum(plan.depth for plan in plans) / len(plans)


def calibrate_depth(
    router: Router, model: Any, batches: Sequence[Mapping[str, Tensor]], *, depth: float, tolerance: float = 0.25
) -> float:
    """Set ``router.skip_shift`` so that prompts run ``depth`` layers on average, and return the mean depth that is reached.

    The shift is added to the logit of skipping in all layers, and found by bisection. What one layer does changes what the next ones
    see, so depth need not fall steadily with the shift; of the shifts tried the nearest is kept.

    Parameters
    ----------
    router : Router
        As it was trained, or calibrated before.
    model : PreTrainedModel or PeftModel
    batches : sequence of mapping
        A sample of prompts, ``input_ids`` and ``attention_mask``, like those the router will see.
    depth : float
        Layers; a repeated one counts twice.
    tolerance : float
        Layers by which the mean may miss it.

    Raises
    ------
    ConfigError
        The router cannot reach that depth on this sample; the message says how far it comes. The shift is as before.
    """
    if not batches or not tolerance > 0:
        msg = (
            f"there are {len(batches)} batches and tolerance={tolerance}; give a sample of prompts, and layers above 0"
        )
        raise ConfigError(msg)
    before = router.skip_shift
    tried: dict[float, float] = {}

    def reached(shift: float) -> float:
        router.skip_shift = shift
        tried[shift] = mean_depth(plans_of(router, model, batches))
        return tried[shift]

    low, high = -_WIDEST, _WIDEST  # deepest, shallowest
    deepest, shallowest = reached(low), reached(high)
    if shallowest - tolerance <= depth <= deepest + tolerance:
        low, high = -1.0, 1.0
        while reached(low) < depth and low > -_WIDEST:
            low *= 2
        while reached(high) > depth and high < _WIDEST:
            high *= 2
        for _ in range(_STEPS):
            middle = (low + high) / 2
            found = reached(middle)
            if abs(found - depth) <= tolerance / 10:
                break
            low, high = (middle, high) if found > depth else (low, middle)
    nearest = min(tried, key=lambda shift: (abs(tried[shift] - depth), abs(shift)))
    if abs(tried[nearest] - depth) > tolerance:
        router.skip_shift = before
        msg = f"depth={depth} is out of reach: shifts of this router give {shallowest:.2f} to {deepest:.2f} layers on these prompts, and {tried[nearest]:.2f} comes nearest; give more prompts, or another depth"
        raise ConfigError(msg)
    router.skip_shift = nearest
    return tried[nearest]
