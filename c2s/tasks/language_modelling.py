"""Language modelling of single cells: nothing but what is known of the cell's origin in, its sentence out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from c2s.cells.genes import GeneVocabulary
from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer
from c2s.tasks.base import Example, Part
from c2s.tasks.gene_answers import read_genes
from c2s.tasks.text_task import Columns, TextTask, merged


@dataclass(frozen=True)
class LanguageModelling(TextTask):
    """Number of genes, and organism and tissue where known → the cell's sentence."""

    name: str = "language_modelling"
    inputs: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = ("organism", "tissue")
    metric: ClassVar[str] = "gene_overlap"

    def prompt(
        self, *, n_genes: int | None = None, fields: Mapping[str, str] | None = None, wording: int | None = None
    ) -> tuple[Part, ...]:
        """Return the prompt that asks for ``n_genes`` genes, by default the task's."""
        slots = merged({"n_genes": self.n_genes if n_genes is None else n_genes}, fields)
        return self.prompt_set.prompt(slots, wording=self.which(wording))

    def answer(self, genes: np.ndarray, *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer that spells ``genes`` (ids, int32), cut at the task's ``n_genes``."""
        return self.prompt_set.answer(self.cell_slots(genes), wording=self.which(wording))

    def examples(self, sentences: CellSentences, *, columns: Columns = None, seed: int = 0) -> Iterator[Example]:
        """Yield one example per cell that has genes; the prompt asks for as many as the answer gives."""
        rows = np.flatnonzero(sentences.lengths)
        fields = self.fields(sentences.obs, columns)
        for row, wording in zip(rows, self.wordings(len(rows), seed=seed), strict=True):
            cell = self.cell_slots(sentences.row(int(row)))
            yield self.written(merged({"n_genes": cell["n_genes"]}, fields([int(row)])), cell, wording)

    def parse(self, answer: Answer, *, vocabulary: GeneVocabulary | None = None, repair: bool = False) -> np.ndarray:
        """Return the gene ids, int32 (:func:`~c2s.tasks.gene_answers.read_genes`)."""
        return read_genes(answer, vocabulary, self.style, repair=repair)
