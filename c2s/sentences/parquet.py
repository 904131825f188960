"""A corpus as Parquet shards: ``cell``, ``ids`` (list<int32>), ``n_expressed`` and the columns of ``obs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2s.errors import ArtefactError, DataError

if TYPE_CHECKING:
    from c2s.sentences.corpus import CellSentences

RESERVED = ("cell", "ids", "n_expressed")
VOCABULARY = "c2s_vocabulary"  # key of a shard's metadata: the hash of the genes its ids refer to
MAX_ROWS = 200_000  # sentences a shard
MAX_IDS = 200_000_000  # ids a shard; list<int32> offsets end at 2^31


def sentence_table(sentences: CellSentences) -> pa.Table:
    """Return the sentences as one Arrow table, categories as their values, for readers that know no dictionaries."""
    obs, _ = obs_table(sentences.obs)
    for place, field in enumerate(obs.schema):
        if pa.types.is_dictionary(field.type):
            obs = obs.set_column(place, field.name, obs[field.name].cast(field.type.value_type))
    return _joined(sentences, obs)


def obs_table(obs: pd.DataFrame) -> tuple[pa.Table, dict[str, str]]:
    """Return ``obs`` as an Arrow table, and for each column of the table its name in ``obs``.

    Raises
    ------
    DataError
        A column has values Arrow cannot hold, or its name clashes with another.
    """
    names = {column: f"obs_{column}" if column in RESERVED else str(column) for column in obs.columns}
    if len(set(names.values())) < len(names):
        msg = f"columns of obs are called {sorted(set(map(str, names)))}; rename those that clash with {', '.join(RESERVED)}"
        raise DataError(msg)
    columns = {}
    for column, name in names.items():
        values = obs[column]
        try:
            columns[name] = pa.array(values, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            msg = f"obs[{column!r}] ({values.dtype}) cannot be stored: {error}. Make it text by obs[{column!r}].astype(str)"
            raise DataError(msg) from error
    return pa.table(columns), {name: str(column) for column, name in names.items()}


def _joined(sentences: CellSentences, obs: pa.Table) -> pa.Table:
    names = list(sentences.obs.index.astype(str))
    table = joined_table(names, sentences.ids, sentences.offsets, sentences.n_expressed, obs)
    return table.replace_schema_metadata({VOCABULARY: sentences.vocabulary.hash})


def joined_table(
    names: list[str], ids: np.ndarray, offsets: np.ndarray, n_expressed: np.ndarray, obs: pa.Table
) -> pa.Table:
    """Return the columns of some sentences, at most 2^31 ids, followed by those of ``obs``."""
    columns = {
        "cell": pa.array(names, type=pa.string()),
        "ids": pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(ids)),
        "n_expressed": pa.array(n_expressed),
    }
    return pa.table({**columns, **dict(zip(obs.column_names, obs.columns))})


def write_parts(folder: Path, sentences: CellSentences) -> dict[str, str]:
    """Write ``part-00000.parquet`` and on; return table column → column of ``obs``.

    All parts have one schema, that of the whole ``obs``: a column may be empty in one part and text in another.
    """
    obs, renamed = obs_table(sentences.obs)
    for number, start in enumerate(starts := shard_starts(sentences.offsets)):
        stop = starts[number + 1] if number + 1 < len(starts) else len(sentences)
        table = _joined(sentences[start:stop], obs.slice(start, stop - start))
        pq.write_table(table, folder / f"part-{number:05d}.parquet", compression="zstd")
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


def read_parts(
    folder: Path, columns: dict[str, str], vocabulary: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, pd.DataFrame]:
    """Return ids int32, offsets int64, n_expressed int32 and obs of every shard in ``folder``, in order.

    ``vocabulary`` is the hash of the genes that the ids should refer to; None does not ask.

    Raises
    ------
    ArtefactError
        A shard is missing, cannot be read or does not fit the others.
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
        meant = (tables[-1].schema.metadata or {}).get(VOCABULARY.encode(), b"").decode()
        if vocabulary and meant and meant != vocabulary:
            msg = f"{file} refers to other genes ({meant}) than corpus.json ({vocabulary}): it is of another corpus; write the corpus again"
            raise ArtefactError(msg)
        lacking = [name for name in (*RESERVED, *columns) if name not in tables[-1].column_names]
        if lacking:
            msg = f"{file} has no columns {', '.join(lacking)}; write the corpus again"
            raise ArtefactError(msg)
    try:
        table = pa.concat_tables(tables, promote_options="default").unify_dictionaries()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        msg = f"the parts in {folder} do not fit each other: {error}. Write the corpus again"
        raise ArtefactError(msg) from error
    wrong = [name for name in RESERVED if table[name].null_count]
    if not pa.types.is_list(table["ids"].type) or table["ids"].type.value_type != pa.int32():
        wrong.append("ids")
    chunks = [] if wrong else table["ids"].chunks
    if wrong or any(chunk.flatten().null_count for chunk in chunks):
        msg = f"the parts in {folder} hold missing or foreign values in {', '.join(dict.fromkeys(wrong)) or 'ids'}; write the corpus again"
        raise ArtefactError(msg)
    ids = np.concatenate([np.empty(0, np.int32), *(chunk.flatten().to_numpy() for chunk in chunks)])
    lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(chunk.offsets.to_numpy()) for chunk in chunks)])
    obs = table.select(list(columns)).to_pandas().rename(columns=columns)
    obs.index = pd.Index(table["cell"].to_pylist(), dtype=object)
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    return ids.astype(np.int32), offsets, table["n_expressed"].to_numpy().astype(np.int32), obs
