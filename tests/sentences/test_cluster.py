"""A real Dask cluster of two worker processes writes the bytes of the local run, whoever is killed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from c2s.cli.main import app
from c2s.errors import ConfigError, DataError, MissingDependencyError
from c2s.sentences import cluster
from c2s.sentences.stream import encode_file
from tests.sentences.stored import N, bytes_of, cells, names_in, small

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def workers():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as found:
        yield found


@contextmanager
def cluster_of_its_own():
    """A client of two workers that no other test needs: they may be killed and slowed down."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as found,
        distributed.Client(found) as client,
    ):
        yield client


@pytest.fixture
def client(workers):
    workers.wait_for_workers(2)
    with distributed.Client(workers) as found:
        yield found


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    small(monkeypatch)


@pytest.fixture
def whole(tmp_path):
    """Return what the local run writes."""
    cells().write_h5ad(tmp_path / "cells.h5ad")
    encode_file(tmp_path / "cells.h5ad", tmp_path / "whole", decoder="gene_aware", n_genes=9, progress=False)
    return bytes_of(tmp_path / "whole")


def over_workers(tmp_path, scheduler, **settings):
    return encode_file(
        tmp_path / "cells.h5ad", tmp_path / "out", scheduler=scheduler, progress=False,
        **{"decoder": "gene_aware", "n_genes": 9, **settings},
    )  # fmt: skip


def test_the_bytes_are_those_of_the_local_run(tmp_path, whole, workers):
    written = over_workers(tmp_path, workers.scheduler_address)
    assert bytes_of(tmp_path / "out") == whole
    assert (written.n_cells, written.resumed) == (N, 0)
    assert names_in(tmp_path) == ["cells.h5ad", "out", "whole"]


def test_the_command_takes_the_address(tmp_path, whole, workers):
    more = ["--n-genes", "9", "--fit-decoder", "--scheduler", workers.scheduler_address]
    done = CliRunner().invoke(app, ["encode", str(tmp_path / "cells.h5ad"), str(tmp_path / "out"), *more])
    assert done.exit_code == 0, done.output
    assert bytes_of(tmp_path / "out") == whole


def dies_in_its_second_shard():
    """Make this process kill itself by SIGKILL while it ranks the fifth block: its second shard is half written."""
    from c2s.sentences import shards

    real, calls = shards.rank_matrix, []

    def dies(*arguments, **settings):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **settings)

    shards.rank_matrix = dies
    return os.getpid()


def slow_blocks(seconds):
    """Return a function that makes a worker take ``seconds`` more a block."""

    def slow():
        from c2s.sentences import shards

        real = shards.rank_matrix

        def waits(*arguments, **settings):
            time.sleep(seconds)
            return real(*arguments, **settings)

        shards.rank_matrix = waits

    return slow


def test_a_killed_worker_loses_and_doubles_nothing(tmp_path, whole):
    with cluster_of_its_own() as client:
        first, second = client.scheduler_info()["workers"]
        client.run(slow_blocks(0.05), workers=[second])  # so that the first gets a second shard
        pid = client.run(dies_in_its_second_shard, workers=[first])[first]
        over_workers(tmp_path, client)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert bytes_of(tmp_path / "out") == whole


DRIVER = """
import sys
from c2s.sentences import encode as e, stream
e.BLOCK = stream.BLOCK = 5
stream.SHARD_BLOCKS = 3
stream.encode_file(sys.argv[1], sys.argv[2], scheduler=sys.argv[3], decoder="gene_aware", n_genes=9, progress=False)
"""


def test_a_killed_driver_is_followed_by_a_local_run(tmp_path, whole, caplog):
    with cluster_of_its_own() as client:
        client.run(slow_blocks(0.2))
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, tmp_path / "cells.h5ad", tmp_path / "out", client.scheduler.address]
        )
        while not list(tmp_path.glob(".out.*/unfinished/shard-*.json")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "out").exists()
        with caplog.at_level(logging.WARNING, logger="c2s"):
            written = encode_file(
                tmp_path / "cells.h5ad", tmp_path / "out", decoder="gene_aware", n_genes=9, progress=False
            )
    assert written.resumed >= 12
    assert bytes_of(tmp_path / "out") == whole
    assert names_in(tmp_path) == ["cells.h5ad", "out", "whole"]  # the workers left nothing behind the end


def test_bad_cells_are_the_same_error_as_in_the_local_run(tmp_path, client):
    adata = cells()
    adata.X[50, 3] = -1
    adata.write_h5ad(tmp_path / "cells.h5ad")
    encode = {"background": None, "ties": "vocabulary", "decoder": None}
    with pytest.raises(DataError, match=r'smallest -1\).*Try layer="raw"'):
        over_workers(tmp_path, client, **encode)


def test_a_cluster_that_cannot_be_used_is_refused_before_the_work(tmp_path, whole, monkeypatch, client):
    monkeypatch.setattr(cluster, "SECONDS", 0.5)
    for address in ("tcp://127.0.0.1:9", "nowhere://x"):
        with pytest.raises(
            ConfigError, match=rf"no Dask scheduler answers at {address}.*Start one with `dask scheduler`"
        ):
            over_workers(tmp_path, address)
    with (
        distributed.LocalCluster(n_workers=0, processes=True, dashboard_address=":0") as empty,
        pytest.raises(ConfigError, match=r"has no workers; start some with `dask worker tcp://"),
    ):
        over_workers(tmp_path, empty.scheduler_address)
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "versions", lambda: {"c2s": "99", "pyarrow": "98"})
        with pytest.raises(
            ConfigError, match=r"2 Dask workers cannot.*it has c2s 0.*, here is c2s 99, pyarrow 98; install"
        ):
            over_workers(tmp_path, client)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "distributed", None)
        with pytest.raises(MissingDependencyError, match=r'pip install "c2s\[distributed\]"'):
            over_workers(tmp_path, "tcp://127.0.0.1:9")
    assert names_in(tmp_path) == ["cells.h5ad", "whole"]


def test_a_worker_must_see_cells_and_folder(tmp_path):
    from c2s.cells.blocks import stamps

    cells().write_h5ad(tmp_path / "cells.h5ad")
    source, work, seen = str(tmp_path / "cells.h5ad"), tmp_path / "work", stamps(tmp_path / "cells.h5ad")
    assert "it does not see" in cluster._sight(source, str(work), seen)
    work.mkdir()
    assert cluster._sight(source, str(work), seen) is None
    assert names_in(work) == []
    assert "shared file system" in cluster._sight(str(tmp_path / "other.h5ad"), str(work), seen)
    ((name, size, changed),) = seen
    assert "another size or time" in cluster._sight(source, str(work), [(name, size, changed + 1)])
    with pytest.raises(
        ConfigError, match="4 Dask workers cannot encode these cells: a: blind, b: blind, c: blind and 1 more"
    ):
        cluster.refuse(dict.fromkeys("dcba", "blind"))
