"""Question answering: several cells and a question in, a checkable answer out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from c2s.errors import DataError
from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer, read_label, read_text
from c2s.tasks.base import Example, Part
from c2s.tasks.text_task import Columns, TextTask, merged, without_stop


@dataclass(frozen=True)
class Question:
    """One question about cells.

    Attributes
    ----------
    rows : sequence of int
        The cells shown.
    question, answer : str
    choices : tuple of str
        Answers to choose from, ``answer`` among them; none for an open question.
    """

    rows: Sequence[int]
    question: str
    answer: str
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.choices and self.answer not in self.choices:
            msg = f"the answer {self.answer!r} is not among the choices {', '.join(self.choices)}"
            raise DataError(msg)


@dataclass(frozen=True)
class QuestionAnswering(TextTask):
    """Several cells and a question, choices, organism and tissue where there are any → an answer."""

    name: str = "question_answering"
    inputs: ClassVar[tuple[str, ...]] = ("questions",)
    optional: ClassVar[tuple[str, ...]] = ("choices", "organism", "tissue")
    metric: ClassVar[str] = "accuracy"

    def prompt(
        self,
        sentences: CellSentences,
        question: Question,
        *,
        fields: Mapping[str, str] | None = None,
        wording: int | None = None,
    ) -> tuple[Part, ...]:
        """Return the prompt that shows the question's cells and asks it."""
        asked = {"question": question.question.strip(), "choices": "; ".join(question.choices)}
        slots = merged(self.cells_slots(sentences, question.rows), asked, fields)
        return self.prompt_set.prompt(slots, wording=self.which(wording))

    def answer(self, text: str, *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer that says ``text``."""
        return self.prompt_set.answer({"text": without_stop(text)}, wording=self.which(wording))

    def examples(
        self, sentences: CellSentences, *, questions: Sequence[Question], columns: Columns = None, seed: int = 0
    ) -> Iterator[Example]:
        """Yield one example per question."""
        fields = self.fields(sentences.obs, columns)
        for question, wording in zip(questions, self.wordings(len(questions), seed=seed), strict=True):
            prompt = self.prompt(sentences, question, fields=fields(np.asarray(question.rows)), wording=wording)
            yield Example(prompt, self.answer(question.answer, wording=wording))

    def parse(self, answer: Answer, *, choices: Sequence[str] | None = None) -> str:
        """Return one of ``choices`` (:func:`~c2s.tasks.answers.read_label`), or without them the text."""
        return read_label(answer, choices) if choices else read_text(answer)
