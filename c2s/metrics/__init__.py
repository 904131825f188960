"""Truth and prediction in, measures out: annotations, text answers, generated cells, embeddings.

A public name is imported from its module on first use (PEP 562): ``c2s.metrics`` by itself loads nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from c2s.metrics.cell_fid import scfid as scfid
    from c2s.metrics.neighbours import neighbour_accuracy as neighbour_accuracy
    from c2s.metrics.perturbation import response_scores as response_scores
    from c2s.metrics.perturbation import summarised as summarised
    from c2s.metrics.registry import METRICS as METRICS
    from c2s.metrics.registry import Metric as Metric
    from c2s.metrics.road import PCAEmbedder as PCAEmbedder
    from c2s.metrics.road import SentenceRoad as SentenceRoad

_HOME = {
    "METRICS": "c2s.metrics.registry",
    "Metric": "c2s.metrics.registry",
    "PCAEmbedder": "c2s.metrics.road",
    "SentenceRoad": "c2s.metrics.road",
    "neighbour_accuracy": "c2s.metrics.neighbours",
    "response_scores": "c2s.metrics.perturbation",
    "scfid": "c2s.metrics.cell_fid",
    "summarised": "c2s.metrics.perturbation",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module 'c2s.metrics' has no attribute {name!r}; it offers {', '.join(sorted(_HOME))}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
