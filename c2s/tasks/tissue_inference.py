"""Tissue inference: a sample of cells in, the tissue they come from out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from c2s.cells.reading import complete_column
from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer, read_label
from c2s.tasks.base import Example, Part
from c2s.tasks.samples import Samples
from c2s.tasks.text_task import Columns, TextTask, common_value, merged


@dataclass(frozen=True)
class TissueInference(TextTask):
    """Several cells of one sample, and organism where known → ``tissue``."""

    name: str = "tissue_inference"
    inputs: ClassVar[tuple[str, ...]] = ("samples", "tissue_key")
    optional: ClassVar[tuple[str, ...]] = ("organism",)
    metric: ClassVar[str] = "macro_f1"

    def prompt(
        self,
        sentences: CellSentences,
        rows: Sequence[int] | np.ndarray,
        *,
        fields: Mapping[str, str] | None = None,
        wording: int | None = None,
    ) -> tuple[Part, ...]:
        """Return the prompt that shows the cells ``rows``."""
        slots = merged(self.cells_slots(sentences, rows), fields)
        return self.prompt_set.prompt(slots, wording=self.which(wording))

    def answer(self, label: str, *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer that names ``label``."""
        return self.prompt_set.answer({"label": label}, wording=self.which(wording))

    def examples(
        self,
        sentences: CellSentences,
        *,
        samples: Samples,
        tissue_key: str,
        columns: Columns = None,
        seed: int = 0,
    ) -> Iterator[Example]:
        """Yield one example per sample; ``tissue_key`` is the column of ``obs`` with tissues."""
        values = complete_column(sentences.obs, tissue_key, "tissue_key")
        fields = self.fields(sentences.obs, columns, answer=tissue_key)
        for rows, wording in zip(samples.rows, self.wordings(len(samples), seed=seed), strict=True):
            slots = merged(self.cells_slots(sentences, rows), fields(rows))
            yield self.written(slots, {"label": common_value(values, rows, tissue_key)}, wording)

    def parse(self, answer: Answer, *, labels: Sequence[str] | None = None) -> str:
        """Return the tissue (:func:`~c2s.tasks.answers.read_label`)."""
        return read_label(answer, labels)
