"""Same niche: several cells in, whether they come from one niche out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer, read_decision
from c2s.tasks.base import Example, Part
from c2s.tasks.text_task import Columns, TextTask, knowledge_slot, merged


@dataclass(frozen=True)
class SameNiche(TextTask):
    """Several cells, knowledge, organism and tissue where there is any → whether all come from one niche."""

    name: str = "same_niche"
    inputs: ClassVar[tuple[str, ...]] = ("groups", "together")
    optional: ClassVar[tuple[str, ...]] = ("organism", "tissue", "knowledge")
    metric: ClassVar[str] = "balanced_accuracy"

    def prompt(
        self,
        sentences: CellSentences,
        rows: Sequence[int] | np.ndarray,
        *,
        knowledge: Sequence[str] | None = None,
        fields: Mapping[str, str] | None = None,
        wording: int | None = None,
    ) -> tuple[Part, ...]:
        """Return the prompt that shows the cells ``rows``; ``knowledge`` are lines of text that come with them."""
        slots = merged(self.cells_slots(sentences, rows), {"knowledge": knowledge_slot(knowledge)}, fields)
        return self.prompt_set.prompt(slots, wording=self.which(wording))

    def answer(self, together: bool, *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer yes or no."""
        return self.prompt_set.answer({"label": "Yes" if together else "No"}, wording=self.which(wording))

    def examples(
        self,
        sentences: CellSentences,
        *,
        groups: Sequence[Sequence[int] | np.ndarray],
        together: Sequence[bool] | np.ndarray,
        knowledge: Sequence[Sequence[str]] | None = None,
        columns: Columns = None,
        seed: int = 0,
    ) -> Iterator[Example]:
        """Yield one example per group of cells: the truth, and lines of knowledge, are those at the same place."""
        fields = self.fields(sentences.obs, columns)
        known = knowledge or [()] * len(groups)
        for rows, truth, lines, wording in zip(
            groups, together, known, self.wordings(len(groups), seed=seed), strict=True
        ):
            prompt = self.prompt(sentences, rows, knowledge=lines, fields=fields(rows), wording=wording)
            yield Example(prompt, self.answer(bool(truth), wording=wording))

    def parse(self, answer: Answer) -> bool:
        """Return the decision (:func:`~c2s.tasks.answers.read_decision`)."""
        return read_decision(answer)
