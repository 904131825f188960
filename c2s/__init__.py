"""Single cells as ranked gene sentences, language models over them, and dual-context drug screens.

``import c2s`` is light: it loads neither torch nor scanpy. A public name is imported from its module on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from c2s.cells.genes import GeneVocabulary as GeneVocabulary
    from c2s.cells.library import Perturbation as Perturbation
    from c2s.cells.library import read_library as read_library
    from c2s.cells.reading import read_cells as read_cells
    from c2s.models.cell_lm import CellLM as CellLM
    from c2s.models.loading import load_model as load_model
    from c2s.models.text_lm import TextLM as TextLM
    from c2s.screening.programmes import load_programme as load_programme
    from c2s.screening.screen import screen as screen
    from c2s.sentences.background import Background as Background
    from c2s.sentences.corpus import CellSentences as CellSentences
    from c2s.sentences.corpus import read_sentences as read_sentences
    from c2s.sentences.decode import RankDecoder as RankDecoder
    from c2s.sentences.encode import encode as encode
    from c2s.sentences.stream import encode_file as encode_file
    from c2s.sentences.text import read_texts as read_texts
    from c2s.sentences.text import write_texts as write_texts
    from c2s.training.run import train as train

_HOME = {
    "Background": "c2s.sentences.background",
    "CellLM": "c2s.models.cell_lm",
    "CellSentences": "c2s.sentences.corpus",
    "GeneVocabulary": "c2s.cells.genes",
    "Perturbation": "c2s.cells.library",
    "RankDecoder": "c2s.sentences.decode",
    "TextLM": "c2s.models.text_lm",
    "encode": "c2s.sentences.encode",
    "encode_file": "c2s.sentences.stream",
    "load_model": "c2s.models.loading",
    "load_programme": "c2s.screening.programmes",
    "read_cells": "c2s.cells.reading",
    "read_library": "c2s.cells.library",
    "read_sentences": "c2s.sentences.corpus",
    "read_texts": "c2s.sentences.text",
    "screen": "c2s.screening.screen",
    "train": "c2s.training.run",
    "write_texts": "c2s.sentences.text",
}

_PACKAGES = ("metrics",)  # whose public names are reached through theirs: c2s.metrics.scfid

__all__ = ["__version__", *_HOME, *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"c2s.{name}")
    if name not in _HOME:
        msg = f"module 'c2s' has no attribute {name!r}; it offers {', '.join(sorted((*_HOME, *_PACKAGES)))}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_PACKAGES})
