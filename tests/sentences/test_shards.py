"""A shard depends on plan and number alone: written in any order, twice, or after the end, it is the same or nothing."""

from __future__ import annotations

import pytest

from c2s.cells.blocks import MatrixBlocks
from c2s.cells.genes import GeneVocabulary
from c2s.errors import ArtefactError, ConfigError
from c2s.sentences import shards
from c2s.sentences.background import Background
from c2s.sentences.parquet import obs_table
from c2s.sentences.shards import Plan, found_shards, require_whole, versions, write_cells, write_shard
from tests.sentences.stored import N, bytes_of, cells, names_in


@pytest.fixture
def planned(tmp_path):
    """Return a plan of four shards, the open cells and the working folder."""
    adata = cells()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    genes = GeneVocabulary.from_adata(adata)
    plan = Plan(
        source=str(tmp_path / "cells.h5ad"), layer=None, on_collision="error", ties="background", n_genes=9, seed=0,
        vocabulary=genes, background=Background.fit(adata), id_of_column=None, n_cells=N, block=5, shard_blocks=3,
        versions=versions(),
    )  # fmt: skip
    work = tmp_path / "out" / "work"
    work.mkdir(parents=True)
    write_cells(work, adata.obs_names, obs_table(adata.obs)[0], plan.block)
    plan.write(work)
    with MatrixBlocks.open(plan.source) as matrix:
        yield plan, matrix, work


def test_shards_are_the_same_in_any_order_and_twice(planned):
    plan, matrix, work = planned
    assert [plan.span(number) for number in range(plan.n_shards)] == [(0, 15), (15, 30), (30, 45), (45, 57)]
    first = {number: write_shard(plan, matrix, work, number) for number in range(4)}
    bytes_first = bytes_of(work.parent)
    again = Plan.read(work)
    for number in (2, 0, 3, 1, 2):
        assert write_shard(again, matrix, work, number) == first[number]
    assert bytes_of(work.parent) == bytes_first
    assert found_shards(work) == first
    assert [len(shard.fingerprints) for shard in first.values()] == [3, 3, 3, 3]


def test_progress_counts_cells(planned):
    plan, matrix, work = planned
    told = []
    write_shard(plan, matrix, work, 3, done=told.append)
    assert told == [5, 5, 2]


def test_a_late_process_leaves_nothing_behind_the_end(planned):
    plan, matrix, work = planned
    out, gone = work.parent, work.parent.with_name("whole")

    def end(_):
        if out.exists():
            work.rename(out / "closing")
            out.rename(gone)

    with pytest.raises(FileNotFoundError):
        write_shard(plan, matrix, work, 0, done=end)
    assert not out.exists()
    assert not list(gone.glob("part-*"))


def test_a_plan_of_another_version_is_refused(planned, monkeypatch):
    _, _, work = planned
    monkeypatch.setattr(shards, "versions", lambda: {"c2s": "99", "pyarrow": "98"})
    with pytest.raises(ConfigError, match=r"made by c2s 0.*, here is c2s 99, pyarrow 98; install the same versions"):
        Plan.read(work)


def test_files_that_are_not_whole_are_waited_for_and_then_an_error(planned, monkeypatch):
    plan, matrix, work = planned
    written = [write_shard(plan, matrix, work, number) for number in range(2)]
    path = work.parent / written[1].name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    monkeypatch.setattr(shards, "SIGHT_SECONDS", 0.0)
    monkeypatch.setattr(shards.time, "sleep", lambda _: None)
    with pytest.raises(
        ArtefactError, match=r"lacks part-00001.parquet, which were written; run the same command again"
    ):
        require_whole(written, work.parent)
    assert list(found_shards(work)) == [0]
    monkeypatch.setattr(shards, "SIGHT_SECONDS", 60.0)
    monkeypatch.setattr(shards.time, "sleep", lambda _: path.write_bytes(content))
    require_whole(written, work.parent)
    assert names_in(work.parent) == ["part-00000.parquet", "part-00001.parquet", "work"]
