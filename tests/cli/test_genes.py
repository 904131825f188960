"""``c2s genes``: the same result as Python, a report where told, nothing overwritten, errors a user can mend."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from c2s.cells import catalogue


@pytest.fixture
def folder(tmp_path):
    for name, genes in {"human": ["OLD", "NEW", "TWO", "CD4"], "mouse": ["Cd4", "Acat2", "Acat3", "Ddt"]}.items():
        counts = sp.csr_matrix(np.arange(1, 9, dtype=np.float32).reshape(2, 4))
        ad.AnnData(counts, var=pd.DataFrame(index=genes)).write_h5ad(tmp_path / f"{name}.h5ad")
    (tmp_path / "table.csv").write_text("old,new\nOLD,NEW\nTWO,P\nTWO,Q\n")
    (tmp_path / "pairs.tsv").write_text("CD4\tCd4\nACAT2\tAcat2\nACAT2\tAcat3\nDDT\tDdt\nDDTL\tDdt\n")
    return tmp_path


def test_map(c2s, folder):
    ran = c2s(
        *("genes", "map", folder / "human.h5ad", folder / "out.h5ad", "--table", folder / "table.csv"),
        *("--on-collision", "sum", "--report", folder / "report.csv"),
    )
    assert ran.code == 0, ran.err
    assert (
        "4 genes: 1 unchanged (not in the table: 1), 2 merged into 1, 1 dropped (ambiguous: 1). 2 genes rem" in ran.out
    )
    assert "2 cells × 2 genes → " in ran.out
    cells = ad.read_h5ad(folder / "out.h5ad")
    assert cells.var["original_name"].to_dict() == {"NEW": "OLD|NEW", "CD4": "CD4"}
    np.testing.assert_array_equal(cells.X.toarray(), [[3, 4], [11, 8]])
    report = pd.read_csv(folder / "report.csv", keep_default_na=False)
    assert report["what"].tolist() == ["merged", "merged", "dropped", "unchanged"]


def test_map_columns_and_ambiguous_genes(c2s, folder):
    (folder / "wide.tsv").write_text("symbol\talias\tx\nNEW2\tOLD\t1\nP\tTWO\t2\nQ\tTWO\t3\n")
    ran = c2s(
        *("genes", "map", folder / "human.h5ad", folder / "out.h5ad", "--table", folder / "wide.tsv"),
        *("--source", "alias", "--target", "1", "--on-ambiguous", "keep"),
    )
    assert ran.code == 0, ran.err
    assert ad.read_h5ad(folder / "out.h5ad").var_names.tolist() == ["NEW2", "NEW", "TWO", "CD4"]


def test_ortholog(c2s, folder):
    arguments = ("genes", "ortholog", folder / "mouse.h5ad", folder / "out.h5ad", "--table", folder / "pairs.tsv")
    ran = c2s(*arguments, "--species", "human")
    assert "1 renamed, 3 dropped (ortholog shared: 2, several orthologs: 1). 1 genes remain." in ran.out
    assert "exists; name another file" in c2s(*arguments, "--species", "human").error
    c2s(*arguments, "--species", "human", "--on-many", "sum", "--overwrite")
    assert ad.read_h5ad(folder / "out.h5ad").var_names.tolist() == ["CD4", "ACAT2"]
    assert "the genes already look mouse" in c2s(*arguments, "--species", "mouse", "--overwrite").error


def test_outputs_are_checked_before_the_work(c2s, folder):
    (folder / "report.csv").write_text("mine")
    arguments = ("genes", "map", folder / "absent.h5ad", folder / "out.h5ad", "--table", folder / "table.csv")
    assert "report.csv exists" in c2s(*arguments, "--report", folder / "report.csv").error
    assert "no file" in c2s(*arguments).error
    assert (folder / "report.csv").read_text() == "mine"


def test_a_name_of_the_catalogue(c2s, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(catalogue, "fetch", lambda name: asked.append(name) or folder / "pairs.tsv")
    ran = c2s(
        *("genes", "ortholog", folder / "mouse.h5ad", folder / "out.h5ad"),
        *("--table", "ensembl105_human_mouse", "--species", "human"),
    )
    assert ran.code == 0, ran.err
    assert asked == ["ensembl105_human_mouse"]


def test_errors_a_user_can_mend(c2s, folder):
    arguments = ("genes", "map", folder / "human.h5ad", folder / "out.h5ad", "--table")
    assert "no file nowhere.csv, and no table of that name" in c2s(*arguments, "nowhere.csv").error
    assert "--on-collision sum" in c2s(*arguments, folder / "table.csv").error
    assert "found old, new. Pass --source" in c2s(*arguments, folder / "table.csv", "--source", "alias").error
    assert not (folder / "out.h5ad").exists()


@pytest.mark.parametrize(("verb", "more"), [("map", ()), ("ortholog", ("--species", "human"))])
def test_dry_run_and_help(c2s, folder, verb, more):
    ran = c2s("genes", verb, folder / "human.h5ad", folder / "out.h5ad", "--table", "t.csv", *more, "--dry-run")
    assert json.loads(ran.out)["table"] == "t.csv"
    assert not (folder / "out.h5ad").exists()
    assert f"c2s genes {verb} " in c2s("genes", verb, "--help").out
