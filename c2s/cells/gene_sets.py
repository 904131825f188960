"""Gene sets by name: GMT files, plain or gzipped."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from c2s.errors import ArtefactError, DataError


def read_gmt(path: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Return name to genes for every set of a GMT file, in file order; a name that ends in ``.gz`` is unpacked.

    Raises
    ------
    DataError
        A line without tab-separated name, description and genes, or a name that occurs twice.
    ArtefactError
        The file cannot be read.
    """
    sets: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(read_text(Path(path)).splitlines(), start=1):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        genes = [gene.strip() for gene in rest[1:] if gene.strip()]
        if not genes:
            msg = f"{path}, line {number}: expected name, description and genes separated by tabs, found {line[:60]!r}"
            raise DataError(msg)
        if name in sets:
            msg = f"{path}, line {number}: the set {name} occurs twice; rename one"
            raise DataError(msg)
        sets[name] = distinct_genes(genes, name)
    if not sets:
        msg = f"{path} holds no gene set"
        raise DataError(msg)
    return sets


def distinct_genes(genes: Sequence[str], source: str) -> tuple[str, ...]:
    """Return the symbols of ``genes``, once each, in order; none at all is a DataError that names ``source``."""
    distinct = tuple(dict.fromkeys(gene for gene in genes if gene))
    if not distinct:
        msg = f"{source} holds no gene symbol"
        raise DataError(msg)
    return distinct


def read_text(path: Path) -> str:
    """Return the text of a file of gene sets; a name that ends in ``.gz`` is unpacked; what cannot be read is an ArtefactError."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig") as file:
                return file.read()
        return path.read_text(encoding="utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        msg = f"cannot read gene sets from {path}: {error}"
        raise ArtefactError(msg) from error
