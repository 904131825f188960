"""Which token may come next: known items only, none twice, in closed segments of bounded length.

One object serves every sampler: :meth:`Constraint.step` for autoregressive decoding, :meth:`Constraint.sequence` for
losses over whole sequences, :meth:`Constraint.places` and :meth:`Constraint.commit` for masked diffusion, which fills places in any order. An answer
is a run of distinct items ended by a segment's stop token, segment after segment; after the last stop only padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from c2s.engines.canvas import ITEM, OPEN, PAD, Admissible, admissible
from c2s.errors import ConfigError


@dataclass(frozen=True)
class Segment:
    """At most ``max_items`` (and at least ``min_items``) distinct items, then the token ``stop``."""

    max_items: int
    stop: int
    min_items: int = 0


class Constraint:
    """The language of valid answers.

    Parameters
    ----------
    items : Tensor, shape (n_items,), int64
        Token ids that may be sampled, each at most once per answer.
    segments : sequence of Segment
        In order; their stop tokens differ from every item and from each other.
    n_tokens : int
        Size V of the model's output.
    pad : int
        The only token allowed after the last stop.
    """

    def __init__(self, items: Tensor, segments: Sequence[Segment], *, n_tokens: int, pad: int) -> None:
        stops = [segment.stop for segment in segments]
        known = set(items.tolist())
        if not segments or len({*stops, pad}) != len(stops) + 1 or known & {*stops, pad}:
            msg = f"stops {stops} and pad {pad} must be distinct from each other and from the items; give at least one segment"
            raise ConfigError(msg)
        if wrong := [s for s in segments if not 0 <= s.min_items <= s.max_items]:
            msg = f"each segment needs 0 <= min_items <= max_items, found {wrong[0]}"
            raise ConfigError(msg)
        if sum(segment.min_items for segment in segments) > len(known):
            msg = f"the segments ask for more items than the {len(known)} there are"
            raise ConfigError(msg)
        self.segments, self.n_tokens, self.pad = tuple(segments), n_tokens, pad
        self.is_item = torch.zeros(n_tokens, dtype=torch.bool)
        self.is_item[items] = True
        self.n_items = len(known)

    @property
    def max_length(self) -> int:
        """Longest answer in tokens, stops included."""
        return sum(segment.max_items + 1 for segment in self.segments)

    def step(self, prefix: Tensor) -> Tensor:
        """Return which tokens may follow each answer so far.

        Parameters
        ----------
        prefix : Tensor, shape (B, T), int64
            Answers so far, without their prompts.

        Returns
        -------
        Tensor, shape (B, V), bool
        """
        return self._allowed(prefix, torch.full((len(prefix), 1), prefix.shape[1], device=prefix.device))[:, 0]

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
        places = torch.arange(ids.shape[1], device=ids.device).expand(len(ids), -1)
        return self._allowed(ids, places)

    def _allowed(self, ids: Tensor, places: Tensor) -> Tensor:
        """Masks before each of ``places`` (B, P), from items and stops at earlier places of ``ids`` (B, T)."""
        is_item = self.is_item.to(ids.device)
        stops = torch.tensor([segment.stop for segment in self.segments], device=ids.device)
        low = torch.tensor([s.min_items for s in self.segments] + [0], device=ids.device)
        high = torch.tensor([s.max_items for s in self.segments] + [0], device=ids.device)
        item = is_item[ids] if ids.shape[1] else ids.bool()
        stop = torch.isin(ids, stops)
        earlier = torch.arange(ids.shape[1], device=ids.device)[None, None] < places[:, :, None]  # (B, P, T)
        segment = (stop[:, None] & earlier).sum(-1)  # (B, P) stops seen so far
        done = torch.cumsum(stop, 1) - stop.long()  # segment of each earlier token
        items_here = (item[:, None] & earlier & (done[:, None] == segment[:, :, None])).sum(-1)
        index = segment.clamp(max=len(self.segments))
        later = low.flip(0).cumsum(0).flip(0) - low  # items that the segments after each one still need
        spare = self.n_items - (item[:, None] & earlier).sum(-1) > later[index]  # never a dead end
        may_item = (items_here < high[index]) & ((items_here < low[index]) | spare)
        may_stop = (items_here >= low[index]) & (segment < len(self.segments))
        mask = is_item[None, None] & may_item[:, :, None]
        used = torch.where(earlier, ids[:, None], self.pad)  # (B, P, T); later tokens are sent to the pad, set below
        mask.scatter_(2, used, False)
        next_stop = torch.cat([stops, stops[-1:]])[index]
        mask.scatter_(2, next_stop[:, :, None], may_stop[:, :, None])
        mask[:, :, self.pad] = segment >= len(self.segments)
        return mask

    def places(self, ids: Tensor, places: Tensor, *, mask_id: int) -> Tensor:
        """Return what open places of one answer, filled in any order, may hold so that it can be completed.

        Items that are not written yet; a stop where order and lengths of segments allow it; the pad behind the last stop. Where every allowed token
        is taken one at a time, no answer comes to a dead end.

        Parameters
        ----------
        ids : Tensor, shape (T,), int64
            The answer so far, ``mask_id`` where open. A canvas longer than :attr:`max_length` ends in padding.
        places : Tensor, shape (P,), int64
            Places asked about.

        Returns
        -------
        Tensor, shape (P, V), bool
        """
        found = self._admissible(self._kinds(ids.tolist(), mask_id))
        rows = places.tolist()
        device = ids.device
        unused = self.is_item.to(device).clone()
        unused[ids[(ids != mask_id) & (ids >= 0) & (ids < self.n_tokens)]] = False
        mask = unused[None] & torch.from_numpy(found.item[rows]).to(device)[:, None]
        stops = torch.tensor([segment.stop for segment in self.segments], device=device)
        mask[:, stops] = torch.from_numpy(found.stops[:, rows].T.copy()).to(device)
        mask[:, self.pad] = torch.from_numpy(found.pad[rows]).to(device)
        return mask

    def commit(self, ids: Tensor, places: Tensor, proposals: Tensor, confidence: Tensor, *, mask_id: int) -> Tensor:
        """Return which proposals of one step of masked diffusion may be written together.

        The most confident one first, ties to the first of ``places``, each one is taken if the answer, with those taken before, still allows it
        (see :meth:`places`): of equal items the most confident one wins, and a stop wins against less confident items behind it.

        Parameters
        ----------
        ids : Tensor, shape (T,), int64
            The answer so far, ``mask_id`` where open.
        places, proposals : Tensor, shape (P,), int64
            Open places, and the token proposed for each.
        confidence : Tensor, shape (P,), float

        Returns
        -------
        Tensor, shape (P,), bool
        """
        score = confidence.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        where, tokens = places.tolist(), proposals.tolist()
        kinds = self._kinds(ids.tolist(), mask_id)
        used = set(ids.tolist())
        index = {segment.stop: number for number, segment in enumerate(self.segments)}
        found, taken, stale = self._admissible(kinds), [False] * len(where), False
        for row in torch.argsort(score, descending=True, stable=True).tolist():
            place, token = where[row], tokens[row]
            if kinds[place] != OPEN:
                continue
            if stale and (
                len(self.segments) > 1 or token in index or token == self.pad
            ):  # in a single segment, items leave room for items
                found, stale = self._admissible(kinds), False
            if token in index:
                kind, fits = index[token], found.stops[index[token], place]
            elif token == self.pad:
                kind, fits = PAD, found.pad[place]
            else:
                kind, fits = ITEM, token not in used and bool(self.is_item[token]) and found.item[place]
            if fits:
                kinds[place], taken[row] = kind, True
                used.add(token)
                stale = True
                if kind != ITEM:
                    found, stale = self._admissible(kinds), False
        return torch.tensor(taken, device=ids.device)

    def _kinds(self, ids: list[int], mask_id: int) -> NDArray[np.int64]:
        kinds = {segment.stop: number for number, segment in enumerate(self.segments)}
        kinds |= {mask_id: OPEN, self.pad: PAD}
        return np.array([kinds.get(token, ITEM) for token in ids], dtype=np.int64)

    def _admissible(self, kinds: NDArray[np.int64]) -> Admissible:
        return admissible(kinds, [(segment.min_items, segment.max_items) for segment in self.segments], self.n_items)
