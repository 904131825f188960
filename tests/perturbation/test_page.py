"""docs/guide/perturb.md: its code runs, in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.perturbation.planted import LIBRARY, cells, model, renamed, validation

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "perturb.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_code_of_the_page_runs(capsys):
    screen = cells().copy()
    screen.obs = screen.obs.rename(columns={"given": "cytokine", "line": "cell_type"})
    known = renamed(model("delta"))
    is_control = (screen.obs["cytokine"] == "medium").to_numpy()
    page = {
        "__name__": "page", "screen": screen, "library": LIBRARY, "model": known, "untreated": screen[is_control][:4].copy(),
        "training": screen[~validation()].copy(), "held_out": screen[validation() | is_control].copy(),
    }  # fmt: skip
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "perturb.md", "exec"), page)
    said = capsys.readouterr().out
    assert "seen 2" in said and "control_cell" in said and "control cells + sum of single shifts" in said
