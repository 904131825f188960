from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from c2s.baselines.scgen_style import ScgenStyle
from c2s.cells.library import Perturbation, combined
from c2s.errors import ConfigError, DataError, ModelError
from tests.baselines.planted_responses import AB, AC, FIT, LIBRARY, A, B, C, controls_of, effect, mean_change, world

SMALL = {"width": 32, "latent": 8, "steps": 400, "batch_size": 32, "learning_rate": 3e-3, "kl_weight": 1e-3}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cells():
    return world({"d1": [A, B], "d2": [A, B, C]})


@pytest.fixture(scope="module")
def fitted(cells):
    return ScgenStyle(**SMALL).fit(cells, **FIT, library=LIBRARY)


def error(found, controls, each, donor):
    return np.mean((mean_change(found, controls, each.name) - effect(each, donor)) ** 2)


def test_beats_no_change_on_planted_shifts(fitted, cells):
    for donor in ("d1", "d2"):
        controls = controls_of(cells, donor)
        found = fitted.predict(controls, [A, B, AB])
        for each, share in ((A, 0.5), (B, 0.5), (AB, 0.8)):  # AB was not seen: the sum of two deltas
            assert error(found, controls, each, donor) < share * np.mean(effect(each, donor) ** 2)


def test_a_context_that_was_not_seen_is_moved_like_the_others(fitted):
    controls = controls_of(world({"d3": []}, seed=1))
    found = fitted.predict(controls, [A])
    # d3 responds 1.5 times, d1 and d2 0.75 times on average: half of the change can be foretold
    assert error(found, controls, A, "d3") < 0.6 * np.mean(effect(A, "d3") ** 2)


def test_deltas_add_up_and_unseen_parts_have_the_mean_one(fitted):
    delta = {each.name: fitted._delta(each) for each in (A, B, C)}
    mean = (delta["a"] + delta["b"] + delta["c"]) / 3
    new = Perturbation("new")
    np.testing.assert_allclose(fitted._delta(AC), delta["a"] + delta["c"])
    np.testing.assert_allclose(fitted._delta(new), mean)
    np.testing.assert_allclose(fitted._delta(combined(A, new)), delta["a"] + mean)
    np.testing.assert_allclose(fitted._delta(combined(A, Perturbation("medium"))), delta["a"])


def test_contexts_weigh_the_same(fitted, cells):
    names, donors = cells.obs["drug"].astype(str).to_numpy(), cells.obs["donor"].to_numpy()
    latents = fitted._encoded(sp.csr_matrix(cells.X))
    moves = [
        latents[(names == "a") & (donors == d)].mean(0) - latents[(names == "medium") & (donors == d)].mean(0)
        for d in ("d1", "d2")
    ]
    np.testing.assert_allclose(fitted._delta(A), np.mean(moves, axis=0), atol=1e-5)


def test_a_combination_seen_in_training_has_its_own_delta():
    seen = world({"d1": [A, AB]}, n_cells=10, n_controls=10)
    few = ScgenStyle(**{**SMALL, "steps": 5}).fit(seen, **FIT, library=LIBRARY)
    assert not np.allclose(few._delta(AB), few._delta(A) + few._mean_delta)


def test_equal_seeds_give_equal_cells_and_global_generators_are_untouched(cells):
    controls = controls_of(cells)[:5].copy()
    torch_state, numpy_state, threads = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    settings = {**SMALL, "steps": 20}
    found = [
        ScgenStyle(**settings).fit(cells, **FIT, library=LIBRARY, seed=seed).predict(controls, [A, AB]).X.toarray()
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch_state, torch.get_rng_state()) and threads == torch.get_num_threads()
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2]) and found[0].min() >= 0


def test_a_cell_depends_on_no_other(fitted, cells):
    controls = controls_of(cells)
    whole, alone = fitted.predict(controls, [A, B]), fitted.predict(controls[7:8], [A, B])
    np.testing.assert_allclose(alone.X.toarray(), whole.X.toarray()[14:16], atol=1e-5)


def test_bad_input_is_refused(cells):
    with pytest.raises(ConfigError, match="learning_rate above 0"):
        ScgenStyle(learning_rate=0.0)
    with pytest.raises(ConfigError, match="at least 1"):
        ScgenStyle(latent=0)
    with pytest.raises(ModelError, match="ScgenStyle has learned nothing yet"):
        ScgenStyle().predict(controls_of(cells), [A])
    with pytest.raises(DataError, match="library lacks 2 of 3 training perturbations: b, c"):
        ScgenStyle(**SMALL).fit(cells, **FIT, library=[A])
