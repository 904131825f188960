"""Abstract of a sample: several cells in, the abstract of the study they come from out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from c2s.cells.reading import complete_column
from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer, read_text
from c2s.tasks.base import Example, Part
from c2s.tasks.samples import Samples
from c2s.tasks.text_task import Columns, TextTask, common_value, merged, without_stop


@dataclass(frozen=True)
class SampleAbstract(TextTask):
    """Several cells of one study, organism and tissue where known → ``abstract``."""

    name: str = "sample_abstract"
    inputs: ClassVar[tuple[str, ...]] = ("samples", "abstract_key")
    optional: ClassVar[tuple[str, ...]] = ("organism", "tissue")
    metric: ClassVar[str] = "rouge_l"

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

    def answer(self, text: str, *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer that says ``text``."""
        written = without_stop(text) if self.prompts == "c2s" else text
        return self.prompt_set.answer({"text": written}, wording=self.which(wording))

    def examples(
        self,
        sentences: CellSentences,
        *,
        samples: Samples,
        abstract_key: str,
        columns: Columns = None,
        seed: int = 0,
    ) -> Iterator[Example]:
        """Yield one example per sample; ``abstract_key`` is the column of ``obs`` with abstracts."""
        values = complete_column(sentences.obs, abstract_key, "abstract_key")
        fields = self.fields(sentences.obs, columns, answer=abstract_key)
        for rows, wording in zip(samples.rows, self.wordings(len(samples), seed=seed), strict=True):
            prompt = self.prompt(sentences, rows, fields=fields(rows), wording=wording)
            yield Example(prompt, self.answer(common_value(values, rows, abstract_key), wording=wording))

    def parse(self, answer: Answer) -> str:
        """Return the text without its last full stop (:func:`~c2s.tasks.answers.read_text`)."""
        return read_text(answer)
