"""What decoding keeps of requests between steps. It belongs to the requests; nothing of it is on the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from c2s.engines.elastic_cache.sheet import Sheet


class Stream:
    """One sequence that is run: a request's prompt and answer, or its answer behind a masked prompt (guidance).

    Attributes
    ----------
    first, length : int
        Its rows of the state.
    known : Tensor, shape (n,), bool
        Places that are written.
    tracked : list of list of int
        Places that each layer watches.
    due : int or None
        Layer from which the next step refreshes (``decide="late"``).
    """

    def __init__(self, sheet: Sheet, first: int, *, n_layers: int, device: torch.device, prompted: bool) -> None:
        self.sheet, self.first, self.prompted = sheet, first, prompted
        self.before = len(sheet.request.prompt)
        self.length = self.before + sheet.request.n_places
        self.known = torch.zeros(self.length, dtype=torch.bool, device=device)
        self.known[: self.before] = True
        self.tracked: list[list[int]] = [[] for _ in range(n_layers)]
        self.asked: list[int] = []  # rows of the last step's window
        self.due: int | None = None

    @property
    def span(self) -> slice:
        """Its rows of the state."""
        return slice(self.first, self.first + self.length)


class DecodeState:
    """Keys, values, and what a refresh needs, of the rows of all streams, one stream behind the other.

    Attributes
    ----------
    streams : list of Stream
    ids : Tensor, shape (N,), int64
    keys, values : list of Tensor, shape (N, K, D), one a layer
        Filled by the first pass, at absolute places.
    queries : list of Tensor, shape (N, H, D)
        Only where attention is watched.
    inputs : list of Tensor, shape (N, d)
        What each layer was last given; only where attention is watched.
    """

    def __init__(self, sheets: Sequence[Sheet], *, n_layers: int, device: torch.device, guided: bool) -> None:
        self.streams: list[Stream] = []
        parts: list[Tensor] = []
        first = 0
        for sheet in sheets:
            for prompted in (True, False) if guided else (True,):
                self.streams.append(Stream(sheet, first, n_layers=n_layers, device=device, prompted=prompted))
                prompt = sheet.request.prompt.cpu().long()
                parts += [prompt if prompted else torch.full_like(prompt, sheet.mask_id), sheet.answer]
                first += self.streams[-1].length
        self.ids = torch.cat(parts).to(device)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.queries: list[Tensor] = []
        self.inputs: list[Tensor] = []

    def take_in(self, streams: Sequence[Stream]) -> None:
        """Put what was written in the last step into ``ids`` and ``known``."""
        rows, tokens = [], []
        for stream in streams:
            places = stream.sheet.new
            rows += [stream.first + stream.before + place for place in places]
            tokens += stream.sheet.answer[places].tolist()
            if places:
                stream.known[torch.tensor(places, device=stream.known.device) + stream.before] = True
        if rows:
            device = self.ids.device
            self.ids[torch.tensor(rows, device=device)] = torch.tensor(tokens, device=device)

    @property
    def n_bytes(self) -> int:
        """Memory of the state."""
        kept = [*self.keys, *self.values, *self.queries, *self.inputs, self.ids]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)
