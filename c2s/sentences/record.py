"""What is kept of a corpus beside its sentences: how they were encoded, and the record ``corpus.json``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from c2s.artefacts import read_record, require_access
from c2s.cells.genes import GeneVocabulary
from c2s.cells.scale import Scale
from c2s.config import Config
from c2s.errors import ArtefactError
from c2s.sentences.background import Background

FORMAT_VERSION = 1

Ties = Literal["background", "hash", "vocabulary"]


class Encoding(Config):
    """How sentences were made from cells. It travels with every corpus, decoder and model."""

    normalisation: str = "log1p_cp10k"  # unit of decoded values: natural log of 1 + counts per 1e4
    ties: Ties = "background"
    n_genes: int | None = None  # longest sentence kept; None keeps every expressed gene
    layer: str | None = None  # None is adata.X
    values: Scale | None = None  # what the matrix held; None where sentences were not made from cells
    seed: int = 0  # read by ties="hash" only
    background_hash: str | None = None
    source_hash: str | None = None  # fingerprint of the matrix encoded; None where the sentences were not read from one
    version: int = FORMAT_VERSION


def corpus_record(
    n: int,
    n_ids: int,
    obs_columns: dict[str, str],
    obs_kinds: dict[str, Any],
    vocabulary: GeneVocabulary,
    encoding: Encoding,
    background: Background | None,
) -> dict[str, Any]:
    """Return what ``corpus.json`` holds."""
    return {
        "format": "c2s-corpus",
        "version": FORMAT_VERSION,
        "n": n,
        "n_ids": n_ids,
        "obs_columns": obs_columns,
        "obs_kinds": obs_kinds,
        "vocabulary": vocabulary.to_dict(),
        "encoding": encoding.model_dump(mode="json"),
        "background": None if background is None else background.to_dict(),
    }


def read_vocabulary(folder: str | os.PathLike[str]) -> GeneVocabulary:
    """Return the genes of the corpus in ``folder``; no sentence is read.

    Raises
    ------
    ArtefactError
        It is not a corpus, or it is of a later version.
    """
    return GeneVocabulary.from_dict(read_corpus_record(Path(folder))["vocabulary"])


def is_corpus(path: str | os.PathLike[str]) -> bool:
    """Return whether ``path`` is a folder with a ``corpus.json``."""
    return (Path(path) / "corpus.json").is_file()


def read_corpus_record(source: Path) -> dict[str, Any]:
    """Return what ``corpus.json`` holds."""
    require_access(source)
    if not is_corpus(source):
        msg = f"{source} is not a corpus (no corpus.json); make one by c2s encode, or sentences.write(folder)"
        raise ArtefactError(msg)
    return read_record(source / "corpus.json", kind="c2s-corpus", version=FORMAT_VERSION)
