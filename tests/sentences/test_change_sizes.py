"""Sizes of changes against what was planted, and against the sums they must keep."""

from __future__ import annotations

import json

import numpy as np
import pytest

from c2s.cells.genes import GeneVocabulary
from c2s.sentences.change_sizes import ChangeSizes
from c2s.sentences.corpus import CellSentences
from c2s.sentences.delta import DeltaRule


def planted(seed=0, n=400, n_genes=12, noise=0.1):
    rng = np.random.default_rng(seed)
    base = rng.normal(0.0, 0.5, n_genes)
    lists = [rng.permutation(n_genes)[: rng.integers(1, 9)].astype(np.int32) for _ in range(n)]
    sizes = [
        np.exp(base[ids] - 0.4 * np.log(np.arange(1, len(ids) + 1)) + 0.6 * np.log(len(ids)) + rng.normal(0, noise, len(ids)))
        for ids in lists
    ]  # fmt: skip
    return base, lists, sizes


def test_what_was_planted_is_found():
    base, lists, sizes = planted()
    found = ChangeSizes.fit(lists, sizes, 12)
    assert found.place == pytest.approx(-0.4, abs=0.05)
    assert found.length == pytest.approx(0.6, abs=0.05)
    assert np.corrcoef(found.base, base)[0, 1] > 0.98
    assert found.of(lists).sum() == pytest.approx(np.concatenate(sizes).sum())


def test_a_gene_seldom_listed_is_drawn_to_the_mean_and_one_never_listed_has_it():
    _, lists, sizes = planted()
    found = ChangeSizes.fit([*lists, np.array([12])], [*sizes, np.array([50.0])], 14)
    others = found.base[:12]
    assert found.base[13] == pytest.approx(others.mean(), abs=0.2)
    assert found.base[12] < others.mean() + 0.3 * np.log(50)


def test_no_list_at_all_moves_nothing_wrongly():
    found = ChangeSizes.fit([np.empty(0, dtype=np.int32)] * 3, [np.empty(0)] * 3, 5)
    assert found.of([np.array([2])]).tolist() == [1.0]
    assert found.of([]).shape == (0,)


def test_a_rule_keeps_its_sizes_and_applies_them():
    sizes = (ChangeSizes(np.log(np.array([9.0, 1, 1, 1])), 0.0, 0.0), ChangeSizes(np.zeros(4), 0.0, 0.0))
    rule = DeltaRule(np.ones(4), np.array([0.01]), np.array([0.01]), (3.0, -1.0, 0.0), 1.5, sizes)
    vocabulary = GeneVocabulary(("A", "B", "C", "D"))
    cell = CellSentences.from_lists([[1, 2, 3, 0]], vocabulary)
    for each in (rule, DeltaRule.from_dict(json.loads(json.dumps(rule.to_dict())))):
        ids, _ = each.apply(cell, np.array([0]), [np.array([0], dtype=np.int32)], [np.empty(0, dtype=np.int32)])
        assert ids.tolist() == [
            0,
            1,
            2,
            3,
        ]  # by its own size A goes to the top, by that of its place it would stay last
    plain = DeltaRule(np.ones(4), np.array([0.01]), np.array([0.01]), (3.0, -1.0, 0.0))
    ids, _ = plain.apply(cell, np.array([0]), [np.array([0], dtype=np.int32)], [np.empty(0, dtype=np.int32)])
    assert ids.tolist() == [1, 2, 3, 0]
