"""Mean-shift baselines on planted worlds: what each must get right, closed forms, and what answers where nothing was seen."""

from __future__ import annotations

import numpy as np
import pytest

from c2s.baselines.additive import SumOfSingles
from c2s.baselines.contextual import BilinearPCA, DescriptorNeighbours, DescriptorRidge
from c2s.baselines.descriptors import Descriptors
from c2s.baselines.shifts import ContextMean, NoChange, PerturbationMean, TrainMean
from c2s.baselines.targets import TargetNeighbours, TargetRidge
from c2s.cells.library import Perturbation, combined
from c2s.errors import ConfigError
from tests.baselines.planted_responses import (
    AB,
    AC,
    BC,
    FIT,
    LIBRARY,
    N_GENES,
    A,
    B,
    C,
    controls_of,
    effect,
    mean_change,
    world,
)  # fmt: skip

NEW = Perturbation("new", targets=("Z",))
NOISE = 0.2
EXACT = 5 * NOISE * np.sqrt(1 / 40 + 1 / 60)  # five standard errors of a difference of means


@pytest.fixture(scope="module")
def cells():
    return world({"d1": [A, B, C], "d2": [A, B, C, AB]}, noise=NOISE)


def means(cells):
    """Return the mean change of each condition, by brute force."""
    found = {}
    for donor in sorted(set(cells.obs["donor"])):
        of_donor = cells[cells.obs["donor"] == donor]
        dense = of_donor.X.toarray().astype(np.float64)
        names = of_donor.obs["drug"].astype(str).to_numpy()
        base = dense[names == "medium"].mean(axis=0)
        found |= {(name, donor): dense[names == name].mean(axis=0) - base for name in set(names) - {"medium"}}
    return found


def test_no_change_is_the_control_cell(cells):
    controls = controls_of(cells)
    found = NoChange().fit(cells, **FIT).predict(controls, [A, NEW])
    np.testing.assert_array_equal(found.X.toarray(), np.repeat(controls.X.toarray(), 2, axis=0))


def test_means_are_those_by_brute_force(cells):
    change = means(cells)
    everything = np.mean(list(change.values()), axis=0)
    of_donor = np.mean([value for (_, donor), value in change.items() if donor == "d2"], axis=0)
    of_a = (change["a", "d1"] + change["a", "d2"]) / 2
    for kind, perturbation, donor, expected in [
        (TrainMean, A, "d1", everything),
        (TrainMean, NEW, "d3", everything),
        (ContextMean, A, "d2", of_donor),
        (ContextMean, A, "d3", everything),
        (PerturbationMean, A, "d2", change["a", "d2"]),
        (PerturbationMean, AB, "d1", change[AB.name, "d2"]),
        (PerturbationMean, A, "d3", of_a),
        (PerturbationMean, NEW, "d2", everything),
        (PerturbationMean, NEW, "d3", everything),
    ]:
        np.testing.assert_allclose(kind().fit(cells, **FIT).shift(perturbation, [donor]), expected, atol=1e-5)


def test_conditions_weigh_the_same_however_many_cells_they_have(cells):
    kept = np.flatnonzero((cells.obs["drug"] != "b") | (np.arange(cells.n_obs) % 4 == 0))
    fewer = cells[kept].copy()
    np.testing.assert_allclose(
        TrainMean().fit(fewer, **FIT).shift(A), np.mean(list(means(fewer).values()), axis=0), atol=1e-5
    )


def test_predicted_cells_move_by_the_shift_and_stop_at_zero(cells):
    controls = controls_of(cells, "d1")
    fitted = PerturbationMean().fit(cells, **FIT)
    found = fitted.predict(controls, [C]).X.toarray()
    shift = fitted.shift(C, ["d1"])
    np.testing.assert_allclose(found, np.maximum(controls.X.toarray() + shift, 0), atol=1e-5)
    low = controls.copy()
    low.X = low.X.multiply(0.1).tocsr()
    clipped = fitted.predict(low, [C]).X.toarray()
    assert clipped.min() == 0
    np.testing.assert_allclose(clipped, np.maximum(low.X.toarray() + shift, 0), atol=1e-5)


def test_sum_of_singles_is_exact_in_an_additive_world(cells):
    fitted = SumOfSingles().fit(cells, **FIT, library=LIBRARY)
    for donor in ("d1", "d2"):
        controls = controls_of(cells, donor)
        found = fitted.predict(controls, [A, AC, BC])
        for each in (A, AC, BC):
            np.testing.assert_allclose(
                mean_change(found, controls, each.name), effect(each, donor), atol=len(each.single) * EXACT
            )
    change = means(cells)
    np.testing.assert_allclose(fitted.shift(AB, ["d2"]), change["a", "d2"] + change["b", "d2"], atol=1e-5)
    wrong = PerturbationMean().fit(cells, **FIT).shift(AC, ["d1"])
    assert np.abs(wrong - effect(AC)).max() > 3 * EXACT


def test_a_part_seen_alone_elsewhere_has_its_mean_there():
    cells = world({"d1": [A, B], "d2": [A, C], "d3": [C]})
    change = means(cells)
    fitted = SumOfSingles().fit(cells, **FIT, library=LIBRARY)
    of_c = (change["c", "d2"] + change["c", "d3"]) / 2
    np.testing.assert_allclose(fitted.shift(AC, ["d1"]), change["a", "d1"] + of_c, atol=1e-5)
    of_a = (change["a", "d1"] + change["a", "d2"]) / 2
    np.testing.assert_allclose(fitted.shift(AB, ["elsewhere"]), of_a + change["b", "d1"], atol=1e-5)


def test_a_part_never_seen_alone_comes_from_combinations():
    cells = world({"d1": [A, B, AC, BC], "d2": [A, B, AC], "d3": [A, B]})
    change = means(cells)
    fitted = SumOfSingles(ridge=0.5).fit(cells, **FIT, library=LIBRARY)
    beyond = {
        (x, d): change[f"{x} + c", d] - change[x, d] for x, d in [("a", "d1"), ("b", "d1"), ("a", "d2")]
    }  # what a combination does beyond its known part
    np.testing.assert_allclose(fitted.shift(C, ["d1"]), (beyond["a", "d1"] + beyond["b", "d1"]) / 2.5, atol=1e-5)
    np.testing.assert_allclose(fitted.shift(C, ["d2"]), beyond["a", "d2"] / 1.5, atol=1e-5)
    np.testing.assert_allclose(fitted.shift(C, ["d3"]), sum(beyond.values()) / 3.5, atol=1e-5)
    np.testing.assert_allclose(fitted.shift(BC, ["d3"]), change["b", "d3"] + sum(beyond.values()) / 3.5, atol=1e-5)


def test_parts_never_seen_alone_are_told_apart_when_combinations_allow():
    cells = world({"d1": [AB, AC, BC]})
    fitted = SumOfSingles(ridge=1e-6).fit(cells, **FIT, library=LIBRARY)
    for each in (A, B, C):
        np.testing.assert_allclose(fitted.shift(each, ["d1"]), effect(each), atol=1.5 * EXACT)


def test_parts_seen_nowhere_and_the_control_add_nothing(cells):
    fitted = SumOfSingles().fit(cells, **FIT, library=LIBRARY)
    assert not fitted.shift(NEW, ["d1"]).any()
    for other in (NEW, Perturbation("medium")):
        np.testing.assert_array_equal(fitted.shift(combined(A, other), ["d1"]), fitted.shift(A, ["d1"]))


def test_bilinear_is_the_published_formula_in_a_context():
    library = [A, B, C, AB, AC]
    cells = world({"d1": library})
    change = means(cells)
    y = np.stack([change[each.name, "d1"] for each in library]).T
    b = y.mean(axis=1, keepdims=True)
    hot = np.array(
        [[n in each.single for n in "abc"] + [f"G{i}" in each.targets for i in range(3)] for each in library]
    )
    _, _, v = np.linalg.svd(hot.astype(float))
    u, _, _ = np.linalg.svd(y - b)
    g, axes = u[:, :2], v[:2]
    p = axes @ hot.T
    w = np.linalg.inv(g.T @ g + 0.3 * np.eye(2)) @ g.T @ (y - b) @ p.T @ np.linalg.inv(p @ p.T + 0.3 * np.eye(2))
    fitted = BilinearPCA(n_components=2, ridge=0.3).fit(cells, **FIT, library=LIBRARY)
    of_bc = axes @ np.array([0, 1, 1, 0, 1, 1.0])
    np.testing.assert_allclose(fitted.shift(BC, ["d1"]), b[:, 0] + g @ w @ of_bc, atol=1e-5)
    np.testing.assert_allclose(fitted.shift(NEW, ["d1"]), b[:, 0], atol=1e-5)


def test_bilinear_recovers_training_and_combinations_without_a_penalty():
    cells = world({"d1": [A, B, C, AB, AC], "d2": [A, B, C]})
    fitted = BilinearPCA(ridge=1e-8).fit(cells, **FIT, library=LIBRARY)
    change = means(cells)
    for name, each in (("a", A), ("b", B), ("c", C)):
        np.testing.assert_allclose(fitted.shift(each, ["d2"]), change[name, "d2"], atol=1e-4)
        both = (fitted.shift(each, ["d1"]) + fitted.shift(each, ["d2"])) / 2
        np.testing.assert_allclose(fitted.shift(each, ["d3"]), both, atol=1e-5)
    assert np.corrcoef(fitted.shift(BC, ["d1"]), effect(BC))[0, 1] > 0.7


@pytest.mark.parametrize(
    ("kind", "inner"),
    [(DescriptorRidge(alpha=0.5), TargetRidge(alpha=0.5)), (DescriptorNeighbours(k=2), TargetNeighbours(k=2))],
)
def test_models_of_targets_answer_as_they_do_on_mean_changes(kind, inner, cells):
    change = means(cells)
    by_name = {each.name: each for each in LIBRARY}
    inner.fit([by_name[name] for name, _ in change], [donor for _, donor in change], list(change.values()))
    kind.fit(cells, **FIT, library=LIBRARY)
    for each in (A, BC, NEW):
        expected = inner.predict([each, each], ["d1", "d2"])
        np.testing.assert_allclose(kind.shift(each, ["d1"]), expected[0], atol=1e-5)
        np.testing.assert_allclose(kind.shift(each, ["d3"]), expected.mean(axis=0), atol=1e-5)


def test_descriptors_are_parts_and_targets():
    known = Descriptors([A, AB], control="medium")
    assert len(known) == 4
    assert known.of(combined(A, Perturbation("medium"))) == [("part", "a"), ("target", "G0")]
    found = known.hot([A, AB, C, Perturbation("G0"), Perturbation("other", targets=("a", "G1"))])
    np.testing.assert_array_equal(found.sum(axis=1), [2, 4, 0, 0, 1])


def test_impossible_settings_are_refused():
    for kind, settings, message in [
        (SumOfSingles, {"ridge": 0.0}, "ridge must be above 0"),
        (BilinearPCA, {"n_components": 0}, "n_components must be at least 1"),
        (BilinearPCA, {"ridge": -1.0}, "ridge above 0"),
        (DescriptorRidge, {"alpha": 0.0}, "above 0"),
        (DescriptorNeighbours, {"k": 0}, "at least 1"),
    ]:
        with pytest.raises(ConfigError, match=message):
            kind(**settings)


def test_shifts_have_one_value_a_gene(cells):
    assert BilinearPCA().fit(cells, **FIT).shift(A, ["d1"]).shape == (N_GENES,)
