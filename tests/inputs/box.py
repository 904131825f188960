"""What the cases share: small cells, and ways to catch what is said of them.

A case returns the messages an input got, from memory and from disk; none where it is taken as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import c2s
from c2s.cli.main import app

GENES = ["CD4", "CD8A", "B2M", "TAP1", "TAP2", "STAT1", "IRF1", "PSMB9"]
N = 12
COUNTS = np.random.default_rng(0).poisson(2.0, (N, len(GENES))) + np.eye(N, len(GENES), dtype=np.int64)
CASES: dict[str, Callable[[Box], list[str]]] = {}


def case(slug: str) -> Callable[[Callable[[Box], list[str]]], Callable[[Box], list[str]]]:
    """Register the test of one row of the table."""

    def register(function):
        assert slug not in CASES, slug
        CASES[slug] = function
        return function

    return register


def cells(values: Any = None, genes: Any = None, names: Any = None) -> ad.AnnData:
    values = COUNTS.astype(np.float32) if values is None else values
    n, g = values.shape[:2]
    genes = [*GENES, *(f"GENE{i}" for i in range(g))][:g] if genes is None else genes
    names = [f"c{i}" for i in range(n)] if names is None else names
    return ad.AnnData(values, pd.DataFrame(index=names), pd.DataFrame(index=genes))


@dataclass
class Box:
    folder: Path
    log: pytest.LogCaptureFixture
    patch: pytest.MonkeyPatch
    made: int = 0

    def path(self, suffix: str = "") -> Path:
        self.made += 1
        return self.folder / f"p{self.made}{suffix}"

    def file(self, adata: ad.AnnData | None = None) -> Path:
        path = self.path(".h5ad")
        (cells() if adata is None else adata).write_h5ad(path)
        return path

    def corpus(self, **settings: Any) -> Path:
        out = self.path()
        c2s.encode_file(self.file(), out, decoder="gene_aware", progress=False, **settings)
        return out

    def refused(self, error: type[Exception], function: Callable[..., Any], *arguments: Any, **settings: Any) -> str:
        with pytest.raises(error) as caught:
            function(*arguments, **settings)
        return str(caught.value)

    def both(self, error: type[Exception], adata: ad.AnnData, **settings: Any) -> list[str]:
        """Return what encoding in memory and from disk say."""
        file, out = self.file(adata), self.path()
        found = [
            self.refused(error, c2s.encode, adata, **settings),
            self.refused(error, c2s.encode_file, file, out, progress=False, **settings),
        ]
        assert not out.exists()
        return found

    def taken(
        self, adata: ad.AnnData, expected: ad.AnnData | None = None, *, disk: bool = True, **settings: Any
    ) -> None:
        """Assert that memory and disk give the sentences of ``expected``, by default those of the counts."""
        truth = texts(c2s.encode(cells() if expected is None else expected))
        assert texts(c2s.encode(adata, **settings)) == truth
        if disk:
            out = self.path()
            c2s.encode_file(self.file(adata), out, progress=False, **settings)
            assert texts(c2s.read_sentences(out)) == truth

    def warned(self, function: Callable[..., Any], *arguments: Any, **settings: Any) -> str:
        self.log.clear()
        with self.log.at_level(logging.WARNING, logger="c2s"):
            function(*arguments, **settings)
        return self.log.text

    def said(self, *arguments: object) -> str:
        """Return what the command line prints; an error of ours is raised as itself."""
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output


def texts(sentences: c2s.CellSentences) -> list[str]:
    return c2s.write_texts(sentences, delimiter="|").to_pylist()
