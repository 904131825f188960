"""The rows of c2s itself, behind the face of the others (see :data:`benchmarks.spatial.rows.Row`)."""

from __future__ import annotations

from benchmarks.spatial.rows import Row


def c2s_rows(seconds: float) -> dict[str, Row]:
    """Return each row by its name, starting with ``c2s``; ``seconds`` is the budget of training."""
    return {}
