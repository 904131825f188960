"""Gene-set enumeration: the name of a set in, its genes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from c2s.cells.genes import GeneVocabulary
from c2s.tasks.answers import Answer
from c2s.tasks.base import Example, Part
from c2s.tasks.gene_answers import read_genes
from c2s.tasks.gene_set_naming import Sets, known_sets
from c2s.tasks.text_task import TextTask, merged


@dataclass(frozen=True)
class GeneSetEnumeration(TextTask):
    """``name``, organism where known → genes of the set, in the order of the set; those outside the vocabulary are left out."""

    name: str = "gene_set_enumeration"
    inputs: ClassVar[tuple[str, ...]] = ("sets", "vocabulary")
    optional: ClassVar[tuple[str, ...]] = ("organism",)
    metric: ClassVar[str] = "gene_overlap"

    def prompt(
        self,
        label: str,
        *,
        n_genes: int | None = None,
        fields: Mapping[str, str] | None = None,
        wording: int | None = None,
    ) -> tuple[Part, ...]:
        """Return the prompt that asks for ``n_genes`` genes of the set, by default the task's."""
        slots = merged({"label": label, "n_genes": self.n_genes if n_genes is None else n_genes}, fields)
        return self.prompt_set.prompt(slots, wording=self.which(wording))

    def answer(self, genes: np.ndarray, *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer that lists ``genes`` (ids, int32), cut at the task's ``n_genes``."""
        return self.prompt_set.answer(self.cell_slots(genes), wording=self.which(wording))

    def examples(
        self,
        sets: Sets,
        *,
        vocabulary: GeneVocabulary,
        fields: Mapping[str, str] | None = None,
        seed: int = 0,
    ) -> Iterator[Example]:
        """Yield one example per set that has genes in ``vocabulary``; the prompt asks for as many as the answer gives.

        Parameters
        ----------
        sets : mapping of str to sequence of str
            As :func:`c2s.cells.gene_sets.read_gmt` returns them.
        """
        known = known_sets(sets, vocabulary)
        for (label, ids), wording in zip(known.items(), self.wordings(len(known), seed=seed), strict=True):
            prompt = self.prompt(label, n_genes=min(len(ids), self.n_genes), fields=fields, wording=wording)
            yield Example(prompt, self.answer(ids, wording=wording))

    def parse(self, answer: Answer, *, vocabulary: GeneVocabulary | None = None, repair: bool = False) -> np.ndarray:
        """Return the gene ids, int32 (:func:`~c2s.tasks.gene_answers.read_genes`)."""
        return read_genes(answer, vocabulary, self.style, repair=repair)
