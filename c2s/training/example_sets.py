"""Cells and settings to the examples of training and validation: one cell each, read lazily, or perturbations, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from c2s.cells.library import Perturbation
from c2s.cells.normalise import to_log1p_cp10k
from c2s.cells.reading import expression
from c2s.errors import ConfigError
from c2s.models.settings import ModelSettings, PerturbationSettings
from c2s.models.tokenizer import PartTokenizer
from c2s.sentences.corpus import CellSentences
from c2s.tasks import PerturbationResponse
from c2s.training.cell_data import CellData, CellExamples, prepare_cells, refuse_labels
from c2s.training.config import TrainConfig
from c2s.training.examples import RenderedExamples, render_examples
from c2s.training.perturbation_data import PerturbationData, prepare

if TYPE_CHECKING:
    from anndata import AnnData

VALIDATION_CELLS = 512


class MakeExamples(Protocol):
    """Makes the examples of one side of the split; None where validation has none."""

    def __call__(
        self, tokens: PartTokenizer, max_length: int, *, validation: bool
    ) -> RenderedExamples | CellExamples | None:
        """Return them, rendered by ``tokens``."""
        ...


def example_sets(
    cells: AnnData | CellSentences,
    sentences: CellSentences,
    library: Sequence[Perturbation] | None,
    config: TrainConfig,
) -> tuple[ModelSettings, MakeExamples, pd.DataFrame | None]:
    """Return the model's settings, what makes the examples of either side, and the mean responses to perturbations.

    Parameters
    ----------
    cells : AnnData or CellSentences
        What the run was given.
    sentences : CellSentences
        The same, encoded.

    Raises
    ------
    DataError, ConfigError
        Columns, library and settings do not fit the cells.
    """
    from c2s import __version__

    base = {
        "version": __version__,
        "objective": config.objective,
        "encoding": sentences.encoding.model_dump(),
        "n_expressed": int(np.median(sentences.n_expressed)),
    }
    if isinstance(cells, CellSentences) or config.task != "perturbation_response":
        if config.task == "cell_type_annotation":
            refuse_labels(sentences.obs, config.labels_key)
        data = prepare_cells(sentences, config)
        return ModelSettings(**base, **data.settings()), partial(_of_cells, data, config.prompt_weight), None
    settings, treated, make = _of_perturbations(cells, sentences, library, config)
    return ModelSettings(**base, **settings), make, treated.responses()


def _of_cells(
    data: CellData, prompt_weight: float, tokens: PartTokenizer, max_length: int, *, validation: bool
) -> CellExamples | None:
    rows = data.rows(validation=validation)
    if validation:
        rows = rows[_evenly(len(rows))]
    if validation and not len(rows):
        return None
    weight = 0.0 if validation else prompt_weight  # the held-out loss is that of the answers
    return CellExamples(data, rows, tokens, max_length=max_length, prompt_weight=weight)


def _of_perturbations(
    adata: AnnData, sentences: CellSentences, library: Sequence[Perturbation] | None, config: TrainConfig
) -> tuple[dict[str, Any], PerturbationData, MakeExamples]:
    matrix, _ = expression(adata, layer=config.layer)
    values = to_log1p_cp10k(matrix)[0]
    if sentences.vocabulary.symbols != tuple(adata.raw.var_names if config.layer == "raw" else adata.var_names):
        msg = "going on from a model needs cells with exactly its genes, in its order; select them: adata[:, list(model.vocabulary.symbols)]"
        raise ConfigError(msg)
    data = prepare(sentences, values, library, config)
    task = PerturbationResponse(
        target=config.target, n_genes=config.n_genes, n_up=config.n_up, n_down=config.n_down, n_answer=config.n_answer,
        moved_weight=config.moved_weight,
    )  # fmt: skip
    rule = data.fit_rule(np.random.default_rng([config.seed, 11]))
    details = PerturbationSettings(
        perturbation_key=config.perturbation_key, control=config.control, context_keys=config.context_keys,
        match_by=tuple(data.match_by), library=tuple(p.to_dict() for p in data.library.values()), held_out=data.held_out,
        delta_rule=rule.to_dict() if config.target == "delta" else None,
    )  # fmt: skip
    n_treated = len(data.rows(validation=False))
    passes = max(1, -(-config.steps * config.batch_size // n_treated))

    def make(tokens: PartTokenizer, max_length: int, *, validation: bool) -> RenderedExamples | None:
        rng = np.random.default_rng([config.seed, 12, int(validation)])
        examples = data.examples(task, rule, validation=validation, passes=1 if validation else passes, rng=rng)
        if validation:
            held_out = list(examples)
            if not held_out:
                return None
            examples = (held_out[i] for i in _evenly(len(held_out)))
        return render_examples(examples, tokens, max_length=max_length)

    return {"tasks": {task.name: asdict(task)}, "perturbation": details}, data, make


def _evenly(n: int) -> np.ndarray:
    """Return the places of at most 512 of ``n`` validation examples."""
    return np.unique(np.linspace(0, n - 1, min(n, VALIDATION_CELLS)).astype(int))
