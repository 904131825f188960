"""The page of bad inputs says what happens: each row is a case, and the words it quotes are those of the message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.inputs import artefacts, files, matrices  # noqa: F401  each fills the registry
from tests.inputs.registry import CASES, Message

PAGE = Path(__file__).resolve().parent.parent / "docs" / "guide" / "inputs.md"
ROWS = re.findall(r"^\| .+ \| (.+) <!-- (\S+) --> \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_every_row_of_the_page_is_a_case():
    ids = [name for _, name in ROWS]
    tables = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(ids) == sum(not line.startswith("| what you pass") for line in tables)
    assert sorted(ids) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_what_happens_is_what_the_page_says(name, tmp_path):
    """The words in code font occur in the message; where there is none, the case's word stands on the page."""
    happens = {name: cell for cell, name in ROWS}[name]
    found = CASES[name](tmp_path)
    if isinstance(found, Message):
        quoted = re.findall(r"`([^`]+)`", happens)
        assert quoted
        for fragment in quoted:
            assert fragment in found
    else:
        assert "refused" not in happens
        assert found in happens
