"""The rows of c2s itself: a small model trained on the spatial tasks in words, told nothing, pairs, or the placebo.

Genes shown and steps were chosen on one fold of the layers (2, seed 0, told nothing), of two settings tried: 50 genes and 96 steps learnt nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, set_seed

from benchmarks.spatial.questions import Question
from benchmarks.spatial.rows import KNOWLEDGE, Row, knowledge_of
from c2s.models.annotation import label_log_likelihood
from c2s.models.prefix import PrefixDecoder
from c2s.models.presets import preset_config
from c2s.models.tokenizer import PartTokenizer, build_tokenizer
from c2s.sentences.corpus import CellSentences
from c2s.sentences.encode import encode
from c2s.spatial import knowledge_lines
from c2s.tasks import TASKS, Example
from c2s.training.config import TrainConfig
from c2s.training.examples import Collator, RenderedExamples, render_examples
from c2s.training.sft import fit

PRESET = "c2s-mini"
N_GENES = 30  # of each cell shown
N_AROUND = 4  # neighbours shown, the nearest
N_LINES = 8  # of knowledge
BATCH = 32
STEPS = 400
PROMPT_WEIGHT = 0.3  # of the genes shown in the loss: there are few labels to learn from, and many genes


def c2s_rows(question: str) -> dict[str, Row]:
    """Return each row of a question by its name, starting with ``c2s``."""
    told = KNOWLEDGE if question.startswith("starmap") else ()
    return {"c2s_mini": language_model, **{f"c2s_mini+{name}": partial(language_model, told=name) for name in told}}


def language_model(question: Question, seed: int, *, told: str | None = None) -> tuple[pd.DataFrame, dict[str, float]]:
    """Train a model on the items to learn from, and answer by the likelihood of each class."""
    train = question.cells[np.unique(np.concatenate(question.train))]
    sentences = encode(question.cells, n_genes=N_GENES, background=encode(train).background)
    asked = TASKS[question.task](n_genes=N_GENES, wording=0)
    learnt = written(question, sentences, question.train, question.train_labels, asked, seed, told)
    labels = np.full(len(question.test), question.train_labels[0])  # prompts do not hold them
    test = written(question, sentences, question.test, labels, asked, seed, told)
    texts = {part for example in learnt for part in (*example.prompt, *example.answer) if isinstance(part, str)}
    tokens = PartTokenizer(build_tokenizer(sentences.vocabulary, texts), sentences.vocabulary)
    set_seed(seed)
    settings = preset_config(PRESET, n_tokens=len(tokens), pad=tokens.pad, end=tokens.marks["end"])
    model = AutoModelForCausalLM.from_config(settings)
    examples = _with_genes(render_examples(learnt, tokens, max_length=settings.max_position_embeddings), tokens)
    config = TrainConfig(
        steps=STEPS,
        batch_size=BATCH,
        learning_rate=1e-3,
        seed=seed,
        threads=torch.get_num_threads(),
        checkpoint_steps=STEPS,
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(model, examples, None, config, Path(folder), collator=Collator(tokens.pad), progress=False)
    model.eval()
    classes = sorted(set(question.train_labels))
    answers = [tokens.render(_answer(asked, name)) for name in classes]
    decoder = PrefixDecoder(model)
    with decoder.attached():
        scores = label_log_likelihood(
            decoder, (tokens.render(example.prompt) for example in test), answers, n_tokens=len(tokens), pad=tokens.pad, batch_size=BATCH
        )  # fmt: skip
    likelihood = np.exp(scores - scores.max(axis=1, keepdims=True))
    chosen = {
        "steps": float(STEPS),
        "parameters": float(model.num_parameters()),
        "tokens": float(examples.lengths.mean()),
    }
    return pd.DataFrame(likelihood / likelihood.sum(axis=1, keepdims=True), columns=classes), chosen


def written(
    question: Question,
    sentences: CellSentences,
    items: Sequence[np.ndarray],
    labels: np.ndarray,
    asked: Any,
    seed: int,
    told: str | None,
) -> list[Example]:
    """Return the example of each item: its cells, their neighbours where it is of one cell, and what it is told."""
    cells = [int(rows[0]) for rows in items]
    around = question.around.rows(cells, most=N_AROUND)
    shown = items if question.of_groups else [np.append(cell, near) for cell, near in zip(cells, around, strict=True)]
    known = knowledge_of(question, told, seed) if told else []
    lines = knowledge_lines(known, sentences, shown, n_genes=N_GENES, most=N_LINES)
    if question.of_groups:
        return list(asked.examples(sentences, groups=items, together=labels == "Yes", knowledge=lines, seed=seed))
    obs = sentences.obs.assign(asked="")
    obs.iloc[cells, obs.columns.get_loc("asked")] = labels
    named = replace(sentences, obs=obs)
    return list(asked.examples(named, cells=cells, neighbours=around, niche_key="asked", knowledge=lines, seed=seed))


def _answer(asked: Any, name: str):
    return asked.answer(name == "Yes") if asked.name.startswith("same") else asked.answer(name)


def _with_genes(examples: RenderedExamples, tokens: PartTokenizer) -> RenderedExamples:
    """Return the examples with the genes of their prompts in the loss."""
    shown = np.isin(examples.ids, tokens.gene_tokens) & (examples.weights == 0)
    return replace(examples, weights=np.where(shown, np.float32(PROMPT_WEIGHT), examples.weights))
