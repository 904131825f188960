"""Inputs of docs/guide/inputs.md by the id of their row, and what their cases are made of."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import c2s
from c2s.errors import DataError

N, G = 20, 60
GENES = [f"GENE{i}" for i in range(G)]
COUNTS = np.random.default_rng(0).poisson(np.random.default_rng(1).gamma(0.5, 4.0, size=(N, G)))


class Message(str):
    """The text of an error or of a warning; any other string names how the input is handled."""


Case = Callable[[Path], str]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Register a case under the id of its row."""

    def add(function: Case) -> Case:
        assert name not in CASES, name
        CASES[name] = function
        return function

    return add


def cells(values: object = COUNTS, genes: list[str] | None = None, **parts: object) -> ad.AnnData:
    """Return cells of ``values``, which become float32 counts where nothing else is passed."""
    matrix = COUNTS.astype(np.float32) if values is COUNTS else values
    adata = ad.AnnData(matrix, obs=pd.DataFrame(index=[f"c{i}" for i in range(matrix.shape[0])]), **parts)
    adata.var_names = (GENES if genes is None else genes)[: adata.n_vars]
    return adata


def file_of(adata: ad.AnnData, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    adata.write_h5ad(path)
    return path


def refusal(error: type[Exception], call: Callable[[], object]) -> Message:
    """Return the message of the error that ``call`` must raise, of just this class."""
    with pytest.raises(error) as caught:
        call()
    assert caught.type is error
    return Message(caught.value)


def warning(call: Callable[[], object]) -> Message:
    """Return the one warning that ``call`` must log."""
    records: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("c2s").addHandler(handler)
    try:
        call()
    finally:
        logging.getLogger("c2s").removeHandler(handler)
    assert len(records) == 1, records
    return Message(records[0])


def refused(values: object, **settings: object) -> Message:
    return refusal(DataError, lambda: c2s.encode(cells(values), **settings))


def ranked_as(counts: np.ndarray, sentences: c2s.CellSentences) -> None:
    """Assert that the sentences are those of dense whole ``counts`` of the same genes, ties by the rarer gene."""
    detection = (counts > 0).mean(axis=0)
    for i, row in enumerate(counts):
        expected = sorted(np.flatnonzero(row), key=lambda gene: (-int(row[gene]), detection[gene], gene))
        assert sentences.row(i).tolist() == expected


def as_counts(values: object, counts: np.ndarray = COUNTS) -> str:
    sentences = c2s.encode(cells(values))
    ranked_as(counts, sentences)
    return sentences.encoding.values


def single() -> sp.csr_matrix:
    return sp.csr_matrix(COUNTS.astype(np.float32))


def changed(value: object, dtype: str = "float32") -> np.ndarray:
    """Return the counts with one of them set to ``value``."""
    values = COUNTS.astype(dtype)
    values[0, 0] = value
    return values
