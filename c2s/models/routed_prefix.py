"""Shared-prefix decoding under layer plans: a cell's plan is decided while its prefix is read, and all its rows keep it.

Cells of one batch may have different plans. Each layer is run on the cells that run it, and on their rows; the second run of a repeated
layer has keys and values of its own. What the prompts of a batch begin with alike is not run once for all: the decision is each cell's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2s.engines.layer_routing.decisions import Decider, FixedPlans, Reading
from c2s.engines.layer_routing.fingerprint import fingerprint
from c2s.engines.layer_routing.plan import EXECUTE, REPEAT, LayerPlan
from c2s.engines.layer_routing.router import Router
from c2s.engines.layer_routing.routing import RouterDecider, mean_depth
from c2s.engines.layer_routing.slots import UNDECIDED
from c2s.engines.layer_routing.support import decoder_of
from c2s.errors import ConfigError, ModelError
from c2s.models.prefix import PrefixDecoder
from c2s.models.prefix_attention import PrefixCache, RowCache

Plans = Router | LayerPlan | Decider


@dataclass
class RoutingCost:
    """What answers under plans cost.

    Attributes
    ----------
    n_layers : int
    executed : int
        Token-layers that were run: each token once for every layer that ran on it, twice where it is repeated; padding left out.
    whole : int
        Those that the model as it is would have run on the same tokens.
    plans : list of LayerPlan
        Of the prefixes, as they were read.
    """

    n_layers: int
    executed: int = 0
    whole: int = 0
    plans: list[LayerPlan] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Return ``executed / whole``; 1 where nothing was read."""
        return self.executed / self.whole if self.whole else 1.0

    def __str__(self) -> str:
        if not self.plans:
            return "no prompt was read"
        depth = f"{mean_depth(self.plans):.2f} of {self.n_layers} layers a prompt"
        return f"{depth}, {self.executed:,} of {self.whole:,} token-layers ({self.share:.1%})"


class RoutedPrefix(PrefixCache):
    """Keys and values of the prefixes of cells with plans: slot i of a layer's first run and slot L + i of its second hold the cells that ran it.

    Attributes
    ----------
    actions : Tensor, shape (C, L), int8, CPU
        −1 where a layer was not reached yet.
    tokens : Tensor, shape (C,), int64, CPU
        Real tokens of each cell, all its rows together, that are read now.
    """

    def __init__(self, n_layers: int, mask: Tensor) -> None:
        super().__init__(2 * n_layers, mask)
        self.actions = torch.full((len(mask), n_layers), UNDECIDED, dtype=torch.int8)
        self.tokens = mask.sum(1).cpu()

    @property
    def plans(self) -> list[LayerPlan]:
        """Return the plan of each cell."""
        return [LayerPlan(row) for row in self.actions.tolist()]


class RoutedRows(RowCache):
    """Keys and values of rows under plans, in slots as those of :class:`RoutedPrefix`.

    Attributes
    ----------
    members : dict of int to Tensor, shape (R,), bool
        Which rows a slot holds, in their order; a slot that is not named holds all.
    """

    def __init__(self, n_layers: int, capacity: int) -> None:
        super().__init__(2 * n_layers, capacity)
        self.members: dict[int, Tensor] = {}

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) ``rows``, an index tensor; each slot those of them that it holds."""
        for slot in range(len(self.keys)):
            member = self.members.get(slot)
            if member is None:
                self._keep(slot, rows)
                continue
            place, held = member.cumsum(0) - 1, member[rows]
            self._keep(slot, place[rows[held]])
            self.members[slot] = held


class PrefixPart:
    """A :class:`RoutedPrefix` as one run of one layer sees it: of the cells that run it, in that run's slot."""

    def __init__(self, whole: RoutedPrefix, slot: int, cells: Tensor | None, rows: Tensor | None) -> None:
        self._whole, self._slot, self._cells, self._rows = whole, slot, cells, rows
        self.leads = whole.leads
        self.mask = whole.mask if cells is None else whole.mask[cells]
        self.calls = 0

    @property
    def far_places(self) -> Tensor:
        """Return the positions of the prefix tokens of these cells."""
        return self._whole.far_places if self._cells is None else self._whole.far_places[self._cells]

    @property
    def places(self) -> Tensor:
        """Return the positions of the own tokens of these rows."""
        return self._whole.places if self._rows is None else self._whole.places[self._rows]

    def holds(self, layer: int) -> bool:
        """Return whether this run of the layer has read the prefixes already."""
        return self._whole.holds(self._slot)

    def of_layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return keys and values of this run of the layer."""
        return self._whole.of_layer(self._slot)


class RowPart:
    """A :class:`RoutedRows` as one run of one layer sees it."""

    def __init__(self, whole: RoutedRows, slot: int) -> None:
        self._whole, self._slot = whole, slot

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Store new keys and values of the rows that run the layer and return all so far."""
        return self._whole.update(key, value, self._slot)


class RoutedPrefixDecoder(PrefixDecoder):
    """Runs a causal LM over shared prefixes and growing rows, each cell under its own plan.

    A prefix without a token gives nothing to decide on: such a cell runs every layer once, unless plans are given.

    Parameters
    ----------
    model : PreTrainedModel
        A decoder of one of :data:`c2s.engines.layer_routing.support.FAMILIES`.
    plans : Router, LayerPlan or Decider
        Who decides; a plan is that of all cells.

    Attributes
    ----------
    cost : RoutingCost
        Of all that was run.

    Raises
    ------
    ModelError
        The model cannot be routed, or the router is of another one.
    ConfigError
        The plan is of another number of layers.
    """

    def __init__(self, model: PreTrainedModel, plans: Plans) -> None:
        super().__init__(model)
        found = decoder_of(model)
        self.layers, self.cache_name = found.layers, found.cache_name
        self.decider = _decider(plans, model)
        self.cost = RoutingCost(self.n_layers)

    @property
    def bytes_per_place(self) -> int:
        """Bytes of one token's keys and values if all layers are repeated."""
        return 2 * super().bytes_per_place

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Use shared-prefix attention and plans within the block, no gradients, evaluation mode; restore what was before."""
        before = [(layer, layer.__dict__.get("forward")) for layer in self.layers]
        with super().attached():
            try:
                for index, layer in enumerate(self.layers):
                    layer.forward = partial(self._routed, index, layer.forward)
                yield
            finally:
                for layer, own in before:
                    layer.__dict__.pop("forward", None)
                    if own is not None:
                        layer.__dict__["forward"] = own

    def row_cache(self, capacity: int) -> RoutedRows:
        """Return what keeps keys and values of rows, of ``capacity`` places at most."""
        return RoutedRows(self.n_layers, capacity)

    def prefix_cache(self, mask: Tensor) -> RoutedPrefix:
        """Return what keeps keys and values of prefixes, given their real places (C, P)."""
        return RoutedPrefix(self.n_layers, mask)

    def common(self, sequences: Sequence[Sequence[int]], *, most: int | None = None) -> int:
        """Return 0: a common beginning cannot be run before each cell has its plan."""
        return 0

    def prefill(self, prefixes: Sequence[Sequence[int]], *, pad: int) -> RoutedPrefix:
        """Run the prefixes, one per cell, decide the plan of each meanwhile, and return their keys and values with the plans."""
        cache = super().prefill(prefixes, pad=pad)
        assert isinstance(cache, RoutedPrefix)
        self.cost.plans += cache.plans
        return cache

    def extend(self, prefix: PrefixCache, rows: RowCache | None, ids: Tensor, seen: Tensor) -> Tensor:
        """Run new tokens of every row under the plan of its cell; see :meth:`PrefixDecoder.extend`."""
        assert isinstance(prefix, RoutedPrefix)
        prefix.tokens = seen[:, -ids.shape[1] :].reshape(len(prefix.mask), -1).sum(1).cpu()
        return super().extend(prefix, rows, ids, seen)

    def _routed(
        self, index: int, layer: Callable[..., Tensor], hidden_states: Tensor, *args: Any, prefix: RoutedPrefix, **named: Any
    ) -> Tensor:  # fmt: skip
        """Return what leaves a layer, given what enters it, (R, T, width): the cells that skip it leave as they entered."""
        if bool((prefix.actions[:, index] == UNDECIDED).any()):
            prefix.actions[:, index] = self._decided(index, hidden_states, prefix)
        actions, hidden, attended = prefix.actions[:, index], hidden_states, True
        self.cost.whole += int(prefix.tokens.sum())
        for slot, runs in ((index, actions >= EXECUTE), (self.n_layers + index, actions == REPEAT)):
            if bool(runs.any()):
                self.cost.executed += int(prefix.tokens[runs].sum())
                hidden, calls = self._run_cells(slot, runs, layer, hidden, args, prefix, named)
                attended &= calls == 1
        prefix.calls += attended  # a skipped layer asks nothing, and that is right
        return hidden

    def _decided(self, index: int, hidden: Tensor, prefix: RoutedPrefix) -> Tensor:
        """Return the actions of a layer, (C,), int8, CPU."""
        empty = ~prefix.mask.any(1)
        shown = prefix.mask.clone()
        shown[empty, 0] = True  # a decider is shown a token of every row
        found = self.decider.decide(index, hidden, Reading(shown, prefix.actions, decided=False)).to("cpu", torch.int8)
        if not isinstance(self.decider, FixedPlans):
            found[empty.cpu()] = EXECUTE
        return found

    def _run_cells(
        self, slot: int, runs: Tensor, layer: Callable[..., Tensor], hidden: Tensor, args: tuple[Any, ...], prefix: RoutedPrefix,
        named: dict[str, Any],
    ) -> tuple[Tensor, int]:  # fmt: skip
        """Run a layer on the cells that are marked; return the hidden states of all, and how often it attended."""
        n_rows, each = len(hidden), len(hidden) // len(runs)
        cells = chosen = None
        rows: RoutedRows | None = named.get(self.cache_name)
        if not bool(runs.all()):
            cells = runs.nonzero()[:, 0].to(hidden.device)
            chosen = (cells[:, None] * each + torch.arange(each, device=hidden.device)).reshape(-1)
            args = tuple(_part(value, chosen, n_rows) for value in args)
            named = {name: _part(value, chosen, n_rows) for name, value in named.items()}
            if rows is not None and rows.keys[slot] is None:
                rows.members[slot] = runs.repeat_interleave(each).to(hidden.device)
        if rows is not None:
            named = {**named, self.cache_name: RowPart(rows, slot)}
        part = PrefixPart(prefix, slot, cells, chosen)
        left = layer(hidden if chosen is None else hidden[chosen], *args, prefix=part, **named)
        return (left if chosen is None else hidden.index_copy(0, chosen, left)), part.calls


def _part(value: Any, chosen: Tensor, n_rows: int) -> Any:
    """Return masks, positions and their embeddings of some rows; what has no row for each stays."""
    if isinstance(value, Tensor):
        return value[chosen] if value.ndim > 1 and len(value) == n_rows else value
    return tuple(_part(each, chosen, n_rows) for each in value) if isinstance(value, tuple) else value


def _decider(plans: Plans, model: PreTrainedModel) -> Decider:
    if isinstance(plans, Router):
        require_own_router(plans, model)
        return RouterDecider(plans)
    if isinstance(plans, LayerPlan):
        if len(plans) != (n_layers := decoder_of(model).n_layers):
            msg = f"plan {plans} is of {len(plans)} layers; the model has {n_layers}"
            raise ConfigError(msg)
        return FixedPlans([plans])
    return plans


def require_own_router(router: Router, model: PreTrainedModel) -> None:
    """Raise a ModelError where a router is of a model of another shape, or was trained on other weights."""
    decoder = decoder_of(model)
    if (decoder.n_layers, decoder.hidden_size) != (router.n_layers, router.hidden_size):
        msg = f"the router is of {router.n_layers} layers of width {router.hidden_size}; the model has {decoder.n_layers} of width {decoder.hidden_size}"
        raise ModelError(msg)
    if router.base is not None and (found := fingerprint(model)) != router.base:
        msg = f"the router was trained on weights {router.base}; these are {found}. Give the model that c2s route train was given, or train a router of this one"
        raise ModelError(msg)
