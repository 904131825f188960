from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.errors import DataError
from c2s.screening.effects import ScreenEffects
from c2s.screening.headroom import CARRIED, carrying_genes, judge_head_room
from c2s.screening.programmes import Programme

GENES = ["MID", "LOW", "TOP"]
MAX_RANK = 100
CONTROL_RANK = [[50, 50, 50], [50, 101, 2]]  # in the second context LOW is below the cut and TOP on top
PRESENT = [[0.9, 0.9, 0.9], [0.9, 0.05, 1.0]]


def effects_of(shifts: dict[str, tuple[str, list[list[float]]]]) -> ScreenEffects:
    """Return a screen of one cell per context from name to (set, shift of each gene in both contexts)."""
    n = len(shifts)
    return ScreenEffects(
        rows=pd.DataFrame({
            "name": list(shifts), "set": [kind for kind, _ in shifts.values()], "role": "drug", "targets": "",
            "mechanism": "", "support": "seen",
        }),
        cells=pd.DataFrame({"cell": ["a", "b"], "context": ["low", "none"], "unit": "d"}),
        effect={},
        vehicle_score={},
        rank_shift=np.array([shift for _, shift in shifts.values()], dtype=np.float32).reshape(n, 2, 3),
        control_rank=np.array(CONTROL_RANK, dtype=np.float32),
        present=np.array(PRESENT, dtype=np.float32),
        programme=Programme("P", tuple(GENES)),
        gene_symbols=GENES,
        contexts=("low", "none"),
        max_rank=MAX_RANK,
    )  # fmt: skip


def judge(shifts, name, **options):
    effects = effects_of(shifts)
    verdict = judge_head_room(effects, np.array([list(shifts).index(name)]), **options)
    return verdict.refused_because[0], verdict.shown[0]


MOVER = ("library", [[-40, 0, 0], [0, 0, 0]])


def test_an_effect_stands_if_another_row_moves_its_genes_in_the_second_context():
    assert judge({"drug": MOVER, "other": ("reference", [[0, 0, 0], [-30, 0, 0]])}, "drug") == ("", 1.0)


def test_a_quarter_of_the_rise_is_enough_of_a_control():
    assert judge({"drug": MOVER, "other": ("library", [[0, 0, 0], [-10, 60, 0]])}, "drug") == ("", 1.0)
    reason, shown = judge({"drug": MOVER, "weak": ("library", [[-40, 0, 0], [-9, 0, 0]])}, "drug")
    assert shown == 0.0
    assert reason == (
        "not shown to be possible: 100% of the rise in low rests on genes that no positive control moves that far in none (MID)"
    )


def test_an_effect_may_rest_on_hidden_genes_up_to_a_quarter():
    other = ("library", [[0, 0, 0], [-40, 0, 0]])
    reason, shown = judge({"drug": ("library", [[-30, -10, 0], [0, 0, 0]]), "other": other}, "drug")
    assert reason == ""
    np.testing.assert_allclose(shown, 0.75)
    reason, shown = judge({"drug": ("library", [[-28, -12, 0], [0, 0, 0]]), "other": other}, "drug")
    assert reason.startswith("floor: 30% of the rise in low rests on genes")
    assert "LOW are in 5%" in reason
    np.testing.assert_allclose(shown, 0.7)


def test_controls_may_share_the_genes_among_them():
    shifts = {
        "drug": ("library", [[-30, -30, 0], [0, 0, 0]]),
        "one": ("library", [[0, 0, 0], [-30, 0, 0]]),
        "two": ("library", [[0, 0, 0], [0, -30, 0]]),
    }
    assert judge(shifts, "drug") == ("", 1.0)


def test_genes_below_the_cut_are_a_floor():
    shifts = {"drug": ("library", [[0, -40, 0], [0, 0, 0]]), "other": ("library", [[0, 0, 0], [-30, -2, 0]])}
    reason, shown = judge(shifts, "drug")
    assert reason.startswith("floor: 100% of the rise in low rests on genes")
    assert reason.endswith("there LOW are in 5% of the vehicle sentences, below the cut at rank 100")
    assert shown == 0.0


def test_a_strong_control_lifts_the_floor():
    shifts = {"drug": ("library", [[0, -40, 0], [0, 0, 0]]), "strong": ("library", [[0, -60, 0], [0, -35, 0]])}
    assert judge(shifts, "drug")[0] == ""


def test_genes_on_top_are_a_ceiling():
    shifts = {"drug": ("library", [[0, 0, -40], [0, 0, -1]]), "other": ("library", [[0, 0, -45], [-30, 0, -1]])}
    reason, _ = judge(shifts, "drug")
    assert reason.startswith("ceiling: 100% of the rise in low")
    assert reason.endswith("there TOP already rank 2 of 100 on average")


def test_decoys_vehicle_and_the_row_itself_are_no_controls():
    high = [[-40, 0, 0], [-40, 0, 0]]
    shifts = {"drug": ("library", high), "decoy": ("decoy", high), "vehicle": ("vehicle", high)}
    reason, shown = judge(shifts, "drug")
    assert "no other row serves as a control" in reason
    assert np.isnan(shown)


def test_named_controls_replace_all_others():
    moving, still = [[0, 0, 0], [-40, 0, 0]], [[0, 0, 0], [0, 0, 0]]
    shifts = {"drug": MOVER, "strong": ("library", moving), "named": ("reference", still)}
    assert judge(shifts, "drug")[0] == ""
    assert judge(shifts, "drug", positive_controls=["named"])[0].startswith("not shown to be possible")
    with pytest.raises(DataError, match="positive controls typo are not in this screen"):
        judge(shifts, "drug", positive_controls=["named", "typo"])


def test_a_score_that_rises_without_a_gene_is_refused():
    reason, shown = judge({"drug": ("library", [[1, 0, 0], [0, 0, 0]]), "other": MOVER}, "drug")
    assert reason == "no programme gene rises in low, although the score does"
    assert np.isnan(shown)


def test_no_row_to_judge():
    verdict = judge_head_room(effects_of({"drug": MOVER}), np.array([], dtype=int))
    assert verdict.refused_because == []
    assert verdict.shown.shape == (0,)


@settings(max_examples=100)
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=6))
def test_carrying_genes_are_a_smallest_set_by_brute_force(shift):
    rise = np.clip(-np.array(shift, dtype=float), 0, None)
    chosen = carrying_genes(np.array([shift]))[0]
    if rise.sum() == 0:
        assert not chosen.any()
        return
    enough = [
        size
        for size in range(1, len(shift) + 1)
        for part in itertools.combinations(rise, size)
        if sum(part) >= CARRIED * rise.sum() - 1e-9
    ]
    assert chosen.sum() == min(enough)
    assert rise[chosen].sum() >= CARRIED * rise.sum() - 1e-9
    assert rise[chosen].min() > 0


def test_a_second_row_of_the_same_name_is_no_control():
    """A seen drug that also stands among the reference rows would otherwise vouch for itself."""
    effects = effects_of({"drug": ("library", [[-40, 0, 0], [-11, 0, 0]]), "copy": ("reference", [[-40, 0, 0], [-11, 0, 0]]),
                          "other": ("library", [[0, 0, 0], [-2, 0, 0]])})  # fmt: skip
    assert judge_head_room(effects, np.array([0])).shown[0] == 1.0
    effects.rows.loc[1, "name"] = "drug"
    assert judge_head_room(effects, np.array([0])).shown[0] == 0.0
