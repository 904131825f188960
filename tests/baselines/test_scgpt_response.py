from __future__ import annotations

import numpy as np
import pytest
import torch

from c2s.baselines.descriptors import Descriptors
from c2s.baselines.response_table import TrainingCells
from c2s.baselines.scgpt_response import ScgptResponder, ScgptResponse
from c2s.cells.library import Perturbation, combined
from c2s.errors import ConfigError, DataError, ModelError
from c2s.metrics.conditions import logarithms
from tests.baselines.planted_responses import (
    AB,
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
)

SMALL = {"width": 16, "heads": 2, "layers": 1, "steps": 200, "batch_size": 16, "learning_rates": (1e-2,)}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cells():
    return world({"d1": [A, B], "d2": [A, B]})


@pytest.fixture(scope="module")
def fitted(cells):
    return ScgptResponse(**SMALL).fit(cells, **FIT, library=LIBRARY)


def test_beats_no_change_on_planted_shifts(fitted, cells):
    assert fitted.search_ == [] and fitted.learning_rate_ == 1e-2
    for donor in ("d1", "d2"):
        controls = controls_of(cells, donor)
        found = fitted.predict(controls, [A, B])
        for each in (A, B):
            error = np.mean((mean_change(found, controls, each.name) - effect(each, donor)) ** 2)
            assert error < 0.5 * np.mean(effect(each, donor) ** 2)


@pytest.mark.slow
def test_a_target_that_is_not_measured_reaches_the_network_by_its_name(cells):
    far = [Perturbation("a", targets=("IFNAR1",)), Perturbation("b")]
    fitted = ScgptResponse(**SMALL).fit(cells, **FIT, library=far)
    controls = controls_of(cells, "d1")
    found = fitted.predict(controls, [*far, Perturbation("stranger", targets=("IFNAR1",))])
    assert not fitted._flags(far).any()
    change = {name: mean_change(found, controls, name) for name in ("a", "b", "stranger")}
    assert change["a"][:5].mean() > change["b"][:5].mean() + 0.3  # only a moves genes 0 to 4
    assert change["b"][5:8].mean() > change["a"][5:8].mean() + 0.3
    assert change["stranger"][:5].mean() > change["b"][:5].mean()  # it shares a's target


def test_flags_stand_at_measured_targets(fitted):
    flags = fitted._flags([A, AB, Perturbation("x", targets=("G23", "absent"))])
    assert [list(np.flatnonzero(row)) for row in flags] == [[0], [0, 1], [23]]


def test_flags_and_descriptors_change_the_answer():
    torch.manual_seed(0)
    network = ScgptResponder(6, 3, width=8, heads=2, layers=1).eval()
    values, none = torch.rand(1, 6), torch.zeros(1, 6, dtype=torch.long)
    start = network(values, none, torch.zeros(1, 3))
    flagged = none.clone()
    flagged[0, 2] = 1
    assert start.shape == (1, 6)
    assert not torch.allclose(start, network(values, flagged, torch.zeros(1, 3)))
    assert not torch.allclose(start, network(values, none, torch.tensor([[0.0, 1.0, 0.0]])))


def test_genes_beyond_the_variable_ones_keep_the_value_of_the_control(cells):
    fitted = ScgptResponse(**{**SMALL, "steps": 5}, n_genes=10).fit(cells, **FIT, library=LIBRARY)
    controls = controls_of(cells)[:4].copy()
    found, kept = fitted.predict(controls, [A, B]).X.toarray(), np.setdiff1d(np.arange(N_GENES), fitted._chosen)
    variance = cells.X.toarray().astype(np.float64).var(axis=0)
    assert len(kept) == N_GENES - 10 and variance[kept].max() < variance[fitted._chosen].min()
    np.testing.assert_array_equal(found[:, kept], np.repeat(controls.X.toarray(), 2, axis=0)[:, kept])
    assert np.abs(found - np.repeat(controls.X.toarray(), 2, axis=0))[:, fitted._chosen].min() > 0


@pytest.mark.slow
def test_the_rate_is_searched_by_pearson_delta(cells):
    fitted = ScgptResponse(**{**SMALL, "learning_rates": (1e-6, 1e-2)}).fit(cells, **FIT, library=LIBRARY)
    assert [trial["learning_rate"] for trial in fitted.search_] == [1e-6, 1e-2]
    assert {trial["steps"] for trial in fitted.search_} == {round(0.3 / 0.7 * 200 / 2)}
    assert fitted.learning_rate_ == 1e-2 and fitted.search_[1]["Pearson delta"] > fitted.search_[0]["Pearson delta"]


def split_of(perturbations):
    cells = world({"d1": [A]})
    names = np.repeat(["medium", *(each.name for each in perturbations)], 12).astype(object)
    matrix = logarithms(cells.X[np.zeros(len(names), dtype=int)], "training")
    described = {each.name: each for each in perturbations}
    training = TrainingCells.of(matrix, list(cells.var_names), names, [("d",)] * len(names), "medium", described)
    fitted = ScgptResponse(**SMALL)
    fitted._descriptors = Descriptors(perturbations, control="medium")
    return training, fitted._split(training, 0)


def test_perturbations_are_held_out_where_their_parts_are_seen_elsewhere():
    singles = [Perturbation(f"s{i}") for i in range(6)]
    pairs = [combined(one, other) for i, one in enumerate(singles) for other in singles[:i]]
    training, (train, held) = split_of([*singles, *pairs])
    assert len(held) == 2 and not {name for name, _ in train} & {name for name, _ in held}
    seen = {part for name, _ in train for part in training.perturbations[name].single}
    assert all(part in seen for name, _ in held for part in training.perturbations[name].single)


def test_cells_are_held_out_where_no_perturbation_can_be():
    for perturbations in ([A, B], [Perturbation(f"s{i}") for i in range(12)]):
        training, (train, held) = split_of(perturbations)
        for pair, rows in training.treated.items():
            assert len(held[pair]) == 1
            np.testing.assert_array_equal(np.sort([*train[pair], *held[pair]]), rows)


def test_equal_seeds_give_equal_cells_and_global_generators_are_untouched(cells):
    controls = controls_of(cells)[:5].copy()
    torch_state, numpy_state, threads = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    few = {**SMALL, "steps": 10, "learning_rates": (1e-3, 1e-2)}
    found = [
        ScgptResponse(**few).fit(cells, **FIT, library=LIBRARY, seed=seed).predict(controls, [A, AB, C]).X.toarray()
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch_state, torch.get_rng_state()) and threads == torch.get_num_threads()
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2]) and found[0].min() >= 0


def test_the_seed_decides_the_first_weights(cells):
    still = {**SMALL, "steps": 1, "learning_rates": (1e-12,)}
    first = [ScgptResponse(**still).fit(cells, **FIT, library=LIBRARY, seed=s)._network.descriptors for s in (0, 0, 1)]
    assert torch.allclose(first[0], first[1], atol=1e-6) and not torch.allclose(first[0], first[2], atol=1e-2)


def test_a_cell_depends_on_no_other(fitted, cells):
    controls = controls_of(cells)
    whole, alone = fitted.predict(controls, [A, B]), fitted.predict(controls[7:8], [A, B])
    np.testing.assert_allclose(alone.X.toarray(), whole.X.toarray()[14:16], atol=1e-5)


def test_bad_input_is_refused(cells):
    for settings in ({"width": 10, "heads": 4}, {"steps": 0}, {"learning_rates": ()}, {"learning_rates": (0.0,)}):
        with pytest.raises(ConfigError, match="must be above 0, width a multiple of heads"):
            ScgptResponse(**settings)
    with pytest.raises(ModelError, match="ScgptResponse has learned nothing yet"):
        ScgptResponse().predict(controls_of(cells), [A])
    with pytest.raises(DataError, match="library lacks 1 of 2 training perturbations: b"):
        ScgptResponse(**SMALL).fit(cells, **FIT, library=[A])
