"""Many plans on the same inputs: hidden states before the first layer that differs are kept, and only layers behind it are run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from c2s.engines.layer_routing.decisions import Reading
from c2s.engines.layer_routing.hooks import Routing, decided, routed
from c2s.engines.layer_routing.plan import SKIP, LayerPlan
from c2s.engines.layer_routing.support import decoder_of
from c2s.errors import ConfigError


class PrefixReuse:
    """A reward read off one forward pass, which costs only the layers behind the first that differs from a plan tried before.

    Plans with the same first l actions have the same hidden states behind layer l. They are kept by those actions, those used longest ago
    go first. The reward is to the bit what a whole forward pass would say. What generates tokens reads more than one pass: for it,
    use :func:`~c2s.engines.layer_routing.hooks.routed`.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
    inputs : mapping of str to Tensor
        ``input_ids`` and ``attention_mask`` of one sample or of a batch.
    score : callable
        Takes what the model returns, gives the reward.
    keep : int
        Hidden states to keep, each of shape (B, T, hidden size).

    Attributes
    ----------
    executed : int
        Layers run for all rows together.
    naive : int
        Layers that whole passes would have run: the depths of the plans.

    Raises
    ------
    ConfigError
        ``keep`` is less than 1, or a plan is of another number of layers.
    ModelError
        The model cannot be routed.
    """

    def __init__(
        self, model: Any, inputs: Mapping[str, Tensor], score: Callable[[Any], float], *, keep: int = 256
    ) -> None:
        if keep < 1:
            msg = f"keep={keep} must be at least 1"
            raise ConfigError(msg)
        self.model, self.inputs, self.score, self.keep = model, dict(inputs), score, keep
        self.n_layers = decoder_of(model).n_layers
        self.executed = self.naive = 0
        self._kept: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    def __call__(self, plan: LayerPlan) -> float:
        """Return the reward of a plan."""
        if len(plan) != self.n_layers:
            msg = f"plan {plan} is of {len(plan)} layers; the model has {self.n_layers}"
            raise ConfigError(msg)
        known = next((n for n in range(len(plan), 0, -1) if plan.actions[:n] in self._kept), 0)
        self.naive += plan.depth
        self.executed += sum(plan.actions[known:])
        with torch.no_grad(), decided(self.model, _Known(plan, known)) as routing, _Store(self, plan, known, routing):
            return float(self.score(self.model(**self.inputs, use_cache=False)))


class _Known:
    """A plan whose first layers are skipped, because what leaves them is known."""

    def __init__(self, plan: LayerPlan, known: int) -> None:
        self.plan, self.known = plan, known

    def decide(self, layer: int, hidden: Tensor, reading: Reading) -> Tensor:
        """Return the action of a layer for all rows."""
        return torch.full((hidden.shape[0],), SKIP if layer < self.known else self.plan[layer], dtype=torch.int8)


class _Store:
    """Puts what is known in the place of what leaves the last known layer, and keeps what leaves the others."""

    def __init__(self, reuse: PrefixReuse, plan: LayerPlan, known: int, routing: Routing) -> None:
        self.reuse, self.plan, self.known = reuse, plan, known
        self.layers = routing.decoder.layers
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        for index in range(max(self.known - 1, 0), len(self.layers)):
            self._handles.append(self.layers[index].register_forward_hook(self._hook(index)))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, index: int) -> Callable[..., Tensor | None]:
        kept, prefix = self.reuse._kept, self.plan.actions[: index + 1]

        def replace_or_keep(module: object, args: object, left: Tensor) -> Tensor | None:
            if index + 1 == self.known:
                kept.move_to_end(prefix)
                return kept[prefix]
            kept[prefix] = left
            if len(kept) > self.reuse.keep:
                kept.popitem(last=False)
            return None

        return replace_or_keep


def logits_of_plans(model: Any, inputs: Mapping[str, Tensor], plans: Sequence[LayerPlan]) -> Tensor:
    """Return the logits of many plans on one sample in one pass, shape (plans, T, vocabulary).

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
    inputs : mapping of str to Tensor
        Of one sample: every tensor has one row.
    plans : sequence of LayerPlan

    Raises
    ------
    ConfigError
        ``inputs`` holds more than one row, or a plan does not fit the model.
    """
    if wrong := [name for name, value in inputs.items() if len(value) != 1]:
        msg = f"{wrong[0]} has {len(inputs[wrong[0]])} rows; many plans are run on one sample, and one plan on many by `routed`"
        raise ConfigError(msg)
    rows = {name: value.expand(len(plans), *value.shape[1:]) for name, value in inputs.items()}
    with torch.no_grad(), routed(model, plans):
        return model(**rows, use_cache=False).logits
