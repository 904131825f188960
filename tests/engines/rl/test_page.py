"""docs/guide/reinforcement.md: its code runs, in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.rl import toy

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "guide" / "reinforcement.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = toy.problem("ordering")
    page = {
        "__name__": "page", "warm_model": toy._bare, "tokenizer": made.tokenizer, "training_rows": made.prompts.to_list(),
        "held_out_rows": made.held_out.to_list()[:4],
    }  # fmt: skip
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "reinforcement.md", "exec"), page)
    assert (page["table"][0]["arm"], len(page["table"])) == ("full", 2)
    assert (tmp_path / "curves.png").exists()
    assert " → " in capsys.readouterr().out
