"""An answer while it is filled: which places are open, which may be written now, and what is written to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from c2s.engines.constraint import Constraint
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.errors import ConfigError


@dataclass(frozen=True)
class Request:
    """One answer that is asked for.

    Attributes
    ----------
    prompt : Tensor, shape (p,), int64
        At least one token.
    n_places : int
        Places of the answer.
    constraint : Constraint or None
        What an answer may hold; None is any token but the mask.
    key : int
        Its own noise: an answer does not depend on what is decoded beside it.
    stop, pad : int or None
        Without a constraint: behind ``stop`` is nothing but ``pad`` (None: the stop again).
    """

    prompt: Tensor
    n_places: int
    constraint: Constraint | None = None
    key: int = 0
    stop: int | None = None
    pad: int | None = None


class Sheet:
    """The answer to one request. Places are those of the answer, from 0.

    Attributes
    ----------
    answer : Tensor, shape (n_places,), int64, on the CPU
        ``mask_id`` where open.
    open : list of int
        Open places, ascending.
    new : list of int
        Places written in the last step.
    """

    def __init__(self, request: Request, *, mask_id: int, n_tokens: int) -> None:
        constraint, stop, pad = request.constraint, request.stop, request.pad
        if request.prompt.ndim != 1 or not len(request.prompt) or request.n_places < 1:
            msg = (
                f"a request has a prompt of shape {tuple(request.prompt.shape)} and {request.n_places} places; "
                "give one sequence of at least one token, and at least one place"
            )
            raise ConfigError(msg)
        self.request, self.mask_id = request, mask_id
        self.answer = torch.full((request.n_places,), mask_id, dtype=torch.long)
        self.open = list(range(request.n_places))
        self.new: list[int] = []
        if constraint is None:
            self.stop, self.pad = stop, stop if pad is None else pad
            return
        if stop is not None or pad is not None:
            msg = "a request has a constraint, which says where an answer stops; leave stop and pad out"
            raise ConfigError(msg)
        emitted = {*torch.nonzero(constraint.is_item)[:, 0].tolist(), *(s.stop for s in constraint.segments)}
        if mask_id in {*emitted, constraint.pad} or max(*emitted, constraint.pad) >= n_tokens:
            msg = f"a constraint emits tokens up to {max(*emitted, constraint.pad)}; the model has {n_tokens}, of which {mask_id} is the mask"
            raise ConfigError(msg)
        self.stop, self.pad = constraint.segments[-1].stop, constraint.pad
        if not bool(self.allowed([0]).any()):
            msg = f"n_places={request.n_places} cannot hold any answer of the constraint; give up to {constraint.max_length}"
            raise ConfigError(msg)

    def window(self, settings: DecodeSettings) -> list[int]:
        """Return the places that may be written in this step."""
        if settings.scheme == "window":
            return self.open[: settings.window]
        end = (self.open[0] // settings.window + 1) * settings.window
        return [place for place in self.open if place < end]

    def allowed(self, places: list[int]) -> Tensor:
        """Return which tokens a constraint leaves to open places, (P, V) bool."""
        constraint = self.request.constraint
        if constraint is None:
            msg = "a request without a constraint allows all"
            raise ConfigError(msg)
        return constraint.places(self.answer, torch.tensor(places), mask_id=self.mask_id)

    def write(self, places: list[int], tokens: list[int], confidence: list[float], settings: DecodeSettings) -> int:
        """Write what is confident enough: at least the best proposal, at most what can stand together.

        Returns how many proposals were written; padding behind a stop is not counted.
        """
        ranked = sorted(range(len(places)), key=lambda row: (-confidence[row], places[row]))
        chosen = [row for row in ranked if confidence[row] > settings.commit]
        if (constraint := self.request.constraint) is not None and len(chosen) > 1:
            rows = torch.tensor(chosen)
            admitted = constraint.commit(
                self.answer, torch.tensor(places)[rows], torch.tensor(tokens)[rows],
                torch.tensor(confidence, dtype=torch.float64)[rows], mask_id=self.mask_id,
            )  # fmt: skip
            chosen = [row for row, fits in zip(chosen, admitted.tolist()) if fits]
        chosen = chosen[: settings.max_commits] or ranked[:1]
        self.new = sorted(places[row] for row in chosen)
        stops = [places[row] for row in chosen if self.stop is not None and tokens[row] == self.stop]
        for row in chosen:
            self.answer[places[row]] = tokens[row]
        if stops and self.pad is not None:
            behind = min(stops) + 1
            changed = torch.nonzero(self.answer[behind:] != self.pad)[:, 0] + behind
            self.answer[behind:] = self.pad
            self.new = sorted({*(place for place in self.new if place < behind), *changed.tolist()})
        written = set(self.new)
        self.open = [place for place in self.open if place not in written]
        return len(chosen)
