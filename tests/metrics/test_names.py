"""``c2s.metrics`` by itself loads nothing, and every public name can be had."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import c2s.metrics

PROBE = """
import json, sys
import c2s.metrics
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_import_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert not {"torch", "sklearn", "scipy", "numpy", "anndata", "pandas"} & set(json.loads(done.stdout))


@pytest.mark.parametrize("name", [name for name in c2s.metrics.__all__ if name != "METRICS"])
def test_public_name_is_what_it_says(name):
    value = getattr(c2s.metrics, name)
    assert value.__name__ == name
    assert value.__doc__


def test_the_function_is_not_hidden_by_a_module_of_its_name():
    from c2s.metrics.cell_fid import scfid

    assert c2s.metrics.scfid is scfid


def test_unknown_name_lists_what_there_is():
    with pytest.raises(AttributeError, match=r"no attribute 'fid'; it offers .*scfid"):
        _ = c2s.metrics.fid
    assert set(c2s.metrics.__all__) <= set(dir(c2s.metrics))


def test_type_checker_sees_the_same_names():
    tree = ast.parse(Path(c2s.metrics.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == c2s.metrics._HOME
