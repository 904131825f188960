"""Who is treated, who matches, what is held out: checked against the simulated screen and by brute force."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from c2s.cells.library import Perturbation
from c2s.cells.normalise import to_log1p_cp10k
from c2s.cells.reading import expression
from c2s.errors import ConfigError, DataError
from c2s.sentences.encode import encode
from c2s.tasks import Genes, Mark, PerturbationResponse
from c2s.training.config import TrainConfig
from c2s.training.perturbation_data import prepare


@pytest.fixture(scope="module")
def cells(simulated):
    matrix, _ = expression(simulated.training)
    return encode(simulated.training), to_log1p_cp10k(matrix)[0]


def config(**changes) -> TrainConfig:
    values = {"perturbation_key": "drug", "control": "DMSO", "context_keys": ("ifn",), "validation_share": 0.2}
    return TrainConfig(**{**values, **changes})


def with_obs(cells, **columns):
    sentences, values = cells
    return sentences.with_obs(sentences.obs.assign(**columns)), values


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_whole_perturbations_are_held_out(cells, simulated):
    data = prepare(*cells, simulated.training_library, config())
    drugs = [p for p in simulated.training_library if p.role == "drug"]
    assert len(data.held_out) == round(0.2 * len(drugs)) > 0
    assert "DMSO" not in data.held_out
    training, validation = (set(data.names[data.rows(validation=side)]) for side in (False, True))
    assert validation == set(data.held_out)
    assert not training & validation
    assert "DMSO" in training
    assert training | validation == {p.name for p in simulated.training_library}
    assert data.library["DMSO"].role == "vehicle"
    seeds = {prepare(*cells, simulated.training_library, config(seed=seed)).held_out for seed in range(4)}
    assert len(seeds) > 1
    assert prepare(*cells, simulated.training_library, config()).held_out == data.held_out


def test_named_controls_stay_in_training(cells, simulated):
    named = {
        p.name: "positive_control" if i % 2 else "negative_control"
        for i, p in enumerate(simulated.training_library[1:9])
    }
    library = [
        p.with_role(named[p.name]) if p.name in named else p.with_role("drug") for p in simulated.training_library
    ]
    for seed in range(5):
        data = prepare(*cells, library, config(seed=seed, validation_share=0.5))
        assert len(data.held_out) == 3  # half of the other six
        assert not set(data.held_out) & set(named)


@pytest.mark.parametrize("by", ["donor", "ifn"])
def test_split_by_another_column_keeps_its_groups_whole(cells, simulated, by):
    names = [f"{value}{i % 3}" for i, value in enumerate(cells[0].obs[by])]
    changed = with_obs(cells, batch=names)
    data = prepare(*changed, simulated.training_library, config(split_by="batch", validation_share=0.3))
    batches = changed[0].obs["batch"].to_numpy()
    sides = [set(batches[data.rows(validation=side)]) for side in (False, True)]
    assert len(sides[1]) == 2
    assert not sides[0] & sides[1]
    assert data.held_out == ()


@pytest.mark.parametrize("match_by", [(), ("donor",), ("cell_type", "donor")])
def test_donors_held_out_are_matched_to_their_own_controls(cells, simulated, match_by):
    donors = [f"{donor}{i % 2}" for i, donor in enumerate(cells[0].obs["donor"])]
    changed = with_obs(cells, donor=donors)
    data = prepare(
        *changed, simulated.training_library, config(split_by="donor", validation_share=0.25, match_by=match_by)
    )
    obs = changed[0].obs
    for validation in (False, True):
        treated = data.rows(validation=validation)
        assert len(treated)
        pools = data.pool(treated, rng())
        matches = data.match(treated, pools, rng())
        assert (data.names[matches] == "DMSO").all()
        assert not (matches[:, :, None] == pools[:, None, :]).any()  # nothing is compared with itself
        assert (data.is_validation[matches] == validation).all()
        assert (data.is_validation[data.pool(treated, rng())] == validation).all()
        for key in ("ifn", *match_by):
            values = obs[key].to_numpy()
            assert (values[matches] == values[treated][:, None]).all()


def test_contexts_can_be_held_out(cells, simulated):
    contexts = [f"{ifn}-{donor}" for ifn, donor in zip(cells[0].obs["ifn"], cells[0].obs["donor"], strict=True)]
    changed = with_obs(cells, line=contexts)
    data = prepare(
        *changed, simulated.training_library, config(context_keys=("line",), split_by="line", validation_share=0.25)
    )
    treated = data.rows(validation=True)
    assert changed[0].obs["line"].iloc[treated].nunique() == 1
    matches = data.match(treated, data.pool(treated, rng()), rng())
    assert data.is_validation[matches].all()
    assert len(data.responses()) == 14 * 3  # the held-out context is not among what baselines learn from


def test_a_coarser_split_counts_the_perturbations_it_holds_out(cells, simulated):
    family = {p.name: p.targets[0] if p.targets else "none" for p in simulated.training_library}
    changed = with_obs(cells, family=[family[name] for name in cells[0].obs["drug"]])
    data = prepare(*changed, simulated.training_library, config(split_by="family", validation_share=0.15))
    validation = set(data.names[data.rows(validation=True)])
    assert validation - {"DMSO"} == set(data.held_out) != set()
    assert not validation & set(data.names[data.rows(validation=False)])


def test_held_out_drugs_use_training_controls(cells, simulated):
    data = prepare(*cells, simulated.training_library, config())
    held_out = data.rows(validation=True)
    matches = data.match(held_out, data.pool(held_out, rng()), rng())
    assert (data.names[matches] == "DMSO").all()
    assert not data.is_validation[matches].any()
    treated = data.rows(validation=False)
    vehicle = data.names[treated] == "DMSO"
    assert vehicle.any()
    pools = data.pool(treated, rng())
    matches = data.match(treated, pools, rng())
    assert not (matches[:, :, None] == pools[:, None, :]).any()  # the trained vehicle: controls against other ones


def test_pools_are_cells_treated_alike_on_the_same_side(cells, simulated):
    data = prepare(*cells, simulated.training_library, config(match_by=("cell_type",), n_treated=3))
    for validation in (False, True):
        treated = data.rows(validation=validation)
        pools = data.pool(treated, rng())
        assert pools.shape == (len(treated), 3)
        assert (pools[:, 0] == treated).all()
        assert (data.names[pools] == data.names[treated][:, None]).all()
        assert (data.is_validation[pools] == validation).all()
        for key in ("ifn", "cell_type"):
            values = data.sentences.obs[key].to_numpy()
            assert (values[pools] == values[treated][:, None]).all()


def test_each_pass_shows_other_controls(cells, simulated):
    data = prepare(*cells, simulated.training_library, config())
    task = PerturbationResponse(target="sentence", n_genes=5, n_answer=6)
    n = len(data.rows(validation=False))
    out = list(data.examples(task, data.fit_rule(rng()), validation=False, passes=3, rng=rng()))
    assert len(out) == 3 * n
    shown = [tuple(e.prompt[1].ids.tolist()) for e in out]
    answers = [tuple(e.answer[0].ids.tolist()) for e in out]
    assert answers[:n] == answers[n : 2 * n] == answers[2 * n :]  # the same treated cells
    assert np.mean([a != b for a, b in zip(shown[:n], shown[n : 2 * n], strict=True)]) > 0.8
    again = list(data.examples(task, data.fit_rule(rng()), validation=False, passes=1, rng=rng()))
    assert [tuple(e.prompt[1].ids.tolist()) for e in again] == shown[:n]


def test_name_dropout_hides_its_share_of_names_in_training_only(cells, simulated):
    data = prepare(*cells, simulated.training_library, config(name_dropout=0.3))
    task = PerturbationResponse(target="sentence", n_genes=2, n_answer=2)

    def shares(validation: bool) -> float:
        out = data.examples(
            task, data.fit_rule(rng()), validation=validation, passes=1 if validation else 4, rng=rng(3)
        )
        drugs = [e for e in out if Mark("targets") in e.prompt]
        named = [isinstance(e.prompt[e.prompt.index(Mark("perturbation")) + 1], str) for e in drugs]
        return float(np.mean(named))

    n = 4 * sum(p.role == "drug" for p in data.library.values()) * 12  # about 600 prompts
    assert shares(validation=False) == pytest.approx(0.7, abs=4 * np.sqrt(0.21 / n))
    assert shares(validation=True) == 1.0


def test_context_and_targets_stand_in_the_prompt(cells, simulated):
    data = prepare(*cells, simulated.training_library, config(name_dropout=0.0))
    task = PerturbationResponse(target="sentence", n_genes=2, n_answer=2)
    rows = data.rows(validation=False)
    symbols = data.sentences.vocabulary.symbols
    for row, example in zip(
        rows, data.examples(task, data.fit_rule(rng()), validation=False, passes=1, rng=rng()), strict=True
    ):
        prompt = list(example.prompt)
        assert prompt[2:4] == [Mark("context"), data.sentences.obs["ifn"].iloc[row]]
        assert prompt[4:6] == [Mark("perturbation"), data.names[row]]
        drug = data.library[data.names[row]]
        if drug.targets:
            written = prompt[prompt.index(Mark("targets")) + 1]
            assert isinstance(written, Genes)
            assert [symbols[i] for i in written.ids] == list(drug.targets)


def test_deltas_come_from_the_rule(cells, simulated):
    data = prepare(*cells, simulated.training_library, config(n_up=3, n_down=2, n_treated=2, n_controls=3))
    rule = data.fit_rule(rng())
    assert (len(rule.up), len(rule.down)) == (3, 2)
    task = PerturbationResponse(target="delta", n_genes=2, n_up=3, n_down=2)
    out = list(data.examples(task, rule, validation=True, passes=1, rng=rng(5)))
    treated, draws = data.rows(validation=True), rng(5)
    pools = data.pool(treated, draws)
    matches = data.match(treated, pools, draws)
    for example, pool, match in zip(out, pools, matches, strict=True):
        change = data.expression[pool].toarray().mean(0) - data.expression[match].toarray().mean(0)
        z = change / rule.scale
        up, down = task.parse(example.answer)
        expected = [g for g in np.argsort(-z, kind="stable") if z[g] >= rule.threshold][:3]
        assert up.tolist() == expected
        assert down.tolist() == [g for g in np.argsort(z, kind="stable") if z[g] <= -rule.threshold][:2]
        assert example.prompt[1].ids.tolist() == data.sentences.row(match[0])[:2].tolist()


def test_responses_by_brute_force(cells, simulated):
    data = prepare(*cells, simulated.training_library, config())
    table = data.responses()
    assert len(table) == 14 * 2
    dense, obs = data.expression.toarray(), data.sentences.obs
    for row in table.itertuples():
        here = (obs["ifn"] == row.ifn).to_numpy()
        treated = np.flatnonzero(here & (data.names == row.perturbation))
        expected = dense[treated].mean(0) - dense[here & (data.names == "DMSO")].mean(0)
        np.testing.assert_allclose(row.change, expected, atol=1e-5)
        halves = (dense[treated[::2]].mean(0) - dense[treated[1::2]].mean(0)) / 2
        np.testing.assert_allclose(row.half_difference, halves, atol=1e-5)
        assert row.n_cells == len(treated) == 6
        assert row.held_out == (row.perturbation in data.held_out)


def test_without_a_library_names_are_all_there_is(cells):
    data = prepare(*cells, None, config())
    assert len(data.library) == 15
    assert {p.targets for p in data.library.values()} == {()}
    assert data.library["DMSO"].role == "vehicle"


def test_bad_columns_and_values(cells, simulated):
    library = simulated.training_library
    with pytest.raises(DataError, match=r"obs has no column 'pert'; found .*drug.*Pass perturbation_key="):
        prepare(*cells, library, config(perturbation_key="pert"))
    with pytest.raises(DataError, match=r"obs has no column 'plate'.*context_keys or match_by"):
        prepare(*cells, library, config(match_by=("plate",)))
    with pytest.raises(DataError, match=r"no column 'batch'.*split_by"):
        prepare(*cells, library, config(split_by="batch"))
    with pytest.raises(DataError, match=r"no cell has drug == 'vehicle'; found .* Pass control="):
        prepare(*cells, library, config(control="vehicle"))
    controls = np.flatnonzero(cells[0].obs["drug"] == "DMSO")
    with pytest.raises(DataError, match="every cell is a control"):
        prepare(cells[0][controls], cells[1][controls], library, config())
    gone = library[3].name
    with pytest.raises(DataError, match=f"1 perturbations of the cells are not in the library: {gone}"):
        prepare(*cells, [p for p in library if p.name != gone], config())
    with pytest.raises(DataError, match=f"more than once: {gone}"):
        prepare(*cells, [*library, Perturbation(gone)], config())


@pytest.mark.parametrize("column", ["drug", "ifn"])
def test_cells_without_a_value_are_refused(cells, simulated, column):
    values = cells[0].obs[column].astype(object).copy()
    values.iloc[:3] = [np.nan, None, pd.NA]
    with pytest.raises(DataError, match=f"3 of {len(values)} cells have no value in '{column}'"):
        prepare(*with_obs(cells, **{column: values}), simulated.training_library, config())


def test_a_split_that_holds_out_nothing_says_so(cells, simulated, caplog):
    with caplog.at_level(logging.WARNING, logger="c2s"):
        data = prepare(*cells, simulated.training_library, config(split_by="donor", validation_share=0.5))
    assert "donor has 2 groups" in caplog.text
    assert "none is held out" in caplog.text
    assert not data.is_validation.any()
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="c2s"):
        assert prepare(*cells, simulated.training_library, config(validation_share=0.02)).held_out == ()
    assert "none is held out" in caplog.text
    with pytest.raises(ConfigError, match=r"would hold out all \d+ groups of drug"):
        prepare(*cells, simulated.training_library, config(validation_share=0.99))


def test_drugs_without_a_control_in_their_stratum_are_named(cells, simulated):
    obs = cells[0].obs
    plate = np.where(obs["drug"] == "DMSO", "plate 1", "plate 2")
    with pytest.raises(DataError, match=r"have no control cell to match: .*plate 2.*Match by fewer columns"):
        data = prepare(*with_obs(cells, plate=plate), simulated.training_library, config(match_by=("plate",)))
        treated = data.rows(validation=False)
        data.match(treated, data.pool(treated, rng()), rng())


def test_a_control_without_another_one_is_a_control_only(cells, simulated):
    obs = cells[0].obs
    vehicle = np.flatnonzero((obs["drug"] == "DMSO") & (obs["ifn"] == "low"))
    plate = np.full(len(obs), "a", dtype=object)
    plate[vehicle[0]] = "b"
    data = prepare(*with_obs(cells, plate=plate), simulated.training_library, config(match_by=("plate",)))
    assert data.is_lone.sum() == 1
    treated = data.rows(validation=False)
    assert vehicle[0] not in treated
    assert data.match(treated, data.pool(treated, rng()), rng()).shape[0] == len(treated)


@pytest.mark.parametrize("pairing", ["nearest", "transport"])
def test_controls_can_be_the_most_alike(cells, simulated, pairing):
    data = prepare(*cells, simulated.training_library, config(pairing=pairing, match_by=("cell_type",), n_controls=4))
    treated = data.rows(validation=False)
    pools = data.pool(treated, rng())
    matches = data.match(treated, pools, rng())
    obs = data.sentences.obs
    assert (data.names[matches] == "DMSO").all() and not data.is_validation[matches].any()
    for key in ("ifn", "cell_type"):
        values = obs[key].astype(str).to_numpy()
        assert (values[matches] == values[treated][:, None]).all()
    drugged = data.names[treated] != "DMSO"
    at_random = prepare(*cells, simulated.training_library, config(match_by=("cell_type",), n_controls=4)).match(treated, pools, rng())  # fmt: skip

    def distance(found):
        return np.linalg.norm(data.vectors[found[drugged]] - data.vectors[treated[drugged]][:, None], axis=-1).mean()

    assert distance(matches) < 0.97 * distance(at_random)
    assert not (np.isin(matches[~drugged], treated[~drugged]) & (matches[~drugged] == treated[~drugged][:, None])).any()
    again = data.match(treated, pools, rng(1))
    assert (again[drugged] == matches[drugged]).all() == (pairing == "nearest")  # drawn anew by transport


def test_conditions_can_be_held_out_whole(cells, simulated):
    data = prepare(*cells, simulated.training_library, config(split_by="condition"))
    key = pd.Series(list(zip(data.names, data.sentences.obs["ifn"].astype(str))))
    assert (pd.Series(data.is_validation).groupby(key).nunique() == 1).all()
    assert not data.is_validation[data.names == "DMSO"].any()
    held = set(key[data.is_validation])
    assert 0 < len(held) < len(set(key)) / 2
    # a drug held out in one context is trained on in the other
    assert any((name, other) not in held for name, ifn in held for other in ("low", "none") if other != ifn)
