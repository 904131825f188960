"""Neighbour generation: a cell in, the sentence of a cell beside it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from c2s.cells.genes import GeneVocabulary
from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer
from c2s.tasks.base import Example, Part
from c2s.tasks.gene_answers import read_genes
from c2s.tasks.text_task import Columns, TextTask, knowledge_slot, merged


@dataclass(frozen=True)
class NeighbourGeneration(TextTask):
    """Cells of a neighbourhood, knowledge, organism and tissue where there is any → one more cell of it."""

    name: str = "neighbour_generation"
    inputs: ClassVar[tuple[str, ...]] = ("shown", "neighbours")
    optional: ClassVar[tuple[str, ...]] = ("organism", "tissue", "knowledge")
    metric: ClassVar[str] = "gene_overlap"

    def prompt(
        self,
        sentences: CellSentences,
        rows: Sequence[int] | np.ndarray,
        *,
        n_genes: int | None = None,
        knowledge: Sequence[str] | None = None,
        fields: Mapping[str, str] | None = None,
        wording: int | None = None,
    ) -> tuple[Part, ...]:
        """Return the prompt that shows the cells ``rows`` and asks for ``n_genes`` genes of a neighbour."""
        asked = {"n_answer": self.n_genes if n_genes is None else n_genes, "knowledge": knowledge_slot(knowledge)}
        slots = merged(self.cells_slots(sentences, rows), asked, fields)
        return self.prompt_set.prompt(slots, wording=self.which(wording))

    def answer(self, genes: np.ndarray, *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer that spells ``genes`` (ids, int32), cut at the task's ``n_genes``."""
        return self.prompt_set.answer(self.cell_slots(genes), wording=self.which(wording))

    def examples(
        self,
        sentences: CellSentences,
        *,
        shown: Sequence[Sequence[int] | np.ndarray],
        neighbours: Sequence[int] | np.ndarray,
        knowledge: Sequence[Sequence[str]] | None = None,
        columns: Columns = None,
        seed: int = 0,
    ) -> Iterator[Example]:
        """Yield one example per neighbour that has genes: the cells shown, and lines of knowledge, are those at the same place."""
        fields = self.fields(sentences.obs, columns)
        known = knowledge or [()] * len(shown)
        for rows, cell, lines, wording in zip(
            shown, neighbours, known, self.wordings(len(shown), seed=seed), strict=True
        ):
            genes = sentences.row(int(cell))[: self.n_genes]
            if not len(genes):
                continue
            prompt = self.prompt(
                sentences, rows, n_genes=len(genes), knowledge=lines, fields=fields(rows), wording=wording
            )
            yield Example(prompt, self.answer(genes, wording=wording))

    def parse(self, answer: Answer, *, vocabulary: GeneVocabulary | None = None, repair: bool = False) -> np.ndarray:
        """Return the gene ids, int32 (:func:`~c2s.tasks.gene_answers.read_genes`)."""
        return read_genes(answer, vocabulary, self.style, repair=repair)
