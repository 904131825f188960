"""A request's key-value cache: ghosts of skipped layers, a second slot of repeated ones, rows of a batch, and the frozen plan."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin, DummyLayer, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from c2s.errors import ModelError

UNDECIDED = -1


class FrozenPlans(DummyLayer):
    """The plan of each row of a batch. It lies in the cache it was decided for, and follows its rows through beam search.

    Attributes
    ----------
    actions : Tensor, shape (B, n_layers), int8, CPU
    again : dict of int to int
        Slot of the second run, by layer.
    """

    def __init__(self, batch: int, n_layers: int) -> None:
        super().__init__()
        self.actions = torch.full((batch, n_layers), UNDECIDED, dtype=torch.int8)
        self.again: dict[int, int] = {}

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let row j be what row ``beam_idx[j]`` was."""
        self.actions = self.actions[beam_idx.cpu()]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some of the rows."""
        self.actions = self.actions[indices.cpu()]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row."""
        self.actions = self.actions.repeat_interleave(repeats, dim=0)


class RowsLayer(CacheLayerMixin):
    """The slot of a layer that some rows of a batch run: keys and values of those rows alone.

    Attributes
    ----------
    rows : Tensor, shape (B,), bool, CPU
        Which rows of the batch have theirs in ``kept``, in this order.
    kept : CacheLayerMixin
        A slot of a smaller batch.
    """

    is_croppable = True

    def __init__(self, kept: CacheLayerMixin, rows: Tensor) -> None:
        self.kept, self.rows = kept, rows
        self.is_sliding = kept.is_sliding

    @property
    def keys(self) -> Tensor | None:
        """Return the keys of the kept rows."""
        return self.kept.keys

    @property
    def values(self) -> Tensor | None:
        """Return the values of the kept rows."""
        return self.kept.values

    @property
    def is_initialized(self) -> bool:
        """Return whether there is anything."""
        return self.kept.is_initialized

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make room for what is like these."""
        self.kept.lazy_initialization(key_states, value_states)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values of the kept rows, and return all of them."""
        return self.kept.update(key_states, value_states, *args, **kwargs)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of the keys."""
        return self.kept.get_mask_sizes(query_length)

    def get_seq_length(self) -> int:
        """Return how many tokens were seen."""
        return self.kept.get_seq_length()

    def get_max_length(self) -> int:
        """Return the most tokens that are kept."""
        return self.kept.get_max_length()

    def reset(self) -> None:
        """Forget all."""
        self.kept.reset()

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens."""
        self.kept.crop(tokens_to_remove)

    def activate_past_recording(self) -> None:
        """Keep what a sliding window would drop until it is cropped."""
        if hasattr(self.kept, "activate_past_recording"):
            self.kept.activate_past_recording()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let row j be what row ``beam_idx[j]`` was."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some of the rows."""
        indices = indices.cpu()
        place = self.rows.cumsum(0) - 1  # of a row of the batch among those kept
        chosen = self.rows[indices]
        if chosen.any():
            self.kept.batch_select_indices(place[indices][chosen].to(self.kept.keys.device))
        else:  # every row that is left skips this layer
            length = self.kept.keys.shape[-2]
            self.kept.keys = self.kept.keys.new_zeros(len(indices), 1, length, 1)
            self.kept.values = self.kept.values.new_zeros(len(indices), 1, length, 1)
        self.rows = chosen

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row."""
        self.kept.batch_repeat_interleave(repeats)
        self.rows = self.rows.repeat_interleave(repeats, dim=0)


class Slot:
    """A cache as a layer sees it that is run a second time: what it stores goes elsewhere than at the first."""

    def __init__(self, cache: DynamicCache, index: int) -> None:
        self._cache, self._index = cache, index

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values, and return all of the second run."""
        return self._cache.update(keys, values, self._index, *args, **kwargs)


def check_cache(cache: Any) -> None:
    """Raise a ModelError where a cache cannot hold plans."""
    if type(cache) is not DynamicCache or cache.offloading:
        kind = "an offloaded cache" if type(cache) is DynamicCache else f"a {type(cache).__name__}"
        msg = f"the model was given {kind}; a repeated layer needs a slot of its own, so only a DynamicCache in place can be routed: leave cache_implementation out"
        raise ModelError(msg)
    known = (DynamicLayer, DynamicSlidingWindowLayer, RowsLayer, FrozenPlans)
    if strange := [type(layer).__name__ for layer in cache.layers if type(layer) not in known]:
        msg = f"the cache holds a {strange[0]}; only keys and values, whole or of a sliding window, can be routed"
        raise ModelError(msg)


def find_plans(cache: DynamicCache) -> FrozenPlans | None:
    """Return the plans that a cache was filled under; None where it holds none."""
    return next((layer for layer in cache.layers if isinstance(layer, FrozenPlans)), None)


def freeze_plans(cache: DynamicCache, batch: int, n_layers: int) -> FrozenPlans:
    """Put undecided plans into an empty cache and return them.

    Raises
    ------
    ModelError
        Tokens are in the cache, of a forward pass under no plan.
    """
    if cache.get_seq_length() > 0:
        msg = f"the cache holds {cache.get_seq_length()} tokens that were read under no plan; begin with an empty one (prefix tuning cannot be routed)"
        raise ModelError(msg)
    while len(cache.layers) < n_layers:
        cache.layers.append(DynamicLayer())
    plans = FrozenPlans(batch, n_layers)
    cache.layers.append(plans)
    return plans


def again_slot(cache: DynamicCache, plans: FrozenPlans, layer: int) -> int:
    """Return the slot of a layer's second run, of the kind of the first; it is made where there is none."""
    if layer not in plans.again:
        first = cache.layers[layer]
        like = first.kept if isinstance(first, RowsLayer) else first
        second = DynamicLayer()
        if isinstance(like, DynamicSlidingWindowLayer):
            second = DynamicSlidingWindowLayer(like.sliding_window)
            if like.record_past:  # drafts of assisted generation will be taken back
                second.activate_past_recording()
        cache.layers.append(second)
        plans.again[layer] = len(cache.layers) - 1
    return plans.again[layer]


def keep_rows(cache: DynamicCache, index: int, rows: Tensor) -> None:
    """Let a slot that is still empty hold some rows of the batch; rows, shape (B,), bool."""
    if not isinstance(cache.layers[index], RowsLayer):
        cache.layers[index] = RowsLayer(cache.layers[index], rows)


def write_ghost(cache: DynamicCache, index: int, hidden: Tensor) -> None:
    """Let the slot of a skipped layer count the tokens of ``hidden``, shape (B, T, d), with keys and values of zero.

    The model takes lengths and masks of all layers from one of them.
    """
    layer, (batch, length, _) = cache.layers[index], hidden.shape
    known = layer.keys if layer.is_initialized else None
    heads, width = (1, 1) if known is None else (known.shape[1], known.shape[3])
    ghost = hidden.new_zeros(batch, heads, length, width)
    cache.update(ghost, ghost, index)
