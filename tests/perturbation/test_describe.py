"""Names to combinations, spellings to the rows of a table, and tables in the layouts of those who give them out."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2s.cells.library import Perturbation, combined
from c2s.errors import ArtefactError, DataError
from c2s.perturbation.describe import canonical_names, library_of, parse_combination, with_descriptions
from c2s.perturbation.drug_tables import read_drug_table
from c2s.perturbation.synonyms import Synonyms, normal_name

DRUGCENTRAL = (
    "DRUG_ID\tDRUG_NAME\tTARGET_NAME\tGENE\tACTION_TYPE\n"
    "1\tcediranib\tReceptor two\tKDR\tINHIBITOR\n1\tcediranib\tReceptor Kit\tKIT\tINHIBITOR\n1\tcediranib\tSomething\tKDR\t\n"
    "2\tinterferon beta-1a\tIFN receptor\tIFNAR1|IFNAR2\tAGONIST\n"
)
HUB = (
    "!Source\t\"The hub\"\t\r\n!Restrictions\tnon-commercial\r\n"
    "pert_iname\tclinical_phase\tmoa\ttarget\tdisease_area\tindication\r\n"
    "CX-4945\tPhase 2\tcasein kinase inhibitor|other inhibitor\tCSNK2A1|CSNK2A2\t\t\r\n"
    "crizotinib\tLaunched\tALK inhibitor\tALK\toncology\t\"a \"\"quoted\"\" use\"\r\n"
    "crizotinib-(S)\tPreclinical\t\tNUDT1\t\t\r\n"
)  # fmt: skip
SCIPLEX = (
    '"Catalog.Number"\t"Product.Name"\t"Target"\t"Pathway"\n"S1"\t"Veliparib (ABT-888)"\t"PARP"\t"DNA Damage"\n'
    '"S2"\t"Some Drug HCl"\t"Others"\t"Others"\n"S3"\t"Odd"\t"Others"\t"Epigenetics"\n'
)


def written(tmp_path, text, name="table.tsv"):
    file = tmp_path / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return file


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("A+B", ("A", "B")),
        ("IFNb+ IFNg", ("IFNb", "IFNg")),
        ("KLF1+ctrl", ("KLF1",)),
        ("ctrl+KLF1", ("KLF1",)),
        ("ctrl", ()),
        ("ctrl+ctrl", ()),
        ("A+A", ("A",)),
        ("A_B", ("A_B",)),
    ],
)
def test_a_combination_is_split_at_its_separators_only(name, parts):
    assert parse_combination(name) == parts


def test_separators_are_the_caller_s():
    assert parse_combination("A_B+C", separators=("+", "_")) == ("A", "B", "C")
    assert parse_combination("(+)-JQ1", separators=()) == ("(+)-JQ1",)
    assert parse_combination("A+neg", dropped=("neg",)) == ("A",)
    with pytest.raises(DataError, match=r"'\(\+\)-JQ1\+' has an empty part between its separators \(\+\)"):
        parse_combination("(+)-JQ1+")
    with pytest.raises(DataError, match="a separator is empty"):
        parse_combination("A", separators=("",))


@given(st.lists(st.sampled_from(["KLF1", "BAK1", "ctrl", "CEBPE"]), min_size=1, max_size=4), st.randoms())
def test_a_canonical_name_does_not_depend_on_the_order_of_parts(parts, random):
    shuffled = random.sample(parts, len(parts))
    one, other = canonical_names(["+".join(parts), "+".join(shuffled)], control="control")
    assert one == other == (" + ".join(sorted(set(parts) - {"ctrl"})) or "control")
    assert canonical_names([one], control="control") == [one]


def test_a_library_of_cells():
    obs = pd.DataFrame({"given": ["medium", "B+A", "A", "A", "C"], "dose": ["", "1 uM", "2 uM", "2 uM", "3 uM"], "h": ["24 h"] * 5})  # fmt: skip
    library = library_of(obs, perturbation_key="given", control="medium", dose_key="dose", time_key="h", names_are_targets=True)  # fmt: skip
    assert [row.name for row in library] == ["medium", "A", "B+A", "C"]
    vehicle, single, pair, _ = library
    assert vehicle.role == "vehicle"
    assert single == Perturbation("A", targets=("A",), dose="2 uM", time="24 h")
    assert pair.parts == ("A", "B")
    assert pair.targets == ("A", "B")
    assert pair.dose == "1 uM"


def test_a_library_is_refused_where_names_or_doses_are_not_alike():
    def made(names, **more):
        return library_of(pd.DataFrame({"given": names, "dose": range(len(names))}), perturbation_key="given", control="c", **more)  # fmt: skip

    with pytest.raises(
        DataError, match=r"2 perturbations are written in more than one way: A\+B = B\+A, D\+ctrl \(is D\)"
    ):
        made(["c", "A+B", "B+A", "D+ctrl"])
    with pytest.raises(DataError, match=r"1 perturbations have several values of 'dose' \(A: 1, 2\)"):
        made(["c", "A", "A"], dose_key="dose")
    with pytest.raises(DataError, match="no cell has given == 'c'; found A, B"):
        made(["A", "B"])
    with pytest.raises(DataError, match="no column 'time'"):
        made(["c", "A"], time_key="time")
    with pytest.raises(DataError, match="1 of 2 cells have no value"):
        made(["c", None])


@pytest.mark.parametrize(
    "same",
    [
        ("IFN-β", "IFNb", "IFN-beta", "IFNbeta", "ifn beta", "IFNB", "IFN_β"),
        ("TNF-α", "TNFa", "TNF alpha", "TNFalpha"),
        ("TGF-β1", "TGFb1", "TGFbeta1"),
        ("IFN-α2", "IFNA2", "IFN alpha-2"),
        ("IFN-γ", "IFNgamma", "IFNg"),
        ("5-FU", "5 FU", "5fu"),
    ],
)
def test_spellings_of_one_name(same):
    assert len({normal_name(name) for name in same}) == 1
    names = Synonyms([same[0], "IL6"])
    assert {names.resolve(name) for name in same} == {same[0]}


def test_greek_words_within_words_stay():
    assert normal_name("Betamethasone") == "betamethasone"
    assert normal_name("Zalphamycin") == "zalphamycin"
    assert normal_name("TNF") != normal_name("TNF-α")


def test_salts_and_names_in_brackets():
    names = Synonyms(
        ["alendronate", "Veliparib", "crizotinib", "crizotinib-(S)", "MGCD-265", "sodium butyrate", "JQ1-(+)"]
    )
    assert names.resolve("Alendronate sodium trihydrate") == "alendronate"
    assert names.resolve("veliparib HCl (ABT-888)") == "Veliparib"
    assert names.resolve("Crizotinib (PF-02341066)") == "crizotinib"
    assert names.resolve("Crizotinib-(S)") == "crizotinib-(S)"
    assert names.resolve("Glesatinib (MGCD265)") == "MGCD-265"
    assert names.resolve("(+)-JQ1") == "JQ1-(+)"
    assert names.resolve("butyrate") is None
    assert names.resolve("sodium") is None
    assert Synonyms(["Navitoclax (ABT-263)"]).resolve("abt263") == "Navitoclax (ABT-263)"
    assert Synonyms(["doxorubicin hydrochloride"]).resolve("doxorubicin") == "doxorubicin hydrochloride"


def test_a_salt_of_its_own_goes_before_the_base():
    names = Synonyms(["metformin", "metformin hydrochloride"])
    assert names.resolve("Metformin Hydrochloride") == "metformin hydrochloride"
    assert names.resolve("Metformin") == "metformin"
    with pytest.raises(DataError, match="'metformin HCl' may mean metformin, metformin hydrochloride; say which"):
        names.resolve("metformin HCl")
    assert Synonyms(names.names, aliases={"metformin-HCl": "metformin hydrochloride"}).resolve("metformin HCl") == "metformin hydrochloride"  # fmt: skip


def test_what_is_unknown_is_returned_and_what_is_ambiguous_raises():
    names = Synonyms(["(+)-X1", "(-)-X1", "Y"], aliases={"why": "Y"})
    assert names.resolve_all(["y", "Why", "nothing", "y", "(+)-X1"]) == ({"y": "Y", "Why": "Y", "(+)-X1": "(+)-X1"}, ["nothing"])  # fmt: skip
    with pytest.raises(DataError, match=r"'x1' may mean \(\+\)-X1, \(-\)-X1"):
        names.resolve_all(["x1"])
    with pytest.raises(DataError, match="1 aliases mean no name of the table: a -> Z"):
        Synonyms(["Y"], aliases={"a": "Z"})


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz"])
def test_tables_in_their_layouts(tmp_path, name):
    central = read_drug_table(written(tmp_path, DRUGCENTRAL, name)).set_index("name")
    assert central.loc["cediranib", "targets"] == ("KDR", "KIT")
    assert central.loc["cediranib", "mechanism"] == "Receptor two inhibitor, Receptor Kit inhibitor"
    assert central.loc["interferon beta-1a", "targets"] == ("IFNAR1", "IFNAR2")
    hub = read_drug_table(written(tmp_path, HUB, name)).set_index("name")
    assert hub.loc["CX-4945"].tolist() == [("CSNK2A1", "CSNK2A2"), "casein kinase inhibitor, other inhibitor", ""]
    assert len(hub) == 3
    plex = read_drug_table(written(tmp_path, SCIPLEX, name)).set_index("name")
    assert plex["mechanism"].tolist() == ["PARP (DNA Damage)", "", "(Epigenetics)"]
    assert all(targets == () for targets in plex["targets"])  # classes are not genes
    samples = read_drug_table(written(tmp_path, "broad_id\tpert_iname\tsmiles\n1\tX\t\n2\tX\tCC,CO\n3\tX\tCN\n", name))
    assert samples.to_dict("records") == [{"name": "X", "targets": (), "mechanism": "", "smiles": "CC"}]
    wells = read_drug_table(written(tmp_path, "well\tname\tSMILES\na\tNA\tNA\nb\tX\tCC\nc\tX\tCC\n", name))
    assert wells[["name", "smiles"]].to_dict("records") == [{"name": "X", "smiles": "CC"}]


def test_tables_that_cannot_be_read(tmp_path):
    with pytest.raises(ArtefactError, match="cannot read the drug table .*none.tsv"):
        read_drug_table(tmp_path / "none.tsv")
    file = written(tmp_path, DRUGCENTRAL * 50, "t.gz")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ArtefactError, match="cannot read the drug table .*Download it again"):
        read_drug_table(file)
    with pytest.raises(DataError, match="has columns a, b; expected those of one layout: DRUG_NAME, TARGET_NAME"):
        read_drug_table(written(tmp_path, "a\tb\n1\t2\n"))
    with pytest.raises(DataError, match="is no tab-separated table"):
        read_drug_table(written(tmp_path, "!only\n"))
    with pytest.raises(DataError, match="names no drug in 'pert_iname'"):
        read_drug_table(written(tmp_path, "pert_iname\tsmiles\n\tCC\n"))
    with pytest.raises(ArtefactError, match="cannot read"):
        read_drug_table(written(tmp_path, "x").parent / "table.tsv" / "below")


def test_descriptions_are_joined(tmp_path):
    tables = [read_drug_table(written(tmp_path, text)) for text in (HUB, DRUGCENTRAL)]
    singles = [
        Perturbation("cx4945"),
        Perturbation("Cediranib maleate", dose="1 uM", mechanism="known already"),
        Perturbation("IFN-β 1a"),
        Perturbation("unheard-of"),
    ]
    pair = combined(singles[0], Perturbation("unheard-of"))
    library, missing = with_descriptions(
        [Perturbation("DMSO", role="vehicle"), *singles, pair], tables, synonyms={"IFN-β 1a": "interferon beta-1a"}
    )
    vehicle, first, second, third, fourth, both = library
    assert vehicle == Perturbation("DMSO", role="vehicle")
    assert first.targets == ("CSNK2A1", "CSNK2A2")
    assert second.targets == ("KDR", "KIT")
    assert (second.mechanism, second.dose) == ("known already", "1 uM")
    assert third.targets == ("IFNAR1", "IFNAR2")
    assert fourth == Perturbation("unheard-of")
    assert missing == ["unheard-of"]
    assert both.targets == first.targets
    assert both.mechanism == first.mechanism
    assert both.parts == pair.parts
    obs = pd.DataFrame({"drug": ["DMSO", "Crizotinib (PF-1)"]})
    made = library_of(obs, perturbation_key="drug", control="DMSO", separators=(), tables=tables)
    assert made[1].targets == ("ALK",)


def test_targets_of_several_tables_are_joined_and_cut(caplog):
    one = pd.DataFrame({"name": ["X"], "targets": [("A", "B")], "mechanism": [""], "smiles": ["CC"]})
    many = pd.DataFrame({"name": ["x"], "targets": [tuple(f"G{i}" for i in range(120))], "mechanism": ["y" * 400], "smiles": ["CO"]})  # fmt: skip
    (row,), missing = with_descriptions([Perturbation("X")], [one, many])
    assert row.targets[:3] == ("A", "B", "G0")
    assert len(row.targets) == 100
    assert len(row.mechanism) == 300
    assert row.smiles == "CC"
    assert not missing
    assert "X has 122 targets; the first 100 are kept" in caplog.text


@pytest.mark.real
def test_the_tables_that_are_given_out(data_dir):
    folder = data_dir / "drug_targets"
    central = read_drug_table(folder / "drugcentral_drug_target.tsv.gz").set_index("name")
    assert len(central) == 1577
    assert len({gene for targets in central["targets"] for gene in targets}) >= 540
    assert set(central.loc["interferon beta-1a", "targets"]) == {"IFNAR1", "IFNAR2"}
    hub = read_drug_table(folder / "repurposing_drugs_20200324.txt.gz")
    assert len(hub) == 6798
    assert (hub["targets"].map(len) > 0).sum() == 4382
    assert (hub["mechanism"] != "").sum() == 6232
    assert "CSNK2A1" in hub.set_index("name").loc[Synonyms(hub["name"]).resolve("silmitasertib (CX-4945)"), "targets"]
    plex = read_drug_table(folder / "sciplex_drugProperties_short.tsv")
    wells = read_drug_table(folder / "sciplex_Supplementary_Table_3.txt.gz")
    assert len(wells) == 188
    assert (wells["smiles"] != "").all()
    library, missing = with_descriptions([Perturbation(name) for name in wells["name"]], [plex, wells])
    assert not missing
    assert all(row.smiles for row in library)
    names = Synonyms(hub["name"])
    found, unknown = names.resolve_all(wells["name"])
    assert len(found) >= 165
    assert found["Crizotinib (PF-02341066)"] == "crizotinib"
    assert len(found) + len(unknown) == 188
