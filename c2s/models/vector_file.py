"""Vectors of cells as a Parquet file, written as they come: ``cell`` and ``vector``, a list of float32 of one length."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from c2s.artefacts import atomic_path, check_file
from c2s.models.embedding import Pooling
from c2s.models.reader import CellReader
from c2s.sentences.progress import progress_bar

if TYPE_CHECKING:
    from c2s.sentences.corpus import CellSentences

ROWS = 8192  # cells a row group: what is held in memory


def write_vectors(
    model: CellReader,
    sentences: CellSentences,
    path: str | os.PathLike[str],
    *,
    layer: int | None = None,
    pooling: Pooling = "mean",
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Write the vector of each cell (:meth:`CellReader.embed`), whole or not at all; return the path.

    Raises
    ------
    ArtefactError
        The file exists and ``overwrite`` is false, or cannot be written.
    """
    target = check_file(Path(path), overwrite=overwrite)
    with (
        atomic_path(target) as temporary,
        progress_bar(len(sentences), what="embedding", unit="cells", shown=progress) as bar,
    ):
        writer: pq.ParquetWriter | None = None
        try:
            for start in range(0, max(1, len(sentences)), ROWS):
                part = sentences[start : start + ROWS]
                vectors = model.embed(part, layer=layer, pooling=pooling)
                table = pa.table(
                    {
                        "cell": pa.array(part.obs.index.astype(str), pa.string()),
                        "vector": pa.FixedSizeListArray.from_arrays(
                            pa.array(vectors.ravel()), max(1, vectors.shape[1])
                        ),
                    }
                )
                writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
                writer.write_table(table)
                bar.update(len(part))
        finally:
            if writer is not None:
                writer.close()
    return target
