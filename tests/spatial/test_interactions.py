"""Tables of pairs, each in the format of its source: complexes resolved, species kept apart, damage told."""

from __future__ import annotations

import gzip
import zipfile

import pytest

from c2s.cells.gene_table import read_gene_table
from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.spatial.interactions import read_biogrid, read_cellphonedb, read_omnipath, read_pairs
from c2s.spatial.knowledge import GenePair

TAB3 = (
    "#BioGRID Interaction ID\tEntrez Gene Interactor A\tEntrez Gene Interactor B\tBioGRID ID Interactor A\tBioGRID ID Interactor B\t"
    "Systematic Name Interactor A\tSystematic Name Interactor B\tOfficial Symbol Interactor A\tOfficial Symbol Interactor B\t"
    "Synonyms Interactor A\tSynonyms Interactor B\tExperimental System\tExperimental System Type\tAuthor\tPublication Source\t"
    "Organism ID Interactor A\tOrganism ID Interactor B\tThroughput\tScore\tModification\tQualifications\tTags\tSource Database"
)


def biogrid_row(a, b, *, system="physical", taxa=("9606", "9606"), note="-"):
    left = ["1", "2", "3", "4", "5", "-", "-", a, b, "x|y", "-", "Two-hybrid", system, "Someone (2000)", "PUBMED:1"]
    return "\t".join([*left, *taxa, "Low Throughput", "-", "-", note, "-", "BIOGRID"])


@pytest.fixture()
def biogrid(tmp_path):
    rows = [
        biogrid_row("MAP2K4", "FLNC", note='a "quote that never closes'),
        biogrid_row("FLNC", "MAP2K4"),
        biogrid_row("ACTN2", "ACTN2"),
        biogrid_row("ACTN2", "SYNPO2", system="genetic"),
        biogrid_row("ACTN2", "Actn3", taxa=("9606", "10090")),
        biogrid_row("Actn2", "Actn3", taxa=("10090", "10090")),
        biogrid_row("ACTN2", "-"),
        biogrid_row("ACTN2", "NA"),
    ]
    path = tmp_path / "biogrid.tab3.txt"
    path.write_text("\n".join([TAB3, *rows]) + "\n", encoding="utf-8")
    return path


def one(a, b):
    return GenePair((a,), (b,))


def test_biogrid_gives_the_pairs_of_one_species(biogrid):
    human = read_biogrid(biogrid, species="human")
    assert set(human.pairs) == {one("FLNC", "MAP2K4"), one("ACTN2", "NA")}
    assert (human.kind, human.source, human.species) == ("interaction", "BioGRID", "human")
    assert read_biogrid(biogrid, species="mouse").pairs == (one("Actn2", "Actn3"),)
    assert read_biogrid(biogrid, species="human", systems="genetic").pairs == (one("ACTN2", "SYNPO2"),)
    assert len(read_biogrid(biogrid, species="human", systems="both")) == 3


def test_biogrid_packed_and_damaged(biogrid, tmp_path):
    packed = tmp_path / "biogrid.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(biogrid, "BIOGRID.tab3.txt")
    assert read_biogrid(packed, species="human").pairs == read_biogrid(biogrid, species="human").pairs
    with zipfile.ZipFile(packed, "a") as archive:
        archive.write(biogrid, "second.tab3.txt")
    with pytest.raises(ArtefactError, match="the archive holds BIOGRID.tab3.txt, second.tab3.txt"):
        read_biogrid(packed, species="human")
    with pytest.raises(ConfigError, match="choose human or mouse"):
        read_biogrid(biogrid, species="yeast")
    biogrid.write_text("\n".join([TAB3, biogrid_row("RFA1", "RFA2", taxa=("559292", "559292"))]), encoding="utf-8")
    with pytest.raises(DataError, match="its organisms are 559292"):
        read_biogrid(biogrid, species="mouse")
    biogrid.write_text("A\tB\nC\tD\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no column 'Official Symbol Interactor A', .*found A, B"):
        read_biogrid(biogrid, species="mouse")


@pytest.fixture()
def cellphonedb(tmp_path):
    (tmp_path / "genes.csv").write_text(
        "gene_name,uniprot,hgnc_symbol,ensembl\n"
        "TGFB1,P1,TGFB1,E1\nTGFB1,P1,TGFB1,E2\nTGFBR1,P2,TGFBR1,E3\nTGFBR2,P3,TGFBR2,E4\nTWO,P4,ONE,E5\nTWO,P4,OTHER,E6\n",
        encoding="utf-8",
    )
    (tmp_path / "complexes.csv").write_text(
        "complex_name,uniprot_1,uniprot_2,uniprot_3,comment\n"
        'TGFbR,P2,P3,,"a comment, with a comma"\nUnknown,P2,P9,,\nOpen,P2,P4,,\n',
        encoding="utf-8",
    )
    (tmp_path / "interactions.csv").write_text(
        "id,partner_a,partner_b\n1,P1,TGFbR\n2,P1,Unknown\n3,P1,Open\n4,P8,P1\n5,P2,P3\n6,P1,TGFbR\n", encoding="utf-8"
    )
    return tmp_path


def test_cellphonedb_resolves_complexes_to_their_subunits(cellphonedb):
    found = read_cellphonedb(
        cellphonedb / "interactions.csv", complexes=cellphonedb / "complexes.csv", genes=cellphonedb / "genes.csv"
    )
    assert found.pairs == (GenePair(("TGFB1",), ("TGFBR1", "TGFBR2")), one("TGFBR1", "TGFBR2"))
    assert (found.kind, found.species) == ("ligand_receptor", "human")
    (cellphonedb / "complexes.csv").write_text("complex_name,uniprot_1,uniprot_2\nA,P1,P2\nA,P1,P3\n", encoding="utf-8")
    with pytest.raises(DataError, match="A name two complexes each"):
        read_cellphonedb(
            cellphonedb / "interactions.csv", complexes=cellphonedb / "complexes.csv", genes=cellphonedb / "genes.csv"
        )


def test_omnipath_with_complexes(tmp_path):
    path = tmp_path / "omnipath.tsv"
    path.write_text(
        "source\ttarget\tsource_genesymbol\ttarget_genesymbol\tis_directed\n"
        "P1\tP2\tCALM1\tTRPC1\t1\nP1\tCOMPLEX:P5_P6\tVTN\tITGB3_ITGAV\t1\nP2\tP2\tTRPC1\tTRPC1\t0\n",
        encoding="utf-8",
    )
    found = read_omnipath(path, species="human")
    assert found.pairs == (one("CALM1", "TRPC1"), GenePair(("ITGAV", "ITGB3"), ("VTN",)))
    directed = read_omnipath(path, species="human", kind="ligand_receptor")
    assert directed.pairs[1] == GenePair(("VTN",), ("ITGAV", "ITGB3")) and len(directed) == 3
    with pytest.raises(DataError, match="look human"):
        read_omnipath(path, species="mouse")


def test_two_columns_of_any_table(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('ligand;receptor;note\nSst;Sstr2;"a;b"\nVip; Vipr1 ;\n;Vipr1;\n', encoding="utf-8")
    found = read_pairs(path, species="mouse", kind="ligand_receptor", source="mine")
    assert found.pairs == (one("Sst", "Sstr2"), one("Vip", "Vipr1"))
    swapped = read_pairs(path, species="mouse", kind="ligand_receptor", source="mine", columns=("receptor", "ligand"))
    assert swapped.pairs[0] == one("Sstr2", "Sst")
    packed = tmp_path / "pairs.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_pairs(packed, species="mouse", kind="ligand_receptor", source="mine").pairs == found.pairs
    with pytest.raises(DataError, match="has no column 'from'; found ligand, receptor, note"):
        read_pairs(path, species="mouse", kind="interaction", source="mine", columns=("from", "receptor"))
    packed.write_bytes(packed.read_bytes()[:30])
    with pytest.raises(ArtefactError, match="cannot read the table"):
        read_pairs(packed, species="mouse", kind="interaction", source="mine")
    with pytest.raises(ArtefactError, match="cannot read the table"):
        read_pairs(tmp_path / "none.tsv", species="mouse", kind="interaction", source="mine")
    for text, says in (
        ("", "found nothing"),
        ("a\tb\n", "no pair of gene symbols among its 0 rows"),
        ("a\nSst\n", "has 1 column"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=says):
            read_pairs(path, species="mouse", kind="interaction", source="mine")


@pytest.mark.real
def test_real_tables(data_dir):
    folder = data_dir / "ligand_receptor"
    found = read_cellphonedb(
        folder / "cellphonedb_interaction_input.csv.gz",
        complexes=folder / "cellphonedb_complex_input.csv.gz",
        genes=folder / "cellphonedb_gene_input.csv.gz",
    )
    assert len(found) > 2900 and GenePair(("CDH1",), ("ITGA2", "ITGB1")) in found.pairs
    table = read_gene_table(data_dir / "gene_tables" / "Ensembl105_Human2Mouse_Genes.csv.gz")
    mouse = found.to_species(table, species="mouse")
    assert GenePair(("Cdh1",), ("Itga2", "Itgb1")) in mouse.pairs and 2000 < len(mouse) < len(found)
    pairs = read_pairs(
        folder / "celltalkdb_mouse_lr_pair.tsv.gz", species="mouse", kind="ligand_receptor", source="CellTalkDB",
        columns=("ligand_gene_symbol", "receptor_gene_symbol"),
    )  # fmt: skip
    assert len(pairs) == 2033 and one("Sst", "Sstr2") in pairs.pairs
