"""Which token may come next: known items only, none twice, in closed segments of bounded length.

One object serves every sampler: :meth:`Constraint.step` for autoregressive decoding, :meth:`Constraint.sequence` for
losses over whole sequences, :meth:`Constraint.commit` for masked diffusion, which fills places in any order. An answer
is a run of distinct items ended by a segment's stop token, segment after segment; after the last stop only padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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

    def commit(self, ids: Tensor, proposals: Tensor, confidence: Tensor, *, mask_id: int) -> Tensor:
        """Return which proposals of a masked-diffusion step may be written.

        A proposal must be an item (or a stop) at a masked place; of equal items the most confident one wins, and items
        already written are refused. Ties go to the leftmost place.

        Parameters
        ----------
        ids : Tensor, shape (B, T), int64
            The answer so far, ``mask_id`` where open.
        proposals : Tensor, shape (B, T), int64
        confidence : Tensor, shape (B, T), float

        Returns
        -------
        Tensor, shape (B, T), bool
        """
        device = ids.device
        is_item = self.is_item.to(device)
        stops = torch.tensor([segment.stop for segment in self.segments], device=device)
        open_ = ids == mask_id
        known = is_item[proposals] | torch.isin(proposals, stops)
        written = torch.zeros(len(ids), self.n_tokens, dtype=torch.long, device=device)
        written.scatter_add_(1, ids.masked_fill(open_, 0), (~open_).long())
        candidate = open_ & known
        score = confidence.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        same = proposals[:, :, None] == proposals[:, None, :]  # (B, T, T)
        place = torch.arange(ids.shape[1], device=device)
        better = (score[:, None, :] > score[:, :, None]) | (
            (score[:, None, :] == score[:, :, None]) & (place[None, None, :] < place[None, :, None])
        )
        beaten = (same & better & candidate[:, None, :]).any(-1)
        return candidate & ~beaten & (written.gather(1, proposals) == 0)
