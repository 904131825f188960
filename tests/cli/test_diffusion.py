"""Masked diffusion as a user calls it: train, generate, and what is refused."""

from __future__ import annotations

import pandas as pd

from tests.tiny import simulated, tiny_preset


def test_the_command_line_trains_and_writes_cells(c2s, tmp_path):
    cells = tmp_path / "cells.h5ad"
    data = simulated().training.copy()
    data.obs = pd.DataFrame({"cell_type": data.obs["cell_type"].astype(str)}, index=data.obs_names)
    data.write_h5ad(cells)
    asked = ["--task", "cell_generation", "--objective", "masked_diffusion", "--n-genes", "6", "--steps", "3", "--batch-size", "4"]  # fmt: skip
    with tiny_preset():
        assert c2s("train", cells, tmp_path / "run", "--model", "c2s-tiny", *asked).code == 0
    kind = data.obs["cell_type"].iloc[0]
    ran = c2s("generate", tmp_path / "run", tmp_path / "out", "--n", "3", "--condition", f"cell_type={kind}", "--decoding", "paper")  # fmt: skip
    assert ran.code == 0
    assert "steps a cell" in ran.out
    assert ran.out.startswith("3 cells of ")
    told = c2s("generate", tmp_path / "run", tmp_path / "no", "--condition", f"cell_type={kind}", "--decoding", "fast")
    assert told.code == 2
    assert "there is no preset 'fast'" in told.error
    assert not (tmp_path / "no").exists()
