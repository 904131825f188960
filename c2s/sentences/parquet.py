"""A corpus as Parquet shards: ``cell``, ``ids`` (list<int32>), ``n_expressed`` and the columns of ``obs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2s.artefacts import atomic_path
from c2s.errors import ArtefactError, DataError

if TYPE_CHECKING:
    from c2s.sentences.corpus import CellSentences

RESERVED = ("cell", "ids", "n_expressed")
MAX_ROWS = 200_000  # sentences a shard
MAX_IDS = 200_000_000  # ids a shard; list<int32> offsets end at 2^31


def sentence_table(sentences: CellSentences, *, plain: bool = False) -> tuple[pa.Table, dict[str, str]]:
    """Return the sentences as an Arrow table, and for each column of ``obs`` its name in the table.

    Parameters
    ----------
    plain
        Write categories as their values, for readers that know no dictionaries.

    Raises
    ------
    DataError
        A column of ``obs`` has values Arrow cannot hold.
    """
    names = {column: f"obs_{column}" if column in RESERVED else str(column) for column in sentences.obs.columns}
    if len(set(names.values())) < len(names):
        msg = f"columns of obs are called {sorted(set(map(str, names)))}; rename those that clash with {', '.join(RESERVED)}"
        raise DataError(msg)
    ids = pa.ListArray.from_arrays(pa.array(sentences.offsets.astype(np.int32)), pa.array(sentences.ids))
    columns = {
        "cell": pa.array(sentences.obs.index.astype(str), type=pa.string()),
        "ids": ids,
        "n_expressed": pa.array(sentences.n_expressed),
    }
    for column, name in names.items():
        values = sentences.obs[column]
        try:
            array = pa.array(values, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            msg = f"obs[{column!r}] ({values.dtype}) cannot be stored: {error}. Make it text by obs[{column!r}].astype(str)"
            raise DataError(msg) from error
        if plain and pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        columns[name] = array
    return pa.table(columns), {name: str(column) for column, name in names.items()}


def write_parts(folder: Path, sentences: CellSentences) -> dict[str, str]:
    """Write ``part-00000.parquet`` and on, each atomically; return table column → column of ``obs``."""
    renamed: dict[str, str] = {}
    for number, start in enumerate(starts := shard_starts(sentences.offsets)):
        stop = starts[number + 1] if number + 1 < len(starts) else len(sentences)
        table, renamed = sentence_table(sentences[start:stop])
        with atomic_path(folder / f"part-{number:05d}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd")
    return renamed


def shard_starts(offsets: np.ndarray) -> list[int]:
    """Return the first row of each shard: at most 200,000 rows and, beyond one row, 200 M ids."""
    starts, n = [0], len(offsets) - 1
    while True:
        by_ids = int(np.searchsorted(offsets, offsets[starts[-1]] + MAX_IDS, side="right")) - 1
        stop = min(starts[-1] + MAX_ROWS, max(by_ids, starts[-1] + 1))
        if stop >= n:
            return starts
        starts.append(stop)


def read_parts(folder: Path, columns: dict[str, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, pd.DataFrame]:
    """Return ids int32, offsets int64, n_expressed int32 and obs of every shard in ``folder``, in order.

    Raises
    ------
    ArtefactError
        A shard is missing or cannot be read.
    """
    files = sorted(folder.glob("part-*.parquet"))
    if not files:
        msg = f"{folder} has a corpus.json but no part-*.parquet; write the corpus again"
        raise ArtefactError(msg)
    tables = []
    for file in files:
        try:
            tables.append(pq.read_table(file))
        except (pa.ArrowInvalid, OSError) as error:
            msg = f"cannot read {file}: {error}. It is truncated; write the corpus again"
            raise ArtefactError(msg) from error
    lacking = [name for name in (*RESERVED, *columns) if name not in tables[0].column_names]
    if lacking:
        msg = f"{files[0]} has no columns {', '.join(lacking)}; write the corpus again"
        raise ArtefactError(msg)
    table = pa.concat_tables(tables).unify_dictionaries()
    chunks = table["ids"].chunks
    ids = np.concatenate([np.empty(0, np.int32), *(chunk.flatten().to_numpy() for chunk in chunks)])
    lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(chunk.offsets.to_numpy()) for chunk in chunks)])
    obs = table.select(list(columns)).to_pandas().rename(columns=columns)
    obs.index = pd.Index(table["cell"].to_pylist(), dtype=object)
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    return ids.astype(np.int32), offsets, table["n_expressed"].to_numpy().astype(np.int32), obs
