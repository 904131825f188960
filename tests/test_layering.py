"""The import contract knows every package, and lint-imports keeps it."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


def test_every_package_has_a_level():
    named = {part.strip(" ()") for layer in CONTRACTS[0]["layers"] for part in layer.replace(":", "|").split("|")}
    found = {f"c2s.{path.name}" for path in (ROOT / "c2s").iterdir() if (path / "__init__.py").exists()}
    found |= {f"c2s.{path.stem}" for path in (ROOT / "c2s").glob("*.py") if path.stem != "__init__"}
    assert found <= named


def test_every_engine_has_a_level():
    named = {part.strip(" ()") for layer in CONTRACTS[1]["layers"] for part in layer.split("|")}
    engines = [path for path in (ROOT / "c2s" / "engines").iterdir() if path.stem not in ("__init__", "__pycache__")]
    assert {path.stem for path in engines} <= named


def test_contract_is_kept():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "c2s" / "engines").rglob("*.py")), ids=lambda path: path.stem)
def test_engines_import_only_level_zero_of_the_project(path):
    level_zero = {"errors", "config", "artefacts", "locks", "results", "stats", "quiet", "engines"}
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    ours = {name.split(".")[1] for name in imported if name.startswith("c2s.")}
    assert ours <= level_zero
