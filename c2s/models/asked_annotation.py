"""Cell types in free text: whatever completes prompts is asked for each cell's type, and its answers are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from c2s.models.backends.base import Backend
from c2s.tasks import TASKS
from c2s.tasks.base import ParseError
from c2s.tasks.text_task import Columns
from c2s.tasks.wording import render_text

if TYPE_CHECKING:
    from c2s.cells.genes import GeneVocabulary
    from c2s.sentences.corpus import CellSentences

ORGANISMS = {"human": "Homo sapiens", "mouse": "Mus musculus"}


def organism_of(vocabulary: GeneVocabulary) -> dict[str, str]:
    """Return the organism of a vocabulary's species as prompts name it; nothing where it is not known."""
    return {"organism": ORGANISMS[vocabulary.species]} if vocabulary.species in ORGANISMS else {}


def ask_for_types(
    backend: Backend,
    sentences: CellSentences,
    *,
    labels: Sequence[str] | None = None,
    n_genes: int = 200,
    prompts: str = "c2s",
    wording: int = 0,
    columns: Columns = None,
    tell_labels: bool = False,
    max_tokens: int = 32,
    stop: Sequence[str] = ("\n",),
    temperature: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Return what is answered when each cell's type is asked for in words, and what was read of it.

    The mean of ``parsed`` is the parse rate. Where a model in this process and its labels are known,
    :meth:`c2s.models.text_lm.TextLM.annotate` is faster and always answers.

    Parameters
    ----------
    labels : sequence of str, optional
        What an answer is matched with (:func:`c2s.tasks.answers.read_label`); None takes any label.
    n_genes, prompts, wording, columns
        Of the task :class:`c2s.tasks.CellTypeAnnotation`.
    tell_labels : bool
        List the labels in front of the prompt: for general models, which were not trained on them.
    max_tokens, stop, temperature, seed
        Of :meth:`c2s.models.backends.base.Backend.complete`. An answer is one line; a chat model that thinks before it answers
        needs ``stop=()`` and room for its thoughts.

    Returns
    -------
    DataFrame
        Indexed like ``sentences.obs``: ``label`` (missing where it was not read), ``parsed``, ``text`` and ``reason``.
    """
    task = TASKS["cell_type_annotation"](n_genes=n_genes, wording=wording, prompts=prompts)
    fields, symbols = task.fields(sentences.obs, columns), sentences.vocabulary.symbols
    head = f"Answer with one of these, and nothing else: {'; '.join(labels)}.\n" if tell_labels and labels else ""
    known = organism_of(sentences.vocabulary)
    asked = [
        head + render_text(task.prompt(sentences, i, fields=known | fields([i])), symbols, task.style)
        for i in range(len(sentences))
    ]
    written = backend.complete(asked, max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop)
    rows: list[tuple[str | None, bool, str, str | None]] = []
    for (answer,) in written:
        text = (
            answer.text if answer.finish_reason == "length" or answer.text.rstrip().endswith(".") else f"{answer.text}."
        )
        try:
            rows.append((task.parse(text, labels=labels), True, answer.text, None))
        except ParseError as error:
            rows.append((None, False, answer.text, str(error)))
    return pd.DataFrame(rows, index=sentences.obs.index, columns=["label", "parsed", "text", "reason"])
