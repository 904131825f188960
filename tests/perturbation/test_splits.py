"""Splits: parts do not overlap, nothing held out is learnt from, leaks that are planted are found, and the seed decides."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.cells.library import Perturbation, combined
from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.perturbation.splits import (
    Split,
    unseen_both,
    unseen_combination,
    unseen_conditions,
    unseen_context,
    unseen_perturbation,
)

SINGLES = [Perturbation(name) for name in "ABCDEFGH"]
PAIRS = [combined(one, other) for one, other in itertools.combinations(SINGLES, 2)]
LIBRARY = [Perturbation("medium", role="vehicle"), *SINGLES, *PAIRS]
TYPES = ("B", "CD4 T", "CD8 T", "NK", "DC")
KEYS = {"perturbation_key": "given", "control": "medium"}


def study(library=LIBRARY, types=TYPES, exposures=("acute", "chronic"), n=2, seed=0) -> pd.DataFrame:
    rows = [row for row in itertools.product([p.name for p in library], types, exposures) for _ in range(n)]
    obs = pd.DataFrame(rows, columns=["given", "cell_type", "exposure"], index=[f"c{i}" for i in range(len(rows))])
    return obs.sample(frac=1, random_state=seed).astype({"cell_type": "category"})


def cells(obs: pd.DataFrame, seed=0) -> ad.AnnData:
    counts = np.random.default_rng(seed).poisson(2.0, (len(obs), 30)).astype(np.float32)
    return ad.AnnData(sp.csr_matrix(counts), obs=obs.copy(), var=pd.DataFrame(index=[f"G{i}" for i in range(30)]))


def by_context(obs, seed=0, **more):
    return unseen_context(obs, **KEYS, context_key="cell_type", seed=seed, **more)


def by_both(obs, seed=0, **more):
    return unseen_both(obs, **KEYS, context_key="cell_type", library=LIBRARY, seed=seed, **more)


def by_perturbation(obs, seed=0, **more):
    return unseen_perturbation(obs, **KEYS, context_keys=["cell_type"], library=LIBRARY, seed=seed, **more)


def by_combination(obs, seed=0, **more):
    return unseen_combination(obs, **{**KEYS, "library": LIBRARY, "hide_share": 0.3, "seed": seed, **more})


TIERS = {
    "pair": [{"given": "A + B"}],
    "in a type": [{"given": "C", "cell_type": "B"}, {"given": "D", "cell_type": "NK"}],
    "in one exposure": [{"given": "E", "cell_type": "B", "exposure": "acute"}],
}


def by_list(obs, seed=0, **more):
    return unseen_conditions(obs, **{**KEYS, "conditions": TIERS, "library": LIBRARY, "seed": seed, **more})


ALL = [by_perturbation, by_combination, by_context, by_both, by_list]


@settings(deadline=None, max_examples=10)
@given(st.sampled_from(ALL), st.integers(0, 10_000))
def test_parts_are_disjoint_hold_whole_conditions_and_none_is_empty(function, seed):
    obs = study()
    split = function(obs, seed)
    masks = np.array([split.train, split.validation, split.test, split.controls])
    assert (masks.sum(axis=0) <= 1).all()
    assert masks[:3].any(axis=1).all()
    is_control = (obs["given"] == "medium").to_numpy()
    assert not (split.test | split.validation)[is_control].any()
    assert (split.controls <= is_control).all()
    assert ((split.train & is_control) | split.controls)[is_control].all()
    assert ((split.tier != "") == (split.test | split.validation)).all()
    part = np.select(list(masks), ["train", "validation", "test", "controls"], "unused")
    table = obs[list(split.keys)].astype(str).assign(part=part, tier=split.tier)
    unique = table.value_counts().rename("n_cells").reset_index()
    expected = split.conditions.sort_values([*split.keys])
    pd.testing.assert_frame_equal(
        unique.sort_values([*split.keys])[expected.columns].reset_index(drop=True), expected.reset_index(drop=True)
    )
    assert set(split.held_out["part"]) == {"validation", "test"}
    assert split.held_out["n_cells"].sum() == (split.test | split.validation).sum()
    split.check(cells(obs))


@settings(deadline=None, max_examples=6)
@given(st.sampled_from(ALL), st.integers(0, 10_000))
def test_the_seed_decides_and_the_order_of_cells_does_not(function, seed):
    obs = study()
    split, again = function(obs, seed), function(obs, seed)
    order = np.random.default_rng(seed).permutation(len(obs))
    turned = function(obs.iloc[order], seed)
    for name in ("train", "validation", "test", "controls", "tier"):
        assert np.array_equal(getattr(split, name), getattr(again, name))
        assert np.array_equal(getattr(split, name)[order], getattr(turned, name))
    assert split.cells == turned.cells
    others = [function(obs, seed + step).conditions for step in (1, 2, 3)]
    assert not all(split.conditions.equals(other) for other in others)


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 10_000))
def test_no_combination_with_a_held_out_part_is_learnt_from(seed):
    obs = study()
    split = by_perturbation(obs, seed)
    names = obs["given"].to_numpy()
    held = set(names[split.test | split.validation])
    assert held <= set("ABCDEFGH")
    trained = set(names[split.train])
    parts = {row.name: set(row.single) for row in LIBRARY}
    assert trained == {name for name in parts if not parts[name] & held}
    assert len(set(names[split.test])) == 2
    assert len(set(names[split.validation])) == 1
    assert set(split.tier[split.test]) == {"unseen perturbation"}


def test_named_perturbations_are_the_test_and_roles_stay():
    obs = study()
    split = by_perturbation(obs, perturbations=["A + B", "C"], validation_share=0)
    assert set(obs["given"][split.test]) == {"A + B", "C"}
    assert not split.validation.any()
    assert {"A", "B"} <= set(obs["given"][split.train])
    assert not any("C" in name for name in obs["given"][split.train])
    positive = [row.with_role("positive_control") if row.name != "H" else row for row in LIBRARY]
    only = unseen_perturbation(obs, **KEYS, library=[LIBRARY[0], *positive[1:9], *PAIRS], perturbations=["H"], validation_share=0)  # fmt: skip
    assert set(only.held_out["given"]) == {"H"}
    with pytest.raises(DataError, match="1 single perturbations, of which 1 and 1 would be for test and validation"):
        unseen_perturbation(obs, **KEYS, library=[LIBRARY[0], *positive[1:9], *PAIRS])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([0.25, 0.4]))
def test_tiers_count_the_parts_that_training_has_alone(seed, hide_share):
    obs = study(types=("B",), exposures=("acute",))
    split = by_combination(obs, seed, hide_share=hide_share)
    names = obs["given"].to_numpy()
    trained = set(names[split.train])
    for name, tier in zip(names, split.tier):
        if tier:
            assert tier == f"seen {len(set(name.split(' + ')) & trained)}"
            assert " + " in name
    assert set(split.tier[split.test]) == {"seen 0", "seen 1", "seen 2"}
    hidden = set("ABCDEFGH") - trained
    assert len(hidden) == round(hide_share * 8)
    assert not any(set(name.split(" + ")) & hidden for name in trained)  # not in combinations either
    assert {"train", "unused"} == set(split.conditions[split.conditions["given"].isin(list("ABCDEFGH"))]["part"])


def test_hidden_parts_may_be_named_and_a_part_never_measured_alone_is_not_seen():
    obs = study(types=("B",))
    split = by_combination(obs, hide_parts=["A", "B"])
    table = split.held_out.set_index("given")
    assert table.loc["A + B", "tier"] == "seen 0"
    assert table.loc["A + C", "tier"] == "seen 1"
    assert set(table[table["tier"] == "seen 1"].index) == {f"{one} + {other}" for one in "AB" for other in "CDEFGH"}
    few = [row for row in LIBRARY if row.name != "H"]  # H only in combinations
    split = by_combination(study(few, types=("B",)), hide_share=0, tiers=(1, 2))
    with_h = split.held_out["given"].str.contains("H")
    assert ((split.held_out["tier"] == "seen 1") == with_h).all()


def test_combinations_of_three_that_hold_a_held_out_pair_take_part_in_nothing():
    triple = combined(*SINGLES[:3])
    obs = study([*LIBRARY, triple], types=("B",))
    split = by_combination(obs, library=[*LIBRARY, triple], hide_share=0, tiers=(2,))
    table = split.conditions.set_index("given")["part"]
    pairs = {table["A + B"], table["A + C"], table["B + C"]}
    if table["A + B + C"] in ("train", "unused"):
        assert (table["A + B + C"] == "unused") == bool(pairs & {"test", "validation"})


def test_a_tier_that_cannot_be_had_is_named():
    obs = study(types=("B",))
    with pytest.raises(DataError, match=r"none of 28 combinations is left for the test's seen 0, 1; hide other parts"):
        by_combination(obs, hide_share=0)
    with pytest.raises(DataError, match="left for the test's seen 0; hide"):
        by_combination(obs, hide_parts=["A"])
    with pytest.raises(DataError, match="hide_parts names X; parts measured alone and in a combination are A, B, C"):
        by_combination(obs, hide_parts=["X"])
    with pytest.raises(DataError, match="none of 8 perturbations in 'given' is a combination"):
        by_combination(study(LIBRARY[:9]))
    one_pair = LIBRARY[:10]
    with pytest.raises(DataError, match="none of 1 combinations is left for validation"):
        by_combination(study(one_pair), hide_share=0, tiers=(2,))
    assert not by_combination(study(one_pair), hide_share=0, tiers=(2,), validation_share=0).validation.any()


def test_a_tier_without_validation_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        by_combination(study(types=("B",)), hide_parts=["A", "B"])  # one pair of both
    assert "validation has no combination of the tiers seen 0" in caplog.text


def test_contexts_keep_their_controls_apart():
    obs = study()
    split = by_context(obs, values=["NK"], validation_values=["B"])
    of_type = obs["cell_type"].astype(str).to_numpy()
    is_control = (obs["given"] == "medium").to_numpy()
    assert np.array_equal(split.test, (of_type == "NK") & ~is_control)
    assert np.array_equal(split.validation, (of_type == "B") & ~is_control)
    assert np.array_equal(split.controls, np.isin(of_type, ["NK", "B"]) & is_control)
    assert np.array_equal(split.train, ~np.isin(of_type, ["NK", "B"]))
    assert set(split.tier[split.test]) == {"unseen context"}


def test_a_perturbation_of_held_out_contexts_alone_is_of_another_tier():
    obs = study()
    obs = obs[(obs["given"] != "A") | (obs["cell_type"] == "NK")]
    split = by_context(obs, values=["NK"], validation_share=0)
    assert set(obs["given"][split.tier == "unseen both"]) == {"A"}


def test_a_context_without_controls_or_unknown_is_refused():
    obs = study()
    obs = obs[(obs["given"] != "medium") | (obs["cell_type"] != "NK")]
    with pytest.raises(DataError, match="'cell_type' has no NK with treated and with control cells; those it has are B, CD4"):  # fmt: skip
        by_context(obs, values=["NK"])
    with pytest.raises(DataError, match="NK are named for the test and for validation"):
        by_context(study(), values=["NK"], validation_values=["NK"])
    donors = study(types=("d1", "d2"))
    with pytest.raises(DataError, match=r"2 contexts \(cell_type\), of which 1 and 1 would be for test and validation"):
        by_context(donors)
    assert by_context(donors, validation_share=0).test.any()


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 10_000))
def test_both_are_unseen(seed):
    obs = study()
    split = by_both(obs, seed)
    names, types = obs["given"].to_numpy(), obs["cell_type"].astype(str).to_numpy()
    treated = names != "medium"
    for one, other in itertools.permutations([split.train & treated, split.validation, split.test], 2):
        assert not set(names[one]) & set(names[other])
        assert not set(types[one]) & set(types[other])
    assert not set(types[split.train]) & set(types[split.controls])
    assert set(types[split.test]) <= set(types[split.controls])


def test_both_where_nothing_of_both_was_measured():
    obs = study(LIBRARY[:9])
    sparse = obs[(obs["given"] == "medium") | (obs["given"] != "A") | (obs["cell_type"] != "NK")]
    with pytest.raises(DataError, match="no cell to ask is left"):
        unseen_both(sparse, **KEYS, context_key="cell_type", perturbations=["A"], values=["NK"], validation_share=0)
    alone = obs[(obs["given"].isin(["medium", "A"])) | (obs["cell_type"] == "DC")]
    with pytest.raises(DataError, match="no perturbation for validation was measured in"):
        unseen_both(alone, **KEYS, context_key="cell_type", perturbations=["A"], values=["NK"])


def test_listed_conditions_in_tiers():
    obs = study()
    split = by_list(obs)
    test = split.held_out[split.held_out["part"] == "test"]
    assert test.groupby("tier").size().to_dict() == {"pair": 10, "in a type": 4, "in one exposure": 1}
    assert split.keys == ("given", "cell_type", "exposure")
    asked = obs[split.tier == "in a type"][split.test[split.tier == "in a type"]]
    assert set(zip(asked["given"], asked["cell_type"])) == {("C", "B"), ("D", "NK")}
    chosen = split.held_out[split.held_out["part"] == "validation"].groupby("tier")
    pair = chosen.get_group("pair")
    assert all(" + " in name for name in pair["given"])
    assert pair["given"].nunique() == 3  # a tenth of 27
    assert len(pair) == 30
    of_type = chosen.get_group("in a type")
    assert len(of_type) == 2 * len(of_type.drop_duplicates(["given", "cell_type"]))
    assert len(chosen.get_group("in one exposure")) == 7
    assert by_list(obs, validation_share=0).seed is None


def test_lists_that_cannot_be_met():
    obs = study()
    for conditions, message in (
        ([{"given": "Z"}], "no cell has given == 'Z'; found A, A "),
        ([{"cell_type": "B"}], "cell_type 'B' names no given; list treated conditions, or use unseen_context"),
        ([{"given": "medium"}], "given 'medium' names the control"),
        ([{"given": "A", "batch": "1"}], "obs has no column 'batch'"),
    ):
        with pytest.raises(DataError, match=message):
            by_list(obs, conditions={"tier": conditions})
    with pytest.raises(DataError, match="given 'C', cell_type 'B' is in the tiers 'one' and 'two'; list it once"):
        by_list(obs, conditions={"one": [{"given": "C"}], "two": [{"given": "C", "cell_type": "B"}]})
    fewer = obs[(obs["given"] != "C") | (obs["cell_type"] != "B")]
    with pytest.raises(DataError, match="no cell has given 'C', cell_type 'B' together"):
        by_list(fewer)
    few = study([LIBRARY[0], SINGLES[0], SINGLES[1], PAIRS[0]])
    with pytest.raises(DataError, match=r"training has no whole condition over \(given\) of the kind of tier 'pair'"):
        by_list(few, conditions={"pair": [{"given": "A + B"}]})


@pytest.mark.parametrize("function", ALL)
def test_bad_input_is_named(function):
    obs = study()
    with pytest.raises(DataError, match="obs has no column 'given'; found"):
        function(obs.drop(columns="given"))
    with pytest.raises(DataError, match=r"1 of \d+ cells have no value in 'given'"):
        function(obs.assign(given=obs["given"].where(np.arange(len(obs)) > 0)))
    with pytest.raises(DataError, match=r"no cell is a control \('medium'\); found A"):
        function(obs[obs["given"] != "medium"])
    with pytest.raises(DataError, match="every cell is a control"):
        function(obs[obs["given"] == "medium"])
    with pytest.raises(ConfigError, match="validation_share=1.5"):
        function(obs, validation_share=1.5)


def test_more_bad_input_is_named():
    obs = study()
    with pytest.raises(DataError, match="1 perturbations of the cells are not in the library: A"):
        unseen_perturbation(obs, **KEYS, library=[row for row in LIBRARY if row.name != "A"])
    with pytest.raises(DataError, match="no treated cell has Z; found A"):
        by_perturbation(obs, perturbations=["Z"])
    with pytest.raises(ConfigError, match="test_share=0, validation_share=0.1; expected shares"):
        by_context(obs, test_share=0)
    with pytest.raises(ConfigError, match="hide_share=1"):
        by_combination(obs, hide_share=1)
    with pytest.raises(ConfigError, match="a split writes columns of the name tier; rename"):
        unseen_context(obs.assign(tier="x"), **KEYS, context_key="tier")


def planted(split, obs, **masks):
    arrays = {name: getattr(split, name).copy() for name in masks}
    for name, (rows, value) in masks.items():
        arrays[name][rows] = value
    return dataclasses.replace(split, **arrays)


@pytest.mark.parametrize(("one", "other"), itertools.permutations(["train", "validation", "test", "controls"], 2))
def test_a_cell_in_two_parts_is_found(one, other):
    obs = study()
    split = by_context(obs)
    row = np.flatnonzero(getattr(split, one))[3]
    with pytest.raises(DataError, match=rf"the split 'unseen context' leaks: 1 cells are in .*: {obs.index[row]}\. "):
        planted(split, obs, **{other: (row, True)}).check(cells(obs))


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_condition_in_two_parts_is_found(function, part):
    """Half of the cells of a held-out condition are moved to training, by row or by a label that changed since."""
    obs = study()
    split = function(obs)
    row = np.flatnonzero(getattr(split, part))[0]
    with pytest.raises(DataError, match="leaks: 1 values of .* are in train and in " + part):
        planted(split, obs, **{part: (row, False), "train": (row, True)}).check(cells(obs))
    changed = obs.astype(str)
    other = np.flatnonzero(split.train & (obs["given"] != "medium"))[0]
    changed.iloc[other] = changed.iloc[row]
    with pytest.raises(DataError, match="are in train and in " + part):
        split.check(cells(changed))


def test_a_perturbation_or_context_in_two_parts_is_found_though_the_condition_is_in_one():
    obs = study()
    split = by_both(obs)
    held = obs[split.test].iloc[0]
    away = (obs["given"] == held["given"]) & (obs["cell_type"] != held["cell_type"])
    rows = np.flatnonzero(away & obs["cell_type"].isin(obs["cell_type"][split.train]))
    with pytest.raises(DataError, match=rf"1 values of \(given\) are in train and in test: {held['given']}\."):
        planted(split, obs, train=(rows, True)).check(cells(obs))
    rows = np.flatnonzero((obs["cell_type"] == held["cell_type"]) & obs["given"].isin(obs["given"][split.train]) & (obs["given"] != "medium"))  # fmt: skip
    with pytest.raises(DataError, match=rf"1 values of \(cell_type\) are in train and in test: {held['cell_type']}"):
        planted(split, obs, train=(rows, True)).check(cells(obs))


def test_controls_where_they_do_not_belong_are_found():
    obs = study()
    split = by_context(obs, values=["NK"], validation_values=["B"])
    row = np.flatnonzero(split.controls)[:2]
    with pytest.raises(DataError, match="2 control cells are in test"):
        planted(split, obs, controls=(row, False), test=(row, True)).check(cells(obs))
    with pytest.raises(DataError, match="are in train and in controls: medium"):
        planted(split, obs, controls=(row, False), train=(row, True)).check(cells(obs))
    treated = np.flatnonzero(split.test)[:1]
    with pytest.raises(DataError, match="1 treated cells are in controls"):
        planted(split, obs, test=(treated, False), controls=(treated, True)).check(cells(obs))


@pytest.mark.parametrize(("one", "other"), itertools.combinations(["train", "validation", "test", "controls"], 2))
def test_a_copied_cell_is_found_under_another_name(one, other):
    obs = study()
    split = by_context(obs)
    adata = cells(obs)
    first, second = (np.flatnonzero(getattr(split, part))[1] for part in (one, other))
    counts = adata.X.toarray()
    counts[second] = counts[first]
    adata.X = sp.csr_matrix(counts)
    with pytest.raises(DataError, match="1 cells stand in two parts with the same genes and values: ") as error:
        split.check(adata)
    for row, part in ((first, one), (second, other)):
        assert f"{obs.index[row]} ({part})" in str(error.value)
    counts[first, 5:] = counts[second, 5:] = 0  # too few genes to tell cells apart
    adata.X = counts
    split.check(adata)


def test_copies_within_a_part_and_outside_of_all_are_no_leak():
    obs = study()
    split = by_both(obs)
    counts = cells(obs).X.toarray()
    in_train = np.flatnonzero(split.train)[:2]
    unused = np.flatnonzero(~(split.train | split.validation | split.test | split.controls))[0]
    counts[in_train[1]] = counts[unused] = counts[in_train[0]]
    split.check(ad.AnnData(counts, obs=obs))


def test_the_check_wants_the_cells_that_were_split():
    split = by_context(study())
    with pytest.raises(DataError, match="is over 740 cells, the AnnData has 739"):
        split.check(cells(study())[1:])
    with pytest.raises(DataError, match="expected an AnnData, got DataFrame"):
        split.check(study())


@pytest.mark.parametrize("function", ALL)
def test_a_split_file_gives_the_split_back_in_any_order_of_cells(function, tmp_path):
    obs = study()
    split = function(obs, 3)
    split.write(tmp_path / "split.json")
    order = np.random.default_rng(0).permutation(len(obs))
    again = Split.read(tmp_path / "split.json", obs.iloc[order])
    for name in ("train", "validation", "test", "controls", "tier"):
        assert np.array_equal(getattr(split, name)[order], getattr(again, name))
    pd.testing.assert_frame_equal(split.conditions, again.conditions)
    assert (again.name, again.keys, again.control, again.apart) == (split.name, split.keys, split.control, split.apart)
    assert again.to_dict() == split.to_dict()
    assert Split.from_dict(split.to_dict(), obs).sizes == split.sizes


def test_a_split_file_of_other_cells_or_damaged_is_refused(tmp_path):
    obs, file = study(), tmp_path / "split.json"
    split = by_context(obs)
    split.write(file)
    changed = obs.astype(str)
    changed.iloc[0, 0] = "B" if changed.iloc[0, 0] != "B" else "C"
    for other in (obs[1:], changed, obs.rename(index={obs.index[0]: "another"})):
        with pytest.raises(DataError, match=r"cells are not those that were split.*split again"):
            Split.read(file, other)
    record = json.loads(file.read_text())
    for damaged in ({**record, "conditions": [{"x": 1}]}, {**record, "conditions": [{**record["conditions"][0], "part": "both"}]}, {key: value for key, value in record.items() if key != "apart"}):  # fmt: skip
        file.write_text(json.dumps(damaged))
        with pytest.raises(ArtefactError, match="damaged"):
            Split.read(file, obs)
    file.write_text(json.dumps(record)[:200])
    with pytest.raises(ArtefactError, match="not valid JSON"):
        Split.read(file, obs)
    file.write_text(json.dumps({**record, "version": 2}))
    with pytest.raises(ArtefactError, match="version 2"):
        Split.read(file, obs)
    with pytest.raises(ArtefactError, match="no file"):
        Split.read(tmp_path / "none.json", obs)
