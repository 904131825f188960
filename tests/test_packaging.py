"""What the wheel holds: every file of the package, the licence and the notice, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UNPINNED = {
    "quantized",
    "vllm",
    "metrics",
}  # not among what everything is tested with; vLLM asks for its own torch and transformers, cell-eval and scib-metrics bring JAX and polars


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", "-w", str(out), str(ROOT)], check=True, capture_output=True)
    (path,) = out.glob("c2s-*.whl")
    return zipfile.ZipFile(path)


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    names = set(wheel.namelist())
    files = [path for path in (ROOT / "c2s").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    wanted = {path.relative_to(ROOT).as_posix() for path in files if not path.name.startswith(".")}
    assert wanted <= names
    assert "c2s/py.typed" in names
    assert any(name.endswith(".gmt") for name in names), "gene programmes are not packaged"
    assert "c2s/screening/data/example_library.csv" in names
    assert any(name.endswith(".j2") for name in names), "the report's template is not packaged"


def test_example_library_is_one():
    from c2s.cells.library import read_library

    with resources.as_file(resources.files("c2s.screening") / "data" / "example_library.csv") as path:
        rows = {row.name: row for row in read_library(path)}
    assert rows["CX-4945"].targets == ("CSNK2A1", "CSNK2A2")
    assert rows["ruxolitinib"].targets == ("JAK1", "JAK2")
    assert [row.name for row in rows.values() if row.role == "vehicle"] == ["DMSO"]
    assert [row.name for row in rows.values() if row.role == "positive_control"] == ["interferon gamma"]
    drugs = [row for row in rows.values() if row.role == "drug"]
    assert len(drugs) >= 12
    assert all(row.targets and row.mechanism for row in drugs)


def test_wheel_holds_nothing_else(wheel):
    assert {name.partition("/")[0] for name in wheel.namelist()} == {"c2s", f"c2s-{version()}.dist-info"}


def test_licence_and_notice_travel(wheel):
    licences = {name.rpartition("/")[2] for name in wheel.namelist() if "/licenses/" in name}
    assert {"LICENSE", "NOTICE"} <= licences
    notice = next(name for name in wheel.namelist() if name.endswith("/NOTICE"))
    assert "2025/0139386" in wheel.read(notice).decode()


def test_every_dependency_is_pinned():
    pins = dict(line.split("==") for line in lines("constraints.txt"))
    pinned = {canonical(name) for name in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = project["optional-dependencies"]
    assert set(groups) >= UNPINNED
    extras = [item for name, group in groups.items() if name not in UNPINNED for item in group]
    wanted = {canonical(re.split(r"[\[<>=]", item)[0]) for item in [*project["dependencies"], *extras]} - {"c2s"}
    assert wanted <= pinned
    assert pins["torch"].count("+") == 0


def test_nothing_in_the_pins_is_local():
    assert not [line for line in lines("constraints.txt") if re.search(r"[@/]|\+|^-", line)]


def lines(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in text if line and not line.startswith("#")]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def version() -> str:
    import c2s

    return c2s.__version__
