"""Perturbation libraries: what is given to cells, by name, targets, mechanism, dose and time."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from c2s.errors import ArtefactError, DataError

ROLES = ("drug", "vehicle", "positive_control", "negative_control", "decoy")


MAX_TEXT, MAX_TARGETS = 300, 100  # a prompt holds every row's text; one long row makes all of them long


@dataclass(frozen=True)
class Perturbation:
    """One row of a library.

    Attributes
    ----------
    name : str
        Unique in its library.
    targets : tuple of str
        Gene symbols the perturbation acts on.
    mechanism, dose, time, smiles : str
        Free text with units, empty where unknown.
    role : {"drug", "vehicle", "positive_control", "negative_control", "decoy"}
        What the row is for in a screen.
    parts : tuple of str
        Of a combination, the names of what was given together; empty for a single perturbation.
    """

    name: str
    targets: tuple[str, ...] = ()
    mechanism: str = ""
    dose: str = ""
    time: str = ""
    smiles: str = ""
    role: str = "drug"
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip():
            msg = "a perturbation has no name; every row of a library needs one"
            raise DataError(msg)
        for field, value in (
            ("name", self.name),
            ("mechanism", self.mechanism),
            ("dose", self.dose),
            ("time", self.time),
        ):
            if len(value) > MAX_TEXT:
                msg = f"the {field} of {self.name[:40]!r} has {len(value):,} characters, at most {MAX_TEXT} are read; shorten it"
                raise DataError(msg)
        if len(self.targets) > MAX_TARGETS:
            msg = f"{self.name} has {len(self.targets):,} targets, at most {MAX_TARGETS} are read; keep the main ones"
            raise DataError(msg)
        if self.role not in ROLES:
            msg = f"perturbation {self.name!r} has role {self.role!r}; expected one of {', '.join(ROLES)}"
            raise DataError(msg)
        object.__setattr__(self, "targets", tuple(self.targets))
        object.__setattr__(self, "parts", tuple(self.parts))
        if len(self.parts) == 1 or len(set(self.parts)) < len(self.parts):
            msg = f"{self.name} is made of {', '.join(self.parts)}; a combination has two parts or more, each once"
            raise DataError(msg)

    @property
    def single(self) -> tuple[str, ...]:
        """Names of what was given: the parts of a combination, or its own name."""
        return self.parts or (self.name,)

    def with_role(self, role: str) -> Perturbation:
        """Return a copy with another role."""
        return replace(self, role=role)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON-able values."""
        return {**asdict(self), "targets": list(self.targets), "parts": list(self.parts)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Perturbation:
        """Return the perturbation that :meth:`to_dict` wrote."""
        return cls(**values)


def combined(*parts: Perturbation, name: str | None = None) -> Perturbation:
    """Return the combination of perturbations given together: all their targets, their texts joined by " + ".

    Parameters
    ----------
    *parts : Perturbation
        Two or more; their order is of no consequence. Texts that are the same for all stand once.
    name : str, optional
        The names in alphabetical order, joined by " + ", where left out.

    Raises
    ------
    DataError
        Fewer than two, or one of them twice.
    """
    rows = sorted(parts, key=lambda row: row.name)
    names = tuple(single for row in rows for single in row.single)

    def joined(field: str) -> str:
        return " + ".join(dict.fromkeys(value for row in rows if (value := getattr(row, field))))

    return Perturbation(
        name or " + ".join(names), targets=tuple(dict.fromkeys(target for row in rows for target in row.targets)),
        mechanism=joined("mechanism"), dose=joined("dose"), time=joined("time"), smiles=".".join(filter(None, (row.smiles for row in rows))),
        parts=names,
    )  # fmt: skip


COLUMNS = tuple(field.name for field in fields(Perturbation))


def split_targets(text: str) -> tuple[str, ...]:
    """Return the gene symbols in ``"JAK1|JAK2"`` (``|``, ``;`` or ``,`` between them), in order, once each."""
    for separator in (";", ","):
        text = text.replace(separator, "|")
    return tuple(dict.fromkeys(part.strip() for part in text.split("|") if part.strip()))


def check_library(library: Iterable[Perturbation], *, source: str = "the library") -> list[Perturbation]:
    """Return the library as a list.

    Raises
    ------
    DataError
        It is empty, or names repeat (they are listed).
    """
    rows = list(library)
    if not rows:
        msg = f"{source} holds no perturbation"
        raise DataError(msg)
    repeated = [name for name, count in Counter(row.name for row in rows).items() if count > 1]
    if repeated:
        shown = ", ".join(repeated[:10]) + (" …" if len(repeated) > 10 else "")
        msg = f"{source} names {len(repeated)} perturbation(s) more than once: {shown}. Give each row its own name"
        raise DataError(msg)
    return rows


def read_library(path: str | os.PathLike[str]) -> list[Perturbation]:
    """Return the perturbations in a CSV or TSV file.

    The header must hold ``name``; ``targets`` (symbols joined by ``|`` or ``;``), ``mechanism``, ``dose``, ``time``,
    ``smiles``, ``role`` and ``parts`` (names of what a combination is made of, joined by ``|``) are optional, other columns are ignored.

    Raises
    ------
    ArtefactError
        The file cannot be read.
    DataError
        No ``name`` column, an empty or repeated name, an unknown role, a row longer than the header, a quote that is
        never closed, or no row.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the library {source}: {error}"
        raise ArtefactError(msg) from error
    rows = _rows(text, source)
    names = [name.strip().lower() for name in next(rows, (0, []))[1]]
    if "name" not in names:
        msg = (
            f"{source} has no column 'name'; found {', '.join(names) or 'nothing'}. Columns read: {', '.join(COLUMNS)}"
        )
        raise DataError(msg)
    library = []
    for number, row in rows:
        if extra := [value for value in row[len(names) :] if value.strip()]:
            msg = f"{source}, line {number}: more values than columns ({', '.join(extra)}); quote values that hold a separator"
            raise DataError(msg)
        values = dict(zip(names, map(str.strip, row)))
        if not values.get("name"):
            msg = f"{source}, line {number}: the name is empty"
            raise DataError(msg)
        known = {column: values[column] for column in COLUMNS if values.get(column)}
        known["role"] = known.get("role", "drug").lower().replace(" ", "_")
        parts = tuple(part.strip() for part in values.get("parts", "").split("|") if part.strip())
        targets = split_targets(values.get("targets", ""))
        library.append(Perturbation(**{**known, "targets": targets, "parts": parts}))  # type: ignore[arg-type]
    return check_library(library, source=str(source))


def _rows(text: str, source: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each row, the header first, with the number of its last line; blank lines are left out."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in header else ",", strict=True)
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            msg = (
                f"{source}, the row that starts in line {start}: {error}. "
                "Close the quote of each value that opens with one, and double the quotes within it"
            )
            raise DataError(msg) from error
        if row:
            yield reader.line_num, row


def library_frame(library: Sequence[Perturbation]) -> pd.DataFrame:
    """Return the library as a table, targets joined by ``|``; :func:`read_library` reads it back from CSV."""
    rows = [{**row.to_dict(), "targets": "|".join(row.targets), "parts": "|".join(row.parts)} for row in library]
    return pd.DataFrame(rows, columns=list(COLUMNS))
