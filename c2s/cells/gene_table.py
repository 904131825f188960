"""Tables of gene names: old name to new ones, read from text. One old name with several new ones stays so."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from c2s.cells.genes import listed
from c2s.errors import ArtefactError, DataError

_VERSIONED = re.compile(r"(ENS[A-Z]{0,6}G\d{11})\.\d+$")  # ENSG00000000003.15; not ….15_PAR_Y, which is another gene
_WORD_ENDS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])")
_HEADER_WORDS = frozenset(
    "alias approved current ensembl entrez external feature from gene hgnc human id ids mgi mouse name names new old "
    "ortholog previous prev source stable symbol symbols synonym target to".split()
)


class GeneTable(Mapping[str, tuple[str, ...]]):
    """Old name → every new name given for it, sorted; the order of the pairs does not matter.

    Parameters
    ----------
    pairs
        Old and new names. An empty old name still says that the new one is approved; an empty new name says nothing.
        Version suffixes of Ensembl gene ids are removed from old names.

    Attributes
    ----------
    approved : frozenset of str
        Every new name.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        found: dict[str, set[str]] = {}
        approved: set[str] = set()
        for old, new in pairs:
            if new:
                approved.add(new)
                if old:
                    found.setdefault(unversioned(old), set()).add(new)
        self._names = {old: tuple(sorted(news)) for old, news in found.items()}
        self.approved = frozenset(approved)

    @classmethod
    def of(cls, table: Mapping[str, str | Iterable[str]]) -> Self:
        """Return ``table`` as a GeneTable: a mapping of each old name to one new name or to several."""
        if isinstance(table, cls):
            return table
        return cls((old, new) for old, news in table.items() for new in ([news] if isinstance(news, str) else news))

    def __getitem__(self, old: str) -> tuple[str, ...]:
        return self._names[old]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def inverted(self) -> GeneTable:
        """Return the table from new names to old ones."""
        return GeneTable((new, old) for old, news in self.items() for new in news)


def unversioned(gene: str) -> str:
    """Return an Ensembl gene id without its version (ENSG00000000003.15 → ENSG00000000003), any other name as it is."""
    match = _VERSIONED.match(gene)
    return match[1] if match else gene


def read_gene_table(path: str | os.PathLike[str], *, source: str | None = None, target: str | None = None) -> GeneTable:
    """Return the old and new names in a text table, plain or gzipped, separated by tabs, commas or semicolons.

    Parameters
    ----------
    source, target
        The columns of old and of new names: their name in the header, or their number from 1. None takes the first and
        the second. A field of ``source`` may hold several names joined by ``|``, as HGNC's own download has them.

    Returns
    -------
    GeneTable
        Old name → all its new names.

    Raises
    ------
    ArtefactError
        The file cannot be read.
    DataError
        Fewer than two columns, no such column, one column for both, a quote that is never closed, or no pair of names.

    Notes
    -----
    The first row is a header if a column is given by name, or if both columns hold a word such as *symbol*, *gene*,
    *id* or *alias* there.
    """
    file = Path(path)
    rows = _rows(file)
    first = rows[0] if rows else []
    if len(first) < 2:
        msg = f"{file} has {len(first)} columns ({listed(first)}); expected old and new names, separated by tab, comma or ;"
        raise DataError(msg)
    old, new = _column(first, source, 0, "source", file), _column(first, target, 1, "target", file)
    if old == new:
        msg = f"{file}: source and target are both column {old + 1}; pass source= and target= (--source, --target)"
        raise DataError(msg)
    by_name = any(name is not None and not name.isdecimal() for name in (source, target))
    has_header = by_name or all(_looks_like_header(first[at]) for at in (old, new))
    table = GeneTable(
        (name.strip(), row[new].strip())
        for row in rows[1 if has_header else 0 :]
        if len(row) > max(old, new)
        for name in row[old].split("|")
    )
    if not table:
        msg = f"{file} has no pair of names in its columns {old + 1} and {new + 1}; its first row is {listed(first)}"
        raise DataError(msg)
    return table


def _column(first: list[str], name: str | None, usual: int, argument: str, file: Path) -> int:
    """Return the position of a column."""
    names = [field.strip() for field in first]
    if name is None:
        return usual
    if name in names:
        return names.index(name)
    if name.isdecimal() and 1 <= int(name) <= len(names):
        return int(name) - 1
    msg = (
        f"{file} has no column {name!r}; found {listed(names)}. "
        f"Pass {argument}= (--{argument}) by name, or as a number from 1 to {len(names)}"
    )
    raise DataError(msg)


def _looks_like_header(field: str) -> bool:
    return not _HEADER_WORDS.isdisjoint(word.lower() for word in _WORD_ENDS.split(field))


def _rows(file: Path) -> list[list[str]]:
    """Return the rows of a table, blank ones left out."""
    try:
        content = file.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        msg = f"cannot read the gene table {file}: {error}. Pass a text table of old and new names, plain or .gz"
        raise ArtefactError(msg) from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max("\t,;", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return [row for row in reader if any(row)]
    except csv.Error as error:
        msg = f"{file}, line {reader.line_num}: {error}. Close the quote of each value that opens with one"
        raise DataError(msg) from error
