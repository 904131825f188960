"""Truth and prediction in, measures out: annotations, text answers, generated cells, embeddings."""

from __future__ import annotations

from c2s.metrics.registry import METRICS, Metric

__all__ = ["METRICS", "Metric"]
