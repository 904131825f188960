"""Blocks of cells: what is measured in each, saved, read back, refused."""

from __future__ import annotations

import logging
import weakref

import numpy as np
import pytest

from c2s.errors import ArtefactError
from c2s.screening.config import ScreenConfig
from c2s.screening.effects import STATISTICS
from c2s.screening.measure import CONTEXT, UNIT, estimate_seconds, gather, part_path, read_part, run_block, run_blocks
from c2s.screening.plan import make_plan
from c2s.screening.scores import programme_scores
from tests import tiny


def plan_of(tiny_screen, *, library=None, **changes):
    simulated, model = tiny_screen
    config = ScreenConfig(**{**tiny.SCREENING, "n_decoys": 2, "n_reference": 3, **changes})
    return make_plan(model, simulated.screening, library or simulated.library, config)


@pytest.fixture(scope="module")
def plan(tiny_screen):
    return plan_of(tiny_screen, n_samples=2, max_rank=90)  # some programme genes lie below the cut


@pytest.fixture(scope="module")
def measured(tiny_screen, plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    run_blocks(tiny_screen[1], plan, folder, range(len(plan.blocks)), progress=False)
    return folder, *gather(plan, folder)


def test_blocks_cover_the_cells_once(plan):
    assert [block.stop - block.start for block in plan.blocks] == [2, 2, 2, 2]
    assert np.concatenate([np.arange(8)[block] for block in plan.blocks]).tolist() == list(range(8))


def test_a_last_block_may_be_short(tiny_screen):
    plan = plan_of(tiny_screen, block_size=3)
    assert [block.stop - block.start for block in plan.blocks] == [3, 3, 2]


def test_rows_of_the_plan(plan, tiny_screen):
    simulated, model = tiny_screen
    assert (
        plan.rows["set"].tolist() == ["vehicle"] + ["library"] * tiny.n_screened() + ["decoy"] * 2 + ["reference"] * 3
    )
    assert plan.rows["name"].iloc[0] == "DMSO"
    assert [p.name for p in plan.perturbations] == plan.rows["name"].tolist()
    held_out = set(model.settings.perturbation.held_out)
    reference = plan.rows[plan.rows["set"] == "reference"]
    assert reference["name"].isin(held_out).tolist() == [True, False, False]  # at most half of them were held out
    assert plan.rows["support"].iloc[plan.swap_rows].tolist() == ["seen", "seen"]  # the gates ask of what was learnt
    assert "seen" not in set(plan.rows["support"][plan.rows["name"].isin(held_out)])  # kept out of training
    controls = plan.rows[plan.rows["role"] == "positive_control"]
    assert set(controls["name"]) == {p.name for p in simulated.library if p.role == "positive_control"}
    assert set(plan.cells.obs[CONTEXT]) == {"low", "none"}
    assert set(plan.cells.obs[UNIT]) == set(simulated.screening.obs["donor"])


def test_effects_are_differences_to_vehicle_with_the_same_noise(tiny_screen, plan, measured):
    """Every number again from ``CellLM.perturb``, one row at a time: no row depends on its neighbours."""
    _, model = tiny_screen
    _, effects, swap = measured

    def scores(row, cells, seed=0):
        after = model.perturb(cells, [plan.perturbations[row]], n_samples=2, seed=seed)
        found = programme_scores(after, plan.gene_ids, max_rank=plan.max_rank, decoder=model.decoder)
        ranks = after.ranks(plan.gene_ids, absent=plan.max_rank + 1).reshape(len(cells), 2, -1)
        return {name: values.reshape(len(cells), 2).mean(axis=1) for name, values in found.items()}, ranks

    vehicle, vehicle_ranks = scores(0, plan.cells)
    other, other_ranks = scores(0, plan.cells, seed=1_000_003)
    sides = [np.flatnonzero(plan.cells.obs[CONTEXT] == context) for context in ("low", "none")]
    for name in STATISTICS:
        np.testing.assert_allclose(effects.vehicle_score[name], vehicle[name], atol=1e-5)
        np.testing.assert_allclose(effects.effect[name][0], vehicle[name] - other[name], atol=1e-5)
    n = len(plan.rows)
    for row in (1, 5, n - 5, n - 1):  # two of the library, a decoy, a reference
        after, ranks = scores(row, plan.cells)
        for name in STATISTICS:
            np.testing.assert_allclose(effects.effect[name][row], after[name] - vehicle[name], atol=1e-5)
        shift = ranks.mean(axis=1) - vehicle_ranks.mean(axis=1)
        for side, here in enumerate(sides):
            np.testing.assert_allclose(effects.rank_shift[row, side], shift[here].mean(axis=0), atol=1e-3)
    assert np.abs(effects.effect["u"][1:]).max() > 0.005  # the model does answer drugs differently
    shift = vehicle_ranks.mean(axis=1) - other_ranks.mean(axis=1)
    for side, here in enumerate(sides):
        np.testing.assert_allclose(effects.rank_shift[0, side], shift[here].mean(axis=0), atol=1e-3)
        np.testing.assert_allclose(effects.control_rank[side], vehicle_ranks[here].mean(axis=(0, 1)), atol=1e-3)
        there = (vehicle_ranks[here] <= plan.max_rank).mean(axis=(0, 1))
        assert 0.1 < there.mean() < 0.9
        np.testing.assert_allclose(effects.present[side], there, atol=1e-6)

    tagged = {"low": "none", "none": "low"}
    swapped = plan.cells.with_obs(plan.cells.obs.assign(ifn=[tagged[v] for v in plan.cells.obs["ifn"]]))
    base, _ = scores(0, swapped)
    for place, row in enumerate(plan.swap_rows):
        after, _ = scores(row, swapped)
        for name in STATISTICS:
            np.testing.assert_allclose(swap[name][place], after[name] - base[name], atol=1e-5)
    assert len(plan.swap_rows) == 2


def test_shapes(plan, measured):
    _, effects, _ = measured
    k, n = len(plan.gene_ids), len(plan.rows)
    assert effects.effect["u"].shape == (n, 8)
    assert effects.rank_shift.shape == (n, 2, k)
    assert effects.control_rank.shape == effects.present.shape == (2, k)
    assert effects.gene_symbols == [plan.cells.vocabulary.symbols[i] for i in plan.gene_ids]
    assert effects.cells["context"].tolist() == plan.cells.obs[CONTEXT].tolist()


def test_a_block_does_not_depend_on_block_size_or_order(tiny_screen, plan, measured):
    simulated, model = tiny_screen
    whole = plan_of(tiny_screen, n_samples=2, max_rank=90, block_size=8)
    part = run_block(model, whole, 0)
    for name in STATISTICS:
        np.testing.assert_allclose(part[f"effect_{name}"], measured[1].effect[name], atol=2e-5)
    turned = [simulated.library[0], *simulated.library[:0:-1]]
    other = plan_of(tiny_screen, n_samples=2, max_rank=90, block_size=8, library=turned)
    after = run_block(model, other, 0)
    place = {
        name: i
        for i, (name, kind) in enumerate(zip(other.rows["name"], other.rows["set"], strict=True))
        if kind == "library"
    }
    for i, (name, kind) in enumerate(zip(whole.rows["name"], whole.rows["set"], strict=True)):
        if kind == "library":
            np.testing.assert_allclose(part["effect_u"][i], after["effect_u"][place[name]], atol=2e-5)


def test_perturbations_are_scored_a_few_at_a_time(tiny_screen, plan, monkeypatch):
    """As many as keep the sentences within a bound; the numbers are the same."""
    _, model = tiny_screen
    whole = run_block(model, plan, 0)
    cells = plan.cells[plan.blocks[0]]
    asked, held = [], []
    perturb = type(model).perturb

    def spy(self, sentences, perturbations, **more):
        after = perturb(self, sentences, perturbations, **more)
        asked.append(len(perturbations))
        held.append(len(after.ids))
        return after

    monkeypatch.setattr(type(model), "perturb", spy)
    bound = 3 * 2 * (len(cells.ids) + 2 * model.response_constraint().max_length)
    monkeypatch.setattr("c2s.screening.measure.IDS_AT_ONCE", bound)
    part = run_block(model, plan, 0)
    assert max(asked) == 3
    assert sum(asked) == len(plan.rows) + 1 + 1 + len(plan.swap_rows)
    assert max(held) <= bound
    assert part.keys() == whole.keys()
    for name in part:
        assert part[name].shape == whole[name].shape
        np.testing.assert_allclose(part[name], whole[name], atol=2e-5)
    monkeypatch.setattr("c2s.screening.measure.IDS_AT_ONCE", 1)
    np.testing.assert_allclose(run_block(model, plan, 0)["effect_u"], whole["effect_u"], atol=2e-5)


def test_cells_may_have_columns_called_as_those_of_the_answers(tiny_screen, plan, caplog):
    """``sample`` is what many call their donors; a screen asks thousands of times and need not say so each time."""
    simulated, model = tiny_screen
    cells = simulated.screening.copy()
    cells.obs["sample"] = cells.obs["donor"].astype(str)
    cells.obs["cell"] = cells.obs["perturbation"] = "theirs"
    theirs = make_plan(model, cells, simulated.library, plan.config.with_(unit_key="sample"))
    with caplog.at_level(logging.WARNING, logger="c2s"):
        part = run_block(model, theirs, 0)
    assert not caplog.text
    assert theirs.cells.obs[UNIT].tolist() == plan.cells.obs[UNIT].tolist()
    np.testing.assert_array_equal(part["effect_u"], run_block(model, plan, 0)["effect_u"])


def test_what_is_told_of_each_cell_is_summed_and_let_go(tiny_screen, plan, measured, monkeypatch):
    """Rank shifts of all cells would be the largest thing in a screen."""
    folder, effects, _ = measured
    read, earlier = read_part, []

    def spy(*arguments):
        assert sum(shift() is not None for shift in earlier) <= 1  # the part just read
        part = read(*arguments)
        earlier.append(weakref.ref(part["rank_shift"]))
        return part

    monkeypatch.setattr("c2s.screening.measure.read_part", spy)
    again, _ = gather(plan, folder)
    assert len(earlier) == 4
    np.testing.assert_array_equal(again.rank_shift, effects.rank_shift)
    assert again.rank_shift.dtype == np.float32


def test_finished_blocks_are_not_run_again(tiny_screen, plan, measured, monkeypatch):
    folder, _, _ = measured
    monkeypatch.setattr("c2s.screening.measure.run_block", lambda *a: pytest.fail("a finished block was run again"))
    run_blocks(tiny_screen[1], plan, folder, range(4), progress=False)


@pytest.mark.parametrize("left", [0, 5, 200])
def test_a_truncated_part_is_run_again(tiny_screen, plan, measured, left, caplog):
    folder, effects, _ = measured
    path = part_path(folder, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    with caplog.at_level(logging.WARNING, logger="c2s"):
        assert read_part(folder, 2, plan) is None
    assert "block-00002.safetensors is truncated; it is run again" in caplog.text
    with pytest.raises(ArtefactError, match=r"1 of 4 parts are missing \(2"):
        gather(plan, folder)
    run_blocks(tiny_screen[1], plan, folder, range(4), progress=False)
    again, _ = gather(plan, folder)
    np.testing.assert_array_equal(again.effect["u"], effects.effect["u"])
    assert path.read_bytes() == whole


def test_parts_of_another_plan_are_refused(tiny_screen, measured):
    folder, _, _ = measured
    other = plan_of(tiny_screen, n_samples=2, max_rank=90, seed=1)
    with pytest.raises(ArtefactError, match=r"block-00000.safetensors belongs to another screen.*--overwrite"):
        read_part(folder, 0, other)


def test_the_plan_is_named_by_everything_that_decides_its_numbers(tiny_screen, plan):
    simulated, model = tiny_screen

    def key(cells=simulated.screening, library=simulated.library, model=model, **changes):
        config = ScreenConfig(
            **{**tiny.SCREENING, "n_decoys": 2, "n_reference": 3, "n_samples": 2, "max_rank": 90, **changes}
        )
        return make_plan(model, cells, library, config).key

    assert key() == plan.key
    assert key(threads=2) == plan.key
    relabelled = simulated.screening.copy()
    relabelled.obs["ifn"] = [{"low": "none", "none": "low"}[v] for v in relabelled.obs["ifn"]]
    moved = simulated.screening.copy()  # the same cells in the same order, one of them in the other context
    moved.obs["ifn"] = ["low"] * 5 + ["none"] * 3
    units = simulated.screening.copy()
    units.obs["donor"] = ["a", "b"] * 4
    counts = simulated.screening.copy()
    counts.X = counts.X.toarray()[:, ::-1]
    keys = [
        plan.key, key(seed=1), key(n_samples=1), key(delta=0.03), key(temperature=0.5), key(library=simulated.library[:-1]),
        key(max_rank=60), key(cells=relabelled), key(cells=units), key(cells=counts), key(cells=simulated.screening[:6].copy()),
        key(library=[*simulated.library[:-1], simulated.library[-1].with_role("negative_control")]),
        key(unit_key=None), key(unit_key=None, cells=moved),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)


def test_another_models_weights_make_another_plan(tiny_screen, plan):
    from c2s.models.loading import load_cell_lm

    simulated, _ = tiny_screen
    other = load_cell_lm(tiny.run_folder())
    config = plan.config
    assert make_plan(other, simulated.screening, simulated.library, config).key == plan.key
    next(other.model.parameters()).data[3, 0] += 0.5
    assert make_plan(other, simulated.screening, simulated.library, config).key != plan.key


def test_the_estimate_is_positive_and_grows_with_the_cells(tiny_screen, plan, monkeypatch):
    assert estimate_seconds(tiny_screen[1], plan) > 0
    ticks = iter(range(100))
    monkeypatch.setattr("c2s.screening.measure.time.perf_counter", lambda: next(ticks))
    # a pass over all rows takes one tick: rows, the second vehicle and the swapped rows times 8 cells
    n = len(plan.rows)
    assert estimate_seconds(tiny_screen[1], plan) == pytest.approx((n + 1 + 2) / n * 8)
