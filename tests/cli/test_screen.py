"""``c2s screen`` and ``c2s screen merge`` as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from c2s.cli.screen import parse_shard, print_result
from c2s.errors import ConfigError
from c2s.screening.config import ScreenConfig
from tests import tiny

CONTEXTS = ("--context-key", "ifn", "--contexts", "low", "none")
QUICK = (
    "--unit-key",
    "donor",
    "--n-decoys",
    24,
    "--n-reference",
    4,
    "--n-samples",
    1,
    "--block-size",
    2,
    "--threads",
    1,
)


def screen(c2s, files, out, *more, model=None, cells="cells.h5ad", library="drugs.csv", contexts=CONTEXTS):
    return c2s("screen", model or tiny.run_folder(), files / cells, files / library, out, *contexts, *QUICK, *more)


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    """The first screen through a process of its own, as from a shell."""
    out = tmp_path_factory.mktemp("whole") / "out"
    arguments = [tiny.run_folder(), files / "cells.h5ad", files / "drugs.csv", out, *CONTEXTS, *QUICK]
    done = subprocess.run(
        [sys.executable, "-m", "c2s.cli.main", "screen", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    return out, done


def test_result_and_files(whole):
    out, done = whole
    assert {"screen.csv", "screen.json", "screen.html", "plan.json"} <= {path.name for path in out.iterdir()}
    for text in (
        "Gates",
        "Does the model read the drug?",
        "MHC_CLASS_I: ",
        f"hits of {tiny.n_screened()} rows",
        "effect in low",
    ):
        assert text in done.stdout, text
    assert f"{1 + tiny.n_screened() + 24 + 4} rows x 8 cells x 1 samples: about" in done.stderr
    assert "screening:" in done.stderr
    assert "Traceback" not in done.stderr
    assert f"report: {out / 'screen.html'}" in done.stdout
    assert len(pd.read_csv(out / "screen.csv")) == tiny.n_screened()


def test_shards_and_merge_give_the_identical_table(c2s, files, whole, tmp_path):
    for i in (3, 1, 2):
        ran = screen(c2s, files, tmp_path / "out", "--shard", f"{i}/3")
        assert ran.code == 0, ran.err
        assert f"shard {i}/3 done; when all have run: c2s screen merge" in ran.out
    assert not (tmp_path / "out" / "screen.csv").exists()
    ran = c2s("screen", "merge", tiny.run_folder(), files / "cells.h5ad", files / "drugs.csv", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert f"hits of {tiny.n_screened()} rows" in ran.out
    assert (tmp_path / "out" / "screen.csv").read_bytes() == (whole[0] / "screen.csv").read_bytes()


def test_merge_before_all_shards_have_run(c2s, files, tmp_path):
    merge = ("screen", "merge", tiny.run_folder(), files / "cells.h5ad", files / "drugs.csv")
    assert screen(c2s, files, tmp_path / "out", "--shard", "1/4").code == 0
    assert "3 of 4 parts are missing" in c2s(*merge, tmp_path / "out").error
    assert "plan.json" in c2s(*merge, tmp_path / "nothing").error


def test_dry_run_prints_settings_that_config_reads_back(c2s, files, tmp_path):
    ran = screen(c2s, files, tmp_path / "out", "--positive-control", "abc", "--delta", 0.05, "--dry-run")
    assert ran.code == 0
    assert not (tmp_path / "out").exists()
    shown = json.loads(ran.out)
    assert set(shown) == set(ScreenConfig.model_fields)
    assert (shown["contexts"], shown["delta"], shown["positive_controls"]) == (["low", "none"], 0.05, ["abc"])
    (tmp_path / "settings.json").write_text(ran.out)
    where = (tiny.run_folder(), files / "cells.h5ad", files / "drugs.csv", tmp_path / "out")
    again = c2s("screen", *where, "--config", tmp_path / "settings.json", "--dry-run")
    assert again.code == 0, again.err
    assert json.loads(again.out) == shown
    over = c2s("screen", *where, "--config", tmp_path / "settings.json", "--contexts", "none", "low", "--dry-run")
    assert json.loads(over.out) == {**shown, "contexts": ["none", "low"]}
    (tmp_path / "settings.toml").write_text('context-key = "ifn"\ncontexts = ["low", "none"]\nn_decoys = 7\n')
    toml = c2s("screen", *where, "--config", tmp_path / "settings.toml", "--dry-run")
    assert json.loads(toml.out)["n_decoys"] == 7
    (tmp_path / "wrong.toml").write_text("decoys = 7\n")
    assert "sets decoys, which" in c2s("screen", *where, *CONTEXTS, "--config", tmp_path / "wrong.toml").error


def test_every_setting_reaches_the_screen(c2s, tmp_path):
    """Settings that all differ from the defaults come out of ``--dry-run`` as they went in."""
    default = ScreenConfig(context_key="ifn", contexts=("low", "none")).model_dump(mode="json")
    words = {
        "context_key": "a", "contexts": ["b", "c"], "programme": "P", "gmt": "sets.gmt", "unit_key": "d", "layer": "raw",
        "positive_controls": ["e", "f"], "max_rank": 40, "co_treatment": True,
    }  # fmt: skip
    numbers = {
        name: value + 1 if isinstance(value, int) else value * 1.25 for name, value in default.items() if name not in words
    }  # fmt: skip
    wanted = {**words, **numbers}
    assert all(value != default[name] for name, value in wanted.items())
    (tmp_path / "all.json").write_text(json.dumps(wanted))
    ran = c2s("screen", "m", "cells.h5ad", "drugs.csv", "out", "--config", tmp_path / "all.json", "--dry-run")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out) == wanted


def test_defaults_are_those_of_the_python_config(c2s, files, tmp_path):
    ran = c2s("screen", tiny.run_folder(), files / "cells.h5ad", files / "drugs.csv", tmp_path, *CONTEXTS, "--dry-run")
    config = ScreenConfig(context_key="ifn", contexts=("low", "none"))
    assert json.loads(ran.out) == config.model_dump(mode="json")


@pytest.mark.parametrize(("changes", "message"), [
    ({"contexts": ("--context-key", "interferon", "--contexts", "low", "none")}, "obs has no column 'interferon'; found ifn"),
    ({"contexts": ("--context-key", "ifn", "--contexts", "high", "none")}, "no cell has ifn == 'high'; found low, none"),
    ({"contexts": ("--context-key", "ifn", "--contexts", "low", "low")}, "a screen compares two"),
    ({"more": ("--programme", "HALLMARK_NOTHING")}, "no programme 'HALLMARK_NOTHING'"),
    ({"more": ("--shard", "4/3")}, "--shard is '4/3'; expected i/n"),
    ({"more": ("--positive-control", "nobody")}, "positive controls nobody are not in the library"),
    ({"cells": "absent.h5ad"}, "absent.h5ad"),
    ({"library": "absent.csv"}, "cannot read the library"),
])  # fmt: skip
def test_mistakes_are_one_clear_error(c2s, files, tmp_path, changes, message):
    more = changes.pop("more", ())
    ran = screen(c2s, files, tmp_path / "out", *more, **changes)
    assert message in ran.err
    assert ran.error
    assert not (tmp_path / "out").exists()


def test_absent_programme_genes_are_listed(c2s, files, tmp_path):
    (tmp_path / "genes.txt").write_text("B2M\nNOPE1\nNOPE2\n")
    error = screen(c2s, files, tmp_path / "out", "--programme", tmp_path / "genes.txt").error
    assert "Present: B2M. Absent: NOPE1, NOPE2." in error
    (tmp_path / "sets.gmt").write_text("MINE\tmy set\tNOPE1\tNOPE2\n")
    error = screen(c2s, files, tmp_path / "out", "--gmt", tmp_path / "sets.gmt", "--programme", "MINE").error
    assert "MINE: only 0 of 2 genes" in error
    assert not (tmp_path / "out").exists()


def test_folders_models_and_libraries_that_do_not_fit(c2s, files, whole, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert "is not empty" in screen(c2s, files, tmp_path / "full").error
    assert "holds another screen" in screen(c2s, files, whole[0], "--seed", 9).error
    error = screen(c2s, files, tmp_path / "out", model=tiny.annotation_folder()).error
    assert "c2s train --task perturbation_response" in error
    assert "is not a c2s model" in screen(c2s, files, tmp_path / "out", model=tmp_path / "full").error
    rows = (files / "drugs.csv").read_text()
    (tmp_path / "twice.csv").write_text(rows + rows.splitlines()[-1] + "\n")
    assert "more than once" in screen(c2s, files, tmp_path / "out", library=tmp_path / "twice.csv").error


def test_missing_options_are_asked_for(c2s, files, tmp_path):
    ran = c2s("screen", tiny.run_folder(), files / "cells.h5ad", files / "drugs.csv", tmp_path / "out")
    assert ran.code == 2
    assert "--context-key" in ran.err
    assert "Traceback" not in ran.err


def test_help_has_examples_and_names_merge(c2s):
    for arguments in (("screen", "--help"), ("screen", "run", "--help")):
        ran = c2s(*arguments)
        assert ran.code == 0
        text = " ".join(ran.out.split())
        assert "c2s screen runs/screen/model cells.h5ad drugs.csv out --context-key ifn" in text
        assert "merge" in text
        assert "--positive-control" in text
    assert "Join the shards" in c2s("screen", "merge", "--help").out


@pytest.mark.parametrize(("text", "shard"), [(None, None), ("1/1", (0, 1)), ("2/8", (1, 8)), ("8/8", (7, 8))])
def test_shards_count_from_one(text, shard):
    assert parse_shard(text) == shard


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/", "-1/3", "1/3/5", ""])
def test_shards_that_are_none(text):
    with pytest.raises(ConfigError, match="expected i/n with 1 <= i <= n"):
        parse_shard(text)


def test_names_are_printed_as_they_are(capsys, monkeypatch):
    """Square brackets of a name are no markup."""
    monkeypatch.setenv("COLUMNS", "200")
    row = {
        "perturbation": "[/red]-drug[bold]", "targets": "[A]", "effect_first": 0.1, "effect_second": 0.0, "split": 0.1,
        "q_value": 0.5, "hit": False, "refused_because": "",
    }  # fmt: skip
    table = pd.DataFrame([row])
    gate = {"passed": True, "question": "Is it?", "answer": "Yes, [/green] it is."}
    table.attrs["record"] = {"gates": [gate], "contexts": ("[low]", "none"), "programme": {"name": "[x]"}}
    print_result(table, Path("out[1]"))
    printed = capsys.readouterr().out
    for text in ("[/red]-drug[bold]", "[A]", "[/green]", "[low]", "[x]: 0 hits", "out[1]"):
        assert text in printed, text
