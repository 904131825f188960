"""One shard of a corpus: from a plan, the cells on disk and the shard's number, always the same bytes.

A plan lies as ``plan.json`` and ``cells.arrow`` (names and ``obs``) in a folder that every process sees. Nothing else passes
between those that write shards, so that they may do so in any order, on any machine, and twice.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa

import c2s
from c2s.artefacts import atomic_path, read_json, write_json
from c2s.cells.blocks import MatrixBlocks
from c2s.cells.genes import GeneVocabulary, OnCollision, listed
from c2s.errors import ArtefactError, ConfigError
from c2s.sentences.background import Background
from c2s.sentences.encode import fingerprint, rank_matrix
from c2s.sentences.parquet import VOCABULARY, joined_table, part_writer
from c2s.sentences.record import Ties

PLAN_FILE, CELLS_FILE = "plan.json", "cells.arrow"
SIGHT_SECONDS = 60.0  # until what one machine wrote is seen by another


@dataclass(frozen=True, eq=False)
class Plan:
    """What every shard needs to know beside the cells.

    Attributes
    ----------
    source : str
        Absolute path of the cells.
    layer, on_collision, ties, n_genes, seed
        As for :func:`c2s.encode`.
    vocabulary : GeneVocabulary
    background : Background or None
    id_of_column : ndarray or None
        See :func:`c2s.sentences.encode.rank_matrix`.
    n_cells, block, shard_blocks : int
        Cells in all, cells read at a time (a row group), blocks of a shard.
    versions : dict
        Of c2s and pyarrow: others may write other bytes.
    """

    source: str
    layer: str | None
    on_collision: OnCollision
    ties: Ties
    n_genes: int | None
    seed: int
    vocabulary: GeneVocabulary
    background: Background | None
    id_of_column: np.ndarray | None
    n_cells: int
    block: int
    shard_blocks: int
    versions: dict[str, str]

    @property
    def n_shards(self) -> int:
        """How many shards there are."""
        return -(-self.n_cells // (self.block * self.shard_blocks))

    def span(self, number: int) -> tuple[int, int]:
        """Return the first cell of shard ``number`` and the first behind it."""
        size = self.block * self.shard_blocks
        return number * size, min((number + 1) * size, self.n_cells)

    def write(self, folder: Path) -> None:
        """Write the plan into ``folder``, atomically."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__}
        record["vocabulary"] = self.vocabulary.to_dict()
        record["background"] = None if self.background is None else self.background.to_dict()
        write_json(folder / PLAN_FILE, record)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the plan in ``folder``.

        Raises
        ------
        ArtefactError
            There is none.
        ConfigError
            Another version of c2s or pyarrow wrote it.
        """
        record = read_json(folder / PLAN_FILE)
        if record["versions"] != versions():
            msg = f"the plan was made by {_listed(record['versions'])}, here is {_listed(versions())}; install the same versions on every machine"
            raise ConfigError(msg)
        record["vocabulary"] = GeneVocabulary.from_dict(record["vocabulary"])
        if record["background"] is not None:
            record["background"] = Background.from_dict(record["background"])
        if record["id_of_column"] is not None:
            record["id_of_column"] = np.asarray(record["id_of_column"], dtype=np.int32)
        return cls(**record)


@dataclass(frozen=True)
class Shard:
    """A shard that is whole: its cells, ids, empty sentences and bytes, and the fingerprint of each of its blocks."""

    number: int
    n_cells: int
    n_ids: int
    n_empty: int
    n_bytes: int
    fingerprints: list[str]

    @property
    def name(self) -> str:
        """Of its file."""
        return part_name(self.number)

    def write(self, folder: Path) -> None:
        """Record the shard in ``folder``, atomically, and never where that folder is gone."""
        temporary = folder / f"{self.name}.{uuid.uuid4().hex}"
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        os.replace(temporary, folder / f"shard-{self.number:05d}.json")


def part_name(number: int) -> str:
    """Return the file name of shard ``number``."""
    return f"part-{number:05d}.parquet"


def found_shards(work: Path) -> dict[int, Shard]:
    """Return, by number, the shards recorded in ``work`` whose files in the folder above have the size recorded."""
    shards = [Shard(**read_json(path)) for path in sorted(work.glob("shard-*.json"))]
    return {shard.number: shard for shard in shards if _is_whole(shard, work.parent)}


def require_whole(shards: Sequence[Shard], folder: Path) -> None:
    """Refuse a corpus whose files are not all there with all their bytes.

    Files that other machines wrote may take a while to be seen on a network file system: they are waited for.

    Raises
    ------
    ArtefactError
        A file is missing or cut after a minute.
    """
    end = time.monotonic() + SIGHT_SECONDS
    while broken := [shard.name for shard in shards if not _is_whole(shard, folder)]:
        if time.monotonic() > end:
            msg = (
                f"{folder} lacks {listed(broken, 3)}, which were written; run the same command again to write them anew"
            )
            raise ArtefactError(msg)
        time.sleep(1.0)


def _is_whole(shard: Shard, folder: Path) -> bool:
    path = folder / shard.name
    return path.is_file() and path.stat().st_size == shard.n_bytes


def write_cells(work: Path, names: pd.Index, obs: pa.Table, block: int) -> None:
    """Write names and ``obs`` so that any block of them can be read alone: one Arrow record batch a block."""
    obs = obs.unify_dictionaries()
    schema = pa.schema([pa.field("cell", pa.string()), *obs.schema])
    with (
        atomic_path(work / CELLS_FILE) as path,
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, schema) as file,
    ):
        for start in range(0, len(names), block):
            here = obs.slice(start, block).combine_chunks()
            columns = [column.chunk(0) for column in here.columns]
            file.write_batch(
                pa.record_batch([pa.array(list(names[start : start + block]), pa.string()), *columns], schema)
            )


def write_shard(
    plan: Plan, matrix: MatrixBlocks, work: Path, number: int, *, done: Callable[[int], object] = lambda _: None
) -> Shard:
    """Write ``part-NNNNN.parquet`` into the folder above ``work``, record it in ``work`` and return what is known of it.

    Parameters
    ----------
    plan : Plan
    matrix : MatrixBlocks
        The cells of the plan, opened.
    work : Path
        Where plan and metadata lie.
    number : int
        Which shard.
    done
        Is told how many cells each block added.

    Raises
    ------
    DataError
        NaN, infinite or negative values.
    ArtefactError
        The cells cannot be read.
    OSError
        ``work`` is gone or cannot be written.
    """
    start, stop = plan.span(number)
    temporary = (
        work / f"{part_name(number)}.{uuid.uuid4().hex}"
    )  # in work: once that is gone, no late process can write
    prints, n_ids, n_empty = [], 0, 0
    try:
        with ExitStack() as files:
            cells = pa.ipc.open_file(files.enter_context(pa.memory_map(str(work / CELLS_FILE))))
            writer = None
            for first in range(start, stop, plan.block):
                last = min(first + plan.block, stop)
                block = matrix.read(first, last)
                prints.append(fingerprint(block, 0, last - first))
                obs = pa.Table.from_batches([cells.get_batch(first // plan.block)])
                names = obs["cell"].to_pylist()
                ids, offsets, n_expressed = rank_matrix(
                    block,
                    plan.vocabulary,
                    names,
                    ties=plan.ties,
                    background=plan.background,
                    id_of_column=plan.id_of_column,
                    n_genes=plan.n_genes,
                    seed=plan.seed,
                )
                table = joined_table(names, ids, offsets, n_expressed, obs.drop_columns(["cell"]))
                table = table.replace_schema_metadata({VOCABULARY: plan.vocabulary.hash})
                if writer is None:
                    writer = files.enter_context(part_writer(temporary, table.schema))
                writer.write_table(table, row_group_size=plan.block)
                n_ids += len(ids)
                n_empty += int(np.count_nonzero(np.diff(offsets) == 0))
                done(last - first)
        shard = Shard(number, stop - start, n_ids, n_empty, temporary.stat().st_size, prints)
        os.replace(temporary, work.parent / shard.name)
    finally:
        temporary.unlink(missing_ok=True)
    shard.write(work)  # only now is the shard known to be whole
    return shard


def versions() -> dict[str, str]:
    """Return the versions that decide the bytes of a shard."""
    return {"c2s": c2s.__version__, "pyarrow": pa.__version__}


def _listed(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())
