"""Tables of gene pairs as knowledge: CellPhoneDB, BioGRID TAB3, OmniPath, and any table with two columns of symbols."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TextIO

import pandas as pd

from c2s.cells.genes import listed
from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.spatial.knowledge import GenePair, Kind, PairKnowledge

logger = logging.getLogger(__name__)

TAXA = {"human": "9606", "mouse": "10090"}  # NCBI Taxonomy
_COMPLEX = "COMPLEX:"  # what OmniPath writes before the identifiers of a complex
_NAMES = {"a": "Official Symbol Interactor A", "b": "Official Symbol Interactor B"}
_TAXON = {"a": "Organism ID Interactor A", "b": "Organism ID Interactor B"}
_SYSTEM = "Experimental System Type"

Place = str | os.PathLike[str]


def read_cellphonedb(interactions: Place, *, complexes: Place, genes: Place) -> PairKnowledge:
    """Return the human ligand–receptor pairs of CellPhoneDB; the genes of all subunits stand for a complex.

    Parameters
    ----------
    interactions, complexes, genes
        ``interaction_input.csv``, ``complex_input.csv`` and ``gene_input.csv`` of a release (v4 or v5), plain or gzipped.

    Raises
    ------
    DataError
        A column is missing, a name belongs to two complexes, or no pair can be resolved. Partners that are in neither table are
        counted in the log and left out, and so is a protein with several symbols.
    ArtefactError
        A file cannot be read.
    """
    gene_rows = _table(genes, ["uniprot", "hgnc_symbol"])
    symbols: dict[str, set[str]] = {}
    for uniprot, symbol in gene_rows.itertuples(index=False):
        if uniprot and symbol:
            symbols.setdefault(uniprot, set()).add(symbol)
    sides = {uniprot: tuple(found) for uniprot, found in symbols.items() if len(found) == 1}
    subunits = [f"uniprot_{n}" for n in range(1, 6)]
    complex_rows = _table(complexes, ["complex_name", *subunits[:2]], optional=subunits[2:])
    names = complex_rows["complex_name"]
    if names.duplicated().any():
        msg = f"{complexes}: {listed(names[names.duplicated()].unique(), 5)} name two complexes each; keep one"
        raise DataError(msg)
    for name, *members in complex_rows.itertuples(index=False):
        parts = [sides.get(member) for member in members if member]
        if parts and None not in parts:
            sides[name] = tuple(gene for part in parts if part for gene in part)
    rows = _table(interactions, ["partner_a", "partner_b"])
    found = [(sides.get(a), sides.get(b)) for a, b in rows.itertuples(index=False)]
    return _known(
        [GenePair(a, b) for a, b in found if a and b], len(found), "ligand_receptor", "CellPhoneDB", "human", interactions
    )  # fmt: skip


def read_biogrid(
    path: Place, *, species: Literal["human", "mouse"], systems: Literal["physical", "genetic", "both"] = "physical"
) -> PairKnowledge:
    """Return the interactions of BioGRID between two genes of ``species``; a gene with itself is none.

    Parameters
    ----------
    path
        A TAB3 file (``BIOGRID-….tab3.txt``), plain, gzipped, or a zip archive that holds it alone.
    systems
        Kind of experiment.

    Raises
    ------
    ConfigError
        A species or kind of experiment that is none of these.
    DataError
        A column is missing, or there is no interaction within the species; the message says which organisms there are.
    ArtefactError
        The file cannot be read.
    """
    if species not in TAXA or systems not in ("physical", "genetic", "both"):
        msg = (
            f"species={species!r}, systems={systems!r}; choose {' or '.join(TAXA)}, and 'physical', 'genetic' or 'both'"
        )
        raise ConfigError(msg)
    rows = _table(path, [*_NAMES.values(), *_TAXON.values(), _SYSTEM])
    within = (rows[_TAXON["a"]] == TAXA[species]) & (rows[_TAXON["b"]] == TAXA[species])
    if not within.any():
        organisms = rows[_TAXON["a"]].value_counts().index
        msg = f"{path} has no interaction within {species} (taxon {TAXA[species]}); its organisms are {listed(organisms, 5)}"
        raise DataError(msg)
    kept = within & (rows[_NAMES["a"]] != rows[_NAMES["b"]])
    if systems != "both":
        kept &= rows[_SYSTEM] == systems
    chosen = rows.loc[kept, list(_NAMES.values())].drop_duplicates()
    pairs = [
        GenePair((a,), (b,)) for a, b in chosen.itertuples(index=False) if a not in ("", "-") and b not in ("", "-")
    ]
    return _known(pairs, len(rows), "interaction", "BioGRID", species, path)


def read_omnipath(path: Place, *, species: Literal["human", "mouse"], kind: Kind = "interaction") -> PairKnowledge:
    """Return the interactions of a table of OmniPath's web service; the genes of all members stand for a complex.

    Parameters
    ----------
    path
        Tab-separated, plain or gzipped, with ``source``, ``target``, ``source_genesymbol`` and ``target_genesymbol``: what
        ``omnipathdb.org/interactions?genesymbols=1`` gives. For tables of symbols alone use :func:`read_pairs`.
    species
        Organism that was asked for.
    kind
        ``"ligand_receptor"`` for its ligand–receptor extra.

    Raises
    ------
    DataError
        A column is missing, or there is no pair.
    ArtefactError
        The file cannot be read.
    """
    ends = ("source", "target")
    rows = _table(path, [*ends, *(f"{end}_genesymbol" for end in ends)])
    sides = []
    for end in ends:
        is_complex = rows[end].str.startswith(_COMPLEX)
        names = rows[f"{end}_genesymbol"].str.removeprefix(_COMPLEX)
        sides.append(
            [tuple(name.split("_")) if whole else (name,) for name, whole in zip(names, is_complex, strict=True)]
        )
    pairs = [
        GenePair(a, b)
        for a, b in zip(*sides, strict=True)
        if all(a) and all(b) and not (kind == "interaction" and a == b)
    ]
    return _known(pairs, len(rows), kind, "OmniPath", species, path)


def read_pairs(
    path: Place,
    *,
    species: str,
    kind: Kind,
    source: str,
    columns: tuple[str, str] | None = None,
) -> PairKnowledge:
    """Return the pairs of a table with two columns of gene symbols, separated by tabs, commas or semicolons.

    Parameters
    ----------
    path
        With a header, plain or gzipped.
    species
        Of the symbols, checked against how they are written.
    source
        What the knowledge is called.
    columns
        Names of the two columns, ligands first; the first two columns if None. The first row holds names either way.

    Raises
    ------
    DataError
        A column is missing, or there is no pair.
    ArtefactError
        The file cannot be read.
    """
    rows = _table(path, columns or ())
    if not columns:
        if rows.shape[1] < 2:
            msg = f"{path} has {rows.shape[1]} column(s) ({listed(rows.columns, 5)}); expected two of gene symbols"
            raise DataError(msg)
        rows = rows.iloc[:, :2]
    pairs = [GenePair((a.strip(),), (b.strip(),)) for a, b in rows.itertuples(index=False) if a.strip() and b.strip()]
    return _known(pairs, len(rows), kind, source, species, path)


def _known(pairs: list[GenePair], n_rows: int, kind: Kind, source: str, species: str, path: Place) -> PairKnowledge:
    if not pairs:
        msg = f"{path} holds no pair of gene symbols among its {n_rows:,} rows"
        raise DataError(msg)
    known = PairKnowledge(tuple(pairs), kind, source, species)
    logger.info("%s: %d pairs of %d genes from %d rows", source, len(known), len(known.genes), n_rows)
    return known


def _table(path: Place, columns: Sequence[str] = (), *, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Return the named columns of a table as strings, "" for gaps, in this order; every column if none is named.

    The separator is what the first line has most of: tab, comma or semicolon. Quotes mean nothing between tabs.
    """
    file = Path(path)
    try:
        with _opened(file) as text:
            first = text.readline()
            text.seek(0)
            separator = max("\t,;", key=first.count)
            quoting: Literal[0, 3] = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
            header = next(csv.reader([first], delimiter=separator, quoting=quoting), [])
            names = [name.strip() for name in header]
            missing = [name for name in columns if name not in names]
            if missing or not names:
                msg = f"{file} has no column {listed(map(repr, missing))}; found {listed(names) or 'nothing'}. Is it the right table?"
                raise DataError(msg)
            places = [names.index(name) for name in (*columns, *optional) if name in names] or list(range(len(names)))
            table = pd.read_csv(
                text, sep=separator, quoting=quoting, header=0, names=range(len(names)), usecols=places, dtype=str,
                index_col=False, keep_default_na=False,
            )  # fmt: skip
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, UnicodeDecodeError, pd.errors.ParserError) as error:
        msg = f"cannot read the table {file}: {str(error).strip()}. Pass a text table, plain or .gz"
        raise ArtefactError(msg) from error
    return table[places].set_axis([names[place] for place in places], axis=1).fillna("")


def _opened(file: Path) -> TextIO:
    """Return the text of a file: plain, gzipped, or alone in a zip archive."""
    with file.open("rb") as raw:
        start = raw.read(2)
    if start == b"\x1f\x8b":
        return gzip.open(file, "rt", encoding="utf-8-sig")
    if start != b"PK":
        return file.open(encoding="utf-8-sig")
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    if len(names) != 1:
        msg = f"the archive holds {listed(names, 4)}; unpack it and pass the one table of your organism"
        raise zipfile.BadZipFile(msg)
    return io.TextIOWrapper(archive.open(names[0]), encoding="utf-8-sig")
