from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from c2s.errors import ConfigError, DataError
from c2s.screening.effects import ScreenEffects
from c2s.screening.hits import call_hits
from c2s.screening.programmes import Programme
from c2s.stats import benjamini_hochberg

CONTEXTS = ("low", "none")
MAX_RANK = 100
GENES = ["MID1", "MID2", "MID3", "LOW1", "LOW2", "LOW3", "TOP1", "TOP2", "TOP3"]
FACTORS = {"u": 1, "logit_u": 5, "log_expression": 2}
LARGEST = 9 * 101 - 45
CLASSES = {  # effect on U in each context, and the genes that carry it
    "inert": (0.0, 0.0, slice(0, 3)),
    "activator": (0.08, 0.08, slice(0, 3)),
    "amplifier": (0.08, 0.0, slice(0, 3)),
    "repressor": (-0.06, -0.06, slice(0, 3)),
    "floor": (0.08, 0.0, slice(3, 6)),
    "ceiling": (0.08, 0.0, slice(6, 9)),
}


def planted(
    classes: dict[str, int],
    *,
    n_decoys: int = 100,
    n_units: int = 8,
    n_cells: int = 40,
    bias: tuple[float, float] = (0.004, 0.004),
    noise: float = 0.02,
    seed: int = 0,
) -> ScreenEffects:
    """Return a screen with known truth: ``classes`` library rows, decoys, a vehicle row; ``n_cells`` per context.

    Every row has a fixed bias per context, the model's, which no number of cells averages out. The programme is nine
    genes: in the second context LOW lies below the cut and TOP on top.
    """
    rng = np.random.default_rng(seed)
    kinds = [kind for kind, n in classes.items() for _ in range(n)] + ["inert"] * (n_decoys + 1)
    sets = ["library"] * sum(classes.values()) + ["decoy"] * n_decoys + ["vehicle"]
    n = len(kinds)
    cells = pd.DataFrame({
        "cell": [f"c{i}" for i in range(2 * n_cells)],
        "context": np.repeat(CONTEXTS, n_cells),
        "unit": [f"donor{i % n_units}" for i in range(2 * n_cells)],
    })  # fmt: skip
    truth = np.array([CLASSES[kind][:2] for kind in kinds]) + rng.normal(size=(n, 2)) * bias
    truth[-1] = 0.0
    u = np.repeat(truth, n_cells, axis=1) + rng.normal(size=(n, 2 * n_cells)) * noise
    shift = np.zeros((n, 2, 9))
    for row, kind in enumerate(kinds):
        shift[row, :, CLASSES[kind][2]] = -truth[row][:, None] * LARGEST / 3
    rows = pd.DataFrame({
        "name": [f"{kind}{i}" for i, kind in enumerate(kinds)], "role": "drug", "targets": "T1|T2", "mechanism": "m",
        "support": "seen", "set": sets,
    })  # fmt: skip
    return ScreenEffects(
        rows=rows,
        cells=cells,
        effect={key: (u * factor).astype(np.float32) for key, factor in FACTORS.items()},
        vehicle_score={"u": np.repeat([0.5, 0.4], n_cells).astype(np.float32)},
        rank_shift=shift.astype(np.float32),
        control_rank=np.array([[50] * 9, [50] * 3 + [101] * 3 + [1.5] * 3], dtype=np.float32),
        present=np.array([[0.9] * 9, [0.9] * 3 + [0.05] * 3 + [1.0] * 3], dtype=np.float32),
        programme=Programme("P", tuple(GENES)),
        gene_symbols=GENES,
        contexts=CONTEXTS,
        max_rank=MAX_RANK,
    )


LIBRARY = dict.fromkeys(CLASSES, 12)


def kind_of(table: pd.DataFrame) -> pd.Series:
    return table["perturbation"].str.extract(r"([a-z]+)", expand=False)


@pytest.mark.parametrize("n_units", [8, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_amplifiers_are_found_and_nothing_else(n_units, seed):
    table = call_hits(planted(LIBRARY, n_units=n_units, seed=seed))
    kinds = kind_of(table)
    assert table["hit"][kinds == "amplifier"].mean() >= 0.9
    assert not table["hit"][kinds != "amplifier"].any()
    assert len(table) == 72
    assert ("bootstrap" in table.attrs["replication"] or "resample" in table.attrs["replication"]) == (n_units < 5)


def test_floor_and_ceiling_are_refused_although_they_pass_every_test():
    table = call_hits(planted(LIBRARY))
    kinds = kind_of(table)
    for kind in ("floor", "ceiling"):
        rows = table[kinds == kind]
        assert rows["refused_because"].str.startswith(f"{kind}: ").all()
        assert rows["refused_because"].str.contains(f"there {GENES[CLASSES[kind][2]][0]}").all()
        assert (rows["q_value"] < 0.1).all()
        assert (rows["head_room_second"] < 0.75).all()
    assert (table.loc[kinds == "amplifier", "refused_because"] == "").all()
    assert (table.loc[kinds == "amplifier", "head_room_second"] >= 0.75).all()
    assert table.loc[kinds == "inert", "head_room_second"].isna().all()


def test_without_any_mover_amplifiers_are_refused():
    table = call_hits(planted({"inert": 20, "amplifier": 12}))
    amplifiers = table[kind_of(table) == "amplifier"]
    assert amplifiers["refused_because"].str.startswith("not shown to be possible: ").all()
    assert not table["hit"].any()


def test_inert_libraries_rarely_hold_a_hit_where_units_alone_would_mislead():
    # the model's bias per drug is larger in the first context: over units and cells, inert drugs look like amplifiers;
    # 600 decoys let a single drug of 31 reach q < 0.1
    any_hit, units_mislead = [], []
    for seed in range(60):
        effects = planted({"inert": 30, "activator": 1}, bias=(0.015, 0.002), noise=0.01, n_decoys=600, seed=seed)
        table = call_hits(effects, delta=0.01)
        assert table.attrs["notes"] == []
        inert = kind_of(table) == "inert"
        any_hit.append(table["hit"][inert].any())
        parts = table[["p_first", "p_second", "p_sign_flip"]].max(axis=1)
        units_mislead.append(((benjamini_hochberg(parts) < 0.1) & inert).any())
    assert np.mean(any_hit) <= 0.15
    assert np.mean(units_mislead) > 0.9


def test_decoy_p_values_of_inert_drugs_are_uniform():
    p = call_hits(planted({"inert": 600}, n_decoys=600, bias=(0.02, 0.02), seed=5))["p_split"]
    assert abs((p <= 0.1).mean() - 0.1) < 0.04
    assert abs((p <= 0.5).mean() - 0.5) < 0.07


def test_p_is_the_largest_part_and_q_is_benjamini_hochberg():
    table = call_hits(planted(LIBRARY))
    np.testing.assert_array_equal(table["p_value"], table[["p_first", "p_second", "p_split"]].max(axis=1))
    np.testing.assert_allclose(table["q_value"], false_discovery_control(table["p_value"]))


def test_a_stronger_first_effect_never_raises_p():
    effects = planted({"amplifier": 1, "activator": 1})
    first = (effects.cells["context"] == "low").to_numpy()
    previous = np.array([np.inf, np.inf])
    for extra in (-0.08, -0.06, -0.05, -0.04, 0.0):
        effects_up = planted({"amplifier": 1, "activator": 1})
        for key in effects_up.effect:
            effects_up.effect[key][0, first] += extra
        table = call_hits(effects_up).set_index("perturbation").loc["amplifier0"]
        current = np.array([table["p_first"], table["p_split"]])
        assert (current <= previous + 1e-12).all()
        previous = current
    assert (previous < 0.02).all()


def test_best_first_and_row_order_does_not_matter():
    effects = planted({"inert": 6, "amplifier": 4, "activator": 4})
    table = call_hits(effects)
    assert table["hit"].is_monotonic_decreasing
    for _, part in table.groupby("hit"):
        assert part["p_value"].is_monotonic_increasing
    order = np.random.default_rng(0).permutation(len(effects.rows))
    effects.rows = effects.rows.iloc[order]
    effects.effect = {key: values[order] for key, values in effects.effect.items()}
    effects.rank_shift = effects.rank_shift[order]
    pd.testing.assert_frame_equal(call_hits(effects), table)


def test_too_few_decoys_give_no_p_and_no_hit_and_say_why():
    table = call_hits(planted(LIBRARY, n_decoys=19))
    assert table[["p_split", "p_value", "q_value"]].isna().all(axis=None)
    assert not table["hit"].any()
    assert "19 usable decoys; at least 20 are needed" in table.attrs["notes"][0]
    assert table.attrs["smallest_p"] == {}


def test_each_support_class_has_its_own_null():
    effects = planted({"inert": 40}, n_decoys=100)
    unseen = np.arange(len(effects.rows)) % 2 == 1
    effects.rows["support"] = np.where(unseen, "unseen", "seen target")
    wide = unseen & (effects.rows["set"] == "decoy").to_numpy()
    low = (effects.cells["context"] == "low").to_numpy()
    effects.effect["u"][np.ix_(wide, low)] += 1.0  # decoys with unseen targets all split widely
    table = call_hits(effects)
    assert table.attrs["decoys"] == {"seen": 50, "unseen": 50}
    assert table.attrs["smallest_p"] == {"seen": 1 / 51, "unseen": 1 / 51}
    assert (table.loc[table["support"] == "unseen", "p_split"] == 1).all()
    assert (table.loc[table["support"] == "seen target", "p_split"] < 1).any()


def test_each_support_class_is_a_family_of_its_own():
    """Many hits with seen targets do not lower the bar for a guess about an unseen one."""
    effects = planted({"amplifier": 13, "inert": 12}, n_decoys=80)
    library = (effects.rows["set"] == "library").to_numpy()
    unseen = np.where(
        library,
        effects.rows["name"].isin(["amplifier0", *(f"inert{i}" for i in range(13, 17))]),
        np.arange(len(library)) % 2 == 1,
    )
    effects.rows["support"] = np.where(unseen, "unseen", "seen target")
    table = call_hits(effects).set_index("perturbation")
    for chosen in (table["support"] == "unseen", table["support"] != "unseen"):
        expected = false_discovery_control(table.loc[chosen, "p_value"])
        np.testing.assert_allclose(table.loc[chosen, "q_value"], expected)
    together = pd.Series(false_discovery_control(table["p_value"]), index=table.index)
    assert table.loc["amplifier0", "q_value"] > 0.1 > together["amplifier0"]


def test_a_small_support_class_borrows_all_decoys():
    effects = planted({"inert": 4}, n_decoys=30)
    effects.rows.loc[0, "support"] = "unseen"
    table = call_hits(effects)
    assert table.attrs["decoys"] == {"seen": 30, "unseen": 30}
    text = "0 decoys in the support class 'unseen', fewer than 20: its rows are compared with all 30 decoys"
    assert table.attrs["notes"][0] == text


def test_few_decoys_for_a_large_library_are_pointed_out():
    notes = call_hits(planted({"inert": 62}, n_decoys=30)).attrs["notes"]
    assert notes == [
        "p_split cannot be below 0.032, so among the 62 drugs of the support class 'seen' q < 0.1 needs at least 21 of them "
        "to reach that together; more decoys lower it"
    ]
    assert call_hits(planted({"inert": 2}, n_decoys=99)).attrs["notes"] == []


def test_one_opposite_sign_is_no_hit():
    effects = planted({"amplifier": 3, "activator": 3})
    effects.effect["log_expression"][0] *= -1
    table = call_hits(effects).set_index("perturbation")
    assert not table.loc["amplifier0", "same_sign"]
    assert not table.loc["amplifier0", "hit"]
    assert table.loc[["amplifier1", "amplifier2"], "hit"].all()


@pytest.mark.parametrize(("context", "effect"), [("low", 0.022), ("none", 0.018), ("none", -0.018)])
def test_a_generous_fdr_does_not_replace_the_bounds(context, effect):
    # one drug whose first effect is just above delta, or whose second effect is just inside it
    effects = planted({"amplifier": 1, "activator": 3}, bias=(0.0, 0.0), n_cells=16)
    effects.rows.loc[1:3, "set"] = "reference"
    drug = effects.effect["u"][0]
    for name, mean in {"low": 0.08, "none": 0.0, context: effect}.items():
        chosen = (effects.cells["context"] == name).to_numpy()
        drug[chosen] += mean - drug[chosen].mean()
    table = call_hits(effects, fdr=0.99).set_index("perturbation")
    assert table.loc["amplifier0", "q_value"] < 0.99
    assert table.loc["amplifier0", "same_sign"]
    assert table.loc["amplifier0", "refused_because"] == ""
    assert not table.loc["amplifier0", "hit"]


def test_only_drugs_are_tested_and_only_library_rows_returned():
    effects = planted({"amplifier": 3, "activator": 3})
    effects.rows.loc[0, "role"] = "positive_control"
    effects.rows.loc[3, "set"] = "reference"
    table = call_hits(effects).set_index("perturbation")
    assert "activator3" not in table.index
    assert np.isnan(table.loc["amplifier0", "q_value"])
    assert not table.loc["amplifier0", "hit"]
    drugs = table[table["role"] == "drug"]
    np.testing.assert_allclose(drugs["q_value"], false_discovery_control(drugs["p_value"]))


def test_bliss_excess_has_its_closed_form():
    effects = planted({"inert": 1, "amplifier": 1, "activator": 1}, noise=0.0, bias=(0.0, 0.0))
    table = call_hits(effects, co_treatment=True).set_index("perturbation")
    for name, (first, second) in {"inert0": (0, 0), "amplifier1": (0.08, 0), "activator2": (0.08, 0.08)}.items():
        together, drug, alone = (0.5 + first - 0.4) / 0.6, second / 0.6, (0.5 - 0.4) / 0.6
        np.testing.assert_allclose(table.loc[name, "bliss_excess"], together - (drug + alone - drug * alone), atol=1e-6)
    assert call_hits(effects)["bliss_excess"].isna().all()


def test_units_in_one_context_only_are_compared_unpaired():
    effects = planted(LIBRARY)
    second = effects.cells["context"] == "none"
    effects.cells.loc[second, "unit"] = "other_" + effects.cells.loc[second, "unit"]
    table = call_hits(effects)
    assert "Welch" in table.attrs["replication"]
    assert table["hit"][kind_of(table) == "amplifier"].mean() >= 0.9


def test_a_model_that_moves_nothing_gives_no_hit_and_no_error():
    effects = planted({"inert": 5}, noise=0.0, bias=(0.0, 0.0))
    table = call_hits(effects)
    np.testing.assert_array_equal(table["p_split"], 1.0)
    assert not table["hit"].any()


def test_four_thousand_drugs_take_seconds():
    effects = planted({"inert": 3900, "activator": 50, "amplifier": 50}, n_decoys=200, n_cells=100, n_units=3)
    start = time.perf_counter()
    table = call_hits(effects)
    assert time.perf_counter() - start < 10
    assert len(table) == 4000


@pytest.mark.parametrize("setting", [{"delta": 0.0}, {"alpha": 0.5}, {"fdr": 1.0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigError, match="delta must be above 0"):
        call_hits(planted({"inert": 1}), **setting)


def test_an_unknown_positive_control_is_refused():
    with pytest.raises(DataError, match="positive controls IFN are not in this screen"):
        call_hits(planted({"inert": 1}), positive_controls=["IFN"])
