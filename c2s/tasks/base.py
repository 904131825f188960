"""What a task is: sentences and metadata in, prompts and answers as parts out, answers parsed back into values.

A part is text, a run of genes, or a mark that says what comes next. Parts know nothing of tokens: a tokenizer renders
them, so the same task serves models in which a gene is a token and models that read words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from c2s.errors import ConfigError

MARKS = (
    "cell", "cell_type", "context", "perturbation", "targets", "mechanism", "dose", "time",
    "sentence", "up", "down", "end",
)  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """A mark of structure, one of :data:`MARKS`."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in MARKS:
            msg = f"unknown mark {self.name!r}; the marks are {', '.join(MARKS)}"
            raise ConfigError(msg)


@dataclass(frozen=True, eq=False)
class Genes:
    """A run of genes, as ids into the vocabulary (int32), in order."""

    ids: np.ndarray


Part = str | Mark | Genes


@dataclass(frozen=True)
class Example:
    """One prompt and its answer.

    Attributes
    ----------
    prompt, answer : tuple of Part
        The answer ends with ``Mark("end")``.
    weights : ndarray or None
        Loss weight of each *gene* of the answer, in order; everything else weighs 1.
    """

    prompt: tuple[Part, ...]
    answer: tuple[Part, ...]
    weights: np.ndarray | None = None


@runtime_checkable
class Task(Protocol):
    """What every task offers. ``examples`` takes what the task needs as keyword arguments.

    Attributes
    ----------
    name : str
    n_genes : int
        Most genes of a cell that are shown or asked for.
    inputs, optional : tuple of str
        What an example needs, and what it tells where it is known.
    metric : str
        What judges an answer: a name in ``c2s.metrics.METRICS``.
    """

    name: str
    n_genes: int
    inputs: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]]
    metric: ClassVar[str]

    def examples(self, *args: Any, **kwargs: Any) -> Iterable[Example]:
        """Return training examples."""
        ...

    def parse(self, answer: Sequence[Part] | str) -> Any:
        """Return the value an answer stands for, given as parts or as text.

        Raises
        ------
        ParseError
            The parts are not an answer to this task.
        """
        ...


class ParseError(ValueError):
    """An answer that does not follow its task's form."""


def split_segments(answer: Sequence[Part], stops: Sequence[str]) -> list[np.ndarray]:
    """Return the gene ids before each of the marks ``stops``, which must come in this order.

    Raises
    ------
    ParseError
        A mark is missing or out of order, there is text between, or something follows the last mark.
    """
    segments: list[np.ndarray] = []
    current: list[np.ndarray] = []
    for part in answer:
        if len(segments) == len(stops):
            msg = f"{part!r} follows the last mark <{stops[-1]}>"
            raise ParseError(msg)
        if isinstance(part, Genes):
            current.append(part.ids)
        elif isinstance(part, Mark) and part.name == stops[len(segments)]:
            segments.append(np.concatenate([*current, np.empty(0, np.int32)]).astype(np.int32))
            current = []
        else:
            msg = f"expected genes or <{stops[len(segments)]}>, found {part!r}"
            raise ParseError(msg)
    if len(segments) < len(stops):
        msg = f"the answer ends before <{stops[len(segments)]}>"
        raise ParseError(msg)
    return segments
