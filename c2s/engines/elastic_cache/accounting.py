"""What a decode cost, counted without a clock: rows a layer, refreshes, places written, and the operations that follow."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
NO_REFRESH = -1


@dataclass(frozen=True)
class Shape:
    """Sizes that operations follow from.

    Attributes
    ----------
    layer_weights : tuple of int
        Entries of each layer's matrices.
    width : int
        Of a hidden state.
    key_width, value_width : int
        Of all heads together.
    """

    layer_weights: tuple[int, ...]
    width: int
    key_width: int
    value_width: int


@dataclass
class Trace:
    """The steps of one request.

    Attributes
    ----------
    length : int
        Places of prompt and answer.
    rows : list, one a step, of int a layer
        Rows computed (of both sequences under guidance).
    scored : list, one a step, of int a layer
        Rows whose attention was scored only to watch it.
    refreshed : list of int
        First layer that was run on all rows; 0 in the first step, -1 where none was.
    drift : list, one a step, of float a layer
        One less cosine; nan where attention was not compared.
    committed : list of int
        Places written.
    headed : list of int
        Rows times tokens that the head was run on.
    """

    length: int
    rows: list[list[int]] = field(default_factory=list)
    scored: list[list[int]] = field(default_factory=list)
    refreshed: list[int] = field(default_factory=list)
    drift: list[list[float]] = field(default_factory=list)
    committed: list[int] = field(default_factory=list)
    headed: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Accounting:
    """What decoding some requests cost.

    Attributes
    ----------
    traces : list of Trace
        In the order of requests.
    shape : Shape
    state_bytes : int
        Memory of keys, values and what refreshes need, at its peak.
    """

    traces: list[Trace]
    shape: Shape
    state_bytes: int

    @property
    def steps(self) -> Ints:
        """Passes of each request, the first among them."""
        return np.array([len(trace.rows) for trace in self.traces], dtype=np.int64)

    @property
    def token_layers(self) -> Ints:
        """Rows computed, summed over steps and layers, of each request."""
        return np.array([int(np.sum(trace.rows)) for trace in self.traces], dtype=np.int64)

    @property
    def refresh_rate(self) -> float:
        """Share of the steps behind the first that ran some layer on all rows; nan without such steps."""
        later = self._later()
        return float(np.mean(later != NO_REFRESH)) if len(later) else float("nan")

    @property
    def refresh_by_layer(self) -> Floats:
        """Share of the steps behind the first in which each layer ran on all rows, (L,)."""
        later = self._later()
        layers = np.arange(len(self.shape.layer_weights))
        wide = (later[:, None] != NO_REFRESH) & (layers >= later[:, None])
        return wide.mean(0) if len(later) else np.full(len(layers), np.nan)

    @property
    def commits_per_step(self) -> float:
        """Places written a step, padding behind a stop not counted."""
        return float(sum(sum(trace.committed) for trace in self.traces) / self.steps.sum())

    @property
    def flops(self) -> int:
        """Operations, a multiplication and an addition being two.

        Each row: ``2 * matrices + 2 n (key width + value width)`` in each layer; each row scored to watch it ``2 n * key width``; the
        head ``2 d`` a row and token. Norms, rotations and activations are left out.
        """
        shape, total = self.shape, 0
        for trace in self.traces:
            rows, scored = np.array(trace.rows, dtype=np.int64), np.array(trace.scored, dtype=np.int64)
            total += int((2 * rows * np.array(shape.layer_weights)).sum())
            total += int(
                2 * trace.length * ((shape.key_width + shape.value_width) * rows + shape.key_width * scored).sum()
            )
            total += 2 * shape.width * sum(trace.headed)
        return total

    def _later(self) -> Ints:
        return np.array([layer for trace in self.traces for layer in trace.refreshed[1:]], dtype=np.int64)
