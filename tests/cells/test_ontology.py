import gzip
import itertools
import random

import networkx as nx
import pytest

from c2s.cells.obo import parse_obo
from c2s.cells.ontology import CellOntology, normalised_label
from c2s.errors import ArtefactError, DataError

SMALL = """format-version: 1.2
data-version: test/1

[Term]
id: CL:1
name: cell

[Term]
id: CL:2
name: lymphocyte
def: "A \\"small\\" white cell." [me]
synonym: "lymphoid cell" EXACT []
synonym: "round cell" BROAD []
is_a: CL:1 {source="x"} ! cell

[Term]
id: CL:3
name: CD4-positive, alpha-beta T cell
alt_id: CL:33
synonym: "helper T cell" EXACT [a:b]
is_a: CL:2

[Term]
id: CL:4
name: monocyte
intersection_of: CL:1 ! cell
intersection_of: part_of UBERON:9

[Term]
id: CL:5
name: obsolete phagocyte of blood
is_obsolete: true
replaced_by: CL:4

[Term]
id: CL:6
name: B cell
is_a: CL:2
is_a: GO:7

[Typedef]
id: part_of
name: part of
"""


def test_what_a_file_says():
    ontology = CellOntology.parse(SMALL)
    assert len(ontology) == 6
    assert ontology.version == "test/1"
    assert ontology.terms["CL:2"].definition == 'A "small" white cell.'
    assert ontology.parents("CL:4") == ("CL:1",)  # the genus of its logical definition
    assert ontology.parents("CL:6") == ("CL:2",)  # a parent of another ontology is no edge
    assert ontology.distance("CL:3", "CL:4") == 3
    assert ontology.distance("CL:3", "CL:5") == float("inf")
    assert ontology.relation("CL:1", "CL:3") == "ancestor"
    assert ontology.relation("CL:3", "CL:1") == "descendant"
    assert ontology.relation("CL:3", "CL:33") == "same"
    assert ontology.relation("CL:3", "CL:4") == "none"
    assert ontology.lowest_common_ancestors("CL:3", "CL:6") == ("CL:2",)
    assert ontology.lowest_common_ancestors("CL:3", "CL:2") == ("CL:2",)


@pytest.mark.parametrize(
    ("label", "term"),
    [
        ("cell", "CL:1"), ("Lymphocytes", "CL:2"), ("lymphoid cell", "CL:2"), ("Lymphoid-cells", "CL:2"), ("CL:33", "CL:3"),
        ("CD4+ αβ T cells", "CL:3"), ("cd4-positive alpha beta T-cell", "CL:3"), ("Helper T", "CL:3"), ("phagocyte of blood", "CL:4"),
        ("B", "CL:6"), ("b cells", "CL:6"), ("round cell", None), ("CD4- αβ T cells", None), ("", None), ("***", None), ("plasma", None),
    ],
)  # fmt: skip
def test_labels(label, term):
    ontology = CellOntology.parse(SMALL)
    assert ontology.match(label) == term
    found = ontology.match_all([label])
    assert (label in found.unmatched) == (term is None)


def test_a_table_comes_first_and_names_terms():
    ontology = CellOntology.parse(SMALL)
    assert ontology.match("cell", table={"cell": "CL:6"}) == "CL:6"
    with pytest.raises(DataError, match="no term 'CL:99'"):
        ontology.match("x", table={"x": "CL:99"})


def test_a_label_of_two_terms_is_not_matched():
    extra = '[Term]\nid: CL:8\nname: t one\nsynonym: "X cell" EXACT []\n\n[Term]\nid: CL:9\nname: t two\nsynonym: "X cell" EXACT []\n'
    found = CellOntology.parse(SMALL + "\n" + extra).match_all(["x cells"])
    assert "CL:8, CL:9" in found.unmatched["x cells"]


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (SMALL.replace("name: cell\n", "name: cell\nis_a: CL:3\n", 1), DataError, "CL:1 → CL:3 → CL:2 → CL:1"),
        (SMALL.replace("is_a: CL:2\n", "is_a: CL:77\n", 1), DataError, "CL:77"),
        (SMALL.replace("id: CL:6", "id: CL:4"), DataError, "two terms have the id CL:4"),
        (SMALL.replace("id: CL:6\n", ""), DataError, "without id"),
        (SMALL[:300], ArtefactError, "truncated"),
        ("cell,type\n", DataError, "expected OBO text"),
        ("format-version: 1.2\n", DataError, "no .Term. stanza"),
    ],
)
def test_what_is_refused(text, error, says):
    with pytest.raises(error, match=says):
        CellOntology.parse(text)


def test_files(tmp_path):
    plain, packed = tmp_path / "cl.obo", tmp_path / "cl.obo.gz"
    plain.write_text(SMALL)
    packed.write_bytes(gzip.compress(SMALL.encode()))
    assert CellOntology.read(plain).terms == CellOntology.read(packed).terms
    packed.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(ArtefactError, match="truncated"):
        CellOntology.read(packed)
    with pytest.raises(ArtefactError, match="no file"):
        CellOntology.read(tmp_path / "none.obo")


def as_graph(ontology):
    graph = nx.DiGraph()
    graph.add_nodes_from(ontology.terms)
    graph.add_edges_from((term, parent) for term in ontology.terms for parent in ontology.parents(term))
    return graph


def check_against_networkx(ontology, pairs):
    graph = as_graph(ontology)
    assert nx.is_directed_acyclic_graph(graph)
    undirected = graph.to_undirected()
    for a, b in pairs:
        truth = nx.shortest_path_length(undirected, a, b) if nx.has_path(undirected, a, b) else float("inf")
        assert ontology.distance(a, b) == truth
        assert ontology.ancestors(a) == nx.descendants(graph, a)
        assert ontology.descendants(b) == nx.ancestors(graph, b)
        common = (nx.descendants(graph, a) | {a}) & (nx.descendants(graph, b) | {b})
        lowest = {term for term in common if not (nx.ancestors(graph, term) & common)}
        assert set(ontology.lowest_common_ancestors(a, b)) == lowest


@pytest.mark.parametrize("seed", range(5))
def test_random_ontologies_against_networkx(seed):
    rng = random.Random(seed)
    stanzas = []
    for i in range(25):
        parents = rng.sample(range(i), min(i, rng.randint(0, 3)))
        stanzas.append(f"[Term]\nid: X:{i}\nname: n{i}\n" + "".join(f"is_a: X:{p}\n" for p in parents))
    ontology = CellOntology.parse("\n".join(stanzas))
    check_against_networkx(ontology, itertools.product(list(ontology.terms), repeat=2))


def test_normalised_labels_settle():
    for label in (
        "CD16+ Monocytes",
        "γδ T-cells",
        "FCGR3A+ Monocytes",
        "Plasma cells (IgA+)",
        "glass bodies",
        "NK cells",
    ):
        assert normalised_label(normalised_label(label)) == normalised_label(label)
    assert normalised_label("CD14+ Monocytes") == "cd14 positive monocyte"
    assert normalised_label("CD4-CD8- cells") == "cd4 cd8 negative cell"


@pytest.mark.real
def test_the_cell_ontology(data_dir):
    ontology = CellOntology.read(data_dir / "cell_ontology" / "cl-basic.obo.gz")
    terms = [term for term in ontology.terms.values() if term.id.startswith("CL:")]
    assert len(terms) == 2674
    assert (
        sum(not ontology.parents(term.id) for term in terms if not term.obsolete) == 13
    )  # cell, 3 more, and 9 parts of cells under GO
    rng = random.Random(0)
    check_against_networkx(ontology, [rng.sample([term.id for term in terms], 2) for _ in range(60)])
    found = ontology.match_all(
        ["B", "B cells", "CD14+ Monocytes", "NK cells", "Dendritic cells", "Megakaryocytes", "CD4 T", "acinar", "alpha"]
    )
    names = {label: ontology.name(term) for label, term in found.ids.items()}
    assert names["B"] == names["B cells"] == "B cell"
    assert names["CD14+ Monocytes"] == "CD14-positive monocyte"
    assert names["NK cells"] == "natural killer cell"
    assert names["Dendritic cells"] == "dendritic cell"
    assert names["Megakaryocytes"] == "megakaryocyte"
    assert "CD4 T" in found.unmatched
    for name, label, term in (
        ("blood_and_immune_upper_slim", "lymphocyte", "CL:0000542"),
        ("general_cell_types_upper_slim", "Fibroblasts", "CL:0000057"),
    ):
        assert CellOntology.read(data_dir / "cell_ontology" / f"{name}.obo.gz").match(label) == term


def test_the_reader_knows_escapes():
    _, terms = parse_obo('[Term]\nid: A:1\nname: a\\, b\ndef: "one\\ntwo" [x]\nsynonym: "s" EXACT PLURAL []\n')
    assert (terms[0].name, terms[0].definition, terms[0].synonyms) == ("a, b", "one\ntwo", (("s", "EXACT"),))
