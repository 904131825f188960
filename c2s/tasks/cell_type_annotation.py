"""Cell type annotation: a cell's sentence in, its label out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from c2s.cells.reading import require_column
from c2s.sentences.corpus import CellSentences
from c2s.tasks.base import Example, Genes, Mark, ParseError, Part


@dataclass(frozen=True)
class CellTypeAnnotation:
    """``<cell> genes <cell_type>`` → ``label <end>``.

    Parameters
    ----------
    n_genes : int
        Genes of the sentence shown.
    """

    n_genes: int = 100
    name: str = "cell_type_annotation"

    def prompt(self, sentences: CellSentences, i: int) -> tuple[Part, ...]:
        """Return the prompt for cell ``i``."""
        return (Mark("cell"), Genes(sentences.row(i)[: self.n_genes]), Mark("cell_type"))

    def answer(self, label: str) -> tuple[Part, ...]:
        """Return the answer that names ``label``."""
        return (label, Mark("end"))

    def examples(self, sentences: CellSentences, *, labels_key: str) -> Iterator[Example]:
        """Yield one example per cell; ``labels_key`` is the column of ``obs`` with the labels."""
        labels = require_column(sentences.obs, labels_key, "labels_key").astype(str)
        for i, label in enumerate(labels):
            yield self.example(sentences, i, label=label)

    def example(self, sentences: CellSentences, i: int, *, label: str) -> Example:
        """Return the example of cell ``i``."""
        return Example(self.prompt(sentences, i), self.answer(label))

    def parse(self, answer: Sequence[Part]) -> str:
        """Return the label."""
        match list(answer):
            case [str(label), Mark("end")] if label.strip():
                return label.strip()
        msg = f"expected a label and <end>, found {answer!r}"
        raise ParseError(msg)
