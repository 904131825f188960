"""A memory-mapped corpus is the corpus read into memory: every operation, kept and made anew, damage, and rivals."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ArtefactError, DataError
from c2s.sentences import mapped, parquet
from c2s.sentences.corpus import CellSentences, read_sentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.record import Encoding
from tests import tiny

VOCABULARY = GeneVocabulary(tuple("ABCDEFGHIJ"))
rows = st.lists(
    st.permutations(range(10)).flatmap(lambda p: st.integers(0, 10).map(lambda n: p[:n])), min_size=0, max_size=9
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(parquet, "MAX_ROWS", 4)
    monkeypatch.setattr(parquet, "READ_ROWS", 3)
    monkeypatch.setattr(mapped, "NAMES_AT_ONCE", 2)


def corpus_of(lists, **options):
    n = len(lists)
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical([["B", "T", None][i % 3] for i in range(n)]),
            "note": pd.Series([None if i % 2 else f"n{i}" for i in range(n)], dtype=object).to_numpy(),
            "depth": np.arange(n) * 1.5,
        },
        index=pd.Index([f"c{i}" for i in range(n)], dtype=object),
    )
    return CellSentences.from_lists(lists, VOCABULARY, obs=obs, n_expressed=np.arange(n) + 20, **options)


def plain(obs) -> dict:
    columns = {name: [None if pd.isna(value) else value for value in obs[name]] for name in obs}
    return {"index": list(obs.index), **columns}


def same(found, expected) -> None:
    for name in ("ids", "offsets", "n_expressed"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert plain(found.obs) == plain(expected.obs)
    assert all(type(name) is str for name in found.obs.index)
    assert (found.vocabulary, found.encoding) == (expected.vocabulary, expected.encoding)
    assert found.background == expected.background


def folders(place) -> list[str]:
    return sorted(path.name for path in place.iterdir() if "mapped-" in path.name)


@settings(deadline=None, max_examples=60)
@given(rows, st.data())
def test_every_operation_gives_what_it_gives_in_memory(tmp_path_factory, lists, data):
    folder = tmp_path_factory.mktemp("corpora")
    corpus_of(lists, encoding=Encoding(seed=3)).write(folder / "c")
    held, found = read_sentences(folder / "c"), read_sentences(folder / "c", memory_map=True)
    same(found, held)
    n = len(lists)
    part = data.draw(st.slices(n))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    index = data.draw(st.lists(st.integers(-n, n - 1), max_size=2 * n)) if n else []
    for chosen in (
        part,
        mask,
        index,
        np.array(index, dtype=int),
        slice(2, None),
        slice(None),
        slice(None, None, 2**63),
    ):
        same(found[chosen], held[chosen])
    cut = data.draw(st.integers(1, 12))
    same(found.truncate(cut), held.truncate(cut))
    same(found[part].truncate(cut)[::2], held[part].truncate(cut)[::2])
    same(CellSentences.concatenate([found, found[part]]), CellSentences.concatenate([held, held[part]]))
    genes, absent = data.draw(st.lists(st.integers(0, 9), max_size=5)), data.draw(st.integers(1, 12))
    np.testing.assert_array_equal(found.ranks(genes, absent=absent), held.ranks(genes, absent=absent))
    assert [found.text(i) for i in range(n)] == [held.text(i) for i in range(n)]
    assert [found.genes(-1 - i) for i in range(n)] == [held.genes(-1 - i) for i in range(n)]
    assert repr(found) == repr(held)
    assert found.lengths.tolist() == held.lengths.tolist()
    assert found.to_dataset()[:] == held.to_dataset()[:]
    names = pd.DataFrame({"x": range(n)}, index=[f"x{i}" for i in range(n)])
    same(found.with_obs(names), held.with_obs(names))
    found.write(folder / "again")
    same(read_sentences(folder / "again"), held)


def test_slices_are_views_of_the_file_and_nothing_is_written_to_it(tmp_path):
    found = read_sentences(corpus_of([[1, 2], [3], [4, 5, 6], [7]]).write(tmp_path / "c"), memory_map=True)
    memory = found.ids.base
    while not isinstance(memory, np.memmap):
        memory = memory.base
    assert memory.filename.name == "ids.npy"
    assert type(found.ids) is np.ndarray
    for view in (found[1:3].ids, found[:].ids, found.row(2), found.truncate(3).ids, found.with_obs(found.obs).ids):
        assert np.shares_memory(view, found.ids)
    assert not np.shares_memory(found[[0, 1]].ids, found.ids)
    with pytest.raises(ValueError, match="read-only"):
        found.ids[0] = 3


def test_made_once_and_again_when_the_corpus_changes(tmp_path, monkeypatch):
    folder = corpus_of([[1, 2], [3]]).write(tmp_path / "c")
    made = []
    make = mapped._make
    monkeypatch.setattr(mapped, "_make", lambda *a, **k: (made.append(1), make(*a, **k)))
    for _ in range(3):
        same(read_sentences(folder, memory_map=True), read_sentences(folder))
    (before,) = folders(folder)
    assert len(made) == 1
    part = folder / "part-00000.parquet"
    other = corpus_of([[4, 5], [6]]).write(tmp_path / "other")  # as many cells and ids, other shards
    part.write_bytes((other / part.name).read_bytes())
    assert read_sentences(folder, memory_map=True).ids.tolist() == [4, 5, 6]
    (after,) = folders(folder)
    assert after != before
    corpus_of([[9]]).write(folder, overwrite=True)
    assert folders(folder) == []
    assert read_sentences(folder, memory_map=True).ids.tolist() == [9]


@pytest.mark.parametrize("name", ["ids.npy", "offsets.npy"])
@pytest.mark.parametrize("how", ["cut", "empty", "gone", "longer header", "other type", "garbage"])
def test_a_damaged_file_is_made_anew(tmp_path, caplog, name, how):
    folder = corpus_of([[1, 2], [3], [4, 5, 6]]).write(tmp_path / "c")
    read_sentences(folder, memory_map=True)
    (place,) = folder.glob("mapped-*")
    file = place / name
    content = file.read_bytes()
    if how == "gone":
        file.unlink()
    elif how == "other type":
        np.save(file, np.load(file).astype(np.float64))
    elif how == "longer header":
        np.save(file, np.r_[np.load(file), np.load(file)])
    else:
        file.write_bytes({"cut": content[:-4], "empty": b"", "garbage": b"\x07" * len(content)}[how])
    with caplog.at_level(logging.WARNING, logger="c2s"):
        same(read_sentences(folder, memory_map=True), read_sentences(folder))
    assert "made anew" in caplog.text
    caplog.clear()
    same(read_sentences(folder, memory_map=True), read_sentences(folder))
    assert not caplog.text
    assert folders(folder) == [place.name]


def test_offsets_that_fall_are_made_anew(tmp_path, caplog):
    folder = corpus_of([[1, 2], [3], [4, 5, 6]]).write(tmp_path / "c")
    read_sentences(folder, memory_map=True)
    (place,) = folder.glob("mapped-*")
    np.save(place / "offsets.npy", np.array([0, 5, 2, 6]))
    same(read_sentences(folder, memory_map=True), read_sentences(folder))
    assert "does not fit its corpus and is made anew" in caplog.text


def test_another_folder_where_the_corpus_cannot_be_written(tmp_path, monkeypatch):
    folder, cache = corpus_of([[1, 2], [3]]).write(tmp_path / "c"), tmp_path / "cache"
    access = mapped.os.access
    monkeypatch.setattr(mapped.os, "access", lambda path, mode: path != folder and access(path, mode))
    with pytest.raises(
        ArtefactError, match="c is no folder that can be written, and the mapped ids go there; pass cache="
    ):
        read_sentences(folder, memory_map=True)
    with pytest.raises(ArtefactError, match="cache is no folder that can be written"):
        read_sentences(folder, memory_map=True, cache=cache)
    cache.mkdir()
    other = corpus_of([[4]]).write(tmp_path / "other")
    for _ in range(2):
        assert read_sentences(folder, memory_map=True, cache=cache).ids.tolist() == [1, 2, 3]
        assert read_sentences(other, memory_map=True, cache=cache).ids.tolist() == [4]
    assert len(folders(cache)) == 2  # one corpus does not delete what another has there
    assert folders(folder) == folders(other) == []
    (there,) = (path for path in cache.iterdir() if np.load(path / "ids.npy").size == 3)
    shutil.move(there, folder)
    assert read_sentences(folder, memory_map=True).ids.tolist() == [1, 2, 3]  # what is there needs no permission


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    folder = corpus_of([[1, 2], [3]]).write(tmp_path / "c")
    usage = namedtuple("usage", "free")
    with monkeypatch.context() as patch:
        patch.setattr(mapped.shutil, "disk_usage", lambda _: usage(10))
        with pytest.raises(ArtefactError, match=r"the mapped ids take 0.00 GB, 0.00 GB are free in .*c; make room"):
            read_sentences(folder, memory_map=True)
    with monkeypatch.context() as patch:
        patch.setattr(mapped.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(ArtefactError, match=r"cannot write .*No space left on device. Make room, or pass cache="):
            read_sentences(folder, memory_map=True)
    assert folders(folder) == []
    assert read_sentences(folder, memory_map=True).ids.tolist() == [1, 2, 3]


def test_ids_and_names_are_checked_when_the_file_is_made(tmp_path):
    folder = corpus_of([[1, 2], [3], [4]]).write(tmp_path / "c")
    path = folder / "corpus.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "vocabulary": GeneVocabulary(tuple("ABCD")).to_dict()}))
    with pytest.raises(
        ArtefactError, match="refers to other genes .*: it is of another corpus; write the corpus again"
    ):
        read_sentences(folder, memory_map=True)
    path.write_text(json.dumps({**record, "n": 4}))
    with pytest.raises(ArtefactError, match="holds 3 of 4 sentences"):
        read_sentences(folder, memory_map=True)
    path.write_text(json.dumps({**record, "n_ids": 3}))
    with pytest.raises(ArtefactError, match="3 of 3 sentences and 4 of 3 genes"):
        read_sentences(folder, memory_map=True)
    path.write_text(json.dumps({**record, "n": 6, "n_ids": 8}))
    shutil.copy(folder / "part-00000.parquet", folder / "part-00001.parquet")
    for mode in (True, False):
        with pytest.raises((DataError, ArtefactError), match="3 cell names occur more than once: c0, c1, c2"):
            read_sentences(folder, memory_map=mode)
    assert folders(folder) == []


def test_truncated_shards_say_so(tmp_path):
    folder = corpus_of([[1]] * 6).write(tmp_path / "c")
    part = folder / "part-00001.parquet"
    content = part.read_bytes()
    part.write_bytes(content[:-40])
    with pytest.raises(ArtefactError, match="part-00001.parquet.*truncated; write the corpus again"):
        read_sentences(folder, memory_map=True)
    part.unlink()
    with pytest.raises(ArtefactError, match="^[^ ]*c holds 3 of 6 sentences"):
        read_sentences(folder, memory_map=True)
    assert folders(folder) == []


def test_a_killed_process_leaves_nothing_that_counts(tmp_path, monkeypatch, caplog):
    class Killed(BaseException):
        pass

    def dying(*_):
        raise Killed

    folder = corpus_of([[1, 2], [3]]).write(tmp_path / "c")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(mapped.os, "fsync", dying)
        patch.setattr(mapped.shutil, "rmtree", lambda *_, **__: None)  # a killed process does not tidy up
        read_sentences(folder, memory_map=True)
    (left,) = folders(folder)
    assert left.startswith(".mapped-")
    assert read_sentences(folder, memory_map=True).ids.tolist() == [1, 2, 3]
    assert f"{left} is left of a killed process unless one is writing it now; delete it" in caplog.text


def test_the_first_of_two_that_make_it_counts(tmp_path, monkeypatch):
    """While one process writes, another one comes to its end."""
    folder = corpus_of([[1, 2], [3]]).write(tmp_path / "c")
    write, inner = mapped._write_ids, []

    def slow(*args, **kwargs):
        if not inner:
            inner.append(None)
            inner[0] = read_sentences(folder, memory_map=True)
        return write(*args, **kwargs)

    monkeypatch.setattr(mapped, "_write_ids", slow)
    outer = read_sentences(folder, memory_map=True)
    same(outer, inner[0])
    assert len(folders(folder)) == 1


OPENING = """
import sys
from c2s.sentences.corpus import read_sentences
sys.stdin.readline()
found = read_sentences(sys.argv[1], memory_map=True)
print(len(found), int(found.ids.astype("int64").sum()), found.text(7))
"""


def test_processes_that_open_it_at_once(tmp_path):
    rng = np.random.default_rng(0)
    sentences = corpus_of([rng.permutation(10) for _ in range(400)])
    folder = sentences.write(tmp_path / "c")
    running = [
        subprocess.Popen([sys.executable, "-c", OPENING, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]  # fmt: skip
    for process in running:  # all have imported what they need, or are about to, and start together
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=120)[0].strip() for process in running}
    assert said == {f"400 {int(sentences.ids.sum())} {sentences.text(7)}"}
    assert len(folders(folder)) == 1


def test_large_corpora_are_mapped_unasked(tmp_path, monkeypatch):
    folder = corpus_of([[1, 2], [3]]).write(tmp_path / "c")
    assert mapped._memory() > 1e8
    assert read_sentences(folder, memory_map=None).ids.flags.writeable
    monkeypatch.setattr(mapped, "_memory", lambda: 40.0)  # twelve bytes of ids are more than a quarter
    assert not read_sentences(folder, memory_map=None).ids.flags.writeable
    monkeypatch.setattr(mapped, "_memory", lambda: 48.0)
    assert read_sentences(folder, memory_map=None).ids.flags.writeable


def test_decoded_cells_can_be_written(tmp_path):
    cells = tiny.simulated().training[:30]
    decoder = RankDecoder.fit(cells)
    from c2s.sentences.encode import encode

    encode(cells, background=decoder.background).write(tmp_path / "c")
    held, found = (decoder.decode(read_sentences(tmp_path / "c", memory_map=mode)) for mode in (False, True))
    assert (held.X != found.X).nnz == 0
    pd.testing.assert_frame_equal(held.obs, found.obs)
    found.write_h5ad(tmp_path / "cells.h5ad")
    genes = np.arange(5)
    mapped_again = read_sentences(tmp_path / "c", memory_map=True)
    np.testing.assert_array_equal(decoder.values(mapped_again, genes), held.X[:, genes].toarray())
