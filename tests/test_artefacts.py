"""Files that are whole or absent, folders that are never deleted by mistake, hashes that name content."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from c2s import artefacts
from c2s.artefacts import (
    OWN_FILES,
    atomic_path,
    check_file,
    check_folder,
    hash_of,
    plain,
    prepare_folder,
    read_json,
    spare_inputs,
    whole_folder,
    write_json,
)
from c2s.errors import ArtefactError
from tests import tiny


def test_a_write_replaces_the_file_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    with atomic_path(path) as temporary:
        temporary.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_files_get_ordinary_permissions(tmp_path):
    umask = os.umask(0o022)
    try:
        write_json(tmp_path / "a.json", 1)
    finally:
        os.umask(umask)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644


def test_json_round_trip_of_what_results_hold(tmp_path):
    value = {
        "nan": float("nan"), "inf": np.inf, "scalar": np.float32(0.5), "count": np.int64(3), "flag": np.bool_(True),
        "array": np.array([[1.0, np.nan], [2.0, 3.0]]), "path": Path("a") / "b", "tuple": (1, "β"), "set": {"b", "a"}, 7: None,
    }  # fmt: skip
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == {
        "nan": None, "inf": None, "scalar": 0.5, "count": 3, "flag": True, "array": [[1.0, None], [2.0, 3.0]],
        "path": "a/b", "tuple": [1, "β"], "set": ["a", "b"], "7": None,
    }  # fmt: skip
    assert "β" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_what_json_cannot_hold_is_an_error_and_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"model": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b"\xff\xfe\x00{", b"not json"])
def test_broken_json_says_what_to_do(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtefactError, match="a.json is not valid JSON .* truncated: write it again"):
        read_json(tmp_path / "a.json")


def test_missing_json(tmp_path):
    with pytest.raises(ArtefactError, match="no file .*a.json"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ArtefactError, match="cannot read .*Is a directory"):
        read_json(tmp_path)


def test_a_new_or_empty_folder_is_made_ready(tmp_path):
    for overwrite in (False, True):
        folder = tmp_path / f"a{overwrite}" / "b"
        assert prepare_folder(folder, overwrite=overwrite) == folder
        assert prepare_folder(str(folder), overwrite=overwrite) == folder  # empty: ready again
        assert list(folder.iterdir()) == []


def own_folder(folder: Path, name: str = "demo.json") -> Path:
    """Return the folder with a file that marks it as written by c2s."""
    write_json(folder / name, dict.fromkeys(OWN_FILES[name]))
    return folder


def test_a_full_folder_is_refused_unless_told(tmp_path):
    own_folder(tmp_path)
    for refusing in (prepare_folder, check_folder):
        with pytest.raises(ArtefactError, match="is not empty; name another folder, or pass overwrite=True"):
            refusing(tmp_path)
    assert (tmp_path / "demo.json").is_file()


@pytest.mark.parametrize("name", OWN_FILES)
def test_overwrite_empties_what_c2s_wrote(tmp_path, name):
    folder = own_folder(tmp_path / "out", name)
    (folder / "model").mkdir()
    prepare_folder(folder, overwrite=True)
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == [folder]


def test_what_training_writes_is_known_as_ours():
    """The other folders are overwritten by the tests of what writes them."""
    for folder in (tiny.run_folder(), tiny.run_folder() / "model", tiny.run_folder() / "model" / "decoder"):
        assert check_folder(folder, overwrite=True) == folder


def test_overwrite_empties_a_training_run_that_was_cut_off(tmp_path):
    """Before the model is written a run holds its configuration only."""
    from c2s.training.config import TrainConfig

    TrainConfig().write(tmp_path / "run" / "config.json")
    (tmp_path / "run" / "checkpoints").mkdir()
    assert list(prepare_folder(tmp_path / "run", overwrite=True).iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("thesis.tex", "years of work"),
        ("config.json", '{"model_type": "llama", "architectures": []}'),  # someone else's model
        ("config.json", '{"task": "summarize", "model": "bert", "steps": 1000}'),  # someone else's run
        *((name, "{}") for name in OWN_FILES),
        ("plan.json", '{"key": "value"}'),
        ("demo.json", '["seed", "quick"]'),
        ("config.json", "[]"),
        ("config.json", "{broken"),
        (".hidden", ""),
        ("sub/screen.json", "{}"),  # a folder of c2s results is not itself one
    ],
)
def test_overwrite_never_deletes_a_folder_that_c2s_did_not_write(tmp_path, name, content):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    (tmp_path / "thesis.docx").write_text("more work")
    for refusing in (prepare_folder, check_folder):
        with pytest.raises(ArtefactError, match="was not written by c2s, so overwrite .* does not delete it"):
            refusing(tmp_path, overwrite=True)
    assert (tmp_path / name).read_text() == content
    assert (tmp_path / "thesis.docx").read_text() == "more work"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_not_a_folder(tmp_path, overwrite):
    (tmp_path / "a").write_text("x")
    with pytest.raises(ArtefactError, match="is a file; name a folder"):
        prepare_folder(tmp_path / "a", overwrite=overwrite)
    for checking in (check_folder, check_file):
        with pytest.raises(ArtefactError, match=r"a/b/c lies below .*/a, which is a file; name another place"):
            checking(tmp_path / "a" / "b" / "c", overwrite=overwrite)
    with pytest.raises(ArtefactError, match="is a folder; name a file"):
        check_file(tmp_path, overwrite=overwrite)
    assert (tmp_path / "a").read_text() == "x"


def test_checks_touch_nothing(tmp_path):
    assert check_folder(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    assert check_file(tmp_path / "new" / "file.csv") == tmp_path / "new" / "file.csv"
    assert list(tmp_path.iterdir()) == []
    folder = own_folder(tmp_path / "out")
    assert check_folder(folder, overwrite=True) == folder
    assert check_file(folder / "demo.json", overwrite=True) == folder / "demo.json"
    assert [path.name for path in folder.iterdir()] == ["demo.json"]
    with pytest.raises(ArtefactError, match="demo.json exists; name another file, or pass --overwrite to replace it"):
        check_file(folder / "demo.json")


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    for checking in (check_folder, check_file, prepare_folder):
        with pytest.raises(ArtefactError, match="cannot be written: no permission in .*; name another place"):
            checking(tmp_path / "a" / "b")


def test_links_are_not_followed_to_delete(tmp_path):
    folder = own_folder(tmp_path / "run")
    link = tmp_path / "link"
    link.symlink_to(folder)
    for refusing in (check_folder, prepare_folder):
        with pytest.raises(ArtefactError, match=f"is a link, which overwrite .* name the folder itself: {folder}"):
            refusing(link, overwrite=True)
    assert (folder / "demo.json").is_file()
    (folder / "demo.json").unlink()
    assert prepare_folder(link, overwrite=True) == link  # nothing to delete
    with whole_folder(link) as scratch:
        (scratch / "a").write_text("new")
    assert link.is_symlink()
    assert (folder / "a").read_text() == "new"
    link.unlink()
    link.symlink_to(tmp_path / "gone")
    with pytest.raises(ArtefactError, match=r"link is a link to .*/gone, which does not exist; make that folder"):
        prepare_folder(link)


def test_the_working_folder_is_not_replaced(tmp_path, monkeypatch):
    folder = own_folder(tmp_path / "run")
    (folder / "model").mkdir()
    monkeypatch.chdir(folder / "model")
    for refusing, path in ((check_folder, folder), (prepare_folder, folder), (prepare_folder, "..")):
        with pytest.raises(ArtefactError, match="mount point or holds the working folder, .*; name a folder in it"):
            refusing(path, overwrite=True)
    with pytest.raises(ArtefactError, match="holds the working folder"), whole_folder("."):
        pass
    assert prepare_folder(".") == Path()  # an empty one may be filled
    assert (folder / "demo.json").is_file()


@pytest.mark.parametrize("before", ["absent", "empty", "ours"])
def test_a_folder_is_written_whole(tmp_path, before):
    folder = tmp_path / "above" / "out"
    if before == "empty":
        folder.mkdir(parents=True)
    if before == "ours":
        own_folder(folder)
    umask = os.umask(0o022)
    try:
        with whole_folder(folder, overwrite=True) as scratch:
            (scratch / "part").write_text("new")
            assert [path.name for path in folder.glob("*")] == ["demo.json"] * (before == "ours")
    finally:
        os.umask(umask)
    assert [path.name for path in folder.iterdir()] == ["part"]
    assert list(folder.parent.iterdir()) == [folder]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_fails_leaves_what_was_there(tmp_path):
    folder = own_folder(tmp_path / "out")
    for path in (folder, tmp_path / "new"):
        with pytest.raises(ZeroDivisionError), whole_folder(path, overwrite=True) as scratch:
            (scratch / "part").write_text("half")
            _ = 1 / 0
    assert list(tmp_path.iterdir()) == [folder]
    assert [path.name for path in folder.iterdir()] == ["demo.json"]


KILLED = """
import os, signal, sys
from c2s.artefacts import whole_folder
with whole_folder(sys.argv[1], overwrite=True) as scratch:
    (scratch / "part").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("before", ["absent", "ours"])
def test_a_killed_write_blocks_no_later_one(tmp_path, before):
    folder = tmp_path / "out"
    if before == "ours":
        own_folder(folder)
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert [path.name for path in folder.glob("*")] == ["demo.json"] * (before == "ours")
    with whole_folder(folder, overwrite=before == "ours") as scratch:
        (scratch / "part").write_text("whole")
    assert [path.read_text() for path in folder.iterdir()] == ["whole"]


def test_files_that_appear_meanwhile_are_not_deleted(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(ArtefactError, match="out was not written by c2s.* What was written is kept in") as error:
        with whole_folder(folder, overwrite=True) as scratch:
            (scratch / "part").write_text("hours of work")
            folder.mkdir()
            (folder / "thesis.docx").write_text("years of work")
    assert (folder / "thesis.docx").read_text() == "years of work"
    assert str(scratch) in str(error.value)
    assert (scratch / "part").read_text() == "hours of work"


def test_a_folder_that_another_process_fills_between_look_and_swap_is_kept(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    real, looks = artefacts.check_folder, []

    def filled_behind_the_look(path, *, overwrite=False):
        found = real(path, overwrite=overwrite)
        looks.append(path)
        if len(looks) == 2:  # the last one before the swap
            folder.mkdir()
            (folder / "theirs").write_text("kept")
        return found

    monkeypatch.setattr(artefacts, "check_folder", filled_behind_the_look)
    with pytest.raises(ArtefactError, match="cannot replace .*is kept in"), whole_folder(folder) as scratch:
        (scratch / "ours").write_text("whole")
    assert [path.name for path in folder.iterdir()] == ["theirs"]
    assert (scratch / "ours").read_text() == "whole"


def test_a_swap_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch):
    folder = own_folder(tmp_path / "out")
    rename = Path.rename

    def failing(path, target):
        if (path / "part").exists():
            raise OSError(5, "disk gone")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(ArtefactError, match="cannot replace .*/out: .*disk gone. What was written is kept in"):
        with whole_folder(folder, overwrite=True) as scratch:
            (scratch / "part").write_text("new")
    assert (folder / "demo.json").is_file()
    assert (scratch / "part").read_text() == "new"


def test_hashes_differ_where_content_shape_type_or_split_differ():
    values = [
        hash_of(np.arange(4)), hash_of(np.arange(4).reshape(2, 2)), hash_of(np.arange(4, dtype=np.int32)), hash_of([0, 1, 2, 3]),
        hash_of("ab", "c"), hash_of("a", "bc"), hash_of("abc"), hash_of(), hash_of(None), hash_of({"a": 1}), hash_of(["a", 1]),
    ]  # fmt: skip
    assert len(set(values)) == len(values)
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in values)


def test_hashes_ignore_memory_layout_and_key_order():
    table = np.arange(12).reshape(3, 4)
    assert hash_of(table) == hash_of(np.asfortranarray(table))
    assert hash_of(table[:, ::2]) == hash_of(table[:, ::2].copy())
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})


def test_hashes_are_the_same_in_every_process():
    code = "from c2s.artefacts import hash_of; print(hash_of({'x', 'y', 'z', 'β'}, {'a': (1, 2.5)}))"
    expected = hash_of({"x", "y", "z", "β"}, {"a": (1, 2.5)})
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert out.stdout.strip() == expected


def test_plain_values_pass_through_json():
    assert json.loads(json.dumps(plain({"a": [np.float64(1.5), {"b": frozenset({2, 1})}]}))) == {
        "a": [1.5, {"b": [1, 2]}]
    }


def test_an_output_that_holds_an_input_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    cells = tmp_path / "run" / "cells.h5ad"
    cells.write_text("mine")
    for out in (tmp_path / "run", cells, tmp_path):
        with pytest.raises(ArtefactError, match="is or holds .*cells.h5ad, which is an input"):
            spare_inputs(out, None, cells)
    spare_inputs(tmp_path / "run" / "out", cells)
    spare_inputs(tmp_path / "ru", cells)
    spare_inputs(None, cells)


def test_json_is_laid_out_for_people_and_long_lists_on_one_line(tmp_path):
    value = {
        "a": {"b": [1, 2.5, None, {"c": "é"}], "empty": {}, "none": []},
        "genes": [f"G{i}" for i in range(500)],
        "shares": np.linspace(0, 1, 300),
        "gaps": np.array([1.0, np.nan] * 100),
        "mixed": [1.0, float("nan"), np.float32(2)] * 50,
    }
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text()
    read = json.loads(text)
    assert read["a"] == value["a"]
    assert read["genes"] == value["genes"]
    np.testing.assert_array_equal(read["shares"], value["shares"])
    assert read["gaps"][:2] == [1.0, None]
    assert read["mixed"][:3] == [1.0, None, 2.0]
    assert '\n  "a": {\n    "b": [\n      1,\n' in text
    assert len(text.splitlines()) < 30


def test_an_output_that_is_the_model_of_an_input_run_is_refused(tmp_path):
    (tmp_path / "run" / "model").mkdir(parents=True)
    with pytest.raises(ArtefactError, match="which is an input"):
        spare_inputs(tmp_path / "run" / "model", tmp_path / "run")
    spare_inputs(tmp_path / "run" / "cells", tmp_path / "run")


def test_devices_and_pipes_are_not_replaced_and_links_are_followed(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ArtefactError, match="device or a pipe"):
        check_file(tmp_path / "pipe.csv", overwrite=True)
    (tmp_path / "there.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "there.csv")
    with atomic_path(tmp_path / "link.csv") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there.csv").read_text() == "new"


def test_private_files_of_other_libraries_become_ordinary(tmp_path):
    with whole_folder(tmp_path / "out") as scratch:
        (scratch / "deep").mkdir()
        (scratch / "deep" / "weights").write_text("w")
        (scratch / "deep" / "weights").chmod(0o600)
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "out/deep/weights").stat().st_mode & 0o777 == 0o666 & ~umask
