"""The cached engine: from what was written last to logits of the places that may be written next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from c2s.engines.elastic_cache.accounting import NO_REFRESH, Trace
from c2s.engines.elastic_cache.parts import DecoderParts, Head
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.engines.elastic_cache.sheet import Sheet
from c2s.engines.elastic_cache.state import DecodeState, Stream
from c2s.engines.elastic_cache.turn import NEVER, Part, Turn


class CachedEngine:
    """Runs the rows that changed, reads the rest from the cache, and refreshes it when the settings say so.

    Attributes
    ----------
    state : DecodeState
    traces : list of Trace, one a sheet
    """

    def __init__(self, parts: DecoderParts, sheets: Sequence[Sheet], settings: DecodeSettings) -> None:
        self.parts, self.settings = parts, settings
        guided = settings.guidance > 0
        self.state = DecodeState(sheets, n_layers=parts.n_layers, device=parts.device, guided=guided)
        self.each = 2 if guided else 1
        self.of = {id(sheet): self.state.streams[self.each * i : self.each * (i + 1)] for i, sheet in enumerate(sheets)}
        self.traces = [Trace(self.state.streams[self.each * i].length) for i in range(len(sheets))]
        self._trace = {id(sheet): trace for sheet, trace in zip(sheets, self.traces)}
        longest = max(stream.length for stream in self.state.streams)
        self._places = parts.places(longest)
        self._all = torch.arange(longest, device=parts.device)
        self._step = 0
        self._blocks: dict[int, int] = {}

    def look(self, sheets: Sequence[Sheet], windows: Sequence[list[int]]) -> list[Tensor]:
        """Return what the head takes at each sheet's window, (1 or 2, w, d): with guidance, with and without the prompt."""
        streams = [stream for sheet in sheets for stream in self.of[id(sheet)]]
        if self._step:
            self.state.take_in(streams)
        wanted = [window for window in windows for _ in range(self.each)]
        whole = [full for sheet, window in zip(sheets, windows) for full in [self._whole(sheet, window)] * self.each]
        cut = [self._part(*each) for each in zip(streams, wanted, whole)]
        watches = self.settings.refresh == "elastic"
        turn = Turn(self.state, cut, self.settings, watches=watches)
        told = self._places.at(turn.places)
        hidden = self.parts.embed(self.state.ids[turn.rows])[None]
        rows: list[list[int]] = []
        for layer in range(self.parts.n_layers):
            if layer and any(part.start == layer for part in cut):
                hidden = turn.widened(hidden, layer)
                told = self._places.at(turn.places)
            turn.give(hidden, layer)
            hidden = self.parts.layer(layer, hidden, told, turn)
            rows.append([part.span.stop - part.span.start for part in cut])
            if watches and self.settings.decide == "now" and layer + 1 < self.parts.n_layers:
                self._decide(cut, layer)
        last = self.parts.n_layers - 1
        picked = [torch.searchsorted(part.rows(last), part.ask) + part.span.start for part in cut]
        seen = self.parts.norm(hidden[0, torch.cat(picked)]).split([len(part.asked) for part in cut])
        self._finish(sheets, cut, rows, watches=watches)
        self._step += 1
        return [torch.stack(seen[i : i + self.each]) for i in range(0, len(seen), self.each)]

    def logits(self, seen: Tensor, head: Head) -> Tensor:
        """Return logits of hidden states."""
        return head(seen)

    def headed(self, sheet: Sheet, n_rows: int, n_tokens: int, committed: int) -> None:
        """Note what the head was run on and how much was written."""
        trace = self._trace[id(sheet)]
        trace.headed.append(self.each * n_rows * n_tokens)
        trace.committed.append(committed)

    def _whole(self, sheet: Sheet, window: list[int]) -> bool:
        """Return whether this step is run on all rows from the first layer on."""
        settings = self.settings
        block = window[0] // settings.window
        entered = self._blocks.get(id(sheet)) != block
        self._blocks[id(sheet)] = block
        return (
            self._step == 0
            or settings.refresh == "always"
            or (settings.refresh == "interval" and self._step % settings.interval == 0)
            or (settings.refresh == "block" and entered)
        )

    def _part(self, stream: Stream, window: list[int], whole: bool) -> Part:
        settings, sheet, before = self.settings, stream.sheet, stream.before
        live = [before + place for place in window]
        asked = [row - 1 for row in live] if self.parts.right_shift else live
        start = 0 if whole else NEVER if stream.due is None else stream.due
        stream.due = None
        narrow = {*live, *asked, *(row for layer in stream.tracked for row in layer)}
        if settings.query_committed:
            narrow.update(before + place for place in sheet.new)
        if settings.live == "masks":
            narrow.update(before + place for place in sheet.open)
        elif settings.live != "window":
            first = before + window[0] // settings.window * settings.window
            end = stream.length if settings.live == "suffix" else min(first + settings.window, stream.length)
            narrow.update(range(first, end))
        wide = self._all[: stream.length]
        if self._step and not settings.refresh_far:
            far = set(sheet.open) - set(window)
            near = [row for row in range(stream.length) if row - before not in far or row in narrow]
            wide = torch.tensor(near, device=wide.device)
        return Part(
            stream, asked, sorted(narrow), wide, start, settings,
            watches=settings.refresh == "elastic", device=wide.device,
        )  # fmt: skip

    def _decide(self, cut: list[Part], layer: int) -> None:
        """Have the layers behind this one run on all rows of the streams whose attention drifted."""
        watched = [(part, part.sigma[layer]) for part in cut if part.start > layer + 1]
        measured = [(part, sigma) for part, sigma in watched if sigma is not None]
        if measured:
            for (part, _), sigma in zip(measured, torch.stack([sigma for _, sigma in measured]).tolist()):
                if sigma < self.settings.gamma:
                    part.start = layer + 1

    def _finish(self, sheets: Sequence[Sheet], cut: list[Part], rows: list[list[int]], *, watches: bool) -> None:
        """Take down what the step cost, and what the next one watches."""
        n_layers = self.parts.n_layers
        sigmas = [sigma for part in cut for sigma in part.sigma if sigma is not None]
        cosines = iter(
            torch.stack(sigmas).tolist() if sigmas else []
        )  # of all streams at once: a GPU is waited for once
        drifts = [self._drift(part, cosines) for part in cut]
        for i, sheet in enumerate(sheets):
            mine = range(self.each * i, self.each * (i + 1))
            trace = self._trace[id(sheet)]
            trace.rows.append([sum(rows[layer][j] for j in mine) for layer in range(n_layers)])
            trace.scored.append(
                [sum(_scored(cut[j], layer) for j in mine) if watches else 0 for layer in range(n_layers)]
            )
            starts = [cut[j].start for j in mine if cut[j].start < n_layers]
            trace.refreshed.append(min(starts, default=NO_REFRESH))
            trace.drift.append([max(pair, key=lambda x: (x == x, x)) for pair in zip(*(drifts[j] for j in mine))])
        if watches:
            votes = iter(torch.cat([vote for part in cut for vote in part.votes]).tolist())
            for part in cut:
                part.stream.tracked = [[next(votes) for _ in range(len(vote))] for vote in part.votes]
                part.stream.asked = part.asked

    def _drift(self, part: Part, cosines: Iterator[float]) -> list[float]:
        """Return the drift of each layer, nan where none was measured, and note a refresh that is due."""
        drift = [float("nan")] * self.parts.n_layers
        for layer, sigma in enumerate(part.sigma):
            if sigma is None:
                continue
            cosine = next(cosines)
            drift[layer] = 1 - cosine
            late = self.settings.decide == "late" and layer + 1 < self.parts.n_layers
            if late and part.stream.due is None and cosine < self.settings.gamma:
                part.stream.due = layer + 1
        return drift


def _scored(part: Part, layer: int) -> int:
    """Return rows that were scored only to watch them."""
    if layer >= part.start:
        return len(part.asked)
    if part.sigma[layer] is None:
        return 0
    return len(part.tracked[layer]) if part.common is None else len(part.common)
