"""The decoder's mathematics: what it recovers exactly, and the falling projection against an independent one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.sentences.surface import Surface, _gene_lines, _hat_basis


def flat_surface(offset, *, height=2.0, floor=0.0):
    """A surface equal to ``height`` everywhere, so that only the genes' offsets matter."""
    knots = np.linspace(-5, 0, 6)
    offset = np.asarray(offset, np.float32)
    return Surface(knots, np.array([0.0, 9.0]), np.full((6, 2), height), height, floor, offset, np.zeros_like(offset))


def decode(surface, ids, sizes=None):
    ids = np.asarray(ids, np.int32)
    out = np.empty(len(ids), np.float32)
    surface.decode(ids, np.array([0, len(ids)]), np.array(sizes or [len(ids)], np.int32), np.array([0]), out)
    return out


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=25))
def test_the_falling_projection_is_isotonic_regression(offsets):
    from sklearn.isotonic import IsotonicRegression

    n = len(offsets)
    expected = IsotonicRegression(increasing=False).fit_transform(np.arange(n), 2.0 + np.array(offsets, np.float64))
    np.testing.assert_allclose(decode(flat_surface(offsets), np.arange(n)), expected, atol=1e-5)


def test_unknown_genes_get_the_surface_and_nothing_falls_below_the_floor():
    assert decode(flat_surface([1.0]), [-1]).tolist() == [2.0]
    assert decode(flat_surface([-9.0], floor=0.25), [0]).tolist() == [0.25]
    assert decode(flat_surface([0.0]), []).tolist() == []


def test_a_plane_is_recovered():
    rng = np.random.default_rng(0)
    sizes = np.repeat(rng.integers(50, 400, 300), 40)
    ranks = (rng.random(len(sizes)) * sizes).astype(int)
    u, z = np.log((ranks + 1) / (sizes + 1)), np.log(sizes)
    truth = 1.0 - 0.8 * u - 0.1 * z
    surface = Surface.fit(np.zeros(len(u), int), ranks, sizes, truth, n_genes=1)
    for n in (60, 150, 390):
        r = np.arange(n)
        expected = 1.0 - 0.8 * np.log((r + 1) / (n + 1)) - 0.1 * np.log(n)
        found = decode(surface, np.zeros(n, np.int32), [n])
        inner = slice(3, None)  # the first knots are a handful of points
        np.testing.assert_allclose(found[inner], expected[inner], atol=0.02)


def test_one_size_of_cell_is_enough():
    sizes = np.full(200, 20)
    ranks = np.tile(np.arange(20), 10)
    surface = Surface.fit(ranks, ranks, sizes, 5.0 - 0.2 * ranks, n_genes=20)
    found = decode(surface, np.arange(20), [20])
    np.testing.assert_allclose(found, 5.0 - 0.2 * np.arange(20), atol=0.1)
    assert np.all(np.isfinite(decode(surface, np.arange(20), [5000])))


def test_hat_weights_add_up_to_one_and_reproduce_linear_functions():
    rng = np.random.default_rng(0)
    u, z = -3 * rng.random(50), 2 + 3 * rng.random(50)
    rank_knots, size_knots = np.linspace(-3, 0, 7), np.array([2.0, 3.0, 5.0])
    basis = _hat_basis(u, z, rank_knots, size_knots)
    np.testing.assert_allclose(np.asarray(basis.sum(axis=1)).ravel(), 1)
    at_knots = (rank_knots[:, None] + 2 * size_knots[None, :]).ravel()
    np.testing.assert_allclose(basis @ at_knots, u + 2 * z)


def test_gene_lines_are_ridge_regressions():
    from c2s.sentences.surface import SHRINKAGE

    rng = np.random.default_rng(0)
    genes, height, residual = rng.integers(0, 3, 200), rng.normal(size=200), rng.normal(size=200)
    offset, slope = _gene_lines(genes, height, residual, 4)
    for gene in range(3):
        own = genes == gene
        x = np.column_stack([np.ones(own.sum()), height[own]])
        penalty = SHRINKAGE * np.diag([1.0, height.var()])
        expected = np.linalg.solve(x.T @ x + penalty, x.T @ residual[own])
        assert (offset[gene], slope[gene]) == pytest.approx(tuple(expected), abs=1e-6)
    assert offset[3] == slope[3] == 0


def test_json_and_arrays_bring_it_back():
    rng = np.random.default_rng(0)
    ranks, sizes = np.tile(np.arange(20), 10), np.repeat(rng.integers(20, 40, 10), 20)
    surface = Surface.fit(ranks, ranks, sizes, 5.0 - 0.2 * ranks + rng.normal(size=200) * 0.1, n_genes=25)
    back = Surface.from_dict(surface.to_dict(), np.stack([surface.gene_offset, surface.gene_slope]))
    np.testing.assert_array_equal(decode(back, np.arange(25), [30]), decode(surface, np.arange(25), [30]))
