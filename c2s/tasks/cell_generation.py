"""Cell generation: metadata in, a cell's sentence out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from c2s.cells.reading import require_column
from c2s.sentences.corpus import CellSentences
from c2s.tasks.base import Example, Genes, Mark, Part, split_segments


@dataclass(frozen=True)
class CellGeneration:
    """``<cell_type> label <context> value … <sentence>`` → ``genes <end>``.

    Parameters
    ----------
    n_genes : int
        Longest sentence; shorter cells give shorter answers.
    """

    n_genes: int = 100
    name: str = "cell_generation"

    def prompt(self, conditions: Mapping[str, str]) -> tuple[Part, ...]:
        """Return the prompt for ``conditions``; the key ``cell_type`` has its own mark, others come as contexts."""
        parts: list[Part] = []
        for key, value in sorted(conditions.items(), key=lambda item: (item[0] != "cell_type", item[0])):
            parts += [Mark("cell_type"), str(value)] if key == "cell_type" else [Mark("context"), f"{key} {value}"]
        return (*parts, Mark("sentence"))

    def examples(self, sentences: CellSentences, *, conditions: Mapping[str, str]) -> Iterator[Example]:
        """Yield one example per cell; ``conditions`` maps a condition's name to its column of ``obs``."""
        values = {
            name: require_column(sentences.obs, column, "conditions").astype(str) for name, column in conditions.items()
        }
        for i in range(len(sentences)):
            yield self.example(sentences, i, conditions={name: column.iloc[i] for name, column in values.items()})

    def example(self, sentences: CellSentences, i: int, *, conditions: Mapping[str, str]) -> Example:
        """Return the example of cell ``i``; ``conditions`` maps a condition's name to the cell's value."""
        return Example(self.prompt(conditions), (Genes(sentences.row(i)[: self.n_genes]), Mark("end")))

    def parse(self, answer: Sequence[Part]) -> np.ndarray:
        """Return the sentence's gene ids, int32."""
        return split_segments(answer, ("end",))[0]
