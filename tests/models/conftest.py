"""Untrained models, built once a session."""

from __future__ import annotations

import pytest

from c2s.models.cell_lm import CellLM
from tests.models.untrained import VOCABULARIES, untrained


@pytest.fixture(scope="session")
def models() -> dict[tuple[str, str], CellLM]:
    """Return a model per vocabulary (human, mouse, ensembl) and target (delta, sentence)."""
    return {
        (name, target): untrained(v, target=target)
        for name, v in VOCABULARIES.items()
        for target in ("delta", "sentence")
    }


@pytest.fixture(scope="session")
def lm(models) -> CellLM:
    return models["human", "delta"]


@pytest.fixture(scope="session")
def sentence_lm(models) -> CellLM:
    return models["human", "sentence"]
