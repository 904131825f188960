"""docs/guide/evaluate.md: its code runs, in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path

from tests.metrics.test_response_scores import REAL, TRAINING, cells

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "evaluate.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(capsys):
    page = {
        "__name__": "page",
        "real": REAL,
        "training": TRAINING,
        "predicted": cells(55, strength=1.0, seed=3, control=False),
    }
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "evaluate.md", "exec"), page)
    said = capsys.readouterr().out
    assert "Pearson delta" in said and "scFID, mean of groups" in said
