"""What the simulated cytokine screen plants is there: tiers, synergy and antagonism, cells that do not respond, sums where sums are asked for."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from c2s.cells.normalise import to_log1p_cp10k
from c2s.cells.simulate_cytokines import CYTOKINES_EACH, N_PATHWAYS, simulate_cytokines
from c2s.errors import ConfigError

SMALL = {"training_cells": 12, "test_cells": 12, "untreated_cells": 60}


@functools.cache
def screen(seed=0, mean_shift=False):
    return simulate_cytokines(seed, mean_shift=mean_shift, **SMALL)


def test_it_is_the_same_for_the_same_seed_and_another_for_another():
    one, again, other = simulate_cytokines(3, **SMALL), simulate_cytokines(3, **SMALL), screen(4)
    assert (one.cells.X != again.cells.X).nnz == 0
    assert one.held_out.equals(again.held_out)
    assert not one.held_out.equals(other.held_out)
    assert {row.name for row in one.library} != {row.name for row in other.library}


def test_every_single_is_trained_on_everywhere_and_tiers_are_whole():
    made = screen()
    obs = made.cells.obs
    n = N_PATHWAYS * CYTOKINES_EACH
    assert len(made.library) == 1 + n + n * (n - 1) // 2
    singles = [row.name for row in made.library if not row.parts and row.role != "vehicle"]
    assert (obs.loc[obs["cytokine"].isin(singles), "tier"] == "train").all()
    keys = ["cytokine", "cell_type", "exposure"]
    treated = obs[obs["cytokine"] != "medium"]
    assert (treated.groupby(keys)["tier"].nunique() == 1).all()
    seen = treated.groupby(keys)["tier"].first()
    for row in made.held_out.itertuples():
        assert seen[row.cytokine, row.cell_type, row.exposure] == row.tier
    trained = treated[treated["tier"] == "train"]
    of = dict(list(made.held_out.groupby("tier")))
    assert {tier: len(part) for tier, part in of.items()} == {
        "pair": 24,
        "pair in a cell type": 12,
        "pair in one exposure": 12,
    }
    assert not set(of["pair"]["cytokine"]) & set(trained["cytokine"])
    there = set(zip(trained["cytokine"], trained["cell_type"]))
    assert not {(r.cytokine, r.cell_type) for r in of["pair in a cell type"].itertuples()} & there
    assert {(r.cytokine, r.cell_type) for r in of["pair in one exposure"].itertuples()} <= there
    assert set(obs.loc[obs["cytokine"] == "medium", "tier"]) == {"train", "test"}


def test_pathway_genes_move_in_cells_that_respond_and_background_does_not():
    made = screen(1)
    values = to_log1p_cp10k(made.cells.X)[0].toarray()
    obs, part = made.cells.obs, made.cells.var["part"].to_numpy()
    single = next(row.name for row in made.library if not row.parts and row.role != "vehicle")
    given, responds = (obs["cytokine"] == single).to_numpy(), obs["responds"].to_numpy()
    strong = part == "pathway 1"  # of the first cytokine
    before = (obs["cytokine"] == "medium").to_numpy()

    def moved(cells, genes):
        return np.abs(values[cells][:, genes].mean(axis=0) - values[before][:, genes].mean(axis=0)).mean()

    assert moved(given & responds, strong) > 0.35
    assert moved(given & ~responds, strong) < 0.5 * moved(given & responds, strong)
    assert moved(given & responds, part == "background") < 0.25
    assert 0.5 < responds.mean() < 0.75
    assert np.corrcoef(obs["state"], responds)[0, 1] > 0.4


def test_pairs_differ_from_sums_but_in_the_world_where_sums_are_true():
    kinds = screen().interactions.set_index("cytokine")
    assert {"synergy", "antagonism"} <= set(kinds["kind"])
    assert ((kinds["excess"] > 0.1) == (kinds["kind"] == "synergy")).all()
    assert (screen(mean_shift=True).interactions["kind"] == "additive").all()
    assert np.allclose(screen(mean_shift=True).interactions["excess"], 0)
    assert screen(mean_shift=True).cells.obs["responds"].all()


@pytest.mark.parametrize("wrong", [{"n_genes": 100}, {"training_cells": 1}, {"test_cells": 0}])
def test_too_little_of_anything_is_refused(wrong):
    with pytest.raises(ConfigError, match="at least 150 genes and 2 cells"):
        simulate_cytokines(0, **wrong)
