"""Cell generation: metadata in, a cell's sentence out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from c2s.cells.genes import GeneVocabulary
from c2s.cells.reading import require_column
from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer
from c2s.tasks.base import Example, Genes, Mark, Part, split_segments
from c2s.tasks.gene_answers import read_genes
from c2s.tasks.text_task import TextTask, merged
from c2s.tasks.wording import slot_names

_SLOTS = ("cell_type", "organism", "tissue")


@dataclass(frozen=True)
class CellGeneration(TextTask):
    """``<cell_type> label <context> value … <sentence>`` → ``genes <end>``, or the same in words.

    Parameters
    ----------
    n_genes : int
        Longest sentence; shorter cells give shorter answers.
    wording : int, "any" or "marks"
        ``"marks"``, the default, writes marks, for models in which a gene is a token; the others write words.
    """

    wording: int | Literal["any", "marks"] = "marks"
    name: str = "cell_generation"
    inputs: ClassVar[tuple[str, ...]] = ("conditions",)
    optional: ClassVar[tuple[str, ...]] = (*_SLOTS, "any other condition")
    metric: ClassVar[str] = "gene_overlap"

    @property
    def segments(self) -> tuple[tuple[str, int, int], ...]:
        """Mark that ends each list of an answer in marks, with its least and its most genes."""
        return (("end", 1, self.n_genes),)

    def prompt(
        self, conditions: Mapping[str, str], *, n_genes: int | None = None, wording: int | None = None
    ) -> tuple[Part, ...]:
        """Return the prompt for ``conditions``.

        In marks the key ``cell_type`` has its own, and others come as contexts. In words ``cell_type``, ``organism`` and
        ``tissue`` have their places, and others are listed; ``n_genes`` is the number of genes asked for.
        """
        if wording is None and self.wording == "marks":
            parts: list[Part] = []
            for key, value in sorted(conditions.items(), key=lambda item: (item[0] != "cell_type", item[0])):
                parts += [Mark("cell_type"), str(value)] if key == "cell_type" else [Mark("context"), f"{key} {value}"]
            return (*parts, Mark("sentence"))
        named = {key: str(value) for key, value in conditions.items() if key in _SLOTS}
        others = ", ".join(f"{key} {value}" for key, value in sorted(conditions.items()) if key not in _SLOTS)
        slots = merged(
            named, {"others": others, "n_genes": self.n_genes if n_genes is None else n_genes, "top_k": self.n_genes}
        )
        return self.prompt_set.prompt(slots, wording=self.which(wording))

    def untold(self, names: Iterable[str]) -> list[str]:
        """Return the conditions among ``names`` that the wording has no place for; marks tell all."""
        if self.wording == "marks":
            return []
        places = set().union(*slot_names(self.prompt_set.prompts[self.which(None)]))
        return [name for name in names if name not in places and ("others" not in places or name in _SLOTS)]

    def answer(self, genes: np.ndarray, *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer that spells ``genes`` (ids, int32), cut at ``n_genes``."""
        if wording is None and self.wording == "marks":
            return (Genes(genes[: self.n_genes]), Mark("end"))
        return self.prompt_set.answer(self.cell_slots(genes), wording=self.which(wording))

    def examples(self, sentences: CellSentences, *, conditions: Mapping[str, str], seed: int = 0) -> Iterator[Example]:
        """Yield one example per cell that has genes; ``conditions`` maps a condition's name to its column of ``obs``. A missing value is not told."""
        values = {
            name: require_column(sentences.obs, column, "conditions").to_numpy(object)
            for name, column in conditions.items()
        }
        rows = np.flatnonzero(sentences.lengths).tolist()
        wordings = [None] * len(rows) if self.wording == "marks" else self.wordings(len(rows), seed=seed)
        for i, wording in zip(rows, wordings, strict=True):
            known = {name: str(column[i]) for name, column in values.items() if not pd.isna(column[i])}
            yield self.example(sentences, i, conditions=known, wording=wording)

    def example(
        self, sentences: CellSentences, i: int, *, conditions: Mapping[str, str], wording: int | None = None
    ) -> Example:
        """Return the example of cell ``i``; ``conditions`` maps a condition's name to the cell's value."""
        genes = sentences.row(i)[: self.n_genes]
        return Example(
            self.prompt(conditions, n_genes=len(genes), wording=wording), self.answer(genes, wording=wording)
        )

    def parse(self, answer: Answer, *, vocabulary: GeneVocabulary | None = None, repair: bool = False) -> np.ndarray:
        """Return the sentence's gene ids, int32: of marks as they are, of words by :func:`~c2s.tasks.gene_answers.read_genes`."""
        if self.wording == "marks" and not isinstance(answer, str | bytes):
            return split_segments(answer, ("end",))[0]
        return read_genes(answer, vocabulary, None if self.wording == "marks" else self.style, repair=repair)
