"""A corpus as Parquet shards: ``cell``, ``ids`` (list<int32>), ``n_expressed`` and the columns of ``obs``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2s.cells.genes import listed
from c2s.errors import ArtefactError, DataError
from c2s.sentences.obs_types import restored
from c2s.sentences.ranking import usable_threads

if TYPE_CHECKING:
    from c2s.sentences.corpus import CellSentences

RESERVED = ("cell", "ids", "n_expressed")
VOCABULARY = "c2s_vocabulary"  # key of a shard's metadata: the hash of the genes its ids refer to
MAX_ROWS = 131_072  # sentences a shard
MAX_IDS = 1 << 24  # ids a shard, 64 MB in memory
_IDS = "ids.list.element"
READ_ROWS = 2048  # sentences read at a time
_ARROW_TEXT = pd.StringDtype("pyarrow")


def sentence_table(sentences: CellSentences) -> pa.Table:
    """Return the sentences as one Arrow table, categories as their values, for readers that know no dictionaries."""
    obs, _ = obs_table(sentences.obs)
    for place, field in enumerate(obs.schema):
        if pa.types.is_dictionary(field.type):
            obs = obs.set_column(place, field.name, obs[field.name].cast(field.type.value_type))
    starts = shard_starts(sentences.offsets)
    ends = [*starts[1:], len(sentences)]
    return pa.concat_tables([_joined(sentences[a:b], obs.slice(a, b - a)) for a, b in zip(starts, ends)])


def obs_table(obs: pd.DataFrame) -> tuple[pa.Table, dict[str, str]]:
    """Return ``obs`` as an Arrow table, and for each column of the table its name in ``obs``.

    Raises
    ------
    DataError
        A column has values Arrow cannot hold, or its name occurs twice or clashes with another.
    """
    if not obs.columns.is_unique:
        msg = f"obs has several columns called {listed(obs.columns[obs.columns.duplicated()].unique())}; rename or drop all but one"
        raise DataError(msg)
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


def part_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer of one shard.

    The bytes of the ids are split into four streams before zstd: faster than a dictionary and smaller. Readers must know
    Parquet 2.11 (pyarrow from 17 on).
    """
    others = [name for name in schema.names if name != "ids"]
    return pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=others, use_byte_stream_split=[_IDS], write_statistics=others
    )


def write_parts(folder: Path, sentences: CellSentences) -> dict[str, str]:
    """Write ``part-00000.parquet`` and on, on threads; return table column → column of ``obs``.

    All parts have one schema, that of the whole ``obs``: a column may be empty in one part and text in another.
    """
    obs, renamed = obs_table(sentences.obs)
    starts = shard_starts(sentences.offsets)

    def write(number: int) -> None:
        start, stop = starts[number], starts[number + 1]
        table = _joined(sentences[start:stop], obs.slice(start, stop - start))
        with part_writer(folder / f"part-{number:05d}.parquet", table.schema) as writer:
            writer.write_table(table)

    with ThreadPoolExecutor(usable_threads()) as pool:
        list(pool.map(write, range(len(starts) - 1)))
    return renamed


def shard_starts(offsets: np.ndarray) -> list[int]:
    """Return where shards begin, and the number of rows: shards of about as many ids, none of much over 2^24."""
    n, total = len(offsets) - 1, int(offsets[-1])
    shards = max(1, -(-n // MAX_ROWS), -(-total // MAX_IDS))
    inner = np.searchsorted(offsets, np.arange(1, shards) * total // shards)
    return [0, *(int(start) for start in np.unique(inner) if 0 < start < n), n]


def part_files(folder: Path) -> list[Path]:
    """Return the shards of a corpus, in order.

    Raises
    ------
    ArtefactError
        There is none.
    """
    files = sorted(folder.glob("part-*.parquet"))
    if not files:
        msg = f"{folder} has a corpus.json but no part-*.parquet; write the corpus again"
        raise ArtefactError(msg)
    return files


def read_ids(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the ids (int32) of a few thousand sentences and their lengths (int64), in order, until all were read.

    Raises
    ------
    ArtefactError
        A shard is missing or cannot be read.
    """
    for file in part_files(folder):
        with _readable(file):
            with pq.ParquetFile(file, memory_map=True) as shard:
                _require_columns(file, shard.schema_arrow.names, RESERVED)
                for batch in shard.iter_batches(batch_size=READ_ROWS, columns=["ids"]):
                    lists = batch.column(0)
                    if lists.null_count or lists.flatten().null_count:
                        msg = f"{file} holds missing or foreign values in ids; write the corpus again"
                        raise ArtefactError(msg)
                    ids = lists.flatten().to_numpy().astype(np.int32, copy=False)
                    yield ids, np.diff(lists.offsets.to_numpy()).astype(np.int64)


def read_flat(folder: Path, *, n: int, n_ids: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids int32 (n_ids,) and offsets int64 (n + 1,) of a corpus in memory, without a second copy of the ids.

    Raises
    ------
    ArtefactError
        A shard is missing or cannot be read, or they hold another number of sentences or ids.
    """
    ids, offsets = np.empty(n_ids, dtype=np.int32), np.zeros(n + 1, dtype=np.int64)
    for first, start, part, ends in read_runs(folder, n=n, n_ids=n_ids):
        ids[start : start + len(part)] = part
        offsets[first + 1 : first + 1 + len(ends)] = ends
    return ids, offsets


def read_runs(folder: Path, *, n: int, n_ids: int) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Yield first row, first id, ids (int32) and the ends of the sentences (int64) of a few thousand of them, in order.

    Raises
    ------
    ArtefactError
        A shard is missing or cannot be read, or they hold another number of sentences or ids than ``n`` and ``n_ids``.
    """
    row = start = 0
    for ids, lengths in read_ids(folder):
        if row + len(lengths) <= n and start + len(ids) <= n_ids:
            yield row, start, ids, start + np.cumsum(lengths)
        row, start = row + len(lengths), start + len(ids)
    if (row, start) != (n, n_ids):
        msg = f"{folder} holds {row:,} of {n:,} sentences and {start:,} of {n_ids:,} genes: a part is missing, too many or of another corpus; write the corpus again"
        raise ArtefactError(msg)


def read_obs(
    folder: Path,
    columns: dict[str, str],
    *,
    kinds: Mapping[str, Any] = MappingProxyType({}),
    vocabulary: str | None = None,
    compact: bool = False,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return n_expressed int32 and obs of every shard in ``folder``, in order.

    Parameters
    ----------
    columns : dict of str to str
        Column of the shards → column of ``obs``.
    kinds : mapping
        Types of columns of ``obs`` (:func:`c2s.sentences.obs_types.kinds_of`).
    vocabulary : str, optional
        Hash of the genes that the ids should refer to.
    compact : bool
        Keep cell names and columns of text as Arrow strings, about 25 bytes a value, instead of Python strings, about 100.

    Raises
    ------
    ArtefactError
        A shard is missing, cannot be read or does not fit the others.
    """
    tables = []
    for file in part_files(folder):
        with _readable(file):
            schema = pq.read_schema(file)
            _require_columns(file, schema.names, (*RESERVED, *columns))
            _require_kinds(file, schema, vocabulary)
            tables.append(pq.read_table(file, columns=["cell", "n_expressed", *columns]))
    try:
        table = pa.concat_tables(tables, promote_options="default").unify_dictionaries()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        msg = f"the parts in {folder} do not fit each other: {error}. Write the corpus again"
        raise ArtefactError(msg) from error
    gaps = [name for name in ("cell", "n_expressed") if table[name].null_count]
    if gaps:
        msg = f"the parts in {folder} hold missing or foreign values in {', '.join(gaps)}; write the corpus again"
        raise ArtefactError(msg)
    obs = restored(_frame(table.select(list(columns)).rename_columns(list(columns.values())), kinds, compact), kinds)
    if compact:
        obs.index = pd.Index(pd.array(table["cell"].cast(pa.large_string()).combine_chunks(), dtype=_ARROW_TEXT))
    else:
        obs.index = pd.Index(table["cell"].to_pylist(), dtype=object)
    n_expressed = table["n_expressed"].to_numpy().astype(np.int32)
    del tables, table
    pa.default_memory_pool().release_unused()
    return n_expressed, obs


def _frame(table: pa.Table, kinds: Mapping[str, Any], compact: bool) -> pd.DataFrame:
    """Return a table of obs in pandas. Columns with gaps that are recorded as nullable keep every digit of whole numbers."""
    mapped = dict.fromkeys((pa.string(), pa.large_string()), _ARROW_TEXT) if compact else {}
    nullable = [name for name, kind in kinds.items() if isinstance(kind, str) and name in table.column_names]
    others = table.drop_columns(nullable).to_pandas(types_mapper=mapped.get)
    exact = {name: pd.array(table[name].to_pylist(), dtype=kinds[name]) for name in nullable}
    frame = others if others.shape[1] else pd.DataFrame(index=pd.RangeIndex(table.num_rows))
    return frame.assign(**exact)[table.column_names]


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except ArtefactError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        msg = f"cannot read {file}: {str(error).rstrip('.')}. It is truncated; write the corpus again"
        raise ArtefactError(msg) from error


def _require_columns(file: Path, found: list[str], needed: Sequence[str]) -> None:
    lacking = [name for name in needed if name not in found]
    if lacking:
        msg = f"{file} has no columns {', '.join(lacking)}; write the corpus again"
        raise ArtefactError(msg)


def _require_kinds(file: Path, schema: pa.Schema, vocabulary: str | None) -> None:
    meant = (schema.metadata or {}).get(VOCABULARY.encode(), b"").decode()
    if vocabulary and meant and meant != vocabulary:
        msg = f"{file} refers to other genes ({meant}) than corpus.json ({vocabulary}): it is of another corpus; write the corpus again"
        raise ArtefactError(msg)
    kind = schema.field("ids").type
    if not pa.types.is_list(kind) or kind.value_type != pa.int32():
        msg = f"{file} holds missing or foreign values in ids ({kind}); write the corpus again"
        raise ArtefactError(msg)
