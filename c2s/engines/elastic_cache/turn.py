"""One pass through the layers: which rows each layer runs on, attention over the cache, and the watch for drift."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from c2s.engines.elastic_cache.attention import Kind, fused, weighted, weights
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.engines.elastic_cache.state import DecodeState, Stream

NEVER = 1 << 30


class Part:
    """One stream's share of a pass.

    Attributes
    ----------
    asked : list of int
        Rows (absolute places) whose logits are wanted.
    narrow, wide : Tensor, int64, ascending
        Places that are run without and with a refresh.
    start : int
        First layer that is run on ``wide``.
    sigma : list of Tensor or None, one a layer
        Cosine of the watched attention to that of the step before.
    votes : list of Tensor, one a layer
        Places that the window attends to most.
    """

    def __init__(
        self, stream: Stream, asked: list[int], narrow: list[int], wide: Tensor, start: int, settings: DecodeSettings,
        *, watches: bool, device: torch.device,
    ) -> None:  # fmt: skip
        self.stream, self.asked, self.wide, self.start = stream, asked, wide, start
        self.narrow = torch.tensor(narrow, device=device) if start > 0 else wide
        self.ask = torch.tensor(asked, device=device)
        self.ask_narrow = torch.searchsorted(self.narrow, self.ask)
        self.sigma: list[Tensor | None] = []
        self.votes: list[Tensor] = []
        self.span = slice(0, 0)
        self.common: Tensor | None = None  # rows of the window that it had a step before, of which a column is made
        if not watches or start == 0:
            return
        self.tracked = torch.tensor(stream.tracked, device=device)  # (L, k)
        self.tracked_rows = torch.searchsorted(self.narrow, self.tracked)
        if settings.signal == "column":
            before = set(stream.asked)
            both = [row for row in asked if row in before]
            self.common = torch.tensor(both, dtype=torch.long, device=device)
            self.common_rows = torch.searchsorted(self.narrow, self.common)

    def rows(self, layer: int) -> Tensor:
        """Return the places that a layer is run on."""
        return self.wide if layer >= self.start else self.narrow


class Turn:
    """A pass of several streams, whose rows lie one behind the other; see :class:`~c2s.engines.elastic_cache.attention.Attending`."""

    def __init__(self, state: DecodeState, parts: list[Part], settings: DecodeSettings, *, watches: bool) -> None:
        self.state, self.parts, self.settings, self.watches = state, parts, settings, watches
        self.layer = 0
        self.first = not state.keys
        self.lay_out(0)

    def lay_out(self, layer: int) -> None:
        """Set the rows of a layer and the ones behind it."""
        start, places, rows = 0, [], []
        for part in self.parts:
            own = part.rows(layer)
            part.span = slice(start, start + len(own))
            start += len(own)
            places.append(own)
            rows.append(own + part.stream.first)
        self.places = torch.cat(places) if len(places) > 1 else places[0]
        self.rows = torch.cat(rows) if len(rows) > 1 else rows[0]

    def widened(self, hidden: Tensor, layer: int) -> Tensor:
        """Return hidden states (1, R', d) for the rows of a layer at which some streams refresh: their other rows as last given."""
        inputs = self.state.inputs[layer]
        inputs[self.rows] = hidden[0]
        self.lay_out(layer)
        return inputs[self.rows][None]

    def give(self, hidden: Tensor, layer: int) -> None:
        """Note what a layer is given, for later refreshes."""
        self.layer = layer
        if not self.watches:
            return
        if self.first:
            self.state.inputs.append(hidden[0].clone())
        else:
            self.state.inputs[layer][self.rows] = hidden[0]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, kind: Kind) -> Tensor:
        """Put keys and values of the rows into the cache, and attend to all of it, stream by stream."""
        layer, state = self.layer, self.state
        query, new_key, new_value = query[0], key[0].transpose(0, 1), value[0].transpose(0, 1)
        if self.first:
            state.keys.append(new_key.contiguous())
            state.values.append(new_value.contiguous())
            if self.watches:
                state.queries.append(query.transpose(0, 1).contiguous())
            past: list[Tensor | None] = [None] * len(self.parts)
        else:
            past = [self._past(part, layer, kind) for part in self.parts]
            state.keys[layer].index_copy_(0, self.rows, new_key)
            state.values[layer].index_copy_(0, self.rows, new_value)
            if self.watches:
                state.queries[layer].index_copy_(0, self.rows, query.transpose(0, 1))
        outs = [self._attend_one(part, query, layer, kind, before) for part, before in zip(self.parts, past)]
        return torch.cat(outs, dim=1) if len(outs) > 1 else outs[0]

    def _past(self, part: Part, layer: int, kind: Kind) -> Tensor | None:
        """Return the watched attention as the cache has it from the step before; None where none is watched."""
        if not self.watches or layer >= part.start or not part.tracked.numel():
            return None
        keys = self.state.keys[layer][part.stream.span]
        queries = self.state.queries[layer][part.stream.span]
        if part.common is None:
            tracked = part.tracked[layer]
            return weights(queries[tracked].transpose(0, 1), keys, kind, tracked)
        if not len(part.common):
            return None
        given = weights(queries[part.common].transpose(0, 1), keys, kind, part.common)
        return given[:, :, part.tracked[layer]]

    def _attend_one(self, part: Part, query: Tensor, layer: int, kind: Kind, past: Tensor | None) -> Tensor:
        own, span = query[:, part.span], part.stream.span
        keys, values = self.state.keys[layer][span], self.state.values[layer][span]
        if not self.watches:
            return fused(own, keys, values, kind, part.rows(layer))
        if layer >= part.start:
            asked = own[:, torch.searchsorted(part.wide, part.ask)]
            self._vote(part, weights(asked, keys, kind, part.ask))
            part.sigma.append(None)
            return fused(own, keys, values, kind, part.wide)
        weight = weights(own, keys, kind, part.narrow)
        if past is None:
            part.sigma.append(None)
        elif part.common is None:
            part.sigma.append(similarity(past, weight[:, part.tracked_rows[layer]], self.settings.signal))
        else:
            now = weight[:, part.common_rows][:, :, part.tracked[layer]]
            part.sigma.append(similarity(past, now, self.settings.signal))
        self._vote(part, weight[:, part.ask_narrow])
        return weighted(weight, values)

    def _vote(self, part: Part, given: Tensor) -> None:
        """Note which written places the window (H, w, n) attends to most."""
        votes = given.sum((0, 1)).masked_fill_(~part.stream.known, -1)
        part.votes.append(votes.topk(min(self.settings.tracked, int(part.stream.before))).indices)


def similarity(past: Tensor, now: Tensor, signal: str) -> Tensor:
    """Return the cosine of watched attention before and now, averaged over tracked tokens; a scalar.

    Parameters
    ----------
    past, now : Tensor, shape (H, k, n); with ``column`` (H, w, k)
    signal : str
        ``row``: over keys, of the mean of heads; ``head``: over keys, averaged over heads too; ``column``: over the window's
        places, of the mean of heads.
    """
    if signal != "head":
        past, now = past.mean(0), now.mean(0)
    return functional.cosine_similarity(past, now, dim=0 if signal == "column" else -1, eps=1e-12).mean()
