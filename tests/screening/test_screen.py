"""The screen as a whole: killed, sharded and merged it gives one table; what does not fit is refused with what to do."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from c2s.artefacts import read_json
from c2s.cells.library import Perturbation, library_frame
from c2s.errors import ArtefactError, ConfigError, DataError, ModelError
from c2s.models.loading import load_cell_lm
from c2s.screening import screen as module
from c2s.screening.config import ScreenConfig
from c2s.screening.measure import part_path
from c2s.screening.plan import make_plan
from c2s.screening.screen import merge, screen
from tests import tiny

CONFIG = ScreenConfig(**tiny.SCREENING)


def quick(tiny_screen, out=None, *, cells=None, library=None, model=None, report=False, **changes):
    """Run the tiny screen; pathways and report, which take longest and have their own tests, only where asked for."""
    simulated, trained = tiny_screen
    options = {key: changes.pop(key) for key in ("shard", "overwrite", "truth") if key in changes}
    skipped = {} if report else {"write_report": mock.DEFAULT, "_pathways": mock.DEFAULT}
    with mock.patch.multiple(module, **skipped) if skipped else contextlib.nullcontext():
        return screen(
            model or trained, simulated.screening if cells is None else cells, library or simulated.library, out,
            config=CONFIG.with_(**changes), progress=False, **options,
        )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tiny_screen, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "screen"
    return folder, quick(tiny_screen, folder, report=True)


def test_files_and_table(whole, tiny_screen):
    simulated, _ = tiny_screen
    folder, table = whole
    assert {p.name for p in folder.iterdir()} >= {"plan.json", "parts", "screen.csv", "screen.json", "screen.html"}
    written = pd.read_csv(folder / "screen.csv", keep_default_na=False)
    assert written["perturbation"].tolist() == table["perturbation"].tolist()
    assert sorted(table["perturbation"]) == sorted(p.name for p in simulated.library if p.role != "vehicle")
    needed = ["effect_first", "effect_second", "split"]
    assert {
        "perturbation",
        "p_value",
        "q_value",
        "hit",
        "refused_because",
        "support",
        "ridge_split",
        "knn_split",
    } <= set(written)
    assert {f"{name}{end}" for name in needed for end in ("", "_low", "_high")} <= set(written)
    assert "planted_class" not in written
    np.testing.assert_allclose(table["split"], table["effect_first"] - table["effect_second"], atol=1e-6)
    assert table["effect_first"].abs().max() > 0.001


def test_record(whole):
    folder, table = whole
    record = read_json(folder / "screen.json")
    assert record["contexts"] == ["low", "none"]
    assert record["config"]["n_decoys"] == 24
    assert record["counts"]["library"] == tiny.n_screened()
    assert record["counts"]["decoys"] == 24
    assert record["counts"]["reference"] == 4
    assert record["counts"]["cells"] == {"low": 4, "none": 4}
    assert record["counts"]["units"] == 2
    assert [gate["name"] for gate in record["gates"]] == [
        "drug",
        "context",
        "vehicle",
        "controls",
        "support",
        "baselines",
    ]
    assert {gate["passed"] for gate in record["gates"]} <= {True, False, None}
    assert "Fewer than 5 units" in record["replication"]
    assert set(record["smallest_p"].values()) == {1 / 25}
    assert record["seeds"] == {"screen": 0, "model": 0}
    assert set(record["timings"]) == {"estimated", "measuring", "judging", "pathways"}
    assert record["simulated"] is False
    assert table.attrs["record"]["gates"] == record["gates"]


class Killed(BaseException):
    pass


def die_after(monkeypatch, blocks: int) -> list[int]:
    from c2s.screening import measure

    original, run = measure.run_block, []

    def spy(model, plan, block):
        if len(run) == blocks:
            raise Killed
        run.append(block)
        return original(model, plan, block)

    monkeypatch.setattr(measure, "run_block", spy)
    return run


def test_a_killed_screen_goes_on_and_gives_the_identical_table(tiny_screen, whole, tmp_path, monkeypatch):
    folder, _ = whole
    with monkeypatch.context() as patch:
        die_after(patch, 2)
        with pytest.raises(Killed):
            quick(tiny_screen, tmp_path / "s")
    assert len(list((tmp_path / "s" / "parts").glob("block-*"))) == 2
    assert not (tmp_path / "s" / "screen.csv").exists()
    with monkeypatch.context() as patch:
        run = die_after(patch, 99)
        quick(tiny_screen, tmp_path / "s")
        assert run == [2, 3]
    assert (tmp_path / "s" / "screen.csv").read_bytes() == (folder / "screen.csv").read_bytes()


KILLED = """
import os, signal
from c2s.models.loading import load_cell_lm
from c2s.screening import measure
from c2s.screening.screen import screen
from tests import tiny
original, done = measure.run_block, []
def dying(*args):
    if len(done) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(1)
    return original(*args)
measure.run_block = dying
screen(load_cell_lm({model!r}), tiny.simulated().screening, tiny.simulated().library, {out!r}, progress=False, **tiny.SCREENING)
"""


def test_a_screen_killed_by_the_system_goes_on_in_another_process(tiny_screen, whole, tmp_path):
    folder, _ = whole
    code = KILLED.format(model=str(tiny.run_folder()), out=str(tmp_path / "s"))
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert len(list((tmp_path / "s" / "parts").glob("block-*"))) == 3
    quick(tiny_screen, tmp_path / "s")
    assert (tmp_path / "s" / "screen.csv").read_bytes() == (folder / "screen.csv").read_bytes()


def test_shards_merge_to_the_identical_table(tiny_screen, whole, tmp_path, monkeypatch):
    simulated, model = tiny_screen
    folder, table = whole
    for i in (2, 0, 1):
        assert quick(tiny_screen, tmp_path / "s", shard=(i, 3)).empty
    assert not (tmp_path / "s" / "screen.csv").exists()
    monkeypatch.setattr(module, "write_report", lambda *a, **k: None)
    monkeypatch.setattr(module, "_pathways", lambda *a, **k: {})
    merged = merge(model, simulated.screening, simulated.library, tmp_path / "s", config=CONFIG)
    pd.testing.assert_frame_equal(merged, table)
    assert (tmp_path / "s" / "screen.csv").read_bytes() == (folder / "screen.csv").read_bytes()


def test_shards_of_other_machines_are_copied_together(tiny_screen, whole, tmp_path, monkeypatch):
    simulated, model = tiny_screen
    folder, _ = whole
    for i in range(3):
        quick(tiny_screen, tmp_path / f"machine{i}", shard=(i, 3))
    with pytest.raises(ArtefactError, match=r"2 of 4 parts are missing \(1, 2…\); run the remaining shards first"):
        merge(model, simulated.screening, simulated.library, tmp_path / "machine0", config=CONFIG)
    for i in (1, 2):
        for path in (tmp_path / f"machine{i}" / "parts").glob("block-*"):
            os.link(path, tmp_path / "machine0" / "parts" / path.name)
    monkeypatch.setattr(module, "write_report", lambda *a, **k: None)
    monkeypatch.setattr(module, "_pathways", lambda *a, **k: {})
    merge(model, simulated.screening, simulated.library, tmp_path / "machine0", config=CONFIG)
    assert (tmp_path / "machine0" / "screen.csv").read_bytes() == (folder / "screen.csv").read_bytes()
    with pytest.raises(ArtefactError, match="holds no screen; run its shards first"):
        merge(model, simulated.screening, simulated.library, tmp_path / "nothing", config=CONFIG)


def test_more_shards_than_blocks(tiny_screen, tmp_path):
    quick(tiny_screen, tmp_path / "s", shard=(6, 7))
    assert not (tmp_path / "s" / "parts").exists()


def test_a_truncated_part_is_run_again(tiny_screen, whole, tmp_path):
    folder, _ = whole
    quick(tiny_screen, tmp_path / "s", shard=(0, 1))
    path = part_path(tmp_path / "s", 1)
    path.write_bytes(path.read_bytes()[:300])
    quick(tiny_screen, tmp_path / "s")
    assert (tmp_path / "s" / "screen.csv").read_bytes() == (folder / "screen.csv").read_bytes()


def test_a_finished_screen_run_again_is_the_same(tiny_screen, whole, monkeypatch):
    folder, _ = whole
    before = (folder / "screen.csv").read_bytes()
    run = die_after(monkeypatch, 0)
    quick(tiny_screen, folder)
    assert (folder / "screen.csv").read_bytes() == before
    assert run == []


def test_other_settings_or_files_in_the_folder_are_refused(tiny_screen, whole, tmp_path):
    simulated, model = tiny_screen
    folder, _ = whole
    before = (folder / "screen.csv").read_bytes()
    with pytest.raises(
        ArtefactError, match=r"holds another screen \(other cells, library, model or settings\).*--overwrite"
    ):
        quick(tiny_screen, folder, seed=1)
    with pytest.raises(ArtefactError, match="another screen"):
        merge(model, simulated.screening, simulated.library[:-1], folder, config=CONFIG)
    assert (folder / "screen.csv").read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError, match="is not empty"):
        quick(tiny_screen, tmp_path)
    with pytest.raises(ArtefactError, match="was not written by c2s"):
        quick(tiny_screen, tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").exists()


def test_overwrite_starts_anew(tiny_screen, tmp_path):
    quick(tiny_screen, tmp_path / "s", seed=5, shard=(0, 4))
    quick(tiny_screen, tmp_path / "s", shard=(1, 4), overwrite=True)
    assert [p.name for p in (tmp_path / "s" / "parts").iterdir()] == ["block-00001.safetensors"]
    assert read_json(tmp_path / "s" / "plan.json")["config"]["seed"] == 0


def test_without_a_folder_nothing_is_kept(tiny_screen, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    table = quick(tiny_screen)
    pd.testing.assert_frame_equal(table, whole[1])
    assert list(tmp_path.iterdir()) == []


def test_the_order_of_the_library_does_not_change_a_drugs_effect(tiny_screen, whole):
    simulated, _ = tiny_screen
    turned = quick(tiny_screen, library=simulated.library[::-1])
    columns = ["effect_first", "effect_second", "split"]
    straight = whole[1].set_index("perturbation")[columns].sort_index()
    pd.testing.assert_frame_equal(turned.set_index("perturbation")[columns].sort_index(), straight, atol=1e-5)


def test_only_controls_are_screened_where_cells_were_treated(tiny_screen, caplog):
    simulated, model = tiny_screen
    with caplog.at_level(logging.INFO, logger="c2s"):
        plan = make_plan(model, simulated.training, simulated.library, CONFIG.with_(cells_per_unit=1000))
    drugs = simulated.training.obs["drug"]
    assert set(plan.cells.obs.index) == set(drugs.index[drugs == "DMSO"])
    assert "120 of 288 cells are controls (drug == DMSO); only they are screened" in caplog.text


def test_cells_per_unit_draws_that_many_per_unit_and_context(tiny_screen):
    simulated, model = tiny_screen
    plan = make_plan(model, simulated.training, simulated.library, CONFIG.with_(cells_per_unit=5))
    obs = plan.cells.obs
    assert obs.groupby(["screen_context", "screen_unit"]).size().tolist() == [5, 5, 5, 5]
    again = make_plan(model, simulated.training, simulated.library, CONFIG.with_(cells_per_unit=5))
    assert again.cells.obs.index.tolist() == obs.index.tolist()
    other = make_plan(model, simulated.training, simulated.library, CONFIG.with_(cells_per_unit=5, seed=1))
    assert other.cells.obs.index.tolist() != obs.index.tolist()
    assert (obs["screen_context"] == obs["ifn"]).all()
    assert (obs["screen_unit"] == obs["donor"]).all()


def test_cells_are_encoded_as_the_models_training_cells_were(tiny_screen):
    simulated, model = tiny_screen
    plan = make_plan(model, simulated.screening[:, ::-1].copy(), simulated.library, CONFIG)
    straight = make_plan(model, simulated.screening, simulated.library, CONFIG)
    np.testing.assert_array_equal(plan.cells.ids, straight.cells.ids)
    assert plan.cells.vocabulary == model.vocabulary
    assert plan.key == straight.key


def test_columns_named_context_and_unit_stay_the_users(tiny_screen):
    simulated, model = tiny_screen
    cells = simulated.screening.copy()
    cells.obs["context"], cells.obs["unit"] = "mine", "mine too"
    plan = make_plan(model, cells, simulated.library, CONFIG)
    assert set(plan.cells.obs["context"]) == {"mine"}
    assert set(plan.cells.obs["unit"]) == {"mine too"}


def test_max_rank_is_the_usual_sentence_length(tiny_screen):
    simulated, model = tiny_screen
    plan = make_plan(model, simulated.screening, simulated.library, CONFIG)
    assert plan.max_rank == int(np.median(plan.cells.n_expressed))
    assert make_plan(model, simulated.screening, simulated.library, CONFIG.with_(max_rank=77)).max_rank == 77
    with pytest.raises(ConfigError, match="max_rank is 5, but MHC_CLASS_I has .* genes"):
        make_plan(model, simulated.screening, simulated.library, CONFIG.with_(max_rank=5))


def test_awkward_cells_still_give_a_table(tiny_screen):
    """A cell without counts, one cell per donor and context, numbers as contexts, fewer genes than the model knows."""
    cells = tiny_screen[0].screening
    blank = cells.copy()
    blank.X = blank.X.toarray() * (np.arange(8) > 0)[:, None]
    numbers = cells.copy()
    numbers.obs["ifn"] = [{"low": 1, "none": 0}[value] for value in numbers.obs["ifn"]]
    for changed, contexts in ((blank, ("low", "none")), (cells[[0, 1, 4, 5]].copy(), ("low", "none")),
                              (numbers, ("1", "0")), (cells[:, :200].copy(), ("low", "none"))):  # fmt: skip
        table = quick(tiny_screen, cells=changed, contexts=contexts, n_decoys=0, n_reference=0)
        assert len(table) == tiny.n_screened()
        assert table[["effect_first", "effect_second"]].notna().all(axis=None)


def test_truth_adds_the_planted_class_and_says_simulated(tiny_screen, tmp_path):
    simulated, _ = tiny_screen
    table = quick(tiny_screen, tmp_path / "s", truth=simulated.truth, report=True)
    planted = table.set_index("perturbation")["planted_class"]
    assert planted.to_dict() == {name: simulated.truth.loc[name, "planted_class"] for name in planted.index}
    record = read_json(tmp_path / "s" / "screen.json")
    assert record["simulated"] is True
    assert set(record["demo"]) >= {"auc", "auc_unseen", "precision", "recall", "hits"}
    assert "planted_class" in pd.read_csv(tmp_path / "s" / "screen.csv")
    assert "imulated" in (tmp_path / "s" / "screen.html").read_text()


def test_positive_controls_by_name(tiny_screen):
    simulated, model = tiny_screen
    name = next(p.name for p in simulated.library if p.role == "drug")
    plan = make_plan(model, simulated.screening, simulated.library, CONFIG.with_(positive_controls=(name,)))
    roles = plan.rows.set_index("name")["role"]
    assert roles[name] == "positive_control"
    with pytest.raises(DataError, match="positive controls nobody are not in the library"):
        make_plan(model, simulated.screening, simulated.library, CONFIG.with_(positive_controls=("nobody",)))


def test_the_models_own_vehicle_serves_where_the_library_has_none(tiny_screen, whole, caplog):
    simulated, model = tiny_screen
    plan = make_plan(model, simulated.screening, simulated.library[1:], CONFIG)
    assert plan.vehicle.name == "DMSO"
    assert plan.key == make_plan(model, simulated.screening, simulated.library, CONFIG).key
    with caplog.at_level(logging.WARNING, logger="c2s"):
        make_plan(model, simulated.screening, [Perturbation("PBS", role="vehicle"), *simulated.library[1:]], CONFIG)
    assert "not trained on the vehicle PBS" in caplog.text


def test_settings_that_contradict_each_other():
    with pytest.raises(ConfigError, match="both contexts are 'low'; a screen compares two"):
        CONFIG.with_(contexts=("low", "low"))
    for changes in ({"delta": 0}, {"alpha": 0.5}, {"fdr": 1}, {"n_samples": 0}, {"min_share": 0}, {"max_rank": 0}):
        with pytest.raises(ConfigError, match=next(iter(changes))):
            CONFIG.with_(**changes)
    with pytest.raises(ConfigError, match="context_key"):
        ScreenConfig(contexts=("a", "b"))


def test_cells_that_do_not_fit(tiny_screen, tmp_path):
    simulated, _ = tiny_screen
    cells = simulated.screening
    with pytest.raises(DataError, match=r"no column 'interferon'; found ifn.*Pass context_key="):
        quick(tiny_screen, tmp_path, context_key="interferon")
    with pytest.raises(DataError, match=r"no cell has ifn == 'high'; found low, none. Pass contexts="):
        quick(tiny_screen, tmp_path, contexts=("high", "none"))
    with pytest.raises(DataError, match=r"no column 'patient'.*Pass unit_key="):
        quick(tiny_screen, tmp_path, unit_key="patient")
    with pytest.raises(DataError, match="no cell has ifn == 'low'; found no cells"):
        quick(tiny_screen, tmp_path, cells=cells[:0].copy())
    gaps = cells.copy()
    gaps.obs["donor"] = [None, np.nan, *gaps.obs["donor"][2:]]
    with pytest.raises(DataError, match=r"2 of 8 cells have no value in 'donor' \(unit_key\)"):
        quick(tiny_screen, tmp_path, cells=gaps)
    other = cells.copy()
    other.obs["arm"] = other.obs["ifn"]
    del other.obs["ifn"]
    with pytest.raises(DataError, match="the model reads the context column 'ifn', which obs lacks; found .*arm"):
        quick(tiny_screen, tmp_path, cells=other, context_key="arm")
    treated = simulated.training[
        (simulated.training.obs["drug"] != "DMSO") | (simulated.training.obs["ifn"] == "low")
    ].copy()
    with pytest.raises(DataError, match="no untreated cell in context 'none'; the screen starts from untreated cells"):
        quick(tiny_screen, tmp_path, cells=treated)
    no_controls = simulated.training[simulated.training.obs["drug"] != "DMSO"].copy()
    with pytest.raises(DataError, match="no untreated cell in context 'low' and 'none'"):
        quick(tiny_screen, tmp_path, cells=no_controls)
    negative = cells.copy()
    negative.X = negative.X.toarray() - 1
    with pytest.raises(DataError, match="smallest -1"):
        quick(tiny_screen, tmp_path, cells=negative)
    nan = cells.copy()
    nan.X = nan.X.toarray() * np.nan
    with pytest.raises(DataError, match="NaN"):
        quick(tiny_screen, tmp_path, cells=nan)
    assert list(tmp_path.iterdir()) == []


def test_cells_of_other_genes_are_refused(tiny_screen, tmp_path):
    cells = tiny_screen[0].screening.copy()
    cells.var_names = [f"OTHER{i}" for i in range(cells.n_vars)]
    with pytest.raises(DataError, match="300|0 of|share"):
        quick(tiny_screen, tmp_path, cells=cells)


def test_programmes_that_do_not_fit(tiny_screen, tmp_path):
    with pytest.raises(DataError, match=r"only 0 of 3 genes.*Present: none. Absent: NOPE1, NOPE2, NOPE3"):
        quick(tiny_screen, tmp_path, programme=("NOPE1", "NOPE2", "NOPE3"))
    with pytest.raises(DataError, match=r"only 1 of 3 genes.*Present: B2M. Absent: NOPE1, NOPE2"):
        quick(tiny_screen, tmp_path, programme=("B2M", "NOPE1", "NOPE2"))
    with pytest.raises(DataError, match="no programme 'MHC_CLASS_ONE'"):
        quick(tiny_screen, tmp_path, programme="MHC_CLASS_ONE")
    assert list(tmp_path.iterdir()) == []
    simulated, model = tiny_screen
    config = CONFIG.with_(programme=("B2M", "TAP1", "NOPE2"))
    assert len(make_plan(model, simulated.screening, simulated.library, config).gene_ids) == 2


def test_libraries_that_do_not_fit(tiny_screen, tmp_path):
    simulated, _ = tiny_screen
    rows = simulated.library
    with pytest.raises(DataError, match=f"more than once: {rows[3].name}"):
        quick(tiny_screen, tmp_path, library=[*rows, rows[3]])
    with pytest.raises(DataError, match="holds no perturbation but the vehicle"):
        quick(tiny_screen, tmp_path, library=rows[:1])
    with pytest.raises(DataError, match="DMSO, PBS all have the role vehicle"):
        quick(tiny_screen, tmp_path, library=[*rows, Perturbation("PBS", role="vehicle")])
    with pytest.raises(DataError, match="holds no perturbation"):
        screen(tiny_screen[1], simulated.screening, [], tmp_path, config=CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_drug_training_is_refused_with_what_to_do(tiny_screen, tmp_path):
    model = load_cell_lm(tiny.annotation_folder())
    with pytest.raises(
        ModelError, match=r"trained on cell_type_annotation, not on perturbation_response.*c2s train --task"
    ):
        quick(tiny_screen, tmp_path, model=model)
    assert list(tmp_path.iterdir()) == []


def test_sentences_of_another_vocabulary_are_refused(tiny_screen):
    from c2s.sentences.encode import encode

    simulated, model = tiny_screen
    own = encode(simulated.screening[:, 10:].copy())
    with pytest.raises(
        ModelError, match=r"use another vocabulary \(290 human genes\) than the model \(300.*encode\(adata, vocabulary="
    ):
        model.perturb(own, simulated.library[:2])


def test_no_decoys_no_hits_and_it_is_said(tiny_screen):
    table = quick(tiny_screen, n_decoys=0, n_reference=0)
    assert not table["hit"].any()
    assert table["p_split"].isna().all()
    record = table.attrs["record"]
    assert any("nothing can be a hit" in note for note in record["notes"])
    assert [gate["passed"] for gate in record["gates"]][:2] == [None, None]


def test_the_cost_is_estimated_before_anything_runs(tiny_screen, tmp_path, caplog, monkeypatch):
    die_after(monkeypatch, 0)
    with caplog.at_level(logging.INFO, logger="c2s"), pytest.raises(Killed):
        quick(tiny_screen, tmp_path / "s")
    assert f"{1 + tiny.n_screened() + 24 + 4} rows x 8 cells x 1 samples: about" in caplog.text


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.2, "3 s"), (119, "119 s"), (600, "10 min"), (7200, "2.0 h"), (90000, "25.0 h")]
)
def test_durations(seconds, text):
    assert module._duration(seconds) == text


def test_a_library_file_gives_the_same_screen(tiny_screen, whole, tmp_path):
    from c2s.cells.library import read_library

    simulated, model = tiny_screen
    library_frame(simulated.library).to_csv(tmp_path / "drugs.csv", index=False)
    plan = make_plan(model, simulated.screening, read_library(tmp_path / "drugs.csv"), CONFIG)
    assert plan.key == read_json(whole[0] / "plan.json")["key"]


def test_programme_genes_that_the_cells_lack_are_absent(tiny_screen, tmp_path):
    """A gene that was not measured would only look silent."""
    simulated, model = tiny_screen
    cells = simulated.screening
    lacking = cells[:, ~cells.var_names.isin(simulated.programme)].copy()
    with pytest.raises(DataError, match="only 0 of 17 genes are in the vocabulary of .* and in the cells"):
        quick(tiny_screen, tmp_path / "none", cells=lacking)
    few = cells[:, ~cells.var_names.isin(simulated.programme[:3])].copy()
    plan = make_plan(model, few, simulated.library, CONFIG)
    assert len(plan.gene_ids) == 14
    table = quick(tiny_screen, tmp_path / "few", cells=few)
    assert table.attrs["record"]["programme"]["absent"] == list(simulated.programme[:3])


def test_targets_that_are_no_genes_are_pointed_out(tiny_screen, caplog):
    simulated, model = tiny_screen
    library = [*simulated.library, Perturbation("lower", targets=("hla-a", "KDR1"))]
    with caplog.at_level(logging.WARNING, logger="c2s"):
        make_plan(model, simulated.screening, library, CONFIG)
    assert "targets of the library are no genes of the model: KDR1, hla-a; compare the spelling" in caplog.text


def test_the_key_does_not_depend_on_threads(tiny_screen):
    import torch

    simulated, model = tiny_screen
    keys, threads = set(), torch.get_num_threads()
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        keys.add(make_plan(model, simulated.screening, simulated.library, CONFIG).key)
    torch.set_num_threads(threads)
    assert len(keys) == 1


def test_cells_without_a_context_are_counted_aloud(tiny_screen, caplog):
    simulated, model = tiny_screen
    cells = simulated.screening.copy()
    cells.obs["ifn"] = cells.obs["ifn"].astype(object).mask(np.arange(cells.n_obs) < 2)
    with caplog.at_level(logging.WARNING, logger="c2s"):
        plan = make_plan(model, cells, simulated.library, CONFIG)
    assert len(plan.cells) == cells.n_obs - 2
    assert "2 of 8 cells have no value in ifn and are left out" in caplog.text
