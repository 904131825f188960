"""The benchmark on public cells: what it compares is like for like, what it must refuse is refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from benchmarks.card import Figure
from benchmarks.real import run as real
from benchmarks.real.donor import size_note
from benchmarks.real.kang import (
    HALLMARK,
    INTERFERON,
    VEHICLE,
    KangFiles,
    at_most,
    read_harmony,
    read_muscat,
    split_at_random,
    without_cells_of,
)
from benchmarks.real.measures import Comparison, Estimate, correlation, mean_difference
from c2s.screening.programmes import load_programme


def labelled(n: int = 60, seed: int = 0) -> AnnData:
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "barcode": [f"b{i}" for i in range(n)],
            "treatment": rng.choice([INTERFERON.name, VEHICLE.name], n),
            "cell_type": rng.choice(["B cells", "CD4 T cells"], n),
        },
        index=[f"cell{i}" for i in range(n)],
    )
    return AnnData(sp.csr_matrix(np.ones((n, 3), dtype=np.float32)), obs)


def test_a_mean_difference_is_taken_at_the_given_mix():
    obs = pd.DataFrame({
        "treatment": [INTERFERON.name] * 4 + [VEHICLE.name] * 4,
        "cell_type": ["B", "B", "B", "T", "B", "T", "T", "T"],
    })  # fmt: skip
    values = np.array([3.0, 3.0, 3.0, 10.0, 1.0, 4.0, 4.0, 4.0])  # B rises by 2, T by 6, whatever their numbers
    found = mean_difference(values, obs, pd.Series({"B": 0.25, "T": 0.75}))
    assert found.value == pytest.approx(0.25 * 2 + 0.75 * 6)
    assert found.low == pytest.approx(found.value)  # no spread within a type
    assert found.n == 8


def test_a_cell_type_that_one_treatment_lacks_is_left_out_of_the_mix():
    obs = pd.DataFrame({"treatment": [INTERFERON.name, VEHICLE.name, VEHICLE.name], "cell_type": ["B", "B", "T"]})
    found = mean_difference(np.array([3.0, 1.0, 50.0]), obs, pd.Series({"B": 0.2, "T": 0.8}))
    assert found.value == pytest.approx(2.0)
    assert found.n == 2


def test_the_interval_of_a_mean_difference_covers_as_often_as_it_says():
    rng = np.random.default_rng(5)
    obs = pd.DataFrame({"treatment": np.repeat([INTERFERON.name, VEHICLE.name], 60), "cell_type": "B"})
    mix = pd.Series({"B": 1.0})
    covered = 0
    for trial in range(200):
        found = mean_difference(rng.normal(0.5 * (obs["treatment"] == INTERFERON.name), 1.0), obs, mix, seed=trial)
        covered += found.low <= 0.5 <= found.high
    assert 0.90 <= covered / 200 <= 0.99


def test_halves_of_a_random_split_share_no_cell_and_balance_every_stratum():
    cells = labelled()
    first, second = split_at_random(cells, by=["treatment", "cell_type"], seed=3)
    assert set(first.obs_names) | set(second.obs_names) == set(cells.obs_names)
    assert not set(first.obs_names) & set(second.obs_names)
    sizes = [half.obs.groupby(["treatment", "cell_type"], observed=True).size() for half in (first, second)]
    assert (sizes[1] - sizes[0]).between(0, 1).all()
    again, _ = split_at_random(cells, by=["treatment", "cell_type"], seed=3)
    assert list(again.obs_names) == list(first.obs_names)


def test_at_most_draws_from_every_group():
    drawn = at_most(labelled(), 4, by=["cell_type"], seed=0)
    assert drawn.obs["cell_type"].value_counts().to_dict() == {"B cells": 4, "CD4 T cells": 4}


def test_cells_of_the_other_excerpt_are_taken_out_by_barcode_and_treatment():
    cells = labelled(6)
    cells.obs["treatment"] = [INTERFERON.name, VEHICLE.name] * 3
    other = cells[:2].copy()
    other.obs["treatment"] = INTERFERON.name  # the second barcode, but another treatment: another cell
    assert list(without_cells_of(cells, other).obs_names) == [f"cell{i}" for i in range(1, 6)]


def test_the_note_says_where_the_baseline_is_nearer():
    def row(context: str, predicted: float) -> Comparison:
        return Comparison(
            "P", context, Estimate(predicted), Estimate(0.0), observed=Estimate(0.2), training=Estimate(0.25), reach=0.1,
            decoys=float("nan"),
        )  # fmt: skip

    note = size_note("(a)", [row("one", 0.1), row("two", 0.19)], "the other donor")
    assert "50% in one and 95% in two" in note
    assert "The baseline, the other donor, is nearer in one." in note


def test_a_model_that_changes_nothing_has_no_correlation_and_says_so(capsys):
    assert correlation(np.array([1.0, 2.0, 4.0]), np.array([-1.0, -2.0, -4.0])) == pytest.approx(-1.0)
    assert math.isnan(correlation(np.zeros(3), np.array([1.0, 2.0, 3.0])))
    real.print_figures([Figure("r", None, reason="the same change for every gene")], [])
    assert "none: the same change for every gene" in capsys.readouterr().out


def test_a_figure_that_is_not_finite_is_an_error():
    real.check_finite([Figure("fine", 1.0, 0.0, 2.0)])
    with pytest.raises(AssertionError, match="not finite: broken"):
        real.check_finite([Figure("fine", 1.0), Figure("broken", 1.0, 0.0, math.inf)])


def test_without_data_it_ends_with_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.delenv("C2S_DATA_DIR", raising=False)
    with pytest.raises(SystemExit, match="C2S_DATA_DIR is not set"):
        KangFiles.find()
    monkeypatch.setenv("C2S_DATA_DIR", str(tmp_path))
    with pytest.raises(SystemExit, match=r"kang_muscat_counts\.h5ad, .*kang_harmony_counts\.h5ad, .*gmt"):
        KangFiles.find()


@pytest.mark.real
def test_cells_of_known_type_are_cells_of_the_training_excerpt(data_dir):
    files = KangFiles.find()
    harmony, muscat = read_harmony(files.harmony), read_muscat(files.muscat)
    known = harmony[(harmony.obs["known_type"] != "").to_numpy()]
    reference = without_cells_of(muscat, harmony)
    assert (known.n_obs, muscat.n_obs - reference.n_obs) == (114, 114)
    assert reference.obs["lineage"].notna().all()
    assert len([gene for gene in load_programme(HALLMARK, gmt=files.hallmark).genes if gene in muscat.var_names]) == 55


@pytest.mark.real
@pytest.mark.slow
def test_the_reduced_run_refuses_what_it_must_and_leaves_the_card_alone(data_dir, tmp_path, capsys):
    card = real.FOLDER / "card.json"
    before = card.read_bytes() if card.is_file() else None
    figures = real.main(["--reduced", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "REDUCED" in said
    assert "Absent: HLA-A, HLA-B, HLA-C, HLA-E, TAP1" in said
    assert "so they speak for these units only, not for new donors" in said
    assert "random-cell split, not by donor" in said
    assert (card.read_bytes() if card.is_file() else None) == before
    named = {figure.name: figure for figure in figures}
    observed = named["(a) donor 107, monocytes: observed effect on U"]
    assert observed.low is not None
    assert observed.low > 0.2  # of the data alone: interferon response genes stand at the top of treated monocytes
    for part in ("HALLMARK_INTERFERON_ALPHA_RESPONSE", "MHC_CLASS_I", "MHC_CLASS_I_SURFACE", "MHC_CLASS_I_LOADING"):
        assert any(f", {part}, lymphocytes: predicted" in name for name in named)
    assert (tmp_path / "held_out_donor" / "screen" / "screen.html").is_file()
