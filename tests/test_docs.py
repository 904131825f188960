"""The pages keep step with the project: the benchmark page with the cards, the README with the command line."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import c2s
from benchmarks.render import PAGE, render
from c2s.cli import main
from c2s.screening.config import ScreenConfig
from c2s.training.config import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = [path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "generated"} & set(path.parts)]
PAGES = [ROOT / "README.md", *sorted(WRITTEN)]


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
def test_python_on_the_page_calls_what_exists(page):
    """Code blocks parse, take only public names from ``c2s``, and pass only arguments that there are."""
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "c2s"):
                continue
            assert node.attr in c2s.__all__, node.attr
        calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
        for call in calls:
            name = ast.unparse(call.func)
            if name.startswith("c2s.") and name.count(".") == 1:
                used = {keyword.arg for keyword in call.keywords} - {None}
                assert used <= arguments(name.removeprefix("c2s.")), f"{page.name}: {ast.unparse(call)}"


def arguments(name: str) -> set[str]:
    """Return the names a public function takes; ``train`` and ``screen`` also take the fields of their settings."""
    known = set(inspect.signature(getattr(c2s, name)).parameters)
    settings = {"train": TrainConfig, "screen": ScreenConfig}.get(name)
    return known | (set(settings.model_fields) if settings else set())
