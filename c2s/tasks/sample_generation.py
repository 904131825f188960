"""Sample generation: a tissue, a list of cell types or an abstract in, several cells' sentences out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from c2s.cells.genes import GeneVocabulary
from c2s.cells.reading import complete_column
from c2s.errors import ConfigError
from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer
from c2s.tasks.base import Example, Part
from c2s.tasks.gene_answers import read_cells
from c2s.tasks.sample_cell_types import label_list
from c2s.tasks.samples import Samples
from c2s.tasks.text_task import Columns, TextTask, common_value, merged, without_stop

By = Literal["tissue", "cell_types", "abstract"]


@dataclass(frozen=True)
class SampleGeneration(TextTask):
    """A tissue, cell types or an abstract, and organism where known → several cells' sentences.

    Parameters
    ----------
    by : {"tissue", "cell_types", "abstract"}
        What the sample is described by. Installed wordings know tissues only.
    """

    by: By = "tissue"
    name: str = "sample_generation"
    inputs: ClassVar[tuple[str, ...]] = ("samples", "by_key")
    optional: ClassVar[tuple[str, ...]] = ("organism",)
    metric: ClassVar[str] = "gene_overlap"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by not in ("tissue", "cell_types", "abstract") or (self.by != "tissue" and self.prompts != "c2s"):
            msg = f"by={self.by!r} with prompts={self.prompts!r}; choose by='tissue', or 'cell_types' or 'abstract' with prompts='c2s'"
            raise ConfigError(msg)

    def prompt(
        self,
        description: str | Sequence[str],
        *,
        n_cells: int,
        n_genes: int | None = None,
        fields: Mapping[str, str] | None = None,
        wording: int | None = None,
    ) -> tuple[Part, ...]:
        """Return the prompt that asks for ``n_cells`` cells of at most ``n_genes`` genes.

        ``description`` is the tissue, the cell types (of each cell, or each once), or the abstract.
        """
        numbers = {"n_cells": n_cells, "n_genes": self.n_genes if n_genes is None else n_genes, "top_k": self.n_genes}
        slots = merged(numbers, self._described(description), fields)
        return self.prompt_set.prompt(slots, wording=self.which(wording))

    def answer(
        self, sentences: CellSentences, rows: Sequence[int] | np.ndarray, *, wording: int | None = None
    ) -> tuple[Part, ...]:
        """Return the answer that spells the cells ``rows``."""
        return self.prompt_set.answer(self.cells_slots(sentences, rows), wording=self.which(wording))

    def examples(
        self, sentences: CellSentences, *, samples: Samples, by_key: str, columns: Columns = None, seed: int = 0
    ) -> Iterator[Example]:
        """Yield one example per sample, without cells that have no genes; ``by_key`` is the column of ``obs`` with tissues, cell types or abstracts."""
        values = complete_column(sentences.obs, by_key, "by_key")
        fields = self.fields(sentences.obs, columns)
        for drawn, wording in zip(samples.rows, self.wordings(len(samples), seed=seed), strict=True):
            rows = drawn[sentences.lengths[drawn] > 0]
            if not len(rows):
                continue
            described = list(values[rows]) if self.by == "cell_types" else common_value(values, rows, by_key)
            cells = self.cells_slots(sentences, rows)
            yield self.written(merged(cells, self._described(described), fields(rows)), cells, wording)

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

    def _described(self, description: str | Sequence[str]) -> dict[str, str]:
        if self.by == "cell_types":
            return {"cell_types": label_list([description] if isinstance(description, str) else description)}
        if not isinstance(description, str):
            msg = f"{self.name} by {self.by} is described by one text, found {type(description).__name__}"
            raise ConfigError(msg)
        return {self.by: without_stop(description) if self.by == "abstract" else description}
