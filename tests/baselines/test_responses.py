"""What all response baselines share: the cells they return, and what they refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from c2s.baselines.additive import SumOfSingles
from c2s.baselines.contextual import BilinearPCA, DescriptorNeighbours, DescriptorRidge
from c2s.baselines.response_table import ResponseTable, TrainingCells
from c2s.baselines.responses import ResponseBaseline, in_blocks
from c2s.baselines.shifts import ContextMean, NoChange, PerturbationMean, TrainMean
from c2s.cells.library import Perturbation
from c2s.errors import ConfigError, DataError, ModelError
from c2s.metrics.conditions import logarithms
from c2s.metrics.conditions import mean_change as mean_change_of_metrics
from tests.baselines.planted_responses import AB, AC, CONTROL, FIT, LIBRARY, A, B, C, controls_of, world

SHIFTS = [NoChange, TrainMean, ContextMean, PerturbationMean, SumOfSingles, BilinearPCA, DescriptorRidge, DescriptorNeighbours]  # fmt: skip


@pytest.fixture(scope="module")
def cells():
    return world({"d1": [A, B, AB], "d2": [A, B]}, n_cells=6, n_controls=5)


@pytest.mark.parametrize("kind", SHIFTS)
def test_one_cell_for_each_control_and_perturbation(kind, cells):
    controls = controls_of(cells)[::-1].copy()
    controls.obs["depth"] = np.arange(controls.n_obs)
    before = controls.X.toarray()
    found = kind().fit(cells, **FIT, library=LIBRARY).predict(controls, [AC, A])
    assert isinstance(found.X, sp.csr_matrix) and found.X.dtype == np.float32 and found.X.data.min() > 0
    assert found.shape == (2 * controls.n_obs, cells.n_vars)
    assert list(found.obs["drug"]) == [AC.name, "a"] * controls.n_obs
    assert list(found.obs["control_cell"]) == list(np.repeat(controls.obs_names, 2))
    assert list(found.obs_names[:2]) == [f"{controls.obs_names[0]}|{AC.name}", f"{controls.obs_names[0]}|a"]
    for column in ("donor", "depth"):
        assert list(found.obs[column]) == list(np.repeat(controls.obs[column], 2))
    pd.testing.assert_frame_equal(found.var, controls.var)
    np.testing.assert_array_equal(controls.X.toarray(), before)
    assert list(controls.obs.columns) == ["drug", "donor", "depth"]


@pytest.mark.parametrize("kind", SHIFTS)
def test_a_cell_depends_on_no_other_and_dense_cells_are_as_good(kind, cells):
    fitted = kind().fit(cells, **FIT, library=LIBRARY)
    controls = controls_of(cells)
    whole = fitted.predict(controls, [A, AC, C])
    alone = fitted.predict(controls[3], [C])
    np.testing.assert_array_equal(alone.X.toarray()[0], whole.X.toarray()[3 * 3 + 2])
    dense = cells.copy()
    dense.X = dense.X.toarray()
    again = kind().fit(dense, **FIT, library=LIBRARY).predict(controls, [A, AC, C])
    np.testing.assert_array_equal(again.X.toarray(), whole.X.toarray())


def test_cells_are_predicted_block_by_block(monkeypatch):
    matrix = sp.random(17, 5, density=0.5, format="csr", dtype=np.float32, random_state=0)
    move = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    monkeypatch.setattr("c2s.baselines.responses._BLOCK", 40)  # two cells at once
    seen = []

    def moved(cells, rows):
        seen.append(rows)
        return cells[:, None] + move

    found = in_blocks(matrix, 3, moved)
    expected = np.maximum(matrix.toarray()[:, None] + move, 0).reshape(-1, 5)
    np.testing.assert_array_equal(found.toarray(), expected)
    assert len(seen) == 9 and seen[-1] == slice(16, 17)


def test_mean_of_training_is_that_of_the_metrics(cells):
    training = TrainingCells.of(
        logarithms(cells.X, "training"), list(cells.var_names), cells.obs["drug"].astype(str).to_numpy(),
        [(donor,) for donor in cells.obs["donor"]], CONTROL, {each.name: each for each in LIBRARY},
    )  # fmt: skip
    expected = mean_change_of_metrics(cells, cells.var_names, ["donor", "drug"], CONTROL)
    np.testing.assert_allclose(ResponseTable.of(training).mean(), expected, atol=1e-6)


def test_conditions_without_controls_are_left_out_and_logged(cells, caplog):
    alone = cells[~((cells.obs["donor"] == "d2") & (cells.obs["drug"] == CONTROL))].copy()
    with caplog.at_level("INFO"):
        fitted = PerturbationMean().fit(alone, **FIT)
    assert "2 of 5 training conditions" in caplog.text and "a in d2, b in d2" in caplog.text
    np.testing.assert_array_equal(fitted.shift(A, ["d2"]), fitted.shift(A, ["d1"]))


def test_no_context_keys_make_one_context(cells):
    one = cells[cells.obs["donor"] == "d1"].copy()
    without = PerturbationMean().fit(one, perturbation_key="drug", control=CONTROL)
    np.testing.assert_array_equal(without.shift(A), PerturbationMean().fit(one, **FIT).shift(A, ["d1"]))
    assert "donor" not in without.predict(controls_of(one)[:1, :], [A]).obs.columns.difference(one.obs.columns)


def broken(cells, change):
    cells = cells.copy()
    change(cells)
    return cells


def with_value(value):
    def change(cells):
        cells.X = cells.X.toarray()
        cells.X[0, 0] = value

    return change


def counts(cells):
    cells.X = sp.csr_matrix(np.round(cells.X.toarray()))


def gap(cells):
    cells.obs["donor"] = cells.obs["donor"].where(np.arange(cells.n_obs) > 0)


def rename(cells):
    cells.var_names = ["G1", *cells.var_names[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_value(np.nan), "NaN"),
        (with_value(-1.0), "negative"),
        (counts, "hold counts; expected log1p CP10k"),
        (gap, "1 of .* cells have no value in 'donor'"),
        (rename, "G1"),
    ],
)
def test_bad_cells_are_refused_by_fit_and_by_predict(cells, change, message):
    with pytest.raises(DataError, match=message):
        PerturbationMean().fit(broken(cells, change), **FIT)
    fitted = PerturbationMean().fit(cells, **FIT)
    with pytest.raises(DataError, match=message):
        fitted.predict(broken(controls_of(cells), change), [A])


def test_bad_training_is_refused(cells):
    with pytest.raises(DataError, match="no column 'treatment'.*perturbation_key="):
        NoChange().fit(cells, perturbation_key="treatment", control=CONTROL)
    with pytest.raises(DataError, match="no column 'site'.*context_keys="):
        NoChange().fit(cells, perturbation_key="drug", control=CONTROL, context_keys=["site"])
    with pytest.raises(
        DataError, match="no training cell is a control 'DMSO'; found a, a \\+ b, b, medium. Pass control="
    ):
        NoChange().fit(cells, perturbation_key="drug", control="DMSO")
    with pytest.raises(DataError, match="none of 0 training conditions"):
        NoChange().fit(controls_of(cells), **FIT)
    with pytest.raises(DataError, match="empty"):
        NoChange().fit(cells[:0], **FIT)
    with pytest.raises(DataError, match="expected an AnnData"):
        NoChange().fit(cells.X, **FIT)


def test_a_library_must_hold_what_is_read(cells):
    for kind in (SumOfSingles, BilinearPCA, DescriptorRidge, DescriptorNeighbours):
        with pytest.raises(DataError, match="library lacks 1 of 3 training perturbations: a \\+ b"):
            kind().fit(cells, **FIT, library=[A, B, C])
    PerturbationMean().fit(cells, **FIT, library=[C])  # reads no more than names
    SumOfSingles().fit(cells, **FIT)  # names are singles
    for kind in (DescriptorRidge, DescriptorNeighbours):
        with pytest.raises(ConfigError, match="reads the target genes of perturbations; pass library="):
            kind().fit(cells, **FIT)


def test_bad_predictions_are_refused(cells):
    controls = controls_of(cells)
    with pytest.raises(ModelError, match="PerturbationMean has learned nothing yet; call fit first"):
        PerturbationMean().predict(controls, [A])
    with pytest.raises(ModelError, match="call fit first"):
        NoChange().shift(A)
    fitted = PerturbationMean().fit(cells, **FIT)
    for genes, message in [
        (controls.var_names[1:], "lack 1 of the 24 genes of training: G0"),
        (controls.var_names[::-1], "in another order"),
    ]:
        with pytest.raises(DataError, match=message):
            fitted.predict(controls[:, genes], [A])
    more = controls.copy()
    more.var_names = ["NEW", *more.var_names[1:]]
    smaller = PerturbationMean().fit(cells[:, 1:], **FIT)
    with pytest.raises(DataError, match="have 1 genes that training had not: NEW"):
        smaller.predict(more, [A])
    with pytest.raises(DataError, match="holds no perturbation"):
        fitted.predict(controls, [])
    with pytest.raises(DataError, match="more than once: a"):
        fitted.predict(controls, [A, A])
    with pytest.raises(DataError, match="the control 'medium'.*leave it out"):
        fitted.predict(controls, [A, Perturbation(CONTROL)])
    with pytest.raises(DataError, match="30 of 40 cells are no controls 'medium' but a, a \\+ b, b"):
        fitted.predict(cells, [A])
    with pytest.raises(DataError, match="no column 'donor'"):
        fitted.predict(broken(controls, lambda each: each.obs.drop(columns="donor", inplace=True)), [A])
    repeated = controls.copy()
    repeated.obs_names = ["c0"] * controls.n_obs
    with pytest.raises(DataError, match="occur more than once: c0"):
        fitted.predict(repeated, [A])


def test_a_fit_that_fails_leaves_nothing_fitted(cells):
    fitted = NoChange()
    with pytest.raises(DataError):
        fitted.fit(cells, perturbation_key="drug", control="DMSO")
    with pytest.raises(ModelError):
        fitted.predict(controls_of(cells), [A])


def test_names_tell_baselines_apart():
    assert len({kind.name for kind in SHIFTS}) == len(SHIFTS)
    assert all(issubclass(kind, ResponseBaseline) for kind in SHIFTS)
