"""Files that are whole or absent, folders that are never deleted by mistake, hashes that name content."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from c2s.artefacts import OWN_FILES, atomic_path, hash_of, plain, prepare_folder, read_json, write_json
from c2s.errors import ArtefactError


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


def test_a_full_folder_is_refused_unless_told(tmp_path):
    write_json(tmp_path / "screen.json", {})
    with pytest.raises(ArtefactError, match="is not empty; name another folder, or pass overwrite=True"):
        prepare_folder(tmp_path)
    assert (tmp_path / "screen.json").is_file()


@pytest.mark.parametrize("name", OWN_FILES)
def test_overwrite_empties_what_c2s_wrote(tmp_path, name):
    folder = tmp_path / "out"
    write_json(folder / name, {})
    (folder / "model").mkdir()
    prepare_folder(folder, overwrite=True)
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


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
        ("config.json", "[]"),
        ("config.json", "{broken"),
        (".hidden", ""),
        ("sub/screen.json", "{}"),  # a folder of c2s results is not itself one
    ],
)
def test_overwrite_never_deletes_a_folder_that_c2s_did_not_write(tmp_path, name, content):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(ArtefactError, match="was not written by c2s, so overwrite .* does not delete it"):
        prepare_folder(tmp_path, overwrite=True)
    assert (tmp_path / name).read_text() == content


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "a").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(ArtefactError, match="is a file; name a folder"):
            prepare_folder(tmp_path / "a", overwrite=overwrite)
    assert (tmp_path / "a").read_text() == "x"


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
