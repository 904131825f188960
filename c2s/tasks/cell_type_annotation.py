"""Cell type annotation: a cell's sentence in, its label out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from c2s.cells.reading import complete_column
from c2s.errors import ConfigError
from c2s.sentences.corpus import CellSentences
from c2s.tasks.answers import Answer, read_label
from c2s.tasks.base import Example, Genes, Mark, ParseError, Part
from c2s.tasks.text_task import Columns, TextTask, merged


@dataclass(frozen=True)
class CellTypeAnnotation(TextTask):
    """``<cell> genes <cell_type>`` → ``label <end>``, or the same in words.

    Parameters
    ----------
    n_genes : int
        Genes of the sentence shown.
    wording : int, "any" or "marks"
        ``"marks"``, the default, writes marks, for models in which a gene is a token; the others write words.
    """

    wording: int | Literal["any", "marks"] = "marks"
    name: str = "cell_type_annotation"
    inputs: ClassVar[tuple[str, ...]] = ("labels_key",)
    optional: ClassVar[tuple[str, ...]] = ("organism", "tissue")
    metric: ClassVar[str] = "macro_f1"

    def prompt(
        self, sentences: CellSentences, i: int, *, fields: Mapping[str, str] | None = None, wording: int | None = None
    ) -> tuple[Part, ...]:
        """Return the prompt for cell ``i``; ``fields`` gives ``organism`` and ``tissue`` to wordings."""
        if wording is None and self.wording == "marks":
            if fields:
                msg = f"marks have no place for {', '.join(fields)}; choose a wording in words, or leave fields out"
                raise ConfigError(msg)
            return (Mark("cell"), Genes(sentences.row(i)[: self.n_genes]), Mark("cell_type"))
        slots = merged(self.cell_slots(sentences.row(i)), fields)
        return self.prompt_set.prompt(slots, wording=self.which(wording))

    def answer(self, label: str, *, wording: int | None = None) -> tuple[Part, ...]:
        """Return the answer that names ``label``."""
        if wording is None and self.wording == "marks":
            return (label, Mark("end"))
        return self.prompt_set.answer({"label": label}, wording=self.which(wording))

    def examples(
        self, sentences: CellSentences, *, labels_key: str, columns: Columns = None, seed: int = 0
    ) -> Iterator[Example]:
        """Yield one example per cell; ``labels_key`` is the column of ``obs`` with the labels."""
        labels = complete_column(sentences.obs, labels_key, "labels_key")
        if self.wording == "marks":
            if columns:
                msg = f"marks have no place for {', '.join(columns)}; choose a wording in words, or leave columns out"
                raise ConfigError(msg)
            for i, label in enumerate(labels):
                yield self.example(sentences, i, label=label)
            return
        fields = self.fields(sentences.obs, columns, answer=labels_key)
        for i, (label, wording) in enumerate(zip(labels, self.wordings(len(labels), seed=seed), strict=True)):
            yield self.example(sentences, i, label=label, fields=fields([i]), wording=wording)

    def example(
        self,
        sentences: CellSentences,
        i: int,
        *,
        label: str,
        fields: Mapping[str, str] | None = None,
        wording: int | None = None,
    ) -> Example:
        """Return the example of cell ``i``."""
        prompt = self.prompt(sentences, i, fields=fields, wording=wording)
        return Example(prompt, self.answer(label, wording=wording))

    def parse(self, answer: Answer, *, labels: Sequence[str] | None = None) -> str:
        """Return the label: of marks as it is, of words by :func:`~c2s.tasks.answers.read_label`."""
        if self.wording != "marks" or isinstance(answer, str | bytes) or labels is not None:
            return read_label(answer, labels)
        match list(answer):
            case [str(label), Mark("end")] if label.strip():
                return label.strip()
        msg = f"expected a label and <end>, found {answer!r}"
        raise ParseError(msg)
