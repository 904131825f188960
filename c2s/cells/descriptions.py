"""What cell types are, in words: descriptions by Cell Ontology id, from CellGuide's workbook or any table, and the ontology's definitions."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pandas as pd

from c2s.cells.genes import listed
from c2s.cells.ontology import CellOntology
from c2s.errors import ArtefactError, DataError, MissingDependencyError

logger = logging.getLogger(__name__)

ID_COLUMNS = ("id", "CL ID")  # of a plain table, and of CellGuide's validated descriptions
TEXT_COLUMNS = ("description", "Final version (QC'd)")

_ID = re.compile(r"([A-Za-z]+)[:_](\d+)$")
_END = re.compile(r"[.!?][\"”’)\]]?\s+(?=[\"“‘(\[]?[A-Z0-9])")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:e\.g|i\.e|cf|vs|al|spp?|approx|Fig|[A-Z])\.$")


def read_descriptions(
    path: str | os.PathLike[str], *, id_column: str | None = None, text_column: str | None = None
) -> dict[str, str]:
    """Return term id → description, in file order, for every row of a table that has both; of two for one id, the first, and a warning.

    Parameters
    ----------
    path : path
        ``.csv``, ``.tsv`` or ``.txt`` (tabs), gzipped or not, or ``.xlsx`` (first sheet; needs ``c2s[excel]``).
    id_column, text_column : str, optional
        None takes ``id`` or ``CL ID``, and ``description`` or ``Final version (QC'd)``: a plain table, or CellGuide's. Ids are
        written ``CL:0000236``, ``CL_0000236``, or as an address that ends so.

    Raises
    ------
    MissingDependencyError
        An ``.xlsx`` file, and openpyxl is not installed.
    DataError
        A column is missing, or an id is none.
    ArtefactError
        The file cannot be read.
    """
    table = _table(Path(path))
    ids = table[_column(table, id_column, ID_COLUMNS, "id_column", path)]
    texts = table[_column(table, text_column, TEXT_COLUMNS, "text_column", path)]
    found: dict[str, str] = {}
    repeated: list[str] = []
    for given, text in zip(ids, texts):
        if pd.isna(given) or pd.isna(text) or not str(text).strip():
            continue
        parts = _ID.search(str(given).strip())
        if parts is None:
            msg = f"{path}: {given!r} is no id of a term; expected one such as CL:0000236. Pass id_column="
            raise DataError(msg)
        term, description = f"{parts[1].upper()}:{parts[2]}", " ".join(str(text).split())
        if found.setdefault(term, description) != description:
            repeated.append(term)
    if repeated:
        logger.warning("%s describes %s more than once; the first description is taken", path, listed(repeated))
    return found


def definitions(ontology: CellOntology) -> dict[str, str]:
    """Return term id → definition for every term in use that has one."""
    return {
        term.id: " ".join(term.definition.split())
        for term in ontology.terms.values()
        if term.definition.strip() and not term.obsolete
    }


def first_sentence(text: str) -> str:
    """Return the first sentence of ``text`` with its full stop; abbreviations such as *e.g.* and initials end none."""
    text = " ".join(text.split())
    for end in _END.finditer(text):
        sentence = text[: end.end()].rstrip()
        if not _ABBREVIATION.search(text[: end.start() + 1]):
            return sentence
    return text if not text or text[-1] in ".!?" else f"{text}."


def _table(path: Path) -> pd.DataFrame:
    kind = "".join(path.suffixes[-2:]).removesuffix(".gz").lower()
    kind = kind[kind.rfind(".") :]
    try:
        if kind == ".xlsx":
            return pd.read_excel(path, dtype=str, engine="openpyxl")
        if kind in (".csv", ".tsv", ".txt"):
            return pd.read_csv(path, dtype=str, sep="," if kind == ".csv" else "\t", encoding="utf-8-sig")
    except ImportError as error:
        msg = f'{path} is an Excel workbook, which needs openpyxl: pip install "c2s[excel]", or save the sheet as .csv'
        raise MissingDependencyError(msg) from error
    except (OSError, ValueError, EOFError, KeyError) as error:
        msg = f"cannot read descriptions from {path}: {error}"
        raise ArtefactError(msg) from error
    msg = f"{path} is neither .csv, .tsv, .txt nor .xlsx; save the table as one of them"
    raise DataError(msg)


def _column(
    table: pd.DataFrame, given: str | None, known: tuple[str, ...], argument: str, path: str | os.PathLike[str]
) -> str:
    for name in known if given is None else (given,):
        if name in table.columns:
            return name
    msg = f"{path} has no column {' or '.join(map(repr, known if given is None else (given,)))}; found {listed(table.columns)}. Pass {argument}="
    raise DataError(msg)
