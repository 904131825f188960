"""Each gate on screens made so that it must pass, must fail, or cannot be tested."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from c2s.screening import gates
from c2s.screening.effects import STATISTICS, ScreenEffects
from c2s.screening.programmes import load_programme

CONTEXTS = ("low", "none")


def make(
    means=None, *, noise=0.01, vehicle=(0.0, 0.0), n_units=6, n_cells=5, n_reference=8, seed=0, unit_names="donor{}"
) -> ScreenEffects:
    """Return a screen of reference rows with ``means`` (n_reference, 2) on U, and the vehicle's own effect."""
    rng = np.random.default_rng(seed)
    means = np.zeros((n_reference, 2)) if means is None else np.asarray(means, dtype=float)
    means = np.vstack([vehicle, means])
    cells = pd.DataFrame(
        [(f"c{i}", context, unit_names.format(u)) for context in CONTEXTS for u in range(n_units) for i in range(n_cells)],
        columns=["cell", "context", "unit"],
    )  # fmt: skip
    side = (cells["context"] == "none").to_numpy().astype(int)
    u = means[:, side] + rng.normal(0, noise, (len(means), len(cells)))
    names = ["DMSO", *(f"drug{i}" for i in range(len(means) - 1))]
    rows = pd.DataFrame({
        "name": names, "role": ["vehicle"] + ["drug"] * (len(names) - 1), "targets": "", "mechanism": "", "support": "seen",
        "set": ["vehicle"] + ["reference"] * (len(names) - 1),
    })  # fmt: skip
    programme = load_programme(["A", "B"])
    k = 2
    return ScreenEffects(
        rows, cells, {name: u.astype(np.float32) for name in STATISTICS}, {name: np.zeros(len(cells), np.float32) for name in STATISTICS},
        np.zeros((len(rows), 2, k), np.float32), np.ones((2, k), np.float32), np.ones((2, k), np.float32), programme, ["A", "B"], CONTEXTS, 50,
    )  # fmt: skip


RESPONSES = np.linspace(-0.1, 0.1, 8)


def test_a_model_that_reads_the_drug_passes():
    gate = gates.reads_drug(make(np.stack([RESPONSES, RESPONSES], axis=1)))
    assert gate.passed is True
    assert gate.answer.startswith("Yes: effects of 8 training perturbations differ far more than noise")
    assert gate.values["p"] < 1e-6
    assert gate.values["rows"] == 8
    assert gate.detail == ""


@pytest.mark.parametrize("n_units", [6, 2])
def test_a_model_that_does_not_read_the_drug_fails(n_units):
    """No effect at all, or the same effect for every drug, even a large one."""
    wrong = [gates.reads_drug(make(np.full((8, 2), 0.2), n_units=n_units, seed=seed)).passed for seed in range(20)]
    assert sum(wrong) <= 1
    gate = gates.reads_drug(make(n_units=n_units))
    assert gate.passed is False
    assert gate.answer.startswith("No: ")
    assert "cannot rank a library" in gate.detail


def test_identical_answers_are_not_read():
    """Effects that are exactly 0 (a model that ignores the drug under shared noise) are no evidence."""
    gate = gates.reads_drug(make(noise=0.0))
    assert gate.passed is False
    assert gate.values["f"] == 0
    assert gate.values["p"] == 1


def test_reading_the_drug_by_hand():
    effects = make([[1, 0], [2, 0], [4, 0]], noise=0.3, n_units=4, n_cells=3)
    values = effects.effect["u"][1:, :12].astype(float).reshape(3, 4, 3).mean(axis=2)
    between = 4 * ((values.mean(1) - values.mean()) ** 2).sum() / 2
    rest = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    assert gates.reads_drug(effects).values["f"] == pytest.approx(between / ((rest**2).sum() / 6))


def test_too_few_perturbations_to_ask():
    for n in (0, 2):
        effects = make(np.zeros((n, 2)))
        for gate in (gates.reads_drug(effects), gates.reads_context(effects, {}, np.array([], dtype=int))):
            assert gate.passed is None
            assert "Cannot be tested" in gate.answer
    assert gates.reads_drug(make(np.zeros((3, 2)))).passed is not None


# effects under a swap: means[cell context][tag]
CASES = {
    "tag": [[1.0, 0.0], [1.0, 0.0]],  # effect follows the tag
    "cell": [[1.0, 1.0], [0.0, 0.0]],  # effect follows the cell
    "both": [[2.0, 1.0], [1.0, 0.0]],
    "nothing": [[1.0, 1.0], [1.0, 1.0]],
}
CARRIED = {
    "tag": "carried by the tag alone",
    "cell": "carried by the cell alone",
    "both": "carried by both the tag and the cell itself",
    "nothing": "carried by neither by itself",
}


@pytest.mark.parametrize("n_units", [6, 2])
@pytest.mark.parametrize("case", CASES)
def test_what_carries_the_context(case, n_units):
    table = 0.1 * np.array(CASES[case])  # [cell][tag], 0 is the first context
    size = np.linspace(0.5, 1.5, 8)
    effects = make(np.stack([size * table[0, 0], size * table[1, 1]], axis=1), n_units=n_units)
    swapped = make(np.stack([size * table[0, 1], size * table[1, 0]], axis=1), n_units=n_units, seed=1)
    rows = np.flatnonzero(effects.rows["set"] == "reference")
    gate = gates.reads_context(effects, {name: swapped.effect[name][1:] for name in STATISTICS}, rows)
    assert gate.passed is (case != "nothing")
    assert CARRIED[case] in gate.detail
    expected_tag = {"tag": 0.1, "cell": 0.0, "both": 0.1, "nothing": 0.0}[case]
    assert gate.values["tag_rms"] == pytest.approx(expected_tag * np.sqrt((size**2).mean()), abs=0.006)
    expected_cell = {"tag": 0.0, "cell": 0.1, "both": 0.1, "nothing": 0.0}[case]
    assert gate.values["cell_rms"] == pytest.approx(expected_cell * np.sqrt((size**2).mean()), abs=0.006)


def test_context_effects_that_cancel_over_drugs_are_still_read():
    means = np.stack([RESPONSES, -RESPONSES], axis=1)
    assert gates.reads_context(make(means), {}, np.array([], dtype=int)).passed is True


def test_context_without_a_tag():
    gate = gates.reads_context(make(np.stack([RESPONSES + 0.2, RESPONSES], axis=1)), {}, np.array([], dtype=int))
    assert gate.passed is True
    assert "has no context tag" in gate.detail
    assert "tag_f" not in gate.values


def test_unequal_numbers_of_cells_per_context():
    effects = make(np.stack([RESPONSES + 0.2, RESPONSES], axis=1), n_units=2)
    keep = np.r_[0:10, 10:14]
    effects.cells = effects.cells.iloc[keep].reset_index(drop=True)
    effects.effect = {name: values[:, keep] for name, values in effects.effect.items()}
    assert gates.reads_context(effects, {}, np.array([], dtype=int)).passed is True


def test_vehicle_is_zero():
    passed = [gates.vehicle_is_zero(make(noise=0.02, seed=seed)).passed for seed in range(40)]
    assert np.mean(passed) > 0.75  # both of two 95 % intervals
    for vehicle in ((0.05, 0.0), (0.0, -0.05)):
        gate = gates.vehicle_is_zero(make(vehicle=vehicle))
        assert gate.passed is False
        assert gate.answer.startswith("No: ")
        assert "zero of this screen is off" in gate.detail
        assert gate.values["low"]["effect"] == pytest.approx(vehicle[0], abs=0.01)
        assert gate.values["none"]["effect"] == pytest.approx(vehicle[1], abs=0.01)


def table(*rows) -> pd.DataFrame:
    names = ["perturbation", "role", "effect_first_low", "effect_first_high", "effect_second_low", "effect_second_high"]
    frame = pd.DataFrame(rows, columns=names)
    return frame.assign(support="seen target")


GOOD_POSITIVE = ("IFNG", "positive_control", 0.05, 0.1, -0.01, 0.01)
WEAK_POSITIVE = ("weak", "positive_control", 0.005, 0.1, 0.0, 0.01)
SECOND_POSITIVE = ("other", "positive_control", 0.0, 0.01, 0.03, 0.1)
GOOD_NEGATIVE = ("water", "negative_control", -0.01, 0.01, -0.01, 0.01)
BAD_NEGATIVE = ("salt", "negative_control", -0.01, 0.01, -0.05, 0.01)
DRUG = ("drug", "drug", 0.5, 0.9, 0.5, 0.9)


def test_controls_that_behave():
    gate = gates.controls_behave(make(), table(GOOD_POSITIVE, SECOND_POSITIVE, GOOD_NEGATIVE, DRUG), delta=0.02)
    assert gate.passed is True
    assert gate.answer == "Yes: 3 of 3 do."


@pytest.mark.parametrize("wrong", [WEAK_POSITIVE, BAD_NEGATIVE])
def test_controls_that_misbehave_are_named(wrong):
    gate = gates.controls_behave(make(), table(GOOD_POSITIVE, wrong, GOOD_NEGATIVE), delta=0.02)
    assert gate.passed is False
    assert gate.answer == f"No: 2 of 3 do; not {wrong[0]}."
    assert gate.values["wrong"] == [wrong[0]]


def test_no_controls_named():
    gate = gates.controls_behave(make(), table(DRUG), delta=0.02)
    assert gate.passed is None
    assert "positive_control" in gate.answer


@pytest.mark.parametrize(("n_unseen", "passed"), [(0, True), (4, True), (5, False), (10, False)])
def test_distance_from_training(n_unseen, passed):
    frame = table(*[DRUG] * 10, GOOD_POSITIVE)
    frame.loc[: n_unseen - 1, "support"] = "unseen"
    gate = gates.near_training(frame)
    assert gate.passed is passed
    assert gate.values == {"seen": 0, "seen target": 10 - n_unseen, "unseen": n_unseen}
    assert bool(gate.detail) is (n_unseen > 0)


def scores(**rmse):
    return {name: {"rmse": value, "spearman": 0.5, "n": 12} for name, value in rmse.items()}


def test_baselines():
    gate = gates.beats_baselines(scores(model=0.1, ridge=0.2, knn=0.15, mean=0.3))
    assert gate.passed is True
    assert "12 held-out pairs" in gate.answer
    assert "model 0.100, ridge 0.200" in gate.answer
    gate = gates.beats_baselines(scores(model=0.25, ridge=0.2, knn=0.15, mean=0.3))
    assert gate.passed is False
    assert gate.answer.startswith("No, knn does better")
    assert gates.beats_baselines(None).passed is None


def test_gates_are_plain_values():
    gate = gates.Gate("a", "b?", "c.", True)
    assert gate.to_dict() == {"name": "a", "question": "b?", "answer": "c.", "passed": True, "detail": "", "values": {}}


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_a_null_context_passes_at_the_level_whatever_rows_share(correlation):
    """Rows share the vehicle draw of a unit; that alone is no sign of reading the context."""
    rng = np.random.default_rng(7)
    wrong = []
    for _ in range(400):
        effects = make(n_cells=1, n_reference=8, noise=0.0)
        shared = rng.normal(0, np.sqrt(correlation), effects.effect["u"].shape[1])
        own = rng.normal(0, np.sqrt(1 - correlation), effects.effect["u"].shape)
        effects.effect["u"] = (0.01 * (shared + own)).astype(np.float32)
        wrong.append(gates.reads_context(effects, {}, np.array([], int)).passed)
    assert np.mean(wrong) < 0.03


def test_a_correct_vehicle_rarely_fails():
    for n_units, n_cells in ((6, 3), (1, 16)):
        failed = [
            not gates.vehicle_is_zero(make(n_units=n_units, n_cells=n_cells, seed=seed)).passed for seed in range(300)
        ]
        assert np.mean(failed) < 0.03


def test_one_cell_a_context_tests_nothing():
    effects = make(np.stack([RESPONSES, -RESPONSES], axis=1), n_units=1, n_cells=1)
    for gate in (
        gates.reads_drug(effects),
        gates.reads_context(effects, {}, np.array([], int)),
        gates.vehicle_is_zero(effects),
    ):
        assert gate.passed is None
        assert gate.answer.startswith("Cannot be tested")


def test_perturbations_kept_out_of_training_are_not_asked_whether_the_model_reads():
    effects = make(np.stack([RESPONSES, RESPONSES], axis=1))
    effects.rows.loc[1:6, "support"] = "unseen"
    assert gates.reads_drug(effects).passed is None


def test_a_missing_baseline_says_why():
    assert "held out fewer than 4" in gates.beats_baselines(None).answer
    assert "no responses in both contexts" in gates.beats_baselines(None, contexts_known=False).answer
