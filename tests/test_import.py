"""``import c2s`` is light, and every public name can be had."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import c2s

HEAVY = {"torch", "transformers", "scanpy", "anndata", "pandas", "matplotlib", "plotly", "numba"}
PROBE = """
import json, sys, time
start = time.process_time()
import c2s
seconds = time.process_time() - start
print(json.dumps({"seconds": seconds, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def probe() -> dict:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_import_is_quick_and_loads_nothing_heavy():
    runs = [probe() for _ in range(5)]
    assert not HEAVY.intersection(*(run["modules"] for run in runs))
    assert (
        min(run["seconds"] for run in runs) < 0.3
    )  # CPU time: the clock on the wall measures what else the machine does


@pytest.mark.parametrize("name", [name for name in c2s.__all__ if name != "__version__"])
def test_public_name_is_what_it_says(name):
    value = getattr(c2s, name)
    assert value.__name__.rpartition(".")[2] == name
    assert value.__doc__


def test_unknown_name_lists_what_there_is():
    with pytest.raises(AttributeError, match=r"no attribute 'encoder'; it offers .*encode"):
        _ = c2s.encoder
    assert set(c2s.__all__) <= set(dir(c2s))


def test_type_checker_sees_the_same_names():
    tree = ast.parse(Path(c2s.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == c2s._HOME
