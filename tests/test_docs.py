"""The pages keep step with the project: the benchmark page with the cards, the README with the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import c2s
from benchmarks.render import PAGE, render
from c2s.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_benchmark_page_is_rendered_from_the_cards():
    assert PAGE.read_text(encoding="utf-8") == render(), "run `python -m benchmarks.render`"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_on_the_page_exist(page):
    """Every ``c2s verb --option`` of a code block is one that the command line has."""
    blocks = re.findall(r"```(?:bash|console|sh)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    for line in re.findall(r"^(?:\$ )?c2s +(?!-)(.*)$", text, flags=re.MULTILINE):
        verb, *words = line.partition("#")[0].split()
        assert verb in main.verbs(), line
        command = main.load(verb)
        commands = [command, *getattr(command, "commands", {}).values()]
        known = {flag for each in commands for p in each.params for flag in (*p.opts, *p.secondary_opts)} | {"--help"}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"{line}: unknown {sorted(used - known)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_files_are_live(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_public_names_on_the_page_exist(page):
    text = page.read_text(encoding="utf-8")
    used = set(
        re.findall(
            r"\bc2s\.([A-Za-z_]\w*)\b(?!\.)", "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
        )
    )
    assert used <= set(c2s.__all__), sorted(used - set(c2s.__all__))
