"""docs/guide/backends.md: its code runs in order, against a server on loopback in place of the page's."""

from __future__ import annotations

import re
from pathlib import Path

from tests.models.backends.scripted import Scripted, answer, served
from tests.models.texts import cells

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "guide" / "backends.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = {"__name__": "page", "sentences": cells(6), "prompts": ["a", "b", "c"]}
    with served(Scripted(lambda body, number: answer("B cell." if number % 2 else "no idea"))) as url:
        for block in BLOCKS:
            assert "http://localhost:8000/v1" in block or "OpenAIServer(" not in block
            exec(
                compile(block.replace("http://localhost:8000/v1", url), "backends.md", "exec", dont_inherit=True), page
            )
    assert page["table"]["parsed"].mean() == 0.5
    assert page["rate"] > 0
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 9
