"""What elastic decoding is compared with: no cache at all, and other ways of keeping one. All return the same :class:`Decoded`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from c2s.engines.elastic_cache.accounting import Accounting, Trace
from c2s.engines.elastic_cache.decoding import Decoded, fill, sheets_of
from c2s.engines.elastic_cache.parts import DecoderParts, Head
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.engines.elastic_cache.sheet import Request, Sheet
from c2s.errors import ConfigError

_PLAIN: dict[str, Any] = {
    name: DecodeSettings.model_fields[name].default
    for name in ("gamma", "signal", "tracked", "decide", "interval", "refresh_far", "query_committed", "live", "scheme")
}
# each is what the settings become; window, commit, max_commits, temperature and guidance stay
RIVALS: dict[str, dict[str, Any]] = {
    "always": {"refresh": "always"},
    "never": {"refresh": "never"},
    "interval": {"refresh": "interval"},
    # Fast-dLLM (Wu et al., arXiv 2505.22618): blocks, a full pass at each one's start; what is before it, or around it, is cached
    "prefix": {"refresh": "block", "scheme": "blocks", "live": "suffix"},
    "dual": {"refresh": "block", "scheme": "blocks", "live": "block"},
    # dKV-Cache (Ma et al., arXiv 2505.15781): a token is cached the step after it was written; open places never are
    "delayed": {"refresh": "never", "live": "masks"},
}


def rival(name: str, settings: DecodeSettings, *, interval: int | None = None) -> DecodeSettings:
    """Return settings of a rival with the same window, commits, temperature and guidance.

    Parameters
    ----------
    name : str
        A key of :data:`RIVALS`.
    settings : DecodeSettings
    interval : int or None
        Steps between refreshes of ``interval``, and of ``delayed`` where it refreshes at all.

    Raises
    ------
    ConfigError
        There is no such rival, or it has no interval.
    """
    if name not in RIVALS:
        msg = f"there is no rival {name!r}; there are {', '.join(RIVALS)}, and uncached, which is a function"
        raise ConfigError(msg)
    changes = {**_PLAIN, **RIVALS[name]}
    if interval is not None:
        if name not in ("interval", "delayed"):
            msg = f"{name!r} has no interval; leave it out"
            raise ConfigError(msg)
        changes |= {"refresh": "interval", "interval": interval}
    return settings.with_(**changes)


def confidence_only(parts: DecoderParts, requests: Sequence[Request], settings: DecodeSettings) -> Decoded:
    """Return answers without a cache or a window: any open place is written where the model is sure of it."""
    longest = max((request.n_places for request in requests), default=1)
    return uncached(parts, requests, settings.with_(window=longest, scheme="window"))


@torch.no_grad()
def uncached(parts: DecoderParts, requests: Sequence[Request], settings: DecodeSettings) -> Decoded:
    """Return answers from the model's own forward pass over all places in every step, one request after the other.

    The same window and commits as :func:`~c2s.engines.elastic_cache.decoding.decode`; what the settings say of caching is not read.
    """
    settings = settings.with_(**{**_PLAIN, "refresh": "always", "scheme": settings.scheme})
    sheets = sheets_of(parts, requests)
    engine = PlainEngine(parts, sheets, settings)
    fill(parts, engine, sheets, settings)
    return Decoded([sheet.answer for sheet in sheets], Accounting(engine.traces, parts.shape, 0))


class PlainEngine:
    """Logits from the model as it is; an :class:`~c2s.engines.elastic_cache.decoding.Engine` without a state."""

    def __init__(self, parts: DecoderParts, sheets: Sequence[Sheet], settings: DecodeSettings) -> None:
        self.parts = parts
        self.each = 2 if settings.guidance > 0 else 1
        self.traces = [Trace(len(sheet.request.prompt) + sheet.request.n_places) for sheet in sheets]
        self._trace = {id(sheet): trace for sheet, trace in zip(sheets, self.traces)}

    def look(self, sheets: Sequence[Sheet], windows: Sequence[list[int]]) -> list[Tensor]:
        """Return logits of all tokens at each sheet's window, (1 or 2, w, V)."""
        return [self._look(sheet, window) for sheet, window in zip(sheets, windows)]

    def _look(self, sheet: Sheet, window: list[int]) -> Tensor:
        prompt, n_layers = sheet.request.prompt.cpu().long(), self.parts.n_layers
        rows = torch.tensor(window, device=self.parts.device) + len(prompt) - int(self.parts.right_shift)
        prompts = [prompt, torch.full_like(prompt, sheet.mask_id)][: self.each]
        trace = self._trace[id(sheet)]
        trace.rows.append([self.each * trace.length] * n_layers)
        trace.scored.append([0] * n_layers)
        trace.refreshed.append(0)
        trace.drift.append([float("nan")] * n_layers)
        return torch.stack(
            [self.parts.plain(torch.cat([each, sheet.answer]).to(self.parts.device), rows) for each in prompts]
        )

    def logits(self, seen: Tensor, head: Head) -> Tensor:
        """Return the logits of a head's tokens."""
        return seen if head.tokens is None else seen[..., head.tokens]

    def headed(self, sheet: Sheet, n_rows: int, n_tokens: int, committed: int) -> None:
        """Note what the head was run on (all tokens) and how much was written."""
        trace = self._trace[id(sheet)]
        trace.headed.append(self.each * n_rows * self.parts.n_tokens)
        trace.committed.append(committed)
