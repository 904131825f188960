"""Markers against counting by hand, and planted ones."""

from __future__ import annotations

import numpy as np
import pytest

import c2s.sentences.markers as module
from c2s.cells.genes import GeneVocabulary
from c2s.errors import ConfigError, DataError
from c2s.sentences.corpus import CellSentences
from c2s.sentences.markers import Marker, high_shares, marker_genes

N_GENES, N_CELLS = 30, 90
VOCABULARY = GeneVocabulary(tuple(f"G{i:02d}" for i in range(N_GENES)))


@pytest.fixture
def cells():
    """Random sentences; each group has two genes first in most of its cells."""
    rng = np.random.default_rng(0)
    groups = rng.choice(["a", "b", "c"], size=N_CELLS, p=[0.5, 0.3, 0.2])
    rows = []
    for group in groups:
        own = {"a": [0, 1], "b": [2, 3], "c": [4, 5]}[group]
        rest = rng.permutation(np.arange(6, N_GENES))[: rng.integers(5, 20)].tolist()
        rows.append(([*own] if rng.random() < 0.8 else []) + rest)
    return CellSentences.from_lists(rows, VOCABULARY), groups


def by_hand(sentences, groups, group, gene, depth):
    held = np.array([gene in sentences.genes(i)[:depth] for i in range(len(sentences))])
    return held[groups == group].mean(), held[groups != group].mean()


@pytest.mark.parametrize("block", [7, 65_536])
@pytest.mark.parametrize("depth", [1, 4, 100])
def test_shares_are_counted(cells, depth, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    sentences, groups = cells
    names, share, elsewhere = high_shares(sentences, groups, depth=depth)
    assert names == ["a", "b", "c"]
    for i, group in enumerate(names):
        for j, gene in enumerate(VOCABULARY.symbols):
            assert (share[i, j], elsewhere[i, j]) == pytest.approx(by_hand(sentences, groups, group, gene, depth))


@pytest.mark.parametrize(("depth", "least", "gap", "n"), [(3, 0.25, 0.1, 5), (100, 0.3, 0.02, 8), (100, 0.9, 0.0, 3)])
def test_the_rule_is_the_one_stated(cells, depth, least, gap, n):
    sentences, groups = cells
    found = marker_genes(sentences, groups, n=n, depth=depth, min_share=least, min_difference=gap)
    for group in "abc":
        every = [(gene, *by_hand(sentences, groups, group, gene, depth)) for gene in VOCABULARY.symbols]
        kept = [each for each in every if each[1] >= least and each[1] - each[2] >= gap]
        kept.sort(key=lambda each: (-(each[1] - each[2]), each[0]))
        assert [marker.gene for marker in found[group]] == [gene for gene, _, _ in kept[:n]]
        for marker, (_, share, elsewhere) in zip(found[group], kept):
            assert (marker.share, marker.elsewhere) == pytest.approx((share, elsewhere))


def test_planted_markers_are_found_first(cells):
    found = marker_genes(*cells, n=2)
    assert {group: {m.gene for m in markers} for group, markers in found.items()} == {
        "a": {"G00", "G01"}, "b": {"G02", "G03"}, "c": {"G04", "G05"},
    }  # fmt: skip


def test_ties_go_by_symbol_and_one_group_has_no_markers():
    sentences = CellSentences.from_lists([[3, 1], [2]], VOCABULARY)
    assert marker_genes(sentences, ["x", "y"])["x"] == (Marker("G01", 1.0, 0.0), Marker("G03", 1.0, 0.0))
    assert marker_genes(sentences, ["x", "x"]) == {"x": ()}


@pytest.mark.parametrize(
    ("groups", "settings", "error", "message"),
    [
        (["x"], {}, DataError, r"shape \(1,\) for 2 cells"),
        (["x", "y"], {"n": 0}, ConfigError, "n=0"),
        (["x", "y"], {"depth": 0}, ConfigError, "depth=0"),
    ],
)
def test_what_does_not_fit_is_named(groups, settings, error, message):
    with pytest.raises(error, match=message):
        marker_genes(CellSentences.from_lists([[3, 1], [2]], VOCABULARY), groups, **settings)
