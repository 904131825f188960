"""GCT 1.3, the text format of L1000: a matrix with metadata of its rows and columns."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from c2s.artefacts import require_access
from c2s.cells.genes import listed
from c2s.errors import ArtefactError, DataError

MISSING = ("", "na", "NA", "nan", "NaN", "-666")  # -666 is how L1000 writes that there is no value


def read_gct(path: str | os.PathLike[str]) -> ad.AnnData:
    """Return the matrix of a GCT 1.3 file with its columns (wells, profiles) as rows and its rows (genes) as columns, float32.

    ``obs`` and ``var`` hold the metadata, as numbers where a field has nothing but numbers; ``-666``, ``na`` and empty fields are missing.

    Parameters
    ----------
    path
        Plain text, or a ``.gz`` of it.

    Raises
    ------
    ArtefactError
        The file is missing, truncated (fewer lines or values than its second line says), or no text.
    DataError
        It is another version, a value is missing or no number, or an id stands twice.
    """
    file = Path(path)
    lines = _lines(file)
    if not lines or lines[0].strip() != "#1.3":
        msg = f"{file} begins with {(lines or [''])[0][:20]!r}; expected '#1.3', a GCT file of version 1.3"
        raise DataError(msg)
    sizes = lines[1].split() if len(lines) > 1 else []
    if len(sizes) != 4 or not all(size.isdigit() for size in sizes):
        msg = f"the second line of {file} is {' '.join(sizes)[:40]!r}; expected the numbers of rows, columns, row fields and column fields"
        raise DataError(msg)
    n_rows, n_columns, n_row_fields, n_column_fields = map(int, sizes)
    body = [line.split("\t") for line in lines[2:] if line.strip()]
    width, height = 1 + n_row_fields + n_columns, 1 + n_column_fields + n_rows
    short = next((number for number, fields in enumerate(body) if len(fields) != width), None)
    if len(body) != height or short is not None:
        found = f"{len(body):,} of {height:,} lines" if len(body) != height else f"{len(body[short or 0]):,} of {width:,} fields in line {(short or 0) + 3}"  # fmt: skip
        msg = f"{file} is truncated or damaged: {found}; download it again"
        raise ArtefactError(msg)
    head, column_fields, rows = body[0], body[1 : 1 + n_column_fields], body[1 + n_column_fields :]
    first = 1 + n_row_fields
    obs = _metadata({fields[0]: fields[first:] for fields in column_fields}, head[first:], f"columns of {file}")
    var = _metadata(
        {name: [row[place] for row in rows] for place, name in enumerate(head[1:first], 1)},
        [row[0] for row in rows],
        f"rows of {file}",
    )
    try:
        values = np.array([row[first:] for row in rows], dtype=np.float32)
    except ValueError as error:
        msg = f"{file} holds a value that is no number: {error}"
        raise DataError(msg) from error
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        msg = f"{file} has no value for {var.index[row]} in {obs.index[column]}, and {int((~np.isfinite(values)).sum()):,} such in all; leave them out"
        raise DataError(msg)
    return ad.AnnData(np.ascontiguousarray(values.T), obs=obs, var=var)


def _lines(file: Path) -> list[str]:
    require_access(file)
    try:
        raw = file.read_bytes()
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8").splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        msg = f"cannot read {file}: {error}. It is truncated or no text: download it again"
        raise ArtefactError(msg) from error


def _metadata(fields: dict[str, list[str]], ids: list[str], what: str) -> pd.DataFrame:
    table = pd.DataFrame(fields, index=pd.Index(ids, dtype=str)).replace(list(MISSING), np.nan)
    if not table.index.is_unique:
        msg = f"ids of the {what} stand twice: {listed(table.index[table.index.duplicated()].unique())}"
        raise DataError(msg)
    for name in table:
        numbers = pd.to_numeric(table[name], errors="coerce")
        if numbers.notna().equals(table[name].notna()):
            table[name] = numbers
    return table
