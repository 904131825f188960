"""Cell types of a sample: several cells in, the list of their types out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from c2s.cells.reading import complete_column
from c2s.errors import DataError
from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer, read_labels
from c2s.tasks.base import Example, Part
from c2s.tasks.samples import Samples
from c2s.tasks.text_task import Columns, TextTask, merged


@dataclass(frozen=True)
class SampleCellTypes(TextTask):
    """Several cells of one sample, organism and tissue where known → the cell types among them, most frequent first."""

    name: str = "sample_cell_types"
    inputs: ClassVar[tuple[str, ...]] = ("samples", "labels_key")
    optional: ClassVar[tuple[str, ...]] = ("organism", "tissue")
    metric: ClassVar[str] = "label_set_f1"

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

    def answer(self, labels: Sequence[str], *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer that lists ``labels``, one for each cell or each type: each once, most frequent first."""
        return self.prompt_set.answer({"labels": label_list(labels)}, wording=self.which(wording))

    def examples(
        self, sentences: CellSentences, *, samples: Samples, labels_key: str, columns: Columns = None, seed: int = 0
    ) -> Iterator[Example]:
        """Yield one example per sample; ``labels_key`` is the column of ``obs`` with the labels."""
        values = complete_column(sentences.obs, labels_key, "labels_key")
        fields = self.fields(sentences.obs, columns, answer=labels_key)
        for rows, wording in zip(samples.rows, self.wordings(len(samples), seed=seed), strict=True):
            slots = merged(self.cells_slots(sentences, rows), fields(rows))
            yield self.written(slots, {"labels": label_list(values[rows])}, wording)

    def parse(self, answer: Answer, *, labels: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the labels (:func:`~c2s.tasks.answers.read_labels`)."""
        return read_labels(answer, labels)


def label_list(labels: Sequence[str] | np.ndarray) -> str:
    """Return the distinct labels with semicolons between them, most frequent first, ties by name.

    Raises
    ------
    DataError
        There is none, or a label holds a semicolon.
    """
    counts = Counter(map(str, labels))
    broken = [label for label in counts if ";" in label]
    if broken or not counts:
        msg = f"label {broken[0]!r} holds the semicolon that lists need; rename it" if broken else "no label to list"
        raise DataError(msg)
    return "; ".join(sorted(counts, key=lambda label: (-counts[label], label)))
