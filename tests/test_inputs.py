"""Every row of the page of inputs has a case, and the case gets what the row says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.inputs import corpora, files, matrices, names  # noqa: F401  their cases register themselves
from tests.inputs.box import CASES, Box

PAGE = Path(__file__).resolve().parent.parent / "docs" / "guide" / "inputs.md"


def rows() -> dict[str, list[str]]:
    """Return the quotes in each row of the page's tables."""
    found: dict[str, list[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 3 and cells[2].startswith("`"):
            slug = cells[2].strip("`")
            assert slug not in found, slug
            found[slug] = re.findall("“([^”]*)”", cells[1])
    return found


ROWS = rows()


def test_rows_and_cases_are_the_same():
    assert set(ROWS) == set(CASES)
    assert len(ROWS) > 100


@pytest.mark.filterwarnings("ignore:.*names are not unique", "ignore:Transforming to str index", "ignore:.*zarr v2")
@pytest.mark.parametrize("slug", CASES)
def test_an_input_gets_what_the_page_says(slug, tmp_path, caplog, monkeypatch):
    with monkeypatch.context() as patch:
        messages = CASES[slug](Box(tmp_path, caplog, patch))
    assert bool(messages) == bool(ROWS[slug]), "a row quotes what is said, and only then"
    for message in messages:
        for quote in ROWS[slug]:
            assert quote in message
        assert "Traceback" not in message
