"""The constraint for items of several tokens: which token may come next, exactly, from a state that is kept step by step.

The language is that of :class:`c2s.engines.constraint.Constraint`, its items spelled by a :class:`TokenTrie`: distinct
items, a stop, segment after segment, then padding. A branch of the trie whose items are all used is closed, and items that
later segments need are kept for them, so no answer runs into a dead end. Masking the logits and renormalising them gives
the model's own distribution over the tokens that are allowed.

An item ends when the next token says so: `` CD3`` may be an item, or go on to `` CD3D``. Likewise a stop that also goes
on inside an item (``TBCE.`` may be the end, or the beginning of ``TBCE.1``) is an end only once padding follows; this is
possible in the last segment, and refused in others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from c2s.engines.constraint import Segment
from c2s.engines.token_trie import TokenTrie
from c2s.errors import ConfigError


class _Tables(NamedTuple):
    """What all rows share."""

    token: np.ndarray  # of nodes, as are the next four
    parent: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    item: np.ndarray
    ends: np.ndarray
    top: np.ndarray
    head: int
    follow: int
    stops: np.ndarray  # of segments, as are the next three
    low: np.ndarray
    high: np.ndarray
    later: np.ndarray
    pad: int


class _Rows(NamedTuple):
    """Where each row stands."""

    node: np.ndarray  # (B,) int32
    segment: np.ndarray  # (B,) int32
    here: np.ndarray  # (B,) int32, items ended in this segment
    total: np.ndarray  # (B,) int32, items ended
    maybe_done: np.ndarray  # (B,) bool, the last token was a stop, or goes on inside an item
    left: np.ndarray  # (B, n_nodes) int32, unused items at or below each node
    used: np.ndarray  # (B, n_items) bool


class TrieConstraint:
    """The language of valid answers whose items are several tokens long.

    Parameters
    ----------
    trie : TokenTrie
    segments : sequence of Segment
        In order. A stop is one token; the items of every segment begin with their first form.
    n_tokens : int
        Size V of the model's output.
    pad : int
        The only token allowed after the last stop. It may be the last stop itself (an end-of-sequence token).

    Raises
    ------
    ConfigError
        Segments that cannot be met, or stops and pad that cannot be told from items.
    """

    def __init__(self, trie: TokenTrie, segments: Sequence[Segment], *, n_tokens: int, pad: int) -> None:
        self.trie, self.segments, self.n_tokens, self.pad = trie, tuple(segments), n_tokens, pad
        self._refuse_unmeetable()
        stops = [segment.stop for segment in segments]
        known = [*trie.token[trie.token >= 0].tolist(), *stops, pad]
        if min(known) < 0 or max(known) >= n_tokens:
            msg = f"items, stops and pad have tokens {min(known)} to {max(known)}; the model has {n_tokens}, from 0 on"
            raise ConfigError(msg)
        self._refuse_ambiguity(stops)
        low = np.array([segment.min_items for segment in segments], np.int32)
        self._tables = _Tables(
            trie.token, trie.parent, trie.start, trie.stop, trie.item, trie.ends, trie.top, trie.head, trie.follow,
            np.array(stops, np.int32), low, np.array([segment.max_items for segment in segments], np.int32),
            (low[::-1].cumsum()[::-1] - low).astype(np.int32), pad,
        )  # fmt: skip
        n_children = trie.stop - trie.start
        self._most_allowed = int(n_children.max() + n_children[trie.follow]) + 2  # on, a new item, the stop, the pad

    @property
    def max_length(self) -> int:
        """No answer is longer, in tokens, stops included."""
        longest = np.sort(self.trie.depth[self.trie.ends].max(axis=1))
        return int(longest[self.trie.n_items - self._most_items :].sum()) + len(self.segments)

    @property
    def mean_length(self) -> int:
        """Tokens of an answer of as many items as may be, drawn evenly from all, each in its longest form."""
        return round(self._most_items * float(self.trie.depth[self.trie.ends].max(axis=1).mean())) + len(self.segments)

    @property
    def _most_items(self) -> int:
        return min(sum(segment.max_items for segment in self.segments), self.trie.n_items)

    def start(self, n_rows: int) -> TrieState:
        """Return the state of ``n_rows`` answers before their first token."""
        return TrieState(self, n_rows)

    def step(self, prefix: Tensor) -> Tensor:
        """Return which tokens may follow each answer so far; a sampler that keeps a :meth:`start` state is faster.

        After a token that was not allowed, only the pad is.

        Parameters
        ----------
        prefix : Tensor, shape (B, T), int64
            Answers so far, without their prompts.

        Returns
        -------
        Tensor, shape (B, V), bool
        """
        state = self.start(len(prefix))
        state.advance(prefix)
        return state.mask().to(prefix.device)

    def sequence(self, ids: Tensor) -> Tensor:
        """Return which tokens were allowed at every place of finished answers.

        Parameters
        ----------
        ids : Tensor, shape (B, T), int64

        Returns
        -------
        Tensor, shape (B, T, V), bool
            Row ``t`` equals ``step(ids[:, :t])``.
        """
        state = self.start(len(ids))
        masks = torch.zeros(*ids.shape, self.n_tokens, dtype=torch.bool)
        for t in range(ids.shape[1]):
            masks[:, t] = state.mask()
            state.advance(ids[:, t : t + 1])
        return masks.to(ids.device)

    def _refuse_unmeetable(self) -> None:
        if not self.segments:
            msg = "a constraint needs at least one segment"
            raise ConfigError(msg)
        if wrong := [s for s in self.segments if not 0 <= s.min_items <= s.max_items]:
            msg = f"each segment needs 0 <= min_items <= max_items, found {wrong[0]}"
            raise ConfigError(msg)
        if sum(segment.min_items for segment in self.segments) > self.trie.n_items:
            msg = f"the segments ask for more items than the {self.trie.n_items} there are"
            raise ConfigError(msg)

    def _refuse_ambiguity(self, stops: list[int]) -> None:
        trie = self.trie
        begins = {*trie.children(trie.follow).tolist(), *trie.children(trie.head).tolist()}
        if both := begins.intersection(stops):
            msg = f"the stop {min(both)} begins an item; choose a stop that no item begins with"
            raise ConfigError(msg)
        if self.pad in stops[:-1] or self.pad in trie.token:
            msg = f"pad {self.pad} is an item's token or a stop before the last one; choose another token"
            raise ConfigError(msg)
        ending = np.flatnonzero(trie.item >= 0)
        for stop in stops[:-1]:
            if wrong := [node for node in map(int, ending) if stop in trie.children(node)]:
                msg = f"item {trie.item[wrong[0]]} may stop with token {stop} or go on with it; only the last segment may have such a stop"
                raise ConfigError(msg)


class TrieState:
    """Where each of several answers stands; kept on the CPU.

    A row holds a count for every node of the trie, four bytes each.

    Parameters
    ----------
    constraint : TrieConstraint
    n_rows : int
    """

    def __init__(self, constraint: TrieConstraint, n_rows: int) -> None:
        self.constraint, trie = constraint, constraint.trie
        here, total, segment = (np.zeros(n_rows, np.int32) for _ in range(3))
        self._rows = _Rows(
            np.full(n_rows, trie.head, np.int32), segment, here, total, np.zeros(n_rows, np.bool_),
            np.repeat(trie.size[None], n_rows, axis=0), np.zeros((n_rows, trie.n_items), np.bool_),
        )  # fmt: skip
        self._places = torch.empty(n_rows * constraint._most_allowed, dtype=torch.int64)

    def advance(self, ids: Tensor) -> None:
        """Take the next tokens of every answer, shape (B, T), int64; what follows the end is read over."""
        _advance(self.constraint._tables, self._rows, ids.cpu().numpy())

    def allowed(self, width: int) -> Tensor:
        """Return what may come next as places in a flat (B, ``width``) matrix of logits, int64, each once, on the CPU.

        This is smaller than :meth:`mask` where a model has many tokens, and so is what goes to an accelerator. The next
        call writes over it.
        """
        return self._places[: _allowed(self.constraint._tables, self._rows, width, self._places.numpy())]

    def mask(self) -> Tensor:
        """Return which tokens may come next, shape (B, V), bool, on the CPU."""
        mask = torch.zeros(len(self._rows.node), self.constraint.n_tokens, dtype=torch.bool)
        mask.numpy().reshape(-1)[self.allowed(self.constraint.n_tokens).numpy()] = True
        return mask


@numba.njit(nogil=True, cache=True, inline="always")
def _may_item(tables: _Tables, segment: int, here: int, total: int) -> bool:
    """Say whether one more item may begin after ``here`` items of this segment and ``total`` in all."""
    spare = len(tables.top) - total > tables.later[segment]
    return here < tables.high[segment] and (here < tables.low[segment] or spare)


@numba.njit(nogil=True, cache=True)
def _open_child(tables: _Tables, left: np.ndarray, node: int, token: int) -> int:
    """Return the child of ``node`` that ``token`` leads to, or -1 where there is none with unused items."""
    first, last = tables.start[node], tables.stop[node]
    place = first + np.searchsorted(tables.token[first:last], token)
    return place if place < last and tables.token[place] == token and left[place] > 0 else -1


@numba.njit(nogil=True, cache=True)
def _allowed(tables: _Tables, rows: _Rows, width: int, out: np.ndarray) -> int:
    """Write ``row * width + token`` of every token that may come next, and return how many there are.

    Every place is written where the next would stand and stays if its token may come: no branch to mispredict.
    """
    n = 0
    for row in range(len(rows.node)):
        segment, node, first, left = rows.segment[row], rows.node[row], row * width, rows.left[row]
        if segment == len(tables.stops):
            out[n] = first + tables.pad
            n += 1
            continue
        here, total = rows.here[row], rows.total[row]
        at_head = node == tables.head
        if not at_head or _may_item(tables, segment, here, total):
            for child in range(tables.start[node], tables.stop[node]):
                out[n] = first + tables.token[child]
                n += left[child] > 0
        item = tables.item[node]
        if item >= 0 and not rows.used[row, item]:  # it may end here
            here, total = here + 1, total + 1
            if _may_item(tables, segment, here, total):
                for child in range(tables.start[tables.follow], tables.stop[tables.follow]):
                    out[n] = first + tables.token[child]
                    n += left[child] > (child == tables.top[item])
        elif not at_head:
            here = -1  # amid an item
        stop = tables.stops[segment]
        if here >= tables.low[segment] and _open_child(tables, left, node, stop) < 0:
            out[n] = first + stop
            n += 1
        if rows.maybe_done[row]:
            out[n] = first + tables.pad
            n += 1
    return n


@numba.njit(nogil=True, cache=True)
def _advance(tables: _Tables, rows: _Rows, tokens: np.ndarray) -> None:
    """Move every row along its ``tokens``, (B, T)."""
    n_segments = len(tables.stops)
    for row in range(tokens.shape[0]):
        left = rows.left[row]
        for t in range(tokens.shape[1]):
            token, segment, node = tokens[row, t], rows.segment[row], rows.node[row]
            if segment == n_segments:
                break
            was_maybe_done, rows.maybe_done[row] = rows.maybe_done[row], False
            if was_maybe_done and token == tables.pad:
                rows.segment[row] = n_segments
                break
            at_head, item = node == tables.head, tables.item[node]
            ends_item = item >= 0 and not rows.used[row, item]
            here, total = rows.here[row] + ends_item, rows.total[row] + ends_item
            stops = (at_head or ends_item) and token == tables.stops[segment] and here >= tables.low[segment]
            child = -1
            if not at_head or _may_item(tables, segment, here, total):
                child = _open_child(tables, left, node, token)
            if child >= 0:  # on inside an item
                rows.node[row], rows.maybe_done[row] = child, stops
                continue
            if ends_item:
                rows.used[row, item], rows.here[row], rows.total[row] = True, here, total
                for root in range(tables.ends.shape[1]):
                    above = tables.ends[item, root]
                    while above >= 0:
                        left[above] -= 1
                        above = tables.parent[above]
                if _may_item(tables, segment, here, total):
                    child = _open_child(tables, left, tables.follow, token)
            if stops:
                rows.segment[row], rows.node[row], rows.here[row] = segment + 1, tables.head, 0
            elif child >= 0:
                rows.node[row] = child
            else:  # not allowed
                rows.segment[row] = n_segments
