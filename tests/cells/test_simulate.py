"""The planted truth is in the counts: fold changes per class and context, the floor, the ceiling, and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from c2s.cells.simulate import (
    CEILING_GENES,
    CELL_TYPES,
    CLASSES,
    CONTEXTS,
    FLOOR_GENES,
    VEHICLE,
    SimulatedScreen,
    made_up_names,
    simulate_screen,
    simulated_genes,
)
from c2s.errors import ConfigError

SMALL = {
    "n_genes": 300, "training_drugs": 14, "held_out_per_class": 3, "unseen_per_class": 1, "cells_per_condition": 3,
    "training_donors": 2, "screening_donors": 2, "screening_cells": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def screen() -> SimulatedScreen:
    return simulate_screen(3)


@pytest.fixture(scope="module")
def groups(screen) -> dict[str, np.ndarray]:
    part, symbol = screen.training.var["part"].to_numpy(), screen.training.var_names
    floor, ceiling = np.isin(symbol, FLOOR_GENES), np.isin(symbol, CEILING_GENES)
    return {
        "ordinary": (part == "programme") & ~floor & ~ceiling,
        "floor": floor,
        "ceiling": ceiling,
        "stress": part == "stress",
        "rest": np.isin(part, ["background", "target", "marker", "interferon"]),
    }


def mean_counts(screen, drug, context) -> np.ndarray:
    obs = screen.training.obs
    rows = np.flatnonzero((obs["drug"] == drug) & (obs["ifn"] == context))
    return np.asarray(screen.training.X[rows].mean(axis=0)).ravel()


def planted(planted_class, group, context) -> int:
    """Return the sign of the planted log fold change, from the definition of the classes."""
    return {
        ("activator", "ordinary"): 1,
        ("amplifier", "ordinary"): int(context == "low"),
        ("repressor", "ordinary"): -1,
        ("off_programme", "stress"): 1,
        ("floor", "floor"): 1,
        ("ceiling", "ceiling"): 1,
    }.get((planted_class, group), 0)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("planted_class", CLASSES)
def test_log_fold_changes_are_those_planted(screen, groups, planted_class, context):
    vehicle = mean_counts(screen, VEHICLE.name, context)
    training = screen.truth[~screen.truth["held_out"]]
    drugs = training[training["planted_class"] == planted_class]
    assert len(drugs) >= 8
    for group, genes in groups.items():
        if (group, context) == ("floor", "none"):
            continue  # hardly a molecule: see test_floor_and_ceiling
        found = [
            np.log(mean_counts(screen, drug, context)[genes].sum() / vehicle[genes].sum())
            for drug in drugs["perturbation"]
        ]
        expected = planted(planted_class, group, context) * drugs["potency"].to_numpy() * np.log(3.0)
        assert np.abs(found - expected).max() < 0.3, (group, found, expected)
        assert abs(np.mean(found - expected)) < 0.1, group


def test_floor_and_ceiling_are_visible_in_the_counts(screen, groups):
    low, none = (mean_counts(screen, VEHICLE.name, context) for context in ("low", "none"))
    assert (none[groups["floor"]] < 0.1).all()  # below any cut of a sentence
    assert (low[groups["floor"]] > 1.0).all()
    top = np.argsort(-none)[:3]
    assert set(top) == set(np.flatnonzero(groups["ceiling"]))  # no room above
    rank_low = (low[None] > low[groups["ceiling"]][:, None]).sum(axis=1)
    assert (rank_low > 30).all()
    silent = [
        mean_counts(screen, drug, "none")[groups["floor"]].sum()
        for drug in screen.truth.query("planted_class == 'floor' and not held_out")["perturbation"]
    ]
    assert (
        none[groups["floor"]].sum() * 1.5 < np.mean(silent) < 0.5
    )  # raised threefold in both contexts, and still not seen


def test_counts_are_overdispersed_whole_numbers(screen, groups):
    data = screen.training.X.data
    assert np.array_equal(data, np.round(data))
    assert data.min() > 0
    obs = screen.training.obs
    rows = np.flatnonzero((obs["drug"] == VEHICLE.name) & (obs["ifn"] == "none"))
    ceiling = screen.training.X[rows][:, groups["ceiling"]].toarray()
    mean, variance = ceiling.mean(axis=0), ceiling.var(axis=0)
    assert (variance > mean + mean**2 / 10).all()  # negative binomial of size 6, not Poisson
    depth = np.asarray(screen.training.X[rows].sum(axis=1)).ravel()
    assert 2500 < np.median(depth) < 3700


def test_interferon_and_marker_genes_follow_context_and_type(screen):
    obs, part = screen.training.obs, screen.training.var["part"].to_numpy()
    low, none = (mean_counts(screen, VEHICLE.name, context)[part == "interferon"].sum() for context in CONTEXTS)
    assert low > 1.5 * none
    markers = np.flatnonzero(part == "marker").reshape(len(CELL_TYPES), -1)
    for number, cell_type in enumerate(CELL_TYPES):
        of_type = np.asarray(screen.training.X[np.flatnonzero(obs["cell_type"] == cell_type)].mean(axis=0)).ravel()
        sums = [of_type[genes].sum() for genes in markers]
        assert sums[number] > 5 * max(np.delete(sums, number))


def test_sixty_training_and_at_least_twelve_held_out_drugs_a_class(screen):
    truth = screen.truth
    assert (~truth["held_out"]).sum() == 60
    held_out = truth[truth["held_out"]]
    sizes = held_out.groupby("planted_class").size()
    assert set(sizes.index) == set(CLASSES)
    assert (sizes >= 12).all()
    assert len(held_out) >= 60
    assert (held_out.groupby("planted_class")["target_seen"].sum() == 10).all()  # most are seen, one tier is not
    assert truth["potency"].between(0.8, 1.2).all()


def test_libraries_and_truth_agree(screen):
    training, held_out = screen.training_library, screen.library
    assert [d.name for d in training] == [VEHICLE.name, *screen.truth.query("not held_out")["perturbation"]]
    assert training[0] == held_out[0] == VEHICLE
    controls = [d for d in held_out if d.role == "positive_control"]
    classes = screen.truth.loc[[d.name for d in controls], "planted_class"].tolist()
    assert classes == ["activator", "activator", "floor", "ceiling"]
    assert len({d.targets for d in controls}) == 4
    assert [d for d in training if d.role == "positive_control"] == [d for d in training if d in controls]
    assert set(controls) <= set(training)
    assert [d.name for d in held_out if d.role == "drug"] == screen.truth.query("held_out")["perturbation"].tolist()
    names = [d.name for d in held_out]
    assert len(set(names)) == len(names)
    for drug in training[1:] + held_out[1:]:
        assert drug.targets == (screen.truth.loc[drug.name, "target"],)
        assert drug.targets[0] in screen.training.var_names
    assert screen.library_frame()["name"].tolist() == names
    by_target = {(d.targets, d.mechanism) for d in (*training, *held_out)}
    assert len(by_target) == len({targets for targets, _ in by_target})  # one mechanism a target


@pytest.mark.parametrize("sizes", [{}, SMALL, {**SMALL, "training_drugs": 7, "held_out_per_class": 6}])
def test_target_seen_means_that_training_holds_the_target_and_a_target_has_one_class(sizes):
    truth = simulate_screen(1, **{**SMALL, "n_genes": 400, **sizes}).truth
    seen = set(truth.loc[~truth["held_out"], "target"])
    assert truth["target_seen"].tolist() == [target in seen for target in truth["target"]]
    assert (truth.groupby("target")["planted_class"].nunique() == 1).all()


def test_training_and_screening_cells_have_the_columns_and_no_donor_in_common(screen):
    training, screening = screen.training.obs, screen.screening.obs
    assert list(training.columns) == ["drug", "ifn", "donor", "cell_type"]
    assert list(screening.columns) == ["ifn", "donor", "cell_type"]
    assert not set(training["donor"]) & set(screening["donor"])
    assert set(screening["ifn"]) == set(training["ifn"]) == set(CONTEXTS)
    assert set(training["cell_type"]) == set(CELL_TYPES)
    assert (pd.crosstab(screening["donor"], screening["ifn"]) == 8).all(axis=None)
    sizes = training.groupby(["drug", "ifn"]).size()
    assert sizes.loc[VEHICLE.name].tolist() == [960, 960]
    assert (sizes.drop(VEHICLE.name) == 96).all()
    assert training.index.is_unique
    assert screen.training.var_names.tolist() == screen.screening.var_names.tolist()
    assert set(screen.programme) >= {*FLOOR_GENES, *CEILING_GENES, "HLA-A", "TAP1", "CANX"}


def test_the_seed_decides_everything():
    one, same, other = simulate_screen(5, **SMALL), simulate_screen(5, **SMALL), simulate_screen(6, **SMALL)
    pd.testing.assert_frame_equal(one.truth, same.truth)
    assert one.library == same.library
    assert (one.training.X != same.training.X).nnz == 0
    assert (one.screening.X != same.screening.X).nnz == 0
    assert one.truth["perturbation"].tolist() != other.truth["perturbation"].tolist()
    assert (one.training.X[:10] != other.training.X[:10]).nnz > 0
    classes = [dict(zip(s.truth["target"], s.truth["planted_class"], strict=True)) for s in (one, other)]
    shared = classes[0].keys() & classes[1].keys()
    assert any(classes[0][target] != classes[1][target] for target in shared)  # no gene means its class


def test_made_up_names_are_new_and_seeded():
    taken = {"x"}
    names = made_up_names(200, np.random.default_rng(0), taken=taken)
    assert len(set(names)) == 200
    assert taken == {"x", *names}
    assert names == made_up_names(200, np.random.default_rng(0), taken=set())
    assert not set(names) & set(made_up_names(200, np.random.default_rng(0), taken=taken))


def test_genes():
    genes = simulated_genes(640)
    assert genes["symbol"].is_unique
    assert set(genes["part"]) == {"programme", "interferon", "marker", "stress", "target", "background"}
    assert len(simulated_genes(300)) == 300
    for n in (10, 10**6):
        with pytest.raises(ConfigError, match=f"n_genes is {n}; the simulation needs"):
            simulated_genes(n)
