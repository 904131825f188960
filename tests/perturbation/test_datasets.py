"""Loaders read small files of the layouts that are given out, and refuse others; the real ones where they are at hand."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.perturbation.checksums import CHECKSUMS, verified
from c2s.perturbation.datasets import (
    load_dong,
    load_kang,
    load_l1000,
    load_norman,
    load_norman_maps,
    load_sciplex3,
)
from c2s.perturbation.gct import read_gct
from c2s.perturbation.paper_split import PAPER_TIERS, paper_split
from c2s.perturbation.splits import unseen_combination, unseen_context


def h5ad(tmp_path, **columns):
    obs = pd.DataFrame(columns)
    obs.index = [f"c{i}" for i in range(len(obs))]
    counts = sp.csr_matrix(np.random.default_rng(0).poisson(2.0, (len(obs), 5)).astype(np.float32))
    file = tmp_path / "cells.h5ad"
    ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(5)])).write_h5ad(file)
    return file


def kang(tmp_path, **changed):
    columns = {
        "cluster_id": ["B cells", "CD4 T cells", "B cells", "CD4 T cells"],
        "sample_id": ["ctrl101", "ctrl107", "stim101", "stim107"],
        "group_id": ["ctrl", "ctrl", "stim", "stim"],
    }
    return h5ad(tmp_path, **{**columns, **changed})


def test_kang(tmp_path):
    study = load_kang(kang(tmp_path))
    obs = study.cells.obs
    assert obs["perturbation"].tolist() == ["untreated"] * 2 + ["IFN-beta"] * 2
    assert obs["donor"].tolist() == ["101", "107", "101", "107"]
    assert obs["cell_type"].tolist()[:2] == ["B cells", "CD4 T cells"]
    assert study.context_keys == ("cell_type", "donor")
    assert [row.role for row in study.library] == ["vehicle", "drug"]
    assert study.library[1].targets == ("IFNAR1", "IFNAR2")
    with_donors = load_kang(kang(tmp_path, sample_id=["101", "107"] * 2))
    assert with_donors.cells.obs["donor"].tolist() == ["101", "107"] * 2
    with pytest.raises(DataError, match="'group_id' holds other; expected 'ctrl' and 'stim'"):
        load_kang(kang(tmp_path, group_id=["ctrl", "ctrl", "stim", "other"]))
    with pytest.raises(DataError, match="obs has no column 'type'; found cluster_id.*Pass cell_type_key="):
        load_kang(kang(tmp_path), cell_type_key="type")
    with pytest.raises(DataError, match="1 of 4 cells have no value in 'cluster_id'"):
        load_kang(kang(tmp_path, cluster_id=["a", None, "b", "c"]))


def test_a_truncated_h5ad_is_refused(tmp_path):
    file = kang(tmp_path)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ArtefactError, match="truncated or not an AnnData file"):
        load_kang(file)


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("condition", ["ctrl", "KLF1+ctrl", "ctrl+BAK1", "KLF1+BAK1"]),
        ("perturbation", ["control", "KLF1", "BAK1", "BAK1_KLF1"]),
        (
            "guide_identity",
            ["NegCtrl10_NegCtrl0__NegCtrl10_NegCtrl0", "KLF1_NegCtrl0__KLF1_NegCtrl0", "NegCtrl0_BAK1__NegCtrl0_BAK1", "KLF1_BAK1__KLF1_BAK1"],
        ),
    ],
)  # fmt: skip
def test_norman_in_its_three_spellings(tmp_path, column, names):
    study = load_norman(h5ad(tmp_path, **{column: names}))
    assert study.cells.obs["perturbation"].tolist() == ["control", "KLF1", "BAK1", "BAK1 + KLF1"]
    if column == "perturbation":
        assert study.cells.obs["given_perturbation"].tolist() == names
    pair = study.library[-2] if study.library[-1].name == "KLF1" else study.library[-1]
    assert pair.parts == pair.targets == ("BAK1", "KLF1")
    assert pair.mechanism == "CRISPR activation"
    assert study.library[0].role == "vehicle"
    split = unseen_combination(
        study.cells.obs, library=study.library, perturbation_key="perturbation", control="control", hide_share=0, tiers=(2,), validation_share=0
    )  # fmt: skip
    assert split.tier.tolist() == ["", "", "", "seen 2"]


def test_norman_refused(tmp_path):
    with pytest.raises(DataError, match="obs has no column 'condition'; found gene"):
        load_norman(h5ad(tmp_path, gene=["A"]))
    with pytest.raises(DataError, match="no cell has perturbation == 'control'; found A"):
        load_norman(h5ad(tmp_path, condition=["A+ctrl"]))


def maps(tmp_path, negative=True, **changed):
    genes = ["A", "B", "C"]
    fitness = pd.DataFrame([[-1, -3, -4], [-3, -2, -5], [-4, -5, -3]], genes, genes, dtype=float)
    if negative:
        fitness["negative"] = [-0.1, -0.2, -0.3]
        fitness.loc["negative"] = [-0.1, -0.2, -0.3, 0.0]
    scores = pd.DataFrame([[0, 1, 2], [1, 0, 3], [2, 3, 0]], genes, genes, dtype=float)
    files = []
    for name, table in {"fitness": fitness, "emap": scores, **changed}.items():
        file = tmp_path / f"{name}.csv.gz"
        table.to_csv(file)
        files.append(file)
    return files


def test_norman_maps(tmp_path):
    pairs = load_norman_maps(*maps(tmp_path))
    expected = [("A", "B", -0.1, -0.2, -3, 1), ("A", "C", -0.1, -0.3, -4, 2), ("B", "C", -0.2, -0.3, -5, 3)]
    assert list(pairs.itertuples(index=False, name=None)) == expected
    alone = load_norman_maps(*maps(tmp_path, negative=False))
    assert alone[["fitness_a", "fitness_b"]].isna().all().all()
    assert alone["gi"].tolist() == [1, 2, 3]


def test_maps_refused(tmp_path):
    scores = pd.DataFrame(np.zeros((3, 3)), list("ABC"), list("ABC"))
    with pytest.raises(DataError, match="are not of the same genes: only one has C, D"):
        load_norman_maps(*maps(tmp_path, emap=scores.rename(index={"C": "D"}, columns={"C": "D"})))
    with pytest.raises(DataError, match="has 2 rows and 3 columns that are not the same genes"):
        load_norman_maps(*maps(tmp_path, emap=scores[:2]))
    for row, column, value in ((0, 1, 5.0), (0, 1, np.nan), (0, 1, "x")):
        broken = scores.astype(object)
        broken.iloc[row, column] = value
        with pytest.raises(DataError, match="has gaps or is not symmetric"):
            load_norman_maps(*maps(tmp_path, emap=broken))
    files = maps(tmp_path)
    files[0].write_bytes(files[0].read_bytes()[:-12])
    with pytest.raises(ArtefactError, match="cannot read the map"):
        load_norman_maps(*files)
    with pytest.raises(ArtefactError, match="cannot read the map"):
        load_norman_maps(tmp_path / "none.csv", files[1])


def test_sciplex3(tmp_path):
    file = h5ad(
        tmp_path, product_name=["Vehicle", "Belinostat (PXD101)", "Belinostat (PXD101)", "(+)-JQ1 "], dose=[0.0, 10.0, 10000.0, 10.0],
        cell_type=["A549", "A549", "K562", "MCF7"],
    )  # fmt: skip
    table = pd.DataFrame({"name": ["belinostat"], "targets": [("HDAC1",)], "mechanism": ["HDAC inhibitor"], "smiles": [""]})  # fmt: skip
    study = load_sciplex3(file, tables=[table])
    names = ["vehicle", "Belinostat (PXD101), 10 nM", "Belinostat (PXD101), 10000 nM", "(+)-JQ1, 10 nM"]
    assert study.cells.obs["perturbation"].tolist() == names
    assert study.cells.obs["compound"].tolist() == ["vehicle", *["Belinostat (PXD101)"] * 2, "(+)-JQ1"]
    library = {row.name: row for row in study.library}
    assert set(library) == set(names)
    assert library[names[1]].targets == ("HDAC1",)
    assert (library[names[2]].dose, library[names[2]].time) == ("10000 nM", "24 h")
    assert study.context_keys == ("cell_type",)
    with pytest.raises(DataError, match="no cell is untreated; found"):
        load_sciplex3(h5ad(tmp_path, product_name=["A"], dose=[1], cell_type=["x"]))
    with pytest.raises(DataError, match="2 treated cells have a 'dose' that is no number above 0"):
        load_sciplex3(h5ad(tmp_path, product_name=["A", "A", "Vehicle"], dose=["0", "much", "0"], cell_type=["x"] * 3))
    with pytest.raises(DataError, match="Pass dose_key="):
        load_sciplex3(h5ad(tmp_path, product_name=["A"], cell_type=["x"]))


GIVEN = ["No stimulation", "IFNb", "IFNg", "IFNa2", "IFN-III", "IL6", "TNFa", "IFNb+ IFNg", "IFNb+IL6", "IFNb+ TNFa"]


def dong(tmp_path):
    types = ["B", "CD4 T", "CD8 T", "DC", "NK"]
    rows = pd.DataFrame(itertools.product(GIVEN, types, ["acute", "chronic"]), columns=["perturbation", "cell_type0528", "chronicity"])  # fmt: skip
    return h5ad(tmp_path, **rows)


def test_dong_and_the_split_of_the_paper(tmp_path):
    study = load_dong(dong(tmp_path))
    obs = study.cells.obs
    assert study.context_keys == ("cell_type", "exposure")
    assert "IFNb + IFNg" in set(obs["perturbation"])
    assert {row.name: row.parts for row in study.library}["IFNb + IL6"] == ("IFNb", "IL6")
    split = paper_split(obs, control=study.control)
    held = split.held_out[split.held_out["part"] == "test"]
    assert held.groupby("tier").size().to_dict() == {"unseen combination": 10, "unseen in a cell type": 10, "unseen in one exposure": 4}  # fmt: skip
    assert set(held[held["tier"] == "unseen combination"]["perturbation"]) == {"IFNb + IL6"}
    last = held[held["tier"] == "unseen in one exposure"]
    assert set(last[["perturbation", "cell_type", "exposure"]].itertuples(index=False, name=None)) == {
        ("IFNb", "B", "acute"), ("IFNb + IFNg", "CD4 T", "acute"), ("TNFa", "CD8 T", "chronic"), ("IFN-III", "NK", "chronic")
    }  # fmt: skip
    assert set(split.held_out["tier"]) == set(PAPER_TIERS)
    renamed = obs.astype(str).replace({"IFN-III": "IFNL1"})
    with pytest.raises(DataError, match=r"the cells have no IFN-III \(perturbation\); found .*Pass aliases="):
        paper_split(renamed, control=study.control)
    assert paper_split(renamed, control=study.control, aliases={"IFN-III": "IFNL1"}).test.sum() == split.test.sum()


GCT = (
    "#1.3\n2\t4\t2\t5\n"
    "id\tpr_gene_id\tpr_gene_symbol\tw1\tw2\tw3\tw4\n"
    "pert_iname\tna\tna\tDMSO\tneratinib\tneratinib\tcrizotinib\n"
    "pert_type\tna\tna\tctl_vehicle\ttrt_cp\ttrt_cp\ttrt_cp\n"
    "pert_idose\tna\tna\t-666\t10.0 um\t3.33 um\t-666\n"
    "pert_itime\tna\tna\t24 h\t24 h\t24 h\t24 h\n"
    "cell_id\tna\tna\tA375\tA375\tA375\tA375\n"
    "p1\t5720\tPSME1\t1\t2.5\t3\t4\n"
    "p2\t55847\tCISD1\t5\t6\t7\t-8e-1\n"
)


@pytest.mark.parametrize("name", ["x.gct", "x.gct.gz"])
def test_a_gct_file(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(gzip.compress(GCT.encode()) if name.endswith("gz") else GCT.replace("\n", "\r\n").encode())
    profiles = read_gct(file)
    assert profiles.X.dtype == np.float32
    np.testing.assert_allclose(profiles.X, [[1, 5], [2.5, 6], [3, 7], [4, -0.8]])
    assert profiles.var["pr_gene_id"].tolist() == [5720, 55847]
    assert profiles.obs["pert_idose"].isna().tolist() == [True, False, False, True]
    study = load_l1000(file)
    assert study.cells.obs["perturbation"].tolist() == ["vehicle", "neratinib, 10.0 um", "neratinib, 3.33 um", "crizotinib"]  # fmt: skip
    assert study.cells.var_names.tolist() == ["PSME1", "CISD1"]
    library = {row.name: row for row in study.library}
    assert (library["neratinib, 10.0 um"].dose, library["crizotinib"].time) == ("10.0 um", "24 h")


def test_gct_files_that_cannot_be_read(tmp_path):
    file = tmp_path / "x.gct"
    lines = GCT.splitlines()
    for text, error, message in (
        ("\n".join(lines[:-1]), ArtefactError, "truncated or damaged: 7 of 8 lines"),
        (GCT[:-4], ArtefactError, None),
        ("\n".join([*lines[:-1], "p2\t1\tX\t5"]), ArtefactError, "4 of 7 fields in line 10"),
        (GCT.replace("#1.3", "#1.2"), DataError, "begins with '#1.2'; expected '#1.3'"),
        ("", DataError, "begins with ''"),
        ("#1.3\n2\t4\n", DataError, "the second line of .* is '2 4'"),
        (GCT.replace("2.5", "high"), DataError, "holds a value that is no number: .*high"),
        (GCT.replace("2.5", "nan"), DataError, "has no value for p1 in w2, and 1 such in all"),
        (GCT.replace("p2\t", "p1\t"), DataError, "ids of the rows .* stand twice: p1"),
        (GCT.replace("w3", "w2"), DataError, "ids of the columns .* stand twice: w2"),
    ):
        file.write_text(text)
        if message is None:  # a number cut short is still a number
            assert read_gct(file).X[3, 1] == -8
            continue
        with pytest.raises(error, match=message):
            read_gct(file)
    file.write_bytes(gzip.compress(GCT.encode())[:-15])
    with pytest.raises(ArtefactError, match="truncated or no text"):
        read_gct(file)
    with pytest.raises(ArtefactError, match="cannot read"):
        read_gct(tmp_path / "none.gct")
    file.write_text(GCT.replace("CISD1", "PSME1"))
    with pytest.raises(DataError, match="gene symbols stand twice: PSME1"):
        load_l1000(file)
    file.write_text(GCT.replace("pert_type", "kind"))
    with pytest.raises(DataError, match="obs has no column 'pert_type'"):
        load_l1000(file)


def test_checksums(tmp_path, monkeypatch):
    file = tmp_path / "x.csv"
    file.write_text("a,b\n")
    monkeypatch.setitem(CHECKSUMS, "x.csv", hashlib.sha256(b"a,b\n").hexdigest())
    assert verified(file, "x.csv") == file
    packed = tmp_path / "x.csv.gz"
    packed.write_bytes(gzip.compress(b"a,b\n"))
    assert verified(packed, "x.csv") == packed
    file.write_text("a,c\n")
    with pytest.raises(ArtefactError, match=r"has SHA-256 .*another version or damaged"):
        verified(file, "x.csv")
    with pytest.raises(ConfigError, match="no checksum of 'dong.h5ad' is known, so that nothing can be verified; known are drugcentral"):  # fmt: skip
        verified(file, "dong.h5ad")
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(ArtefactError, match="Download it again"):
        verified(packed, "x.csv")


@pytest.mark.real
def test_checksums_are_those_of_the_files_at_their_commits(data_dir):
    for name in CHECKSUMS:
        (file,) = [each for each in data_dir.glob("*/*") if each.name.removesuffix(".gz") == name]
        assert verified(file, name) == file
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        assert blob in {source["blob"] for source in json.loads((file.parent / "SOURCE.json").read_text())}


@pytest.mark.real
def test_kang_as_it_is(data_dir):
    study = load_kang(data_dir / "kang_ifnb" / "kang_muscat_counts.h5ad")
    obs = study.cells.obs
    assert study.cells.shape == (1556, 1267)
    assert set(obs["donor"]) == {"101", "107"}
    split = unseen_context(obs, perturbation_key="perturbation", control="untreated", context_key="cell_type")
    split.check(study.cells)
    assert len(set(obs["cell_type"][split.test])) == 1
    by_donor = unseen_context(obs, perturbation_key="perturbation", control="untreated", context_key="donor", validation_share=0)  # fmt: skip
    by_donor.check(study.cells)


@pytest.mark.real
def test_norman_maps_as_they_are(data_dir):
    folder = data_dir / "norman_gi"
    pairs = load_norman_maps(folder / "processed_fitnesses.csv.gz", folder / "processed_emap.csv.gz")
    assert len(pairs) == 112 * 111 // 2
    assert pairs.notna().all().all()
    assert pairs["gi"].between(-18.1, 12.5).all()
    additive = pairs["fitness_a"] + pairs["fitness_b"]
    assert np.corrcoef(additive, pairs["fitness_ab"])[0, 1] > 0.8
    few = load_norman_maps(
        folder / "processed_perturbseq_fitnesses.csv.gz", folder / "processed_perturbseq_emap.csv.gz"
    )
    assert len(few) == 104 * 103 // 2
    assert few["fitness_a"].isna().all()


@pytest.mark.real
def test_l1000_as_it_is(data_dir):
    study = load_l1000(data_dir / "l1000_small" / "test_l1000.gct.gz")
    assert study.cells.shape == (377, 978)
    assert (study.cells.obs["perturbation"] == "vehicle").sum() == 26
    assert study.cells[0, "PSME1"].X.item() == pytest.approx(11.3819)
    assert {row.time for row in study.library[1:]} == {"24 h"}
