"""Language modelling of samples: nothing but what is known of their origin in, several cells' sentences out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from c2s.cells.genes import GeneVocabulary
from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer
from c2s.tasks.base import Example, Part
from c2s.tasks.gene_answers import read_cells
from c2s.tasks.samples import Samples
from c2s.tasks.text_task import Columns, TextTask, merged


@dataclass(frozen=True)
class MultiCellLanguageModelling(TextTask):
    """Number of cells and genes, and organism and tissue where all cells share them → the cells' sentences."""

    name: str = "multi_cell_language_modelling"
    inputs: ClassVar[tuple[str, ...]] = ("samples",)
    optional: ClassVar[tuple[str, ...]] = ("organism", "tissue")
    metric: ClassVar[str] = "gene_overlap"

    def prompt(
        self,
        *,
        n_cells: int,
        n_genes: int | None = None,
        fields: Mapping[str, str] | None = None,
        wording: int | None = None,
    ) -> tuple[Part, ...]:
        """Return the prompt that asks for ``n_cells`` cells of at most ``n_genes`` genes, by default the task's."""
        slots = merged({"n_cells": n_cells, "n_genes": self.n_genes if n_genes is None else n_genes}, fields)
        return self.prompt_set.prompt(slots, wording=self.which(wording))

    def answer(
        self, sentences: CellSentences, rows: Sequence[int] | np.ndarray, *, wording: int | None = None
    ) -> tuple[Part, ...]:
        """Return the answer that spells the cells ``rows``."""
        return self.prompt_set.answer(self.cells_slots(sentences, rows), wording=self.which(wording))

    def examples(
        self, sentences: CellSentences, *, samples: Samples, columns: Columns = None, seed: int = 0
    ) -> Iterator[Example]:
        """Yield one example per sample, without cells that have no genes."""
        fields = self.fields(sentences.obs, columns)
        for drawn, wording in zip(samples.rows, self.wordings(len(samples), seed=seed), strict=True):
            rows = drawn[sentences.lengths[drawn] > 0]
            if not len(rows):
                continue
            cells = self.cells_slots(sentences, rows)
            yield self.written(merged(cells, fields(rows)), cells, wording)

    def parse(
        self,
        answer: Answer,
        *,
        vocabulary: GeneVocabulary | None = None,
        n_cells: int | None = None,
        repair: bool = False,
    ) -> list[np.ndarray]:
        """Return each cell's gene ids, int32 (:func:`~c2s.tasks.gene_answers.read_cells`)."""
        return read_cells(answer, vocabulary, self.style, n_cells=n_cells, repair=repair)
