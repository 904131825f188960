"""A tiny simulated screen and a model trained on it for a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from c2s.cells.simulate import SimulatedScreen
from tests import tiny


@pytest.fixture(autouse=True)
def _tiny_preset():
    with tiny.tiny_preset():
        yield


@pytest.fixture(scope="session")
def simulated() -> SimulatedScreen:
    return tiny.simulated()


@pytest.fixture(scope="session")
def run_folder() -> Path:
    return tiny.run_folder()
