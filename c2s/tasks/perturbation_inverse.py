"""Perturbation inverse: a cell before and a cell after in, the perturbation between them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from c2s.cells.reading import complete_column
from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer, read_label
from c2s.tasks.base import Example, Part
from c2s.tasks.text_task import Columns, TextTask, merged


@dataclass(frozen=True)
class PerturbationInverse(TextTask):
    """A control and a treated cell, cell type, dose, time, organism where known → the perturbation's name."""

    name: str = "perturbation_inverse"
    inputs: ClassVar[tuple[str, ...]] = ("controls", "treated", "perturbation_key")
    optional: ClassVar[tuple[str, ...]] = ("organism", "cell_type", "dose", "time")
    metric: ClassVar[str] = "macro_f1"

    def prompt(
        self,
        before: np.ndarray,
        after: np.ndarray,
        *,
        fields: Mapping[str, str] | None = None,
        wording: int | None = None,
    ) -> tuple[Part, ...]:
        """Return the prompt that shows both cells (gene ids, int32)."""
        first, second = self.cell_slots(before), self.cell_slots(after)
        shown = {
            "before": first["sentence"], "n_before": first["n_genes"],
            "after": second["sentence"], "n_after": second["n_genes"],
        }  # fmt: skip
        return self.prompt_set.prompt(merged(shown, fields), wording=self.which(wording))

    def answer(self, label: str, *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer that names the perturbation."""
        return self.prompt_set.answer({"label": label}, wording=self.which(wording))

    def examples(
        self,
        sentences: CellSentences,
        *,
        controls: Sequence[int] | np.ndarray,
        treated: Sequence[int] | np.ndarray,
        perturbation_key: str,
        columns: Columns = None,
        seed: int = 0,
    ) -> Iterator[Example]:
        """Yield one example per treated cell, with the control at the same place; dose and time are the treated cell's."""
        names = complete_column(sentences.obs, perturbation_key, "perturbation_key")
        fields = self.fields(sentences.obs, columns, answer=perturbation_key)
        for control, cell, wording in zip(controls, treated, self.wordings(len(treated), seed=seed), strict=True):
            before, after = sentences.row(int(control)), sentences.row(int(cell))
            prompt = self.prompt(before, after, fields=fields([int(cell)]), wording=wording)
            yield Example(prompt, self.answer(names[cell], wording=wording))

    def parse(self, answer: Answer, *, labels: Sequence[str] | None = None) -> str:
        """Return the perturbation's name (:func:`~c2s.tasks.answers.read_label`)."""
        return read_label(answer, labels)
