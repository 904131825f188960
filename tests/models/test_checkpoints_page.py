"""docs/guide/checkpoints.md: its code runs in order, on a small checkpoint under the name the page gives."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from tests.models.texts import VOCABULARY, byte_level, transformer

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "checkpoints.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.skipif(find_spec("cell2sentence") is None, reason="optional: pip install --no-deps cell2sentence==1.2.0")
def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer = byte_level()
    transformer("gpt_neox", len(tokenizer)).save_pretrained("models/pythia-410m")
    tokenizer.save_pretrained("models/pythia-410m")
    rng = np.random.default_rng(0)
    labels = ["B cell", "T cell", "monocyte"]
    obs = pd.DataFrame(
        {"cell_type": rng.choice(labels, 30), "leiden": rng.choice(["0", "1"], 30), "organism": "Homo sapiens"},
        index=[f"c{i}" for i in range(30)],
    )
    counts = rng.poisson(1.0, (30, len(VOCABULARY))).astype(np.float32) + np.eye(30, len(VOCABULARY), dtype=np.float32)
    page = {
        "__name__": "page",
        "labels": labels,
        "adata": ad.AnnData(counts, obs, pd.DataFrame(index=list(VOCABULARY.symbols))),
    }
    for block in BLOCKS:
        code = block.replace(
            "target_accuracy=0.95", "target_accuracy=0.01"
        )  # a model of random weights is never so sure
        page.setdefault("held_out", None)
        exec(compile(code, "checkpoints.md", "exec", dont_inherit=True), page)
        page["held_out"] = page["sentences"]
    assert page["adata"].obsm["X_c2s"].shape == (30, 32)
    assert page["coverage"].index.tolist() == list(VOCABULARY.symbols)
    assert Path("cell0.png").stat().st_size > 1000
    assert Path("calibration.json").is_file()
