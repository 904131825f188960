"""Streamed encoding gives the sentences of the whole, from any kind of store, and the same bytes after any kill."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from c2s.cells import columns, rows
from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.sentences import shards, stream, unfinished
from c2s.sentences.corpus import read_sentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode
from c2s.sentences.stream import encode_file
from tests.sentences.stored import N, bytes_of, cells, names_in, small


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    small(monkeypatch)


def same(found, expected) -> None:
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.n_expressed, expected.n_expressed)
    pd.testing.assert_frame_equal(found.obs, expected.obs, check_categorical=False)
    assert found.vocabulary == expected.vocabulary
    assert found.background == expected.background
    assert found.encoding == expected.encoding


@pytest.mark.parametrize(
    "settings",
    [{}, {"n_genes": 7}, {"ties": "hash", "seed": 3}, {"ties": "vocabulary"}, {"layer": "dense"}, {"layer": "raw"}],
)
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_the_sentences_are_those_of_the_whole(tmp_path, kind, settings):
    adata = cells()
    getattr(adata, f"write_{kind}")(tmp_path / f"cells.{kind}")
    written = encode_file(tmp_path / f"cells.{kind}", tmp_path / "out", progress=False, **settings)
    found = read_sentences(tmp_path / "out")
    same(found, encode(adata, **settings))
    assert (written.n_cells, written.n_ids, written.resumed) == (N, len(found.ids), 0)
    assert names_in(tmp_path / "out") == [
        "corpus.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet", "part-00003.parquet",
    ]  # fmt: skip
    assert names_in(tmp_path) == [f"cells.{kind}", "out"]


def test_a_folder_of_files_is_one_set_of_cells(tmp_path):
    folder = tmp_path / "plates"
    folder.mkdir()
    parts = {"b": cells(11, 1, "b"), "a": cells(17, 2, "a")}
    for name, part in parts.items():
        part.write_h5ad(folder / f"{name}.h5ad")
    encode_file(folder, tmp_path / "out", progress=False)
    whole = ad.concat([parts["a"], parts["b"]])
    found, expected = read_sentences(tmp_path / "out"), encode(whole)
    np.testing.assert_array_equal(found.ids, expected.ids)
    assert found.obs.index.tolist() == whole.obs_names.tolist()
    cells(4, 3, "a").write_h5ad(folder / "c.h5ad")  # cell names of plate a again
    encode_file(folder, tmp_path / "out", progress=False, overwrite=True)
    names = read_sentences(tmp_path / "out").obs.index
    assert names[0] == "a0-a"
    assert names[-1] == "a3-c"
    cells(4, 3, "d")[:, ::-1].copy().write_h5ad(folder / "d.h5ad")
    with pytest.raises(DataError, match=r"d.h5ad has other genes than a.h5ad \(40 and 40\)"):
        encode_file(folder, tmp_path / "out", progress=False, overwrite=True)


def test_background_vocabulary_and_decoder(tmp_path):
    adata, other = cells(), cells(20, 5)[:, 30:2:-1].copy()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    other.write_h5ad(tmp_path / "other.h5ad")
    written = encode_file(tmp_path / "cells.h5ad", tmp_path / "train", decoder="gene_aware", progress=False)
    train = read_sentences(tmp_path / "train")
    expected = RankDecoder.fit(adata)
    found = RankDecoder.read(tmp_path / "train" / "decoder")
    np.testing.assert_allclose(found.decode(train).X.toarray(), expected.decode(train).X.toarray(), rtol=1e-6)
    assert written.decoder.n_cells == expected.n_cells
    more = {"background": train.background, "vocabulary": train.vocabulary}
    encode_file(tmp_path / "other.h5ad", tmp_path / "test", progress=False, **more)
    same(read_sentences(tmp_path / "test"), encode(other, **more))


def test_large_files_give_a_sample_to_the_background(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "SAMPLE_BLOCKS", 3)
    monkeypatch.setattr(stream, "SAMPLE_SIZE", 4)
    adata = cells()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    encode_file(tmp_path / "cells.h5ad", tmp_path / "out", progress=False)
    found = read_sentences(tmp_path / "out")
    rows = [i for start in np.linspace(0, N - 4, 3).astype(int) for i in range(start, start + 4)]
    assert found.background.n_cells == 12
    np.testing.assert_allclose(found.background.detection, (adata.X[rows].toarray() > 0).mean(axis=0))
    same(found, encode(adata, background=found.background))


@pytest.mark.parametrize("stop_at", range(0, 12, 2))
def test_going_on_after_a_failure_gives_the_same_bytes(tmp_path, monkeypatch, stop_at, caplog):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    encode_file(tmp_path / "cells.h5ad", tmp_path / "whole", decoder="gene_aware", progress=False)
    real, calls = shards.rank_matrix, []

    def fails(*arguments, **settings):
        calls.append(1)
        if len(calls) == stop_at + 1:
            raise KeyboardInterrupt
        return real(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "rank_matrix", fails)
        with pytest.raises(KeyboardInterrupt):
            encode_file(tmp_path / "cells.h5ad", tmp_path / "out", decoder="gene_aware", progress=False)
    assert not (tmp_path / "out").exists()
    with caplog.at_level(logging.WARNING, logger="c2s"):
        written = encode_file(tmp_path / "cells.h5ad", tmp_path / "out", decoder="gene_aware", progress=False)
    assert written.resumed == stop_at // 3 * 15
    assert ("of 57 cells were encoded before" in caplog.text) == (stop_at >= 3)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    assert names_in(tmp_path) == ["cells.h5ad", "out", "whole"]


def interrupted(tmp_path, monkeypatch, n_blocks, **settings):
    """Encode until ``n_blocks`` blocks are ranked and return the hidden folder that is left, None where there is none."""
    real, calls = shards.rank_matrix, []

    def fails(*arguments, **more):
        calls.append(1)
        if len(calls) > n_blocks:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "rank_matrix", fails)
        with pytest.raises(KeyboardInterrupt):
            encode_file(tmp_path / "cells.h5ad", tmp_path / "out", progress=False, **settings)
    return next((path for path in tmp_path.iterdir() if path.name.startswith(".out.")), None)


def test_other_cells_or_settings_start_anew(tmp_path, monkeypatch, caplog):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    leftover = interrupted(tmp_path, monkeypatch, 4, n_genes=3)
    with caplog.at_level(logging.WARNING, logger="c2s"):
        assert encode_file(tmp_path / "cells.h5ad", tmp_path / "out", n_genes=4, progress=False).resumed == 0
    assert f"{leftover} is left of an unfinished run" in caplog.text


def test_what_fails_before_the_first_shard_leaves_nothing(tmp_path, monkeypatch):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    assert interrupted(tmp_path, monkeypatch, 2) is None
    assert names_in(tmp_path) == ["cells.h5ad"]


def test_a_shard_that_was_cut_or_deleted_is_written_anew(tmp_path, monkeypatch):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    encode_file(tmp_path / "cells.h5ad", tmp_path / "whole", progress=False)
    leftover = interrupted(tmp_path, monkeypatch, 9)
    assert names_in(leftover) == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet", "unfinished"]
    (leftover / "part-00000.parquet").unlink()
    (leftover / "part-00001.parquet").write_bytes(b"PAR1")
    (leftover / "unfinished" / "part-00003.parquet.0123").write_bytes(b"half")
    assert encode_file(tmp_path / "cells.h5ad", tmp_path / "out", progress=False).resumed == 15
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_a_kill_between_the_last_shard_and_the_end_loses_nothing(tmp_path, monkeypatch):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    encode_file(tmp_path / "cells.h5ad", tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(unfinished.shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            encode_file(tmp_path / "cells.h5ad", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    assert encode_file(tmp_path / "cells.h5ad", tmp_path / "out", progress=False).resumed == N
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_two_processes_do_not_write_one_corpus(tmp_path):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path / "cells.h5ad", tmp_path / "out", "60"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        process.stdout.readline()
        for settings in ({}, {"n_genes": 3}):
            with pytest.raises(ArtefactError, match=rf"out is being written by process {process.pid} on .*; wait"):
                encode_file(tmp_path / "cells.h5ad", tmp_path / "out", progress=False, **settings)
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / ".out.lock").is_file()
    encode_file(tmp_path / "cells.h5ad", tmp_path / "out", progress=False)
    assert names_in(tmp_path) == ["cells.h5ad", "out"]


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.parametrize("settings", [{}, {"layer": "columns", "n_genes": 7}])
def test_columns_on_disk_give_the_sentences_of_rows(tmp_path, monkeypatch, kind, settings):
    monkeypatch.setattr(columns, "BUCKET", 4)
    monkeypatch.setattr(columns, "AT_ONCE", 50)
    adata = cells()
    adata.X, adata.layers["columns"] = sp.csc_matrix(adata.X), sp.csc_matrix((adata.X * 2).astype(np.int64))
    getattr(adata, f"write_{kind}")(tmp_path / f"cells.{kind}")
    encode_file(tmp_path / f"cells.{kind}", tmp_path / "out", progress=False, **settings)
    same(read_sentences(tmp_path / "out"), encode(adata, **settings))
    assert names_in(tmp_path) == [f"cells.{kind}", "out"]


def test_columns_are_turned_once(tmp_path, monkeypatch):
    adata = cells()
    adata.X = sp.csc_matrix(adata.X)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    encode_file(tmp_path / "cells.h5ad", tmp_path / "whole", progress=False)
    leftover = interrupted(tmp_path, monkeypatch, 1)
    assert "rows-0" in names_in(leftover / "unfinished")
    with monkeypatch.context() as patch:
        patch.setattr(columns, "_move", None)
        encode_file(tmp_path / "cells.h5ad", tmp_path / "out", progress=False)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(unfinished.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2000})())
        with pytest.raises(ArtefactError, match="0.00 GB to turn columns into rows, 0.00 GB are free; make room"):
            encode_file(tmp_path / "cells.h5ad", tmp_path / "full", progress=False)
    assert names_in(tmp_path) == ["cells.h5ad", "out", "whole"]


def test_dense_matrices_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "DENSE_AT_ONCE", 2 * 40)
    adata = cells()
    adata.X = adata.X.toarray()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    encode_file(tmp_path / "cells.h5ad", tmp_path / "out", progress=False)
    same(read_sentences(tmp_path / "out"), encode(adata))
    with h5py.File(tmp_path / "cells.h5ad", "a") as file:
        values, attributes = file["X"][:], dict(file["X"].attrs)
        del file["X"]
        file.create_dataset("X", data=values, chunks=(7, 11), compression="gzip").attrs.update(attributes)
    encode_file(tmp_path / "cells.h5ad", tmp_path / "chunked", progress=False)
    same(read_sentences(tmp_path / "chunked"), encode(adata))


SCRIPT = """
import sys, time
from c2s.sentences import encode as e, shards, stream
e.BLOCK = stream.BLOCK = 5
stream.SHARD_BLOCKS = 3
real = shards.rank_matrix
def slow(*a, **k):
    print("block", flush=True)
    time.sleep(float(sys.argv[3]))
    return real(*a, **k)
shards.rank_matrix = slow
stream.encode_file(sys.argv[1], sys.argv[2], progress=False)
"""


def test_sigkill_at_random_moments_loses_and_doubles_nothing(tmp_path):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    encode_file(tmp_path / "cells.h5ad", tmp_path / "whole", progress=False)
    rng = np.random.default_rng(2)
    kills = 0
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, tmp_path / "cells.h5ad", tmp_path / "out", "0.03"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(int(rng.integers(1, 5))):
            process.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.03)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += not (tmp_path / "out").exists()
    assert kills == 5
    encode_file(tmp_path / "cells.h5ad", tmp_path / "out", progress=False)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_bad_input(tmp_path, monkeypatch):
    adata = cells()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "cut.h5ad").write_bytes((tmp_path / "cells.h5ad").read_bytes()[:3000])
    (tmp_path / "empty").mkdir()
    late = adata.copy()
    late.X[50, 3] = np.nan
    late.write_h5ad(tmp_path / "late.h5ad")
    negative = adata.copy()
    negative.X = negative.X.toarray() - 1
    negative.write_h5ad(tmp_path / "negative.h5ad")
    zeros = adata.copy()
    zeros.X = zeros.X * 0
    zeros.write_h5ad(tmp_path / "zeros.h5ad")
    for name, error, words in (
        ("none.h5ad", ArtefactError, "no file"), ("cut.h5ad", ArtefactError, "truncated or not an AnnData file"),
        ("empty", ArtefactError, "a folder without .h5ad files"),
        ("late.h5ad", DataError, "1 NaN or infinite"), ("zeros.h5ad", DataError, "nothing but zeros"),
        ("negative.h5ad", DataError, r'smallest -1\).*Try layer="raw"'),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            encode_file(tmp_path / name, tmp_path / "out", progress=False)
    with pytest.raises(DataError, match=r"has no layers/counts; found layers dense and raw. Try layer=\"raw\""):
        encode_file(tmp_path / "cells.h5ad", tmp_path / "out", layer="counts", progress=False)
    with pytest.raises(ConfigError, match="n_genes=0"):
        encode_file(tmp_path / "cells.h5ad", tmp_path / "out", n_genes=0, progress=False)
    with pytest.raises(ConfigError, match="ties='row'; choose"):
        encode_file(tmp_path / "cells.h5ad", tmp_path / "out", ties="row", progress=False)
    monkeypatch.setattr(unfinished.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(ArtefactError, match="needs up to 0.00 GB for the sentences, 0.00 GB are free; make room"):
        encode_file(tmp_path / "cells.h5ad", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
