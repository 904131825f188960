"""Gene names by table: closed forms, properties of random tables, and what the real tables do to real cells."""

from __future__ import annotations

import gzip

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from c2s.cells.gene_table import GeneTable, unversioned
from c2s.cells.identity import orthologs_of, read_gene_table, rename_genes, to_species
from c2s.cells.reading import read_cells
from c2s.errors import ArtefactError, ConfigError, DataError

NAMES = [f"G{i}" for i in range(8)]
PAIRS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([*NAMES, "H0", "H1", "H2"])), max_size=12)


def cells(genes, values=None, **more):
    values = np.arange(1, 2 * len(genes) + 1).reshape(2, -1) if values is None else np.asarray(values)
    return ad.AnnData(sp.csr_matrix(values.astype(np.float32)), var=pd.DataFrame(index=list(genes)), **more)


def outcomes(report):
    return {row.old: (row.new, row.what) for row in report.to_frame().itertuples()}


# --- tables as text ---


@pytest.mark.parametrize("text", [
    "A\tB\nC\tD\n", "A,B\nC,D", "A;B\r\nC;D\r\n", "\ufeffA,B\nC,D", "Symbol\tApproved.Symbol\tchromosome\nA\tB\t1\nC\tD\t2\n",
    "geneId,geneName\nA,B\nC,D\n", '"A","B"\n\n"C","D"\n', "A,B\nC,D\nE,\n,F\nG\n", "A,B\nA,B\n C , D \n",
])  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_reads_the_shapes_tables_come_in(tmp_path, text, packed):
    content = text.encode()
    (tmp_path / "table").write_bytes(gzip.compress(content) if packed else content)
    assert dict(read_gene_table(tmp_path / "table")) == {"A": ("B",), "C": ("D",)}


def test_columns_by_name_and_by_number(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("x,y,z\nA,B,C\n")
    assert dict(read_gene_table(file, source="z", target="x")) == {"C": ("A",)}
    assert dict(read_gene_table(file, source="3", target="2")) == {"z": ("y",), "C": ("B",)}  # x, y, z may be genes
    with pytest.raises(
        DataError, match=r"no column 'w'; found x, y, z. Pass source= \(--source\) by name, or as a numb"
    ):
        read_gene_table(file, source="w")
    with pytest.raises(DataError, match="no column '4'.*Pass target="):
        read_gene_table(file, target="4")
    with pytest.raises(DataError, match="source and target are both column 2"):
        read_gene_table(file, source="y")


def test_several_names_in_one_field_and_approved_symbols_without_any(tmp_path):
    file = tmp_path / "hgnc.tsv"
    file.write_text('symbol\talias_symbol\nA\t"X|Y"\nB\tA|Y\nX\t\n')
    table = read_gene_table(file, source="alias_symbol", target="symbol")
    assert dict(table) == {"X": ("A",), "Y": ("A", "B"), "A": ("B",)}
    assert table.approved == {"A", "B", "X"}
    _, report = rename_genes(cells(["A", "X", "Y"]), table)
    assert outcomes(report) == {"A": ("A", "unchanged"), "X": ("X", "unchanged"), "Y": ("", "dropped")}


@pytest.mark.parametrize(("content", "kind", "message"), [
    (b"", DataError, "has 0 columns"),
    (b"A\nB\n", DataError, r"has 1 columns \(A\); expected old and new names"),
    (b"old,new\n", DataError, "no pair of names in its columns 1 and 2; its first row is old, new"),
    (b'A,B\n"C,D\n', DataError, "line 2: .*Close the quote"),
    (b"\x1f\x8b\x08broken", ArtefactError, "cannot read the gene table"),
    (b"A,\xff\xfe", ArtefactError, "cannot read the gene table"),
])  # fmt: skip
def test_bad_tables(tmp_path, content, kind, message):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(kind, match=message):
        read_gene_table(tmp_path / "table.csv")


def test_missing_table(tmp_path):
    with pytest.raises(ArtefactError, match="cannot read the gene table .*absent"):
        read_gene_table(tmp_path / "absent.csv")


@pytest.mark.parametrize(("gene", "expected"), [
    ("ENSG00000000003.15", "ENSG00000000003"), ("ENSMUSG00000000001.5", "ENSMUSG00000000001"),
    ("ENSG00000182378.15_PAR_Y", "ENSG00000182378.15_PAR_Y"), ("RP11-34P13.7", "RP11-34P13.7"), ("AL627309.1", "AL627309.1"),
])  # fmt: skip
def test_only_ensembl_versions_are_removed(gene, expected):
    assert unversioned(gene) == expected


@given(PAIRS, st.randoms())
def test_order_of_rows_does_not_matter(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    assert dict(GeneTable(pairs)) == dict(GeneTable(shuffled))
    one, report = rename_genes(cells(NAMES), GeneTable(pairs), on_ambiguous="keep", on_collision="sum")
    two, other = rename_genes(cells(NAMES), GeneTable(shuffled), on_ambiguous="keep", on_collision="sum")
    assert report == other
    assert one.var.equals(two.var)
    assert (one.X != two.X).nnz == 0


# --- renaming ---


def test_every_outcome_of_renaming():
    table = {"OLD": "NEW", "APPROVED": "OTHER", "SELF": ("APPROVED",), "TWO": ("P", "Q"), "S1": "S", "S2": "S"}
    before = cells(["OLD", "APPROVED", "UNKNOWN", "TWO", "S1", "S2"], [[1, 2, 3, 4, 5, 6], [0, 1, 0, 1, 0, 1]])
    after, report = rename_genes(before, table, on_collision="sum")
    assert outcomes(report) == {
        "OLD": ("NEW", "renamed"),
        "APPROVED": ("APPROVED", "unchanged"),
        "UNKNOWN": ("UNKNOWN", "unchanged"),
        "TWO": ("", "dropped"),
        "S1": ("S", "merged"),
        "S2": ("S", "merged"),
    }
    assert report.renamed == {"OLD": "NEW"}
    assert report.merged == {"S": ("S1", "S2")}
    assert report.dropped == {"TWO": "ambiguous: P, Q"}
    assert report.ambiguous == {"TWO": ("P", "Q")}
    assert report.unchanged == 2
    assert report.summary() == (
        "6 genes: 2 unchanged (approved: 1, not in the table: 1), 1 renamed, 2 merged into 1, "
        "1 dropped (ambiguous: 1). 4 genes remain."
    )
    assert after.var_names.tolist() == ["NEW", "APPROVED", "UNKNOWN", "S"]
    assert after.var["original_name"].tolist() == ["OLD", "APPROVED", "UNKNOWN", "S1|S2"]
    np.testing.assert_array_equal(after.X.toarray(), [[1, 2, 3, 11], [0, 1, 0, 1]])
    why = report.to_frame().set_index("old")["why"]
    assert why["APPROVED"] == "approved: also an old name of OTHER"


def test_input_is_never_modified():
    before = cells(["A", "B", "C"], layers={"counts": np.ones((2, 3), dtype=np.int8)})
    before.raw = before
    copy = before.copy()
    after, _ = rename_genes(before, {"A": "X", "B": "X"}, on_collision="sum")
    after.X.data[:] = 0
    after.layers["counts"][:] = 0
    assert before.var.equals(copy.var)
    assert before.raw.var.equals(copy.raw.var)
    assert (before.X != copy.X).nnz == 0
    np.testing.assert_array_equal(before.layers["counts"], copy.layers["counts"])


def test_layers_raw_and_metadata_come_along():
    wide = cells(["A", "B", "C", "D"], [[1, 2, 3, 4], [5, 6, 7, 8]])
    before = cells(["A", "B", "C"], layers={"counts": np.full((2, 3), 100, dtype=np.uint8)}, uns={"note": "kept"})
    before.raw = wide
    before.var["biotype"] = ["coding", "coding", "other"]
    before.var["n_cells"] = [7, 8, 9]
    before.obs["donor"] = ["d1", "d2"]
    before.obsm["X_pca"] = np.ones((2, 2))
    before.varm["PCs"] = np.ones((3, 2))
    after, _ = rename_genes(before, {"B": "A", "D": "A"}, on_collision="sum")
    assert after.var_names.tolist() == ["A", "C"]
    np.testing.assert_array_equal(after.layers["counts"], [[200, 100], [200, 100]])  # 200 does not fit into int8
    assert after.layers["counts"].dtype == np.int64
    np.testing.assert_array_equal(after.raw.X.toarray(), [[7, 3], [19, 7]])
    assert after.raw.var["original_name"].tolist() == ["A|B|D", "C"]
    assert after.var["biotype"].tolist() == ["coding", "other"]
    np.testing.assert_array_equal(after.var["n_cells"], [np.nan, 9])  # the first gene's number is not the sum's
    assert not after.varm
    assert after.obs.equals(before.obs)
    assert after.uns["note"] == "kept"
    kept, _ = rename_genes(before, {"C": "E"})
    assert kept.var["n_cells"].tolist() == [7, 8, 9]
    assert "PCs" in kept.varm


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_matrices_keep_their_kind(kind, dtype):
    before = ad.AnnData(kind(np.array([[1, 0, 2], [0, 3, 4]], dtype=dtype)), var=pd.DataFrame(index=["A", "B", "C"]))
    after, _ = rename_genes(before, {"C": "A"}, on_collision="sum")
    assert type(after.X) is type(before.X)
    assert after.X.dtype == (dtype if np.issubdtype(dtype, np.floating) else np.int64)
    values = after.X.toarray() if sp.issparse(after.X) else after.X
    np.testing.assert_array_equal(values, [[3, 0], [4, 3]])


def test_ambiguous_genes_dropped_kept_or_refused():
    before, table = cells(["A", "B"]), {"A": ("P", "Q")}
    assert rename_genes(before, table)[0].var_names.tolist() == ["B"]
    after, report = rename_genes(before, table, on_ambiguous="keep")
    assert after.var_names.tolist() == ["A", "B"]
    assert report.ambiguous == {"A": ("P", "Q")}
    assert "2 unchanged (ambiguous: 1, not in the table: 1)" in report.summary()
    with pytest.raises(DataError, match=r"1 genes have several new names: A \(P or Q\).*on_ambiguous='drop' or 'keep'"):
        rename_genes(before, table, on_ambiguous="error")
    only_raw = cells(["B"])
    only_raw.raw = before
    with pytest.raises(DataError, match=r"A \(P or Q\)"):
        rename_genes(only_raw, table, on_ambiguous="error")


def test_collisions_are_refused_unless_added_up():
    with pytest.raises(
        DataError, match=r"1 new names are shared by several genes of var: B ← A \+ B. Pass on_collision"
    ):
        rename_genes(cells(["A", "B"]), {"A": "B"})
    narrow = cells(["B"])
    narrow.raw = cells(["A", "B"])
    with pytest.raises(DataError, match=r"several genes of raw.var: B ← A \+ B"):
        rename_genes(narrow, {"A": "B"})
    after, report = rename_genes(cells(["A", "A"], [[1, 2], [3, 4]]), {}, on_collision="sum")
    np.testing.assert_array_equal(after.X.toarray(), [[3], [7]])
    assert report.merged == {"A": ("A", "A")}


@pytest.mark.parametrize("values", [[[0.5, 1.2], [0.1, 3.0]], [[-1.0, 2.0], [1.0, 0.0]]])
def test_logarithms_are_not_added_up(values):
    with pytest.raises(DataError, match="X holds logarithms or negative values.*where genes merge"):
        rename_genes(cells(["A", "B"], values), {"A": "B"}, on_collision="sum")
    after, _ = rename_genes(cells(["A", "B"], values), {"A": "C"}, on_collision="sum")  # nothing merges
    np.testing.assert_allclose(after.X.toarray(), values)


def test_ids_are_matched_without_version():
    table = GeneTable([("ENSG00000000003", "TSPAN6"), ("ENSG00000000005.6", "TNMD")])
    after, report = rename_genes(cells(["ENSG00000000003.15", "ENSG00000000005", "ENSG00000000419.2"]), table)
    assert after.var_names.tolist() == ["TSPAN6", "TNMD", "ENSG00000000419.2"]
    assert report.renamed == {"ENSG00000000003.15": "TSPAN6", "ENSG00000000005": "TNMD"}


def test_a_table_of_another_species_is_refused():
    with pytest.raises(DataError, match="genes look mouse, but the table's new names for 1 of them look human"):
        rename_genes(cells(["Cd4", "Cd8a"]), {"Cd4": "CD4"})


def test_nothing_left_and_unknown_choices():
    with pytest.raises(DataError, match=r"var has no gene left of 1 \(A\): ambiguous \(1\). Is it the right table"):
        rename_genes(cells(["A"]), {"A": ("P", "Q")})
    with pytest.raises(ConfigError, match="on_ambiguous is 'first'; choose 'drop' or 'keep' or 'error'"):
        rename_genes(cells(["A"]), {}, on_ambiguous="first")
    with pytest.raises(ConfigError, match="on_collision is 'keep'; choose 'error' or 'sum'"):
        rename_genes(cells(["A"]), {}, on_collision="keep")


@given(PAIRS)
def test_counts_are_preserved_where_nothing_is_dropped(pairs):
    before = cells(NAMES)
    after, report = rename_genes(before, GeneTable(pairs), on_ambiguous="keep", on_collision="sum")
    np.testing.assert_array_equal(after.X.sum(axis=1), before.X.sum(axis=1))
    assert after.var_names.is_unique
    assert not report.dropped
    rows = report.to_frame()
    assert rows["old"].tolist() == NAMES
    assert report.unchanged + len(report.renamed) + sum(map(len, report.merged.values())) == len(NAMES)
    for old, new in zip(rows["old"], rows["new"]):  # brute force: each new column is the sum of its old ones
        members = rows.loc[rows["new"] == new, "old"].tolist()
        np.testing.assert_array_equal(after[:, new].X.toarray().ravel(), before[:, members].X.toarray().sum(axis=1))
        assert old in after.var.loc[new, "original_name"].split("|")


@given(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
def test_an_empty_table_is_the_identity(genes):
    before = cells(genes)
    after, report = rename_genes(before, {})
    assert after.var_names.equals(before.var_names)
    assert (after.X != before.X).nnz == 0
    assert report.unchanged == len(genes)
    assert not (report.renamed or report.merged or report.dropped or report.ambiguous)


def test_report_is_written(tmp_path):
    _, report = rename_genes(cells(["A", "B"]), {"A": ("P", "Q")})
    report.write(tmp_path / "report.csv")
    frame = pd.read_csv(tmp_path / "report.csv", keep_default_na=False)
    assert frame.equals(report.to_frame())
    assert frame.loc[0].tolist() == ["A", "", "dropped", "ambiguous: P, Q"]


# --- species ---

ORTHOLOGS = {"CD4": ("Cd4",), "ACAT2": ("Acat2", "Acat3"), "DDT": ("Ddt",), "DDTL": ("Ddt",), "AAMP": ("Aamp",)}


def test_every_outcome_of_orthologs():
    mouse = cells(["Cd4", "Acat2", "Acat3", "Ddt", "Gm1992"], [[1, 2, 3, 4, 5]])
    after, report = to_species(mouse, ORTHOLOGS, species="human")
    assert after.var_names.tolist() == ["CD4"]
    assert report.renamed == {"Cd4": "CD4"}
    assert report.dropped == {
        "Acat2": "ortholog shared: ACAT2 with Acat3",
        "Acat3": "ortholog shared: ACAT2 with Acat2",
        "Ddt": "several orthologs: DDT, DDTL",
        "Gm1992": "no ortholog in the table",
    }
    assert report.ambiguous == {"Acat2": ("ACAT2",), "Acat3": ("ACAT2",), "Ddt": ("DDT", "DDTL")}
    summed, report = to_species(mouse, ORTHOLOGS, species="human", on_many="sum")
    assert summed.var_names.tolist() == ["CD4", "ACAT2"]
    np.testing.assert_array_equal(summed.X.toarray(), [[1, 5]])
    assert report.merged == {"ACAT2": ("Acat2", "Acat3")}
    assert set(report.dropped) == {"Ddt", "Gm1992"}


def test_table_in_either_direction_and_back_again():
    human = cells(["CD4", "AAMP", "DDT"], [[1, 2, 3]])
    mouse, _ = to_species(human, ORTHOLOGS, species="mouse")
    assert mouse.var_names.tolist() == ["Cd4", "Aamp"]
    back, _ = to_species(mouse, GeneTable.of(ORTHOLOGS).inverted(), species="human")
    assert back.var_names.tolist() == ["CD4", "AAMP"]
    np.testing.assert_array_equal(back.X.toarray(), [[1, 2]])


def test_orthologs_refuse_what_makes_no_sense():
    with pytest.raises(DataError, match=r"genes already look human \(CD4, AAMP\)"):
        to_species(cells(["CD4", "AAMP"]), ORTHOLOGS, species="human")
    with pytest.raises(
        DataError, match="leads from names that look human .*expected human on one side and mouse on the"
    ):
        to_species(cells(["Cd4"]), {"T4": "CD4"}, species="human")
    with pytest.raises(DataError, match=r"var has no gene left of 1 \(Gm1992\): no ortholog in the table \(1\)"):
        to_species(cells(["Gm1992"]), ORTHOLOGS, species="human")
    with pytest.raises(DataError, match=r"CD4 ← Cd4 \+ Cd4. Pass on_many='sum'"):
        to_species(cells(["Cd4", "Cd4"]), ORTHOLOGS, species="human")
    with pytest.raises(ConfigError, match="species is 'rat'"):
        to_species(cells(["Cd4"]), ORTHOLOGS, species="rat")
    with pytest.raises(ConfigError, match="on_many is 'first'"):
        to_species(cells(["Cd4"]), ORTHOLOGS, species="human", on_many="first")


def test_orthologs_of_names_alone_follow_the_same_rules():
    table = GeneTable(
        [("CD4", "Cd4"), ("XIST", "Xist"), ("HBA1", "Hba"), ("HBA2", "Hba"), ("TWO", "Two1"), ("TWO", "Two2")]
    )
    genes = ["CD4", "HBA1", "TWO", "NONE1", "XIST", "CD4"]
    report = orthologs_of(genes, table, species="mouse")
    assert report == to_species(cells(genes[:-1]), table, species="mouse")[1]
    assert {each.old: each.new for each in report.outcomes if each.new} == {"CD4": "Cd4", "XIST": "Xist"}


# --- real tables ---


@pytest.mark.real
def test_hgnc_aliases_of_pbmc3k(data_dir):
    table = read_gene_table(data_dir / "gene_tables" / "hgnc_alias_to_approved.tsv.gz")
    assert (len(table), len(table.approved)) == (98_582, 43_135)
    before = read_cells(data_dir / "pbmc3k" / "pbmc3k_counts.h5ad")
    after, report = rename_genes(before, table, on_ambiguous="keep", on_collision="sum")
    assert after.X.sum(dtype=np.float64) == before.X.sum(dtype=np.float64)
    assert len(report.renamed) == 1_542
    assert len(report.ambiguous) == 23
    assert (sum(map(len, report.merged.values())), len(report.merged)) == (153, 75)
    assert report.ambiguous["SEPT2"] == ("SEPTIN2", "SEPTIN6")
    frame = pd.read_csv(data_dir / "gene_tables" / "hgnc_alias_to_approved.tsv.gz", sep="\t", keep_default_na=False)
    single = frame.groupby("Symbol")["Approved.Symbol"].agg(set)
    approved = set(frame["Approved.Symbol"])
    for old, new in report.renamed.items():  # an independent reading of the table
        assert old not in approved
        assert single[old] == {new}


@pytest.mark.real
def test_gencode_ids(data_dir):
    table = read_gene_table(data_dir / "gene_tables" / "GENCODEv44_Gene_id2name.csv.gz")
    assert len(table) == 62_754  # no header: the first row is a gene
    assert table["ENSG00000290825"] == ("DDX11L2",)
    assert all(len(symbols) == 1 for symbols in table.values())
    after, _ = rename_genes(cells(["ENSG00000000003.15", "ENSG00000166710.22"]), table)
    assert after.var_names.tolist() == ["TSPAN6", "B2M"]


@pytest.mark.real
def test_mouse_cortex_to_human_and_back(data_dir):
    table = read_gene_table(data_dir / "gene_tables" / "Ensembl105_Human2Mouse_Genes.csv.gz")
    mouse = read_cells(data_dir / "starmap_cortex" / "starmap_cortex_counts.h5ad")
    human, report = to_species(mouse, table, species="human")
    assert (human.n_vars, len(report.dropped)) == (921, 75)
    back, again = to_species(human, table, species="mouse")
    assert not again.dropped  # one-to-one pairs lose nothing on the way back
    assert back.var_names.tolist() == [gene for gene in mouse.var_names if gene not in report.dropped]
    assert (back.X != mouse[:, back.var_names].X).nnz == 0
