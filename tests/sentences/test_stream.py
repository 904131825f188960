"""Streamed encoding gives the sentences of the whole, from any kind of store, and the same bytes after any kill."""

from __future__ import annotations

import hashlib
import logging
import signal
import subprocess
import sys
import time

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.sentences import encode as encode_module
from c2s.sentences import stream
from c2s.sentences.corpus import read_sentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode
from c2s.sentences.stream import encode_file

N, G = 57, 40


def cells(n=N, seed=0, prefix="c") -> ad.AnnData:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.4, 2.0, size=(n, G))).astype(np.float32)
    counts[5:12] = 0  # a block of cells without counts
    obs = pd.DataFrame({"kind": pd.Categorical(rng.choice(["B", "T"], n)), "note": [None] * (n // 2) + ["x"] * (n - n // 2)},
                       index=[f"{prefix}{i}" for i in range(n)])  # fmt: skip
    adata = ad.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"GENE{i}" for i in range(G)]))
    adata.layers["dense"] = counts * 2
    adata.raw = adata[:, :30].copy()
    return adata


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    for module in (stream, encode_module):
        monkeypatch.setattr(module, "BLOCK", 5)
    monkeypatch.setattr(stream, "SHARD_BLOCKS", 3)


def same(found, expected) -> None:
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.n_expressed, expected.n_expressed)
    pd.testing.assert_frame_equal(found.obs, expected.obs, check_categorical=False)
    assert found.vocabulary == expected.vocabulary
    assert found.background == expected.background
    assert found.encoding == expected.encoding


def bytes_of(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


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
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "corpus.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet", "part-00003.parquet",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"cells.{kind}", "out"]


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
    real, calls = stream.rank_matrix, []

    def fails(*arguments, **settings):
        calls.append(1)
        if len(calls) == stop_at + 1:
            raise KeyboardInterrupt
        return real(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(stream, "rank_matrix", fails)
        with pytest.raises(KeyboardInterrupt):
            encode_file(tmp_path / "cells.h5ad", tmp_path / "out", decoder="gene_aware", progress=False)
    assert not (tmp_path / "out").exists()
    with caplog.at_level(logging.WARNING, logger="c2s"):
        written = encode_file(tmp_path / "cells.h5ad", tmp_path / "out", decoder="gene_aware", progress=False)
    assert written.resumed == stop_at // 3 * 15
    assert ("going on behind" in caplog.text) == (stop_at >= 3)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad", "out", "whole"]


def test_other_cells_or_settings_start_anew(tmp_path, monkeypatch, caplog):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    with monkeypatch.context() as patch:
        patch.setattr(stream, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            encode_file(tmp_path / "cells.h5ad", tmp_path / "out", n_genes=3, progress=False)
    (leftover,) = [path for path in tmp_path.iterdir() if path.name.startswith(".out.")]
    (leftover / stream.STATE_FILE).write_text('{"shards": []}')
    with caplog.at_level(logging.WARNING, logger="c2s"):
        assert encode_file(tmp_path / "cells.h5ad", tmp_path / "out", n_genes=4, progress=False).resumed == 0
    assert f"{leftover} is left of an unfinished run" in caplog.text


SCRIPT = """
import sys, time
from c2s.sentences import encode as e, stream
e.BLOCK = stream.BLOCK = 5
stream.SHARD_BLOCKS = 3
real = stream.rank_matrix
def slow(*a, **k):
    print("block", flush=True)
    time.sleep(0.03)
    return real(*a, **k)
stream.rank_matrix = slow
stream.encode_file(sys.argv[1], sys.argv[2], progress=False)
"""


def test_sigkill_at_random_moments_loses_and_doubles_nothing(tmp_path):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    encode_file(tmp_path / "cells.h5ad", tmp_path / "whole", progress=False)
    rng = np.random.default_rng(2)
    kills = 0
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, tmp_path / "cells.h5ad", tmp_path / "out"], stdout=subprocess.PIPE, text=True
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
    columns = adata.copy()
    columns.X = sp.csc_matrix(columns.X)
    columns.write_h5ad(tmp_path / "columns.h5ad")
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
        ("empty", ArtefactError, "a folder without .h5ad files"), ("columns.h5ad", DataError, "column by column"),
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
    monkeypatch.setattr(stream.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(ArtefactError, match="needs up to 0.00 GB, 0.00 GB are free; make room"):
        encode_file(tmp_path / "cells.h5ad", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
