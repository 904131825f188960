"""Gene identity: order, uniqueness, species."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2s.cells.genes import GeneVocabulary, guess_species, listed
from c2s.cells.reading import expression
from c2s.errors import ConfigError, DataError

HUMAN = ["CD4", "HLA-A", "C1orf112", "IL2RA", "B2M", "MT-CO1", "RP11-34P13.7", "STAT1", "TAP1", "PSMB9", "NLRC5"]
MOUSE = ["Cd4", "H2-K1", "Il2ra", "B2m", "mt-Co1", "Gm1992", "0610009B22Rik", "Stat1", "Tap1", "Psmb9", "Nlrc5"]


def adata_of(genes):
    return ad.AnnData(np.ones((2, len(genes)), np.float32), var=pd.DataFrame(index=genes))


@given(st.lists(st.text("ABCDEFG123-", min_size=1, max_size=4), min_size=1, max_size=30, unique=True))
def test_ids_are_positions(symbols):
    vocabulary = GeneVocabulary(tuple(symbols))
    assert [vocabulary.symbols[i] for i in vocabulary.ids(symbols[::-1])] == symbols[::-1]
    assert [vocabulary.index(symbol) for symbol in symbols] == list(range(len(symbols)))
    assert all(symbol in vocabulary for symbol in symbols)
    assert len(vocabulary) == len(symbols)


def test_unknown_genes_are_listed_or_dropped():
    vocabulary = GeneVocabulary(("A", "B"))
    with pytest.raises(DataError, match="2 of 3 genes are not in the vocabulary: X, Y"):
        vocabulary.ids(["X", "A", "Y"])
    dropped = vocabulary.ids(["X", "B", "Y", "A"], missing="drop")
    assert dropped.tolist() == [1, 0]
    assert dropped.dtype == np.int32
    with pytest.raises(DataError, match="'X' is not among the 2"):
        vocabulary.index("X")


def test_hash_names_symbols_order_and_species_and_survives_json():
    one = GeneVocabulary(("A", "B"), "human")
    assert GeneVocabulary.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert GeneVocabulary.from_dict(one.to_dict()).hash == one.hash
    others = [GeneVocabulary(("B", "A")), GeneVocabulary(("A", "B"), "mouse"), GeneVocabulary(("AB",))]
    assert len({one.hash, *(other.hash for other in others)}) == 4


@pytest.mark.parametrize(
    ("symbols", "match"), [((), "at least one"), (("A", ""), "must be words"), (("A", "A"), "more than once: A")]
)
def test_vocabularies_that_cannot_be(symbols, match):
    with pytest.raises(DataError, match=match):
        GeneVocabulary(symbols)


def test_case_is_never_folded():
    vocabulary = GeneVocabulary(("Actb", "ACTB"), "other")
    assert vocabulary.ids(["ACTB", "Actb"]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("symbols", "species"),
    [
        (HUMAN, "human"),
        (MOUSE, "mouse"),
        (["ENSG00000010610", "ENSG00000166710"], "human"),
        (["ENSMUSG00000023274"], "mouse"),
        (["1", "2", "3"], "unknown"),
        (["gene_1", "gene_2"], "unknown"),
        (["A", "B"], "human"),
    ],
)
def test_species_are_read_from_the_symbols(symbols, species):
    assert guess_species(symbols) == species
    assert GeneVocabulary.from_adata(adata_of(symbols)).species == species


@pytest.mark.parametrize(
    "symbols",
    [
        HUMAN + MOUSE[:8],
        ["ENSG00000010610", "ENSMUSG00000023274"],
        ["GRCh38_CD4", "mm10___Cd4"],
        ["hg19_CD4", "mm10_Cd4"],
    ],
)
def test_species_are_not_mixed(symbols):
    with pytest.raises(DataError, match="genes of two species"):
        GeneVocabulary.from_adata(adata_of(symbols))


def test_a_species_that_contradicts_the_symbols_is_refused():
    with pytest.raises(DataError, match="pass species='mouse'"):
        GeneVocabulary.from_adata(adata_of(MOUSE), species="human")
    assert GeneVocabulary.from_adata(adata_of(MOUSE), species="rat").species == "rat"


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_collisions_are_listed_also_after_aliases():
    with pytest.raises(DataError, match=r"1 gene symbols occur more than once: B\. "):
        GeneVocabulary.from_adata(adata_of(["A", "B", "B"]))
    with pytest.raises(DataError, match="more than once: STAT1"):
        GeneVocabulary.from_adata(adata_of(["STAT1", "STAT91"]), aliases={"STAT91": "STAT1"})
    merged = GeneVocabulary.from_adata(
        adata_of(["STAT91", "A", "STAT1"]), aliases={"STAT91": "STAT1"}, on_collision="sum"
    )
    assert merged.symbols == ("STAT1", "A")
    with pytest.raises(ConfigError, match="choose 'error' or 'sum'"):
        GeneVocabulary.from_adata(adata_of(["A"]), on_collision="first")


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_the_advice_on_collisions_is_true_wherever_it_is_given():
    """Only ``c2s encode`` has ``--on-collision``; a vocabulary or a training cannot be told to add up."""
    twice = adata_of(["A", "B", "B"])
    with pytest.raises(DataError, match=r"occur more than once: B\. ") as error:
        GeneVocabulary(tuple(twice.var_names))
    unique = twice.copy()
    advice = str(error.value)
    assert "adata.var_names_make_unique()" in advice
    unique.var_names_make_unique()
    assert GeneVocabulary.from_adata(unique).symbols == ("A", "B", "B-1")
    assert "c2s encode --on-collision sum" in advice
    assert "matrix, genes = c2s.cells.reading.expression(adata, on_collision='sum')" in advice
    matrix, genes = expression(twice, on_collision="sum")
    summed = ad.AnnData(matrix, twice.obs, pd.DataFrame(index=genes))
    assert GeneVocabulary.from_adata(summed).symbols == ("A", "B")


def test_raw_has_its_own_genes():
    adata = adata_of(["A", "B", "C"])
    adata.raw = adata
    small = adata[:, :1].copy()
    assert GeneVocabulary.from_adata(small).symbols == ("A",)
    assert GeneVocabulary.from_adata(small, layer="raw").symbols == ("A", "B", "C")


def test_long_lists_are_cut():
    assert listed(range(3)) == "0, 1, 2"
    assert listed(range(1012), 10) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1,002 more"
