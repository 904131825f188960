"""Niche label: a cell and its neighbours in, the name of the niche or region out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from c2s.cells.reading import complete_column
from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer, read_label
from c2s.tasks.base import Example, Part
from c2s.tasks.text_task import Columns, TextTask, knowledge_slot, merged


@dataclass(frozen=True)
class NicheLabel(TextTask):
    """A cell and its neighbours, knowledge, organism and tissue where there is any → the label of its niche."""

    name: str = "niche_label"
    inputs: ClassVar[tuple[str, ...]] = ("cells", "neighbours", "niche_key")
    optional: ClassVar[tuple[str, ...]] = ("organism", "tissue", "knowledge")
    metric: ClassVar[str] = "macro_f1"

    def prompt(
        self,
        sentences: CellSentences,
        i: int,
        neighbours: Sequence[int] | np.ndarray,
        *,
        knowledge: Sequence[str] | None = None,
        fields: Mapping[str, str] | None = None,
        wording: int | None = None,
    ) -> tuple[Part, ...]:
        """Return the prompt that shows cell ``i``, then the cells ``neighbours``, nearest first; without any, the cell alone."""
        cell = self.cell_slots(sentences.row(i))
        around = self.cells_slots(sentences, neighbours) if len(neighbours) else {}
        slots = merged(around, cell, {"knowledge": knowledge_slot(knowledge)}, fields)
        return self.prompt_set.prompt(slots, wording=self.which(wording))

    def answer(self, label: str, *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer that names the niche."""
        return self.prompt_set.answer({"label": label}, wording=self.which(wording))

    def examples(
        self,
        sentences: CellSentences,
        *,
        cells: Sequence[int] | np.ndarray,
        neighbours: Sequence[Sequence[int] | np.ndarray],
        niche_key: str,
        knowledge: Sequence[Sequence[str]] | None = None,
        columns: Columns = None,
        seed: int = 0,
    ) -> Iterator[Example]:
        """Yield one example per cell of ``cells``; its neighbours and lines of knowledge are those at the same place."""
        values = complete_column(sentences.obs, niche_key, "niche_key")
        fields = self.fields(sentences.obs, columns, answer=niche_key)
        known = knowledge or [()] * len(cells)
        for cell, around, lines, wording in zip(
            cells, neighbours, known, self.wordings(len(cells), seed=seed), strict=True
        ):
            prompt = self.prompt(
                sentences, int(cell), around, knowledge=lines, fields=fields([int(cell)]), wording=wording
            )
            yield Example(prompt, self.answer(values[cell], wording=wording))

    def parse(self, answer: Answer, *, labels: Sequence[str] | None = None) -> str:
        """Return the label (:func:`~c2s.tasks.answers.read_label`)."""
        return read_label(answer, labels)
