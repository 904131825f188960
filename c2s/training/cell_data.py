"""Cells to examples of one cell each: what every cell is asked, who is held out. The sentences are read row by row."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from c2s.artefacts import hash_of
from c2s.cells.reading import coded_column
from c2s.errors import DataError
from c2s.models.tokenizer import PartTokenizer
from c2s.sentences.corpus import CellSentences
from c2s.tasks import CellGeneration, CellTypeAnnotation, Example
from c2s.training.config import TrainConfig
from c2s.training.examples import rendered, require_length

logger = logging.getLogger(__name__)

EVERY = 8  # one in so many of a prompt's genes is learned from, where the prompt has weight: the output layer is costly
FINGERPRINTED = 1024  # examples of which a set's hash holds every token


@dataclass(frozen=True, eq=False)
class CellData:
    """Everything examples of single cells are made of.

    Attributes
    ----------
    sentences : CellSentences
        All cells; they may be mapped from disk.
    task : CellTypeAnnotation or CellGeneration
    kinds : ndarray, int32, shape (n_cells,)
        Place of each cell's conditions in ``conditions``.
    conditions : list of dict
        What the cells of a kind have in common: their label as ``cell_type``, and their contexts.
    is_validation : ndarray of bool, shape (n_cells,)
    """

    sentences: CellSentences
    task: CellTypeAnnotation | CellGeneration
    kinds: np.ndarray
    conditions: Sequence[Mapping[str, str]]
    is_validation: np.ndarray

    def example(self, row: int) -> Example:
        """Return the example of one cell."""
        conditions = self.conditions[self.kinds[row]]
        if isinstance(self.task, CellTypeAnnotation):
            return self.task.example(self.sentences, row, label=conditions["cell_type"])
        return self.task.example(self.sentences, row, conditions=conditions)

    def settings(self) -> dict[str, Any]:
        """Return what a model remembers of its training cells: labels with their shares, or conditions with their values."""
        counts = np.bincount(self.kinds[~self.is_validation], minlength=len(self.conditions))
        seen = [conditions for conditions, count in zip(self.conditions, counts) if count]
        found: dict[str, Any] = {"tasks": {self.task.name: asdict(self.task)}}
        if isinstance(self.task, CellTypeAnnotation):
            share = counts[counts > 0] / counts.sum()
            return {**found, "labels": tuple(each["cell_type"] for each in seen), "label_share": tuple(share.tolist())}
        values = {name: tuple(sorted({each[name] for each in seen})) for name in self.conditions[0]}
        return {**found, "conditions": values}

    def rows(self, *, validation: bool) -> np.ndarray:
        """Return the cells of one side of the split; where cells are written, those that have genes."""
        side = self.is_validation == validation
        if isinstance(self.task, CellGeneration):
            side = side & (self.sentences.lengths > 0)
        return np.flatnonzero(side)


class CellExamples:
    """Examples of the cells ``rows``, rendered when they are asked for: nothing of a sentence is held before.

    Parameters
    ----------
    prompt_weight : float
        Loss weight of the prompt's genes, as a multiple of the answer's, spread over every eighth gene; which ones depends on
        the cell. It makes the model learn which genes follow one another while it learns the labels.

    Attributes
    ----------
    lengths : ndarray, int32, shape (n,)
        Tokens of each example.
    longest_prompt : int
        Tokens of the longest prompt of cells that are written.

    Raises
    ------
    DataError
        There is no example.
    ConfigError
        An example is longer than ``max_length``.
    """

    def __init__(
        self, data: CellData, rows: np.ndarray, tokens: PartTokenizer, *, max_length: int, prompt_weight: float = 0.0
    ) -> None:
        if not len(rows):
            msg = "there is no training example; check the columns and the split"
            raise DataError(msg)
        self.data, self.rows, self.tokens, self.prompt_weight = data, rows, tokens, prompt_weight
        shown = np.minimum(data.sentences.lengths, data.task.n_genes)[rows].astype(np.int32)
        kinds = data.kinds[rows]
        besides = np.zeros(len(data.conditions), dtype=np.int32)  # tokens that all examples of a kind share
        for kind, first in zip(*np.unique(kinds, return_index=True)):
            besides[kind] = len(rendered(data.example(int(rows[first])), tokens)[0]) - shown[first]
        self.lengths = shown + besides[kinds]
        self.longest_prompt = int(besides[kinds].max()) - 1  # of a model that writes cells: all but genes and end
        too_long = self.lengths > max_length
        if too_long.any():
            ids, _, n_prompt = rendered(data.example(int(rows[too_long.argmax()])), tokens)
            require_length(n_prompt, len(ids) - n_prompt, max_length)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = int(self.rows[i])
        ids, answer_weights, n_prompt = rendered(self.data.example(row), self.tokens)
        weights = np.array(answer_weights, dtype=np.float32)
        places = np.arange(1 + row * 5 % EVERY, n_prompt - 1, EVERY)  # between <cell> and <cell_type>; 5 is prime to 8
        if self.prompt_weight and len(places):
            weights[places] = self.prompt_weight * weights[n_prompt:].sum() / len(places)
        return {"ids": np.array(ids, dtype=np.int32), "weights": weights, "length": len(ids)}

    @property
    def hash(self) -> str:
        """16 hex digits that name the examples: their cells, lengths and conditions, and the tokens of 1,024 of them."""
        some = np.unique(np.linspace(0, len(self) - 1, min(len(self), FINGERPRINTED)).astype(int))
        told = [dict(each) for each in self.data.conditions]
        return hash_of(self.rows, self.lengths, self.data.kinds, told, *(self[i]["ids"] for i in some.tolist()))


def prepare_cells(sentences: CellSentences, config: TrainConfig) -> CellData:
    """Return the examples' parts for annotation or generation, checked.

    Raises
    ------
    DataError
        A column is missing or has gaps.
    """
    task: CellTypeAnnotation | CellGeneration
    if config.task == "cell_type_annotation":
        task, columns = CellTypeAnnotation(n_genes=config.n_genes), {"cell_type": config.labels_key}
    else:
        task = CellGeneration(n_genes=config.n_genes)
        columns = {"cell_type": config.labels_key, **{key: key for key in config.context_keys}}
    kinds, conditions = _kinds(sentences, columns)
    return CellData(sentences, task, kinds, conditions, _split(sentences, config))


def refuse_labels(obs: pd.DataFrame, column: str) -> None:
    """Raise a DataError where the labels of cells cannot be told apart as words, before anything is trained on them."""
    labels = coded_column(obs, column, "labels_key")[1]
    words = [" ".join(label.split()) for label in labels]
    if "" in words:
        msg = f"cells have an empty {column}; name their type, or leave them out"
        raise DataError(msg)
    alike = sorted({repr(label) for label, word in zip(labels, words) if words.count(word) > 1})
    if alike:
        msg = f"{column} has labels that differ in spaces only: {', '.join(alike[:4])}; write them alike"
        raise DataError(msg)
    if len(labels) < 2:
        msg = f"all cells have the {column} {labels[0]!r}; annotation needs at least two types"
        raise DataError(msg)


def _kinds(sentences: CellSentences, columns: Mapping[str, str]) -> tuple[np.ndarray, list[dict[str, str]]]:
    """Return each cell's place in the list of the conditions that occur, and that list, sorted."""
    kinds = np.zeros(len(sentences), dtype=np.int64)
    conditions: list[dict[str, str]] = [{}]
    for name, column in columns.items():
        argument = "labels_key" if name == "cell_type" else "context_keys"
        codes, values = coded_column(sentences.obs, column, argument)
        kinds = kinds * len(values) + codes
        occurring, kinds = np.unique(kinds, return_inverse=True)
        pairs = [divmod(int(each), len(values)) for each in occurring]
        conditions = [{**conditions[before], name: values[code]} for before, code in pairs]
    return kinds.astype(np.int32), conditions


def _split(sentences: CellSentences, config: TrainConfig) -> np.ndarray:
    """Return the validation mask: whole groups of ``split_by``, or random cells."""
    rng = np.random.default_rng([config.seed, 7])
    if config.split_by is None:
        return rng.random(len(sentences)) < config.validation_share
    codes, choices = coded_column(sentences.obs, config.split_by, "split_by")
    n = min(int(round(config.validation_share * len(choices))), len(choices) - 1)
    if config.validation_share and not n:
        logger.warning(
            "%s has %d groups, validation_share is %g: none is held out",
            config.split_by,
            len(choices),
            config.validation_share,
        )
    return np.isin(codes, rng.choice(len(choices), size=n, replace=False))
