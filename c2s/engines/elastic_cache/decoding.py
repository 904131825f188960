"""Masked-diffusion decoding: look, propose, write what is confident, until nothing is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from c2s.engines.constraint import Constraint
from c2s.engines.elastic_cache.accounting import Accounting, Trace
from c2s.engines.elastic_cache.driver import CachedEngine
from c2s.engines.elastic_cache.parts import DecoderParts, Head
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.engines.elastic_cache.sheet import Request, Sheet
from c2s.engines.noise import keyed_gumbel
from c2s.errors import ConfigError, ModelError


@dataclass(frozen=True)
class Decoded:
    """Answers and what they cost.

    Attributes
    ----------
    answers : list of Tensor, shape (n_places,), int64, on the CPU
        In the order of requests; padding behind the stop.
    accounting : Accounting
    """

    answers: list[Tensor]
    accounting: Accounting


class Engine(Protocol):
    """Where logits come from: :class:`~c2s.engines.elastic_cache.driver.CachedEngine`, or a rival's."""

    traces: list[Trace]

    def look(self, sheets: Sequence[Sheet], windows: Sequence[list[int]]) -> list[Tensor]:
        """Run a step and return, of each sheet, what logits are made of: (1 or 2, w, …)."""

    def logits(self, seen: Tensor, head: Head) -> Tensor:
        """Return logits (1 or 2, w, v) of the tokens of a head."""

    def headed(self, sheet: Sheet, n_rows: int, n_tokens: int, committed: int) -> None:
        """Note what the head was run on and how much was written."""


class Vocabulary:
    """The tokens that may be written, and their head."""

    def __init__(self, parts: DecoderParts, constraint: Constraint | None) -> None:
        if constraint is None:
            tokens = torch.arange(parts.n_tokens)
            tokens = tokens[tokens != parts.mask_id]
        else:
            stops = [segment.stop for segment in constraint.segments]
            items = torch.nonzero(constraint.is_item)[:, 0].cpu()
            tokens = torch.cat([items, torch.tensor([*stops, constraint.pad])])
        self.constraint, self.listed = constraint, tokens
        self.tokens = tokens.to(parts.device)
        self.head = parts.head.of(self.tokens)
        self._noise: dict[tuple[int, int], Tensor] = {}

    def noise(self, sheet: Sheet, place: int) -> Tensor:
        """Return the noise of a request at a place, float64 (v,)."""
        asked = (sheet.request.key, place)
        if asked not in self._noise:
            key = torch.tensor([sheet.request.key], device=self.tokens.device)
            self._noise[asked] = keyed_gumbel(key, place, self.tokens)[0].double()
        return self._noise[asked]

    def forget(self, sheet: Sheet) -> None:
        """Drop the noise of places that are written."""
        for place in sheet.new:
            self._noise.pop((sheet.request.key, place), None)


@torch.no_grad()
def decode(parts: DecoderParts, requests: Sequence[Request], settings: DecodeSettings) -> Decoded:
    """Return one answer to each request, with what it cost.

    A step runs the model on what changed, proposes the most likely token (or a sampled one) for every place of the window, and
    writes each proposal whose probability is above ``settings.commit``, the best one in any case. Rows of all requests run
    together without padding; an answer does not depend on what is decoded beside it, up to rounding. Elastic-Cache: Nguyen-Tri et
    al., arXiv 2510.14973.

    Parameters
    ----------
    parts : DecoderParts
    requests : sequence of Request
    settings : DecodeSettings

    Raises
    ------
    ConfigError
        No requests, or one that the model or its own constraint cannot answer.
    ModelError
        Logits are not numbers.
    """
    sheets = sheets_of(parts, requests)
    engine = CachedEngine(parts, sheets, settings)
    fill(parts, engine, sheets, settings)
    accounting = Accounting(engine.traces, parts.shape, engine.state.n_bytes)
    return Decoded([sheet.answer for sheet in sheets], accounting)


def sheets_of(parts: DecoderParts, requests: Sequence[Request]) -> list[Sheet]:
    """Return blank sheets."""
    if not requests:
        msg = "no requests; give at least one"
        raise ConfigError(msg)
    return [Sheet(request, mask_id=parts.mask_id, n_tokens=parts.n_tokens) for request in requests]


def fill(parts: DecoderParts, engine: Engine, sheets: Sequence[Sheet], settings: DecodeSettings) -> None:
    """Fill sheets, step by step."""
    vocabularies: dict[int, Vocabulary] = {}
    for sheet in sheets:
        constraint = sheet.request.constraint
        if id(constraint) not in vocabularies:
            vocabularies[id(constraint)] = Vocabulary(parts, constraint)
    while still := [sheet for sheet in sheets if sheet.open]:
        windows = [sheet.window(settings) for sheet in still]
        seen = engine.look(still, windows)
        for vocabulary in vocabularies.values():
            group = [i for i, sheet in enumerate(still) if sheet.request.constraint is vocabulary.constraint]
            if group:
                _write(engine, vocabulary, [(still[i], windows[i], seen[i]) for i in group], settings)


def _write(
    engine: Engine, vocabulary: Vocabulary, group: list[tuple[Sheet, list[int], Tensor]], settings: DecodeSettings
) -> None:
    """Propose and write for sheets that may hold the same tokens."""
    logits = engine.logits(torch.cat([seen for _, _, seen in group], dim=1), vocabulary.head)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scores = logits[0] if len(logits) == 1 else logits[1] + (settings.guidance + 1) * (logits[0] - logits[1])
    beside = None
    if vocabulary.constraint is not None:
        allowed = torch.cat([sheet.allowed(window)[:, vocabulary.listed] for sheet, window, _ in group])
        closed = ~allowed.to(scores.device)
        ends = slice(
            -len(vocabulary.constraint.segments) - 1, None
        )  # stops and padding are the last of the listed tokens
        beside = scores[:, ends].masked_fill(~closed[:, ends], -torch.inf).logsumexp(-1)
        scores = scores.masked_fill(closed, -torch.inf)
    noise = None
    if settings.temperature > 0:
        noise = torch.stack([vocabulary.noise(sheet, place) for sheet, window, _ in group for place in window])
    chosen, confidence = propose(scores, noise, settings.temperature, beside=beside)
    tokens, sure = vocabulary.tokens[chosen].tolist(), confidence.tolist()
    if any(value != value for value in sure):
        msg = "the model's logits are not numbers; check its weights and its precision"
        raise ModelError(msg)
    start = 0
    for sheet, window, _ in group:
        rows = slice(start, start + len(window))
        start += len(window)
        committed = sheet.write(window, tokens[rows], sure[rows], settings)
        engine.headed(sheet, len(window), len(vocabulary.tokens), committed)
        vocabulary.forget(sheet)


def propose(
    logits: Tensor, noise: Tensor | None, temperature: float, *, beside: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return for each place the chosen token and its probability.

    ``argmax(logits / temperature + noise)`` in float64, as low precision changes what is sampled; the probability is that of the
    logits without either. A place that the model takes for one behind the answer's end is not sure of any token that would stand there.

    Parameters
    ----------
    logits : Tensor, shape (P, v)
        ``-inf`` where a token is not allowed.
    noise : Tensor, shape (P, v), or None
        Standard Gumbel.
    temperature : float
    beside : Tensor, shape (P,), optional
        Logits of stops and padding where they are not allowed yet: they cannot be chosen, and their probability is not the others'.
    """
    chosen = (logits if noise is None else logits.double() / temperature + noise).argmax(-1)
    whole = torch.logsumexp(logits if beside is None else torch.cat([logits, beside[:, None]], dim=1), dim=-1)
    return chosen, (logits.gather(1, chosen[:, None])[:, 0] - whole).exp()
