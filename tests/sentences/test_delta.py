"""Deltas read from planted fold changes, and applied as a plain-Python reference applies them."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.cells.genes import GeneVocabulary
from c2s.errors import DataError
from c2s.sentences.corpus import CellSentences
from c2s.sentences.delta import DeltaRule

N = 14
VOCABULARY = GeneVocabulary(tuple(f"G{i}" for i in range(N)))
some_genes = st.permutations(range(N)).flatmap(lambda p: st.integers(0, N).map(lambda n: p[:n]))
sizes = st.lists(st.floats(1e-3, 4.0), min_size=1, max_size=4).map(lambda s: sorted(s, reverse=True))
curves = st.tuples(st.floats(0.5, 5), st.floats(-2, -1e-3), st.floats(-0.5, 0.5))


def rule_of(up=(1.0,), down=(1.0,), curve=(3.0, -0.7, 0.1), threshold=1.5):
    return DeltaRule(np.ones(N), np.array(up, dtype=float), np.array(down, dtype=float), curve, threshold)


def ids(rows):
    return [np.array(row, dtype=np.int32) for row in rows]


def applied(rule, sentences, rows, up, down):
    flat, offsets = rule.apply(sentences, np.array(rows), ids(up), ids(down))
    assert flat.dtype == np.int32
    assert offsets.dtype == np.int64
    assert len(offsets) == len(rows) + 1
    assert offsets[-1] == len(flat)
    return [flat[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]


def values_after(rule, sentence, up, down):
    """Return what each gene that stays is worth after the change, as the module's docstring defines it."""
    a, b, c = rule.curve
    n = max(len(sentence), 1)
    value = {g: max(0.0, a + c * math.log(n) + b * math.log(rank)) for rank, g in enumerate(sentence, start=1)}
    for place, g in enumerate(up):
        value[g] = value.get(g, 0.0) + rule.up[min(place, len(rule.up) - 1)]
    for place, g in enumerate(down):
        if g in value:
            value[g] -= rule.down[min(place, len(rule.down) - 1)]
            if value[g] <= 0.0:
                del value[g]
    return value


@settings(deadline=None, max_examples=150)
@given(st.lists(some_genes, min_size=1, max_size=3), sizes, sizes, curves, st.data())
def test_apply_equals_a_plain_reference(lists, up_sizes, down_sizes, curve, data):
    sentences = CellSentences.from_lists(lists, VOCABULARY)
    rule = rule_of(
        [round(s, 3) for s in up_sizes], [round(s, 3) for s in down_sizes], tuple(round(x, 3) for x in curve)
    )
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1, max_size=4))
    up, down = [], []
    for _ in rows:
        both = data.draw(some_genes)
        cut = data.draw(st.integers(0, len(both)))
        up.append(both[:cut])
        down.append(both[cut:])
    found = applied(rule, sentences, rows, up, down)
    for answer, row, rising, falling in zip(found, rows, up, down, strict=True):
        value = values_after(rule, lists[row], rising, falling)
        assert sorted(answer) == sorted(value)
        along = [value[g] for g in answer]
        assert all(x >= y - 1e-6 for x, y in zip(along[:-1], along[1:], strict=True))
        unchanged = [g for g in lists[row] if g not in rising and g not in falling]
        assert [g for g in answer if g in unchanged] == unchanged


@given(st.lists(some_genes, min_size=1, max_size=4), curves)
@settings(deadline=None, max_examples=60)
def test_an_empty_delta_leaves_every_sentence_as_it_was(lists, curve):
    """Also where the curve has fallen to zero, so that every value is the same."""
    sentences = CellSentences.from_lists(lists, VOCABULARY)
    nothing = [[]] * len(lists)
    for shape in (curve, (0.0, -1.0, 0.0)):
        assert applied(rule_of(curve=shape), sentences, range(len(lists)), nothing, nothing) == lists


@given(some_genes, st.lists(st.integers(0, N - 1), max_size=6), st.lists(st.integers(0, N - 1), max_size=6))
@settings(deadline=None, max_examples=60)
def test_no_gene_twice_even_from_lists_that_repeat_and_contradict(sentence, up, down):
    sentences = CellSentences.from_lists([sentence], VOCABULARY)
    (answer,) = applied(rule_of([2.0, 1.0], [1.5]), sentences, [0], [up], [down])
    assert len(set(answer)) == len(answer)
    assert set(sentence) - set(down) <= set(answer) <= set(sentence) | set(up)


def test_rising_and_falling_by_hand():
    """Values 3, 3 - 0.7 log 2 = 2.51, 2.23, 2.03; +1 lifts the last over the first, -5 drops the second out."""
    sentences = CellSentences.from_lists([[4, 5, 6, 7], []], VOCABULARY)
    rule = rule_of(up=[1.0, 0.5], down=[5.0, 0.3], curve=(3.0, -0.7, 0.0))
    assert applied(rule, sentences, [0], [[7]], [[5]]) == [[7, 4, 6]]
    assert applied(rule, sentences, [0], [[9, 8]], [[]]) == [[4, 5, 6, 7, 9, 8]]  # from nothing to 1.0 and 0.5
    assert applied(rule, sentences, [0], [[]], [[9, 4]]) == [[4, 5, 6, 7]]  # 9 is not there; 4 falls to 2.7
    assert applied(rule, sentences, [0], [[]], [[9, 5]]) == [[4, 6, 5, 7]]  # 5 falls to 2.21, under 6
    assert applied(rule, sentences, [1], [[3, 2]], [[1]]) == [[3, 2]]  # an empty control


def test_a_gene_that_falls_to_exactly_nothing_leaves_and_one_that_never_moved_stays():
    sentences = CellSentences.from_lists([[4, 5]], VOCABULARY)
    rule = rule_of(up=[1.0], down=[1.0], curve=(1.0, -5.0, 0.0))  # worth 1 and 0
    assert applied(rule, sentences, [0], [[]], [[4]]) == [[5]]
    assert applied(rule, sentences, [0], [[]], [[5]]) == [[4]]
    assert applied(rule, sentences, [0], [[9]], [[]]) == [[4, 9, 5]]
    assert applied(rule, sentences, [0], [[9]], [[9]]) == [[4, 5]]


def test_the_last_size_serves_every_further_place():
    sentences = CellSentences.from_lists([[0, 1, 2]], VOCABULARY)
    rule = rule_of(up=[9.0, 8.0], curve=(3.0, -0.7, 0.0))
    assert applied(rule, sentences, [0], [[5, 6, 7, 8]], [[]]) == [[5, 6, 7, 8, 0, 1, 2]]


def test_rows_choose_their_control_and_none_is_possible():
    sentences = CellSentences.from_lists([[0, 1], [2, 3, 4]], VOCABULARY)
    assert applied(rule_of(), sentences, [1, 0, 1], [[], [], []], [[], [], []]) == [[2, 3, 4], [0, 1], [2, 3, 4]]
    flat, offsets = rule_of().apply(sentences, np.empty(0, dtype=np.int64), [], [])
    assert len(flat) == 0
    assert offsets.tolist() == [0]


def test_applying_holds_little_more_than_its_result():
    """Four bytes an id; a screen writes hundreds of millions of them."""
    n = 3000
    vocabulary = GeneVocabulary(tuple(f"G{i}" for i in range(n)))
    rng = np.random.default_rng(0)
    sentences = CellSentences.from_lists([rng.permutation(n)[:size] for size in (2000, 1, 2500)], vocabulary)
    rows = np.arange(300) % 3
    up, down = ids([[5, 6, 7]] * 300), ids([[8, 9]] * 300)
    rule = rule_of(up=[1.0, 0.5], down=[9.0])
    expected = applied(rule, sentences, rows[:3], up[:3], down[:3])  # compiles, too
    tracemalloc.start()
    try:
        flat, offsets = rule.apply(sentences, rows, up, down)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * len(flat)
    assert [flat[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)] == expected * 100


# --- reading -------------------------------------------------------------------------------------------------------


def planted(n_control=200, n_treated=60, n_genes=40, size=2.0, seed=0):
    """Return log1p expression, with genes 3, 8, 13 raised and 5, 20 lowered by ``size`` in treated cells, and pools."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(2.0, 3.0, n_genes)
    values = base + rng.normal(0, 0.25, (n_control + n_treated, n_genes))
    values[n_control:, [3, 8, 13]] += size
    values[n_control:, [5, 20]] -= size
    matrix = sp.csr_matrix(np.maximum(values, 0.01))
    control = np.arange(n_control)
    vehicle = np.stack([rng.permutation(n_control)[:8] for _ in range(100)])
    pools = np.stack([n_control + rng.permutation(n_treated)[:4] for _ in range(n_treated)])
    treated = np.concatenate([pools, vehicle[:, :4]])
    matches = np.concatenate([np.stack([rng.choice(control, 4, replace=False) for _ in pools]), vehicle[:, 4:]])
    is_control = np.r_[np.zeros(n_treated, bool), np.ones(100, bool)]
    return matrix, treated, matches, is_control


def test_planted_fold_changes_are_read_back():
    matrix, treated, matches, is_control = planted()
    rule = DeltaRule.fit(matrix, treated, matches, is_control, n_up=4, n_down=4, threshold=3.0)
    up, down = rule.read(matrix, treated[~is_control], matches[~is_control])
    assert all(set(row[:3]) == {3, 8, 13} for row in up)
    assert all(set(row[:2]) == {5, 20} for row in down)
    assert all(row.dtype == np.int32 for row in up + down)
    assert np.mean([len(row) for row in up]) < 3.1
    assert np.allclose(rule.up[:3], 2.0, atol=0.25)
    assert np.allclose(rule.down[:2], 2.0, atol=0.25)
    quiet = rule.read(matrix, treated[is_control], matches[is_control])
    assert np.mean([len(row) for side in quiet for row in side]) < 0.2  # a vehicle's delta is empty


def test_the_spread_comes_from_controls_where_there_are_enough():
    matrix, treated, matches, is_control = planted()
    rule = DeltaRule.fit(matrix, treated, matches, is_control)
    dense = matrix.toarray()
    difference = dense[treated[is_control]].mean(1) - dense[matches[is_control]].mean(1)
    spread = difference.std(axis=0)
    assert np.allclose(rule.scale, spread + np.quantile(spread, 0.25))
    few = np.zeros_like(is_control)
    few[-19:] = True
    everything = dense[treated].mean(1) - dense[matches].mean(1)
    spread = everything.std(axis=0)
    assert np.allclose(DeltaRule.fit(matrix, treated, matches, few).scale, spread + np.quantile(spread, 0.25))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 5), st.integers(0, 5), st.floats(0.2, 3.0))
def test_read_equals_a_plain_reference(seed, n_up, n_down, threshold):
    rng = np.random.default_rng(seed)
    dense = rng.poisson(1.0, (12, 9)) * 0.5  # many equal values
    rule = DeltaRule(rng.uniform(0.2, 1.0, 9), np.ones(n_up), np.ones(n_down), (3.0, -1.0, 0.0), threshold)
    treated, matches = rng.integers(0, 12, (5, 2)), rng.integers(0, 12, (5, 4))
    up, down = rule.read(sp.csr_matrix(dense), treated, matches)
    for row in range(5):
        difference = sp.csr_matrix(dense)[treated[row]].toarray().mean(0) - sp.csr_matrix(dense)[
            matches[row]
        ].toarray().mean(0)
        z = np.round(difference / rule.scale, 9)
        for sign, found, n in ((1, up[row], n_up), (-1, down[row], n_down)):
            value = sign * z
            assert len(set(found)) == len(found) == min(n, int((value >= threshold).sum()))
            assert value[found].tolist() == sorted(value[value >= threshold], reverse=True)[:n]
        assert not set(up[row]) & set(down[row])


def test_the_curve_is_the_least_squares_line_of_control_cells():
    rng = np.random.default_rng(0)
    rows = []
    for n in rng.integers(10, 30, size=40):
        row = np.zeros(40)
        row[rng.permutation(40)[:n]] = np.maximum(4.0 - 0.9 * np.log(np.arange(1, n + 1)) - 0.1 * np.log(n), 0.01)
        rows.append(row)
    matrix = sp.csr_matrix(np.array(rows))
    pools = rng.integers(0, 40, (30, 2))
    rule = DeltaRule.fit(matrix, pools, np.stack([rng.permutation(40)[:4] for _ in range(30)]), np.ones(30, bool))
    assert np.allclose(rule.curve, (4.0, -0.9, -0.1), atol=1e-6)


def test_sizes_never_rise_with_the_place_and_unseen_places_repeat_the_last():
    matrix, treated, matches, is_control = planted()
    rule = DeltaRule.fit(matrix, treated, matches, is_control, n_up=9, n_down=9, threshold=3.0)
    for sizes_ in (rule.up, rule.down):
        assert len(sizes_) == 9
        assert (np.diff(sizes_) <= 0).all()
        assert (sizes_ > 0).all()
        assert sizes_[-1] == sizes_[-2]


def test_nothing_passes_a_high_threshold_and_the_rule_still_stands():
    matrix, treated, matches, is_control = planted(size=0.0)
    rule = DeltaRule.fit(matrix, treated, matches, is_control, n_up=3, n_down=2, threshold=50.0)
    assert rule.up.tolist() == [1.0] * 3
    assert rule.down.tolist() == [1.0] * 2
    up, down = rule.read(matrix, treated, matches)
    assert sum(map(len, up + down)) == 0


def test_controls_that_do_not_differ_are_refused():
    matrix = sp.csr_matrix(np.ones((30, 5)))
    pools = np.arange(30)[:, None]
    with pytest.raises(DataError, match="control cells do not differ in any gene"):
        DeltaRule.fit(matrix, pools, pools[::-1], np.ones(30, bool))


def test_too_few_values_for_a_curve_are_refused():
    matrix = sp.csr_matrix(np.array([[1.0, 0], [2.0, 0], [0, 0]]))
    with pytest.raises(DataError, match="only 2 expressed values among the controls"):
        DeltaRule.fit(matrix, np.array([[2], [1]]), np.array([[0], [1]]), np.ones(2, bool))


def test_a_rule_survives_json():
    matrix, treated, matches, is_control = planted()
    rule = DeltaRule.fit(matrix, treated, matches, is_control, n_up=3, n_down=2)
    again = DeltaRule.from_dict(json.loads(json.dumps(rule.to_dict())))
    for name in ("scale", "up", "down"):
        assert np.array_equal(getattr(rule, name), getattr(again, name))
    assert (again.curve, again.threshold) == (rule.curve, rule.threshold)
