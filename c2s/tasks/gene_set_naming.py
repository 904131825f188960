"""Gene-set naming: genes in, the name of the set out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from c2s.cells.genes import GeneVocabulary
from c2s.tasks.answers import Answer, read_label
from c2s.tasks.base import Example, Part
from c2s.tasks.text_task import TextTask, merged

Sets = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class GeneSetNaming(TextTask):
    """Genes of a set, organism where known → ``name``; genes outside the vocabulary are not shown."""

    name: str = "gene_set_naming"
    inputs: ClassVar[tuple[str, ...]] = ("sets", "vocabulary")
    optional: ClassVar[tuple[str, ...]] = ("organism",)
    metric: ClassVar[str] = "accuracy"

    def prompt(
        self, genes: np.ndarray, *, fields: Mapping[str, str] | None = None, wording: int | None = None
    ) -> tuple[Part, ...]:
        """Return the prompt that shows ``genes`` (ids, int32), at most ``n_genes`` of them."""
        return self.prompt_set.prompt(merged(self.cell_slots(genes), fields), wording=self.which(wording))

    def answer(self, label: str, *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer that names the set."""
        return self.prompt_set.answer({"label": label}, wording=self.which(wording))

    def examples(
        self,
        sets: Sets,
        *,
        vocabulary: GeneVocabulary,
        fields: Mapping[str, str] | None = None,
        seed: int = 0,
    ) -> Iterator[Example]:
        """Yield one example per set that has genes in ``vocabulary``.

        A set has no order: its genes are shuffled by ``seed`` and name, and the first ``n_genes`` shown.

        Parameters
        ----------
        sets : mapping of str to sequence of str
            As :func:`c2s.cells.gene_sets.read_gmt` returns them.
        """
        known = known_sets(sets, vocabulary)
        for (label, ids), wording in zip(known.items(), self.wordings(len(known), seed=seed), strict=True):
            shuffled = np.random.default_rng([seed, zlib.crc32(label.encode())]).permutation(ids)
            prompt = self.prompt(shuffled, fields=fields, wording=wording)
            yield Example(prompt, self.answer(label, wording=wording))

    def parse(self, answer: Answer, *, labels: Sequence[str] | None = None) -> str:
        """Return the name (:func:`~c2s.tasks.answers.read_label`)."""
        return read_label(answer, labels)


def known_sets(sets: Sets, vocabulary: GeneVocabulary) -> dict[str, np.ndarray]:
    """Return the ids of each set's genes, int32, each once and in order; sets without one in ``vocabulary`` are left out."""
    found = {name: vocabulary.ids(list(dict.fromkeys(genes)), missing="drop") for name, genes in sets.items()}
    return {name: ids for name, ids in found.items() if len(ids)}
