"""Perturbation response: a control cell, its context and a perturbation in; the perturbed cell out.

The control cell comes first in the prompt, then context, then perturbation, so that one cell's prefix serves a whole
library. The answer is the perturbed sentence (``target="sentence"``) or the genes that rise and fall against matched
controls (``target="delta"``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from c2s.cells.library import Perturbation
from c2s.sentences.corpus import CellSentences
from c2s.tasks.base import Example, Genes, Mark, Part, split_segments

Target = Literal["delta", "sentence"]


@dataclass(frozen=True)
class PerturbationResponse:
    """``<cell> genes <context> … <perturbation> name <mechanism> … <targets> genes <up>`` → ``genes <down> genes <end>``.

    Parameters
    ----------
    target : {"delta", "sentence"}
        Form of the answer.
    n_genes : int
        Genes of the control cell shown.
    n_up, n_down : int
        Most genes on each list of a delta.
    n_answer : int
        Most genes of a perturbed sentence.
    moved_weight : float
        Loss weight, in a perturbed sentence, of the genes that rise or fall in the delta; the ranks of two single cells
        differ nearly everywhere by noise alone, and without the weight a model does not read the perturbation.
    """

    target: Target = "delta"
    n_genes: int = 48
    n_up: int = 12
    n_down: int = 12
    n_answer: int = 200
    moved_weight: float = 4.0
    name: str = "perturbation_response"
    inputs: ClassVar[tuple[str, ...]] = ("controls", "treated", "perturbations", "contexts", "up", "down")
    optional: ClassVar[tuple[str, ...]] = ("mechanism", "dose", "time", "targets")
    metric: ClassVar[str] = "pearson_delta"

    @property
    def segments(self) -> tuple[tuple[str, int, int], ...]:
        """Mark that ends each list of an answer, with its least and its most genes."""
        if self.target == "delta":
            return (("down", 0, self.n_up), ("end", 0, self.n_down))
        return (("end", 1, self.n_answer),)

    def prefix(self, control: np.ndarray) -> tuple[Part, ...]:
        """Return the part of the prompt that only the control cell decides (gene ids, int32)."""
        return (Mark("cell"), Genes(control[: self.n_genes]))

    def suffix(
        self,
        context: Mapping[str, str],
        perturbation: Perturbation,
        gene_ids: Mapping[str, int],
        *,
        show_name: bool = True,
    ) -> tuple[Part, ...]:
        """Return the rest of the prompt.

        Parameters
        ----------
        context : mapping of str to str
            Values of the context columns, in order.
        perturbation : Perturbation
        gene_ids : mapping of str to int
            Ids of known symbols; a target outside it is written as text.
        show_name : bool
            Leave the name out (name dropout) when false and targets or mechanism say what it is.
        """
        parts: list[Part] = []
        for value in context.values():
            parts += [Mark("context"), value]
        parts.append(Mark("perturbation"))
        if show_name or not (perturbation.targets or perturbation.mechanism):
            parts.append(perturbation.name)
        for field in ("mechanism", "dose", "time"):
            if value := getattr(perturbation, field):
                parts += [Mark(field), value]
        if perturbation.targets:  # last, a fixed step before the answer: what the model must read is easy to find
            parts.append(Mark("targets"))
            for symbol in perturbation.targets:
                known = gene_ids.get(symbol)
                parts.append(symbol if known is None else Genes(np.array([known], dtype=np.int32)))
        return (*parts, Mark("up" if self.target == "delta" else "sentence"))

    def delta_answer(self, up: np.ndarray, down: np.ndarray) -> tuple[Part, ...]:
        """Return the answer that lists rising and falling genes."""
        return (Genes(up[: self.n_up]), Mark("down"), Genes(down[: self.n_down]), Mark("end"))

    def sentence_answer(self, perturbed: np.ndarray) -> tuple[Part, ...]:
        """Return the answer that spells the perturbed sentence."""
        return (Genes(perturbed[: self.n_answer]), Mark("end"))

    def examples(
        self,
        sentences: CellSentences,
        *,
        controls: np.ndarray,
        treated: np.ndarray,
        perturbations: Sequence[Perturbation],
        contexts: Sequence[Mapping[str, str]],
        up: Sequence[np.ndarray],
        down: Sequence[np.ndarray],
        name_dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Iterator[Example]:
        """Yield one example per treated cell.

        Parameters
        ----------
        sentences : CellSentences
            All training cells.
        controls, treated : ndarray of int, shape (m,)
            Rows of the control shown and of the treated cell.
        perturbations, contexts : sequences, length m
        up, down : sequences of int32 arrays, length m
            Rising and falling genes: the answer of ``target="delta"``, and what weighs more in a sentence.
        name_dropout : float
            Share of examples without the perturbation's name, so that targets learn to carry unseen names.
        rng : Generator
            Needed when ``name_dropout`` is above 0.
        """
        gene_ids = {symbol: i for i, symbol in enumerate(sentences.vocabulary.symbols)}
        shown = np.ones(len(treated), dtype=bool)
        if name_dropout > 0:
            shown = (rng or np.random.default_rng(0)).random(len(treated)) >= name_dropout
        for i, (control, cell) in enumerate(zip(controls, treated, strict=True)):
            before = sentences.row(int(control))
            suffix = self.suffix(contexts[i], perturbations[i], gene_ids, show_name=bool(shown[i]))
            prompt = (*self.prefix(before), *suffix)
            if self.target == "delta":
                yield Example(prompt, self.delta_answer(up[i], down[i]))
            else:
                after = sentences.row(int(cell))[: self.n_answer]
                moved = np.isin(after, np.concatenate([up[i], down[i]]))
                weights = np.where(moved, self.moved_weight, 1.0).astype(np.float32)
                yield Example(prompt, self.sentence_answer(after), weights)

    def parse(self, answer: Sequence[Part] | str) -> tuple[np.ndarray, ...]:
        """Return ``(up, down)`` for a delta, ``(sentence,)`` otherwise; gene ids, int32."""
        return tuple(split_segments(answer, ("down", "end") if self.target == "delta" else ("end",)))
