"""docs/guide/spatial.md: its code runs, in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from c2s.spatial import GenePair, PairKnowledge
from c2s.tasks import render_text

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "spatial.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    n, genes = 600, ["Sst", "Sstr2", "Tgfb1", "Tgfbr1", "Tgfbr2", *(f"Gene{i}" for i in range(25))]
    obs = pd.DataFrame(
        {"section": np.repeat(["a", "b"], n // 2), "patient": np.repeat(["p", "q"], n // 2)},
        index=[f"c{i}" for i in range(n)],
    )
    places = rng.uniform(0, 200, (n, 2))
    obs["niche"] = np.where(places[:, 0] < 100, "left", "right")
    adata = ad.AnnData(rng.poisson(1.0, (n, len(genes))).astype(np.float32), obs=obs, var=pd.DataFrame(index=genes))
    adata.obsm["spatial"] = places
    knowledge = PairKnowledge(
        (GenePair(("Tgfb1",), ("Tgfbr1", "Tgfbr2")), GenePair(("Sst",), ("Sstr2",))), "ligand_receptor", "mine", "mouse"
    )
    (tmp_path / "gene_input.csv").write_text("uniprot,hgnc_symbol\nP1,SST\nP2,SSTR2\nP3,VIP\n", encoding="utf-8")
    (tmp_path / "complex_input.csv").write_text("complex_name,uniprot_1,uniprot_2\nX,P2,P3\n", encoding="utf-8")
    (tmp_path / "interaction_input.csv").write_text("partner_a,partner_b\nP1,P2\nP1,X\n", encoding="utf-8")
    (tmp_path / "human_to_mouse.csv").write_text("human,mouse\nSST,Sst\nSSTR2,Sstr2\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = {"adata": adata, "knowledge": knowledge}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, "spatial.md", "exec", dont_inherit=True), names)
    assert names["mouse"].pairs == (GenePair(("Sst",), ("Sstr2",)),)
    assert sum(map(len, names["lines"])) > 0
    example = names["examples"][0]
    assert render_text(example.answer, genes, names["task"].style) == "Yes."
