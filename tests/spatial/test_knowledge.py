"""Knowledge of pairs: species explicit, presence by all subunits, lines ranked as said, a placebo that keeps degrees."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.cells.gene_table import GeneTable
from c2s.cells.genes import GeneVocabulary
from c2s.errors import ConfigError, DataError
from c2s.sentences.corpus import CellSentences
from c2s.spatial.knowledge import GenePair, PairIndex, PairKnowledge, in_words, knowledge_lines
from c2s.tasks import NicheLabel, render_text

GENES = ("Tgfb1", "Tgfbr1", "Tgfbr2", "Sst", "Sstr2", "Cdh1", "Vip", "Vipr1")


def known(*pairs, kind="ligand_receptor", species="mouse", source="mine"):
    split = (GenePair(*(tuple(side.split("+")) for side in pair.split(" "))) for pair in pairs)
    return PairKnowledge(tuple(split), kind, source, species)


def cells(*sentences):
    vocabulary = GeneVocabulary(GENES, "mouse")
    obs = pd.DataFrame({"niche": "a"}, index=[f"c{i}" for i in range(len(sentences))])
    ids = [vocabulary.ids(sentence.split()).tolist() for sentence in sentences]
    return CellSentences.from_lists(ids, vocabulary, obs=obs)


def test_pairs_are_kept_once():
    both = ("Sst Sstr2", "Sstr2 Sst", "Sst Sstr2")
    assert known(*both).pairs == (GenePair(("Sst",), ("Sstr2",)), GenePair(("Sstr2",), ("Sst",)))
    assert known(*both, kind="interaction").pairs == (GenePair(("Sst",), ("Sstr2",)),)
    assert known("Tgfbr2+Tgfbr1 Tgfb1").pairs[0].first == ("Tgfbr1", "Tgfbr2")
    assert known("Cdh1 Cdh1", "Cdh1 Sst").degrees == {"Cdh1": 3, "Sst": 1}


def test_a_pair_is_there_only_where_all_subunits_are():
    knowledge = known("Tgfb1 Tgfbr1+Tgfbr2", "Sst Sstr2")
    assert len(knowledge.restricted(GENES)) == 2
    assert known("Tgfb1 Tgfbr1+Tgfbr2").restricted(["Tgfb1", "Tgfbr1"]).pairs == ()
    # both subunits are expressed, but never by one cell
    assert knowledge_lines(knowledge, cells("Tgfb1 Tgfbr1", "Tgfbr2"), [[0, 1]]) == [[]]
    assert knowledge_lines(knowledge, cells("Tgfb1", "Sst Tgfbr1 Tgfbr2"), [[0, 1], [1]]) == [
        ["Tgfb1 binds Tgfbr1+Tgfbr2"],
        [],
    ]
    # what is cut off is not shown, so it is not told
    assert knowledge_lines(knowledge, cells("Tgfb1", "Sst Tgfbr1 Tgfbr2"), [[0, 1]], n_genes=2) == [[]]


def test_lines_are_ranked_by_the_product_of_ranks_and_capped():
    shown = cells("Sst Vip Sstr2 Cdh1", "Vipr1 Sstr2")
    knowledge = [known("Sst Sstr2", "Vip Vipr1"), known("Cdh1 Sst", "Sst Vipr1", kind="interaction")]
    # ranks: Sst 1, Vip 2, Sstr2 2 (in the second cell), Cdh1 4, Vipr1 1
    lines = ["Sst interacts with Vipr1", "Sst binds Sstr2", "Vip binds Vipr1", "Cdh1 interacts with Sst"]
    assert knowledge_lines(knowledge, shown, [[0, 1]]) == [lines]
    assert knowledge_lines(knowledge[::-1], shown, [[1, 0]], most=3) == [lines[:3]]
    assert knowledge_lines([], shown, [[0], []]) == [[], []]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31))
def test_lines_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    sides = [rng.choice(GENES, rng.integers(1, 3), replace=False) for _ in range(24)]
    knowledge = PairKnowledge(
        tuple(GenePair(tuple(a), tuple(b)) for a, b in zip(sides[::2], sides[1::2], strict=True)), "interaction", "mine", "mouse"
    )  # fmt: skip
    sentences = [list(rng.choice(GENES, rng.integers(1, 8), replace=False)) for _ in range(3)]
    found = []
    for pair in knowledge.pairs:
        ranks = [
            (max(x.index(g) + 1 for g in pair.first)) * max(y.index(g) + 1 for g in pair.second)
            for x, y in product(sentences, sentences)
            if set(pair.first) <= set(x) and set(pair.second) <= set(y)
        ]
        if ranks:
            found.append((min(ranks), in_words(pair, "interaction")))
    shown = cells(*(" ".join(sentence) for sentence in sentences))
    assert knowledge_lines(knowledge, shown, [[0, 1, 2]], most=5) == [[text for _, text in sorted(found)][:5]]


def test_lines_go_into_a_prompt():
    shown = cells("Sst Vip", "Sstr2")
    lines = knowledge_lines(known("Sst Sstr2"), shown, [[0, 1]])
    task = NicheLabel(wording=0)
    (example,) = task.examples(shown, cells=[0], neighbours=[[1]], niche_key="niche", knowledge=lines)
    assert "Known interactions: Sst binds Sstr2.\n" in render_text(example.prompt, GENES, task.style)


def test_species_is_never_guessed_away():
    with pytest.raises(DataError, match="of mine look human"):
        known("SST SSTR2")
    human = known("SST SSTR2", "TGFB1 TGFBR1+TGFBR2", "VIP VIPR1", species="human")
    with pytest.raises(DataError, match=r"mine is of human, the cells are of mouse; map it by .to_species"):
        knowledge_lines(human, cells("Sst"), [[0]])
    table = GeneTable(
        [("SST", "Sst"), ("SSTR2", "Sstr2"), ("TGFB1", "Tgfb1"), ("TGFBR1", "Tgfbr1"), ("VIP", "Vip"), ("VIPR1", "Vipr1"), ("VIPR1", "Vipr3")]
    )  # fmt: skip
    mouse = human.to_species(table, species="mouse")
    assert mouse.pairs == known("Sst Sstr2").pairs  # TGFBR2 has no ortholog, VIPR1 two
    assert (mouse.species, mouse.source) == ("mouse", "mine, orthologs")
    with pytest.raises(DataError, match="already look mouse"):
        mouse.to_species(table, species="mouse")
    with pytest.raises(DataError, match="no pair of mine"):
        known("CDH1 SST", species="human").to_species(table, species="mouse")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["ligand_receptor", "interaction"]), st.booleans())
def test_the_placebo_keeps_the_number_of_pairs_of_each_gene(seed, kind, with_complexes):
    rng = np.random.default_rng(seed)
    genes = [f"Gene{i}" for i in range(12)]
    sizes = rng.integers(1, 3 if with_complexes else 2, 40)
    sides = [tuple(rng.choice(genes, size, replace=False)) for size in sizes]
    pairs = [GenePair(a, b) for a, b in zip(sides[::2], sides[1::2], strict=True)]
    knowledge = PairKnowledge(tuple(pairs), kind, "mine", "mouse")
    placebo = knowledge.permuted(seed)
    assert placebo.degrees == knowledge.degrees and len(placebo) == len(knowledge)
    new = set(placebo.pairs) - set(knowledge.pairs)
    assert new and not any(set(pair.first) & set(pair.second) for pair in new)
    assert placebo.pairs == knowledge.permuted(seed).pairs
    if kind == "ligand_receptor":  # a ligand stays a ligand
        assert sorted(p.first for p in placebo.pairs) == sorted(p.first for p in knowledge.pairs)


def test_the_placebo_forgets_who_binds_whom():
    ladder = known(*(f"Lig{i} Rec{i}" for i in range(200)))
    assert len(set(ladder.pairs) & set(ladder.permuted(0).pairs)) < 10
    assert ladder.permuted(0).pairs != ladder.permuted(1).pairs
    for stuck in (known("Sst Sstr2"), known("Sst Sstr2", "Sst Vipr1"), known("Cdh1 Cdh1", "Sst Sst")):
        with pytest.raises(DataError, match="no two of the"):
            stuck.permuted(0)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="choose 'ligand_receptor' or 'interaction'"):
        known("Sst Sstr2", kind="binding")
    with pytest.raises(DataError, match="without genes on one side"):
        PairKnowledge((GenePair(("Sst",), ()),), "interaction", "mine", "mouse")
    with pytest.raises(ConfigError, match="most=0"):
        knowledge_lines(known("Sst Sstr2"), cells("Sst"), [[0]], most=0)
    with pytest.raises(ConfigError, match="vocabulary is a tuple"):
        PairIndex.of(known("Sst Sstr2"), GENES)
