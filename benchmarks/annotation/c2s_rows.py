"""The rows of c2s itself, behind the face of the baselines (see :class:`c2s.baselines.annotation.Annotator`)."""

from __future__ import annotations

from collections.abc import Callable

from c2s.baselines.annotation import Annotator


def c2s_rows(seconds: float) -> dict[str, Callable[[], Annotator]]:
    """Return what makes the annotator of each row, names starting with ``c2s``; ``seconds`` is the budget of training."""
    return {}
