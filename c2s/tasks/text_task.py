"""What tasks in words share: their settings, the slots of cells and samples, optional columns, wordings by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from c2s.cells.reading import require_column
from c2s.errors import ConfigError, DataError
from c2s.sentences.corpus import CellSentences
from c2s.tasks.base import Example, Genes, Part
from c2s.tasks.prompt_set import PromptSet, prompt_set
from c2s.tasks.wording import SentenceStyle, Slot

Slots = Mapping[str, Slot | None]
Columns = Mapping[str, str] | None


@dataclass(frozen=True)
class TextTask:
    """Settings of a task in words; a task adds ``examples``, ``prompt``, ``answer`` and ``parse``.

    Parameters
    ----------
    n_genes : int
        Most genes of a cell that are shown or asked for.
    wording : int or "any"
        One wording of the set; ``"any"`` draws one for each example, and asks in the first.
    prompts : str
        ``"c2s"``, or the installed package whose wordings are used (``"cell2sentence"``).

    Attributes
    ----------
    inputs, optional : tuple of str
        What an example needs, and what it tells where it is known.
    metric : str
        What judges an answer: a name in ``c2s.metrics.METRICS``.
    """

    n_genes: int = 100
    wording: int | Literal["any", "marks"] = "any"
    prompts: str = "c2s"
    name: str = ""
    inputs: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = ()
    metric: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.n_genes < 1:
            msg = f"n_genes={self.n_genes}; expected at least 1"
            raise ConfigError(msg)
        words = ("any", "marks") if type(self).wording == "marks" else ("any",)
        if isinstance(self.wording, str) and self.wording not in words:
            msg = f"wording={self.wording!r}; {self.name} takes a number from 0, or {' or '.join(map(repr, words))}"
            raise ConfigError(msg)

    @property
    def prompt_set(self) -> PromptSet:
        """The task's wordings."""
        return prompt_set(self.prompts, self.name)

    @property
    def style(self) -> SentenceStyle:
        """How genes become text: ``render_text(parts, symbols, task.style)``."""
        return self.prompt_set.style

    def which(self, wording: int | None) -> int:
        """Return ``wording``, or the task's own, or the first."""
        if wording is not None:
            return wording
        return self.wording if isinstance(self.wording, int) else 0

    def written(self, slots: Slots, answer: Slots, wording: int | None = None) -> Example:
        """Return the example with these slots of prompt and answer."""
        prompts, place = self.prompt_set, self.which(wording)
        return Example(prompts.prompt(slots, wording=place), prompts.answer(answer, wording=place))

    def wordings(self, n: int, *, seed: int) -> list[int]:
        """Return the wording of each of ``n`` examples."""
        if isinstance(self.wording, int):
            return [self.wording] * n
        return [int(place) for place in self.prompt_set.choose(seed, n)]

    def cell_slots(self, genes: np.ndarray) -> dict[str, Slot | None]:
        """Return the slots of one cell: ``sentence``, ``n_genes`` (as many as it has, at most ``self.n_genes``), ``top_k``."""
        shown = genes[: self.n_genes]
        return {"sentence": Genes(shown), "n_genes": len(shown), "top_k": self.n_genes}

    def cells_slots(self, sentences: CellSentences, rows: Sequence[int] | np.ndarray) -> dict[str, Slot | None]:
        """Return the slots of several cells: ``cells``, ``n_cells``, ``n_genes`` (of the cell with most) and ``top_k``."""
        shown = [sentences.row(int(row))[: self.n_genes] for row in rows]
        if not shown:
            msg = f"{self.name}: a sample without cells; draw it with draw_samples"
            raise DataError(msg)
        return {
            "cells": self.prompt_set.cells(shown), "n_cells": len(shown), "n_genes": max(map(len, shown)), "top_k": self.n_genes,
        }  # fmt: skip

    def fields(
        self, obs: pd.DataFrame, columns: Columns, *, answer: str | None = None
    ) -> Callable[[Sequence[int] | np.ndarray], dict[str, str]]:
        """Return a function from rows of ``obs`` to the optional slots on which all of them agree.

        ``columns`` maps a slot to its column; without it, columns of the same name are used where there are any. The column
        ``answer``, which holds what is asked for, is never told.
        """
        if answer is not None and answer in (columns or {}).values():
            msg = f"columns names {answer!r}, which is what {self.name} asks for; leave it out"
            raise ConfigError(msg)
        if columns is not None and (unknown := sorted(set(columns) - set(self.optional))):
            msg = f"{self.name} has no optional field {', '.join(unknown)}; it has {', '.join(self.optional) or 'none'}"
            raise ConfigError(msg)
        chosen = (
            {name: name for name in self.optional if name in obs.columns and name != answer}
            if columns is None
            else dict(columns)
        )
        values = {name: require_column(obs, column, "columns").to_numpy(object) for name, column in chosen.items()}

        def agreed(rows: Sequence[int] | np.ndarray) -> dict[str, str]:
            found = {
                name: {str(v) for v in column[np.asarray(rows)] if not pd.isna(v)} for name, column in values.items()
            }
            return {name: each.pop() for name, each in found.items() if len(each) == 1}

        return agreed


def common_value(values: np.ndarray, rows: np.ndarray, column: str) -> str:
    """Return the value of ``column`` that all ``rows`` share.

    Raises
    ------
    DataError
        They have several.
    """
    found = sorted({str(values[row]) for row in rows})
    if len(found) != 1:
        msg = f"a sample holds {len(found)} values of {column!r} ({', '.join(found[:5])}); group samples by it as well"
        raise DataError(msg)
    return found[0]


def without_stop(text: str, *, stop: str = ".") -> str:
    """Return ``text`` without the full stop that a wording adds."""
    return text.strip().removesuffix(stop)


def merged(*slots: Slots | None) -> dict[str, Slot | None]:
    """Return the slots of all mappings; later ones win."""
    out: dict[str, Slot | None] = {}
    for each in slots:
        out.update(each or {})
    return out


def knowledge_slot(lines: Sequence[str] | None) -> tuple[Part, ...] | None:
    """Return lines of knowledge, such as ligand–receptor pairs, as a slot; none where there are none."""
    return ("; ".join(line.strip() for line in lines),) if lines else None
