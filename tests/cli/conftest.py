"""A tiny simulated screen on disk, as a user would have it, and the command line run as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from c2s.cells.library import library_frame
from c2s.cli import main
from tests import tiny


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of a command that failed as a user's mistake should: exit code 2, ``Error: …``, no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        assert self.code == 2, self.err
        assert "Traceback" not in self.err
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def c2s(capsys) -> Callable[..., Ran]:
    """Run ``c2s ARGUMENTS`` through its entry point."""

    def command(*arguments: object) -> Ran:
        capsys.readouterr()
        with tiny.tiny_preset():
            try:
                main.run([str(argument) for argument in arguments])
                code = 0
            except SystemExit as stopped:
                code = int(stopped.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return command


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """Return a folder with ``training.h5ad``, ``cells.h5ad``, ``training_drugs.csv`` and ``drugs.csv``."""
    folder = tmp_path_factory.mktemp("files")
    simulated = tiny.simulated()
    simulated.training.write_h5ad(folder / "training.h5ad")
    simulated.screening.write_h5ad(folder / "cells.h5ad")
    library_frame(simulated.training_library).to_csv(folder / "training_drugs.csv", index=False)
    library_frame(simulated.library).to_csv(folder / "drugs.csv", index=False)
    return folder
