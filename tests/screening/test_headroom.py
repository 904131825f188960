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
    return verdict.refused_because[0], verdict.ratio[0]


MOVER = ("library", [[-40, 0, 0], [0, 0, 0]])


def test_an_effect_stands_if_another_row_moves_its_genes_in_the_second_context():
    reason, ratio = judge({"drug": MOVER, "other": ("reference", [[0, 0, 0], [-30, 0, 0]])}, "drug")
    assert reason == ""
    np.testing.assert_allclose(ratio, 0.75)


def test_ratio_is_on_u_of_the_carrying_genes_alone():
    # LOW falls in the control, but LOW does not carry the drug's effect
    shifts = {"drug": MOVER, "other": ("library", [[0, 0, 0], [-20, 60, 0]])}
    reason, ratio = judge(shifts, "drug")
    assert reason == ""
    np.testing.assert_allclose(ratio, 0.5)


def test_no_mover_is_refused_in_plain_words():
    reason, ratio = judge({"drug": MOVER, "weak": ("library", [[-40, 0, 0], [-10, 0, 0]])}, "drug")
    assert reason.startswith("no positive control moves MID in none as far as in low (0.400)")
    assert reason.endswith("the best control, weak, reaches 25% of it")
    np.testing.assert_allclose(ratio, 0.25)


def test_genes_below_the_cut_are_a_floor():
    shifts = {"drug": ("library", [[0, -40, 0], [0, 0, 0]]), "other": ("library", [[0, 0, 0], [-30, -2, 0]])}
    reason, ratio = judge(shifts, "drug")
    assert reason.startswith("floor: in none LOW are in 5% of the vehicle sentences, below the cut at rank 100")
    np.testing.assert_allclose(ratio, 0.05)


def test_a_strong_control_lifts_the_floor():
    shifts = {"drug": ("library", [[0, -40, 0], [0, 0, 0]]), "strong": ("library", [[0, -60, 0], [0, -35, 0]])}
    assert judge(shifts, "drug")[0] == ""


def test_genes_on_top_are_a_ceiling():
    shifts = {"drug": ("library", [[0, 0, -40], [0, 0, -1]]), "other": ("library", [[0, 0, -45], [-30, 0, -1]])}
    reason, _ = judge(shifts, "drug")
    assert reason.startswith(
        "ceiling: in none TOP already rank 2 of 100 on average, which leaves room for a rise of 0.010"
    )


def test_decoys_vehicle_and_the_row_itself_are_no_controls():
    high = [[-40, 0, 0], [-40, 0, 0]]
    shifts = {"drug": ("library", high), "decoy": ("decoy", high), "vehicle": ("vehicle", high)}
    reason, ratio = judge(shifts, "drug")
    assert "no other row serves as a control" in reason
    assert np.isnan(ratio)


def test_named_controls_replace_all_others():
    moving, still = [[0, 0, 0], [-40, 0, 0]], [[0, 0, 0], [0, 0, 0]]
    shifts = {"drug": MOVER, "strong": ("library", moving), "named": ("reference", still)}
    assert judge(shifts, "drug")[0] == ""
    assert "the best control, named, reaches 0%" in judge(shifts, "drug", positive_controls=["named"])[0]
    with pytest.raises(DataError, match="positive controls typo are not in this screen"):
        judge(shifts, "drug", positive_controls=["named", "typo"])


def test_a_score_that_rises_without_a_gene_is_refused():
    reason, ratio = judge({"drug": ("library", [[1, 0, 0], [0, 0, 0]]), "other": MOVER}, "drug")
    assert reason == "no programme gene rises in low, although the score does"
    assert np.isnan(ratio)


def test_no_row_to_judge():
    verdict = judge_head_room(effects_of({"drug": MOVER}), np.array([], dtype=int))
    assert verdict.refused_because == []
    assert verdict.ratio.shape == (0,)


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
