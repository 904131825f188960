from __future__ import annotations

import gzip
import logging

import numpy as np
import pytest

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ArtefactError, DataError
from c2s.screening.programmes import Programme, load_programme, packaged_sets, programme_ids, read_gmt

SURFACE = ("HLA-A", "HLA-B", "HLA-C", "HLA-E", "B2M")
LOADING = (
    "TAP1", "TAP2", "TAPBP", "PSMB8", "PSMB9", "PSMB10", "ERAP1", "ERAP2", "NLRC5", "CALR", "CANX", "PDIA3",
)  # fmt: skip


def test_mhc_class_i_has_its_two_parts():
    programme = load_programme("MHC_CLASS_I")
    assert set(programme.genes) == {*SURFACE, *LOADING}
    assert {part: set(genes) for part, genes in programme.subsets.items()} == {
        "surface": set(SURFACE),
        "loading": set(LOADING),
    }
    assert load_programme("MHC_CLASS_I_SURFACE").genes == SURFACE


def test_packaged_pathways_are_short_sets_of_human_symbols():
    sets = packaged_sets()
    pathways = {name: genes for name, genes in sets.items() if not name.startswith("MHC_CLASS_I_")}
    assert len(pathways) >= 13
    for name, genes in pathways.items():
        assert 10 <= len(genes) <= 30, name
        assert all(gene == gene.strip().upper() and " " not in gene for gene in genes), name
    assert load_programme("HYPOXIA").subsets == {}


def test_a_set_of_a_gmt_file(tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text("ONE\thttp://x\tA\tB\tA\t\nTWO\t\tC\n\n")
    assert read_gmt(path) == {"ONE": ("A", "B"), "TWO": ("C",)}
    assert load_programme("ONE", gmt=path) == Programme("ONE", ("A", "B"))
    assert load_programme("MHC_CLASS_I", gmt=path) == load_programme(
        "MHC_CLASS_I"
    )  # what the file lacks may be packaged
    with pytest.raises(DataError, match=r"pass it as gmt= .*: ONE, TWO"):
        load_programme(path)


def test_a_byte_order_mark_is_no_letter(tmp_path):
    (tmp_path / "bom.gmt").write_text("\ufeffONE\tabout\tA\tB\n", encoding="utf-8")
    (tmp_path / "bom.txt").write_text("\ufeffA B\n", encoding="utf-8")
    assert read_gmt(tmp_path / "bom.gmt") == {"ONE": ("A", "B")}
    assert load_programme(tmp_path / "bom.txt").genes == ("A", "B")


def test_a_packed_gmt_file_reads_like_the_plain_one(tmp_path):
    plain, packed, truncated = (tmp_path / name for name in ("sets.gmt", "sets.gmt.gz", "cut.gmt.gz"))
    plain.write_text("ONE\thttp://x\tA\tB\nTWO\t\tC\n")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    truncated.write_bytes(packed.read_bytes()[:-9])
    assert read_gmt(packed) == read_gmt(plain) == {"ONE": ("A", "B"), "TWO": ("C",)}
    assert load_programme("TWO", gmt=packed) == Programme("TWO", ("C",))
    with pytest.raises(DataError, match=r"pass it as gmt= .*: ONE, TWO"):
        load_programme(packed)
    with pytest.raises(ArtefactError, match="cannot read gene sets"):
        read_gmt(truncated)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A\tdescription\n", "line 1: expected name, description and genes"),
        ("S\td\tA\nS\td\tB\n", "line 2: the set S occurs twice"),
        ("\n", "no gene set"),
    ],
)
def test_bad_gmt_files_are_refused(tmp_path, text, message):
    path = tmp_path / "bad.gmt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_gmt(path)


def test_a_text_file_and_a_list(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("# my genes\nHLA-A, B2M\nTAP1  # transporter\nB2M\n")
    assert load_programme(path) == Programme("mine", ("HLA-A", "B2M", "TAP1"))
    assert load_programme(str(path)) == load_programme(path)
    assert load_programme(["B2M", "HLA-A", "B2M"]).genes == ("B2M", "HLA-A")
    path.write_text("# nothing\n")
    with pytest.raises(DataError, match="no gene symbol"):
        load_programme(path)
    with pytest.raises(DataError, match="no gene symbol"):
        load_programme([])


def test_an_unknown_name_lists_near_names(tmp_path):
    with pytest.raises(DataError, match=r"near names: .*MHC_CLASS_I\b"):
        load_programme("mhc_class_1")
    with pytest.raises(DataError, match="known: MHC_CLASS_I"):
        load_programme("zzz")
    path = tmp_path / "sets.gmt"
    path.write_text("HALLMARK_HYPOXIA\tx\tA\n")
    with pytest.raises(DataError, match="near names: HALLMARK_HYPOXIA"):
        load_programme("HALLMARK_HIPOXIA", gmt=path)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(ArtefactError, match="cannot read gene sets"):
        read_gmt(tmp_path / "none.gmt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtefactError, match="cannot read gene sets"):
        load_programme(tmp_path / "binary")


def test_ids_follow_the_programme_and_absent_genes_are_logged(caplog):
    vocabulary = GeneVocabulary(("CD4", "B2M", "HLA-A", "TAP1"))
    programme = Programme("mine", ("HLA-A", "NLRC5", "B2M"))
    with caplog.at_level(logging.WARNING):
        ids = programme_ids(programme, vocabulary)
    np.testing.assert_array_equal(ids, [2, 1])
    assert "1 of 3 genes absent" in caplog.text
    assert "NLRC5" in caplog.text


def test_too_few_genes_are_refused_with_both_lists():
    vocabulary = GeneVocabulary(("CD4", "B2M", "HLA-A"))
    programme = Programme("mine", ("B2M", "TAP1", "TAP2", "NLRC5"))
    with pytest.raises(DataError, match=r"only 1 of 4 genes .*Present: B2M\. Absent: TAP1, TAP2, NLRC5"):
        programme_ids(programme, vocabulary)
    np.testing.assert_array_equal(programme_ids(programme, vocabulary, min_share=0.25), [1])
    with pytest.raises(DataError, match="Present: none"):
        programme_ids(Programme("other", ("X",)), vocabulary, min_share=0.0)
