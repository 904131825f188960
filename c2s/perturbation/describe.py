"""Perturbations as text: names to combinations, and targets and mechanisms joined from tables of drugs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from c2s.cells.genes import listed
from c2s.cells.library import MAX_TARGETS, MAX_TEXT, Perturbation, check_library, combined
from c2s.cells.reading import complete_column
from c2s.errors import DataError
from c2s.perturbation.synonyms import Synonyms

logger = logging.getLogger(__name__)

JOINED = " + "  # between the parts of a combination, as c2s.cells.library.combined writes it


def parse_combination(
    name: str, *, separators: Sequence[str] = ("+",), dropped: Sequence[str] = ("ctrl", "control")
) -> tuple[str, ...]:
    """Return what was given together, once each, in the order written; empty where all of it is dropped.

    Parameters
    ----------
    name : str
        ``"A+B"``, ``"IFNb+ IFNg"``, ``"KLF1+ctrl"``.
    separators : sequence of str
        What stands between parts, longest first; none for drugs, whose names hold such signs: ``"(+)-JQ1"``.
    dropped : sequence of str
        Parts that mean nothing was given, as in the Perturb-seq of Norman et al.

    Raises
    ------
    DataError
        A part is empty, or a separator is.
    """
    if not all(separators):
        msg = "a separator is empty; pass separators=() where names are no combinations"
        raise DataError(msg)
    parts = [name]
    for separator in separators:
        parts = [piece for part in parts for piece in part.split(separator)]
    parts = [part.strip() for part in parts]
    if not all(parts):
        msg = f"{name!r} has an empty part between its separators ({listed(separators)}); pass the separators= that names have"
        raise DataError(msg)
    return tuple(dict.fromkeys(part for part in parts if part not in dropped))


def canonical_names(
    names: Iterable[str],
    *,
    control: str,
    separators: Sequence[str] = ("+",),
    dropped: Sequence[str] = ("ctrl", "control"),
) -> list[str]:
    """Return each name with its parts in alphabetical order, joined by " + "; names of which nothing is left become ``control``.

    ``"KLF1+ctrl"`` is then called as the ``KLF1`` in ``"CEBPE+KLF1"``, and ``"B+A"`` is ``"A + B"``.

    Parameters
    ----------
    separators, dropped
        As :func:`parse_combination`.

    Raises
    ------
    DataError
        As :func:`parse_combination`.
    """
    known: dict[str, str] = {}
    for name in dict.fromkeys(names := list(names)):
        parts = () if name == control else parse_combination(name, separators=separators, dropped=(*dropped, control))
        known[name] = JOINED.join(sorted(parts)) or control
    return [known[name] for name in names]


def library_of(
    obs: pd.DataFrame,
    *,
    perturbation_key: str,
    control: str,
    separators: Sequence[str] = ("+",),
    dose_key: str | None = None,
    time_key: str | None = None,
    tables: Sequence[pd.DataFrame] = (),
    synonyms: Mapping[str, str] | None = None,
    names_are_targets: bool = False,
) -> list[Perturbation]:
    """Return the library of the perturbations that cells were given, by name; the control comes first, as the vehicle.

    Parameters
    ----------
    obs : DataFrame, n rows
        Cell metadata.
    perturbation_key, control
        The column of perturbations, and its value in untreated cells.
    separators : sequence of str
        As :func:`parse_combination`.
    dose_key, time_key : str, optional
        Columns with the text of dose and time, units included ("1 uM", "24 h"); one value a perturbation.
    tables, synonyms
        As :func:`with_descriptions`; how many names were not found is logged.
    names_are_targets : bool
        A part is a gene and its own target, as in CRISPR screens.

    Raises
    ------
    DataError
        A column is missing or has gaps; no cell is a control; a perturbation has several doses or times; or names are not written alike (the same
        combination in two orders, ``"A+ctrl"`` beside ``"A+B"``).
    """
    names = complete_column(obs, perturbation_key, "perturbation_key")
    present = sorted(set(names))
    if control not in present:
        msg = f"no cell has {perturbation_key} == {control!r}; found {listed(present)}. Pass control="
        raise DataError(msg)
    treated = [name for name in present if name != control]
    parts = {name: parse_combination(name, separators=separators, dropped=("ctrl", "control", control)) for name in treated}  # fmt: skip
    _refuse_unlike(parts)
    is_treated = names != control
    texts = {key: _one_text(obs[is_treated], names[is_treated], key) for key in (dose_key, time_key) if key is not None}
    alone = dict.fromkeys(part for held in parts.values() for part in held)
    rows = [Perturbation(part, targets=(part,) if names_are_targets else ()) for part in alone]
    if tables:
        rows, missing = with_descriptions(rows, tables, synonyms=synonyms)
        logger.info("%d of %d perturbations are in no table: %s", len(missing), len(alone), listed(missing))
    known = {row.name: row for row in rows}
    out = [Perturbation(control, role="vehicle")]
    for name, held in parts.items():
        row = known[held[0]] if len(held) == 1 else combined(*(known[part] for part in held), name=name)
        dose = texts[dose_key][name] if dose_key is not None else ""
        time = texts[time_key][name] if time_key is not None else ""
        out.append(replace(row, dose=dose, time=time))
    return check_library(out)


def with_descriptions(
    library: Iterable[Perturbation], tables: Sequence[pd.DataFrame], *, synonyms: Mapping[str, str] | None = None
) -> tuple[list[Perturbation], list[str]]:
    """Return the library with targets, mechanism and SMILES joined from tables, and the names that no table has.

    What a row says already stays. Targets are those of all tables; mechanism and SMILES are the first table's that has one. A combination
    has its parts' targets and texts. Vehicles are left alone.

    Parameters
    ----------
    library : iterable of Perturbation
    tables : sequence of DataFrame
        As :func:`c2s.perturbation.drug_tables.read_drug_table` gives them.
    synonyms : mapping of str to str, optional
        Name in the library to name in a table, which is tried first (:class:`c2s.perturbation.synonyms.Synonyms`).

    Raises
    ------
    DataError
        The library is empty or repeats a name, or a name may mean several drugs of a table.
    """
    rows = check_library(library)
    found = {row.name: row for row in rows}
    singles = dict.fromkeys(single for row in rows if row.role != "vehicle" for single in row.single)
    resolvers = [(Synonyms(table["name"]), table.set_index("name")) for table in tables]
    described, missing = {}, []
    for name in singles:
        hits = [table.loc[each] for names, table in resolvers if (each := _found(name, names, synonyms or {})) is not None]  # fmt: skip
        if not hits:
            missing.append(name)
        row = found.get(name) or Perturbation(name)
        targets = row.targets or tuple(dict.fromkeys(target for hit in hits for target in hit["targets"]))
        if len(targets) > MAX_TARGETS:
            logger.warning("%s has %d targets; the first %d are kept", name, len(targets), MAX_TARGETS)
        described[name] = replace(
            row, targets=targets[:MAX_TARGETS], mechanism=row.mechanism or _first(hits, "mechanism")[:MAX_TEXT],
            smiles=row.smiles or _first(hits, "smiles"),
        )  # fmt: skip
    return [_described(row, described) for row in rows], missing


def _described(row: Perturbation, described: Mapping[str, Perturbation]) -> Perturbation:
    if row.role == "vehicle":
        return row
    if not row.parts:
        return described[row.name]
    whole = combined(*(described[part] for part in row.parts), name=row.name)
    return replace(
        row, targets=row.targets or whole.targets, mechanism=row.mechanism or whole.mechanism, smiles=row.smiles or whole.smiles
    )  # fmt: skip


def _found(name: str, names: Synonyms, synonyms: Mapping[str, str]) -> str | None:
    if name in synonyms and (hit := names.resolve(synonyms[name])) is not None:
        return hit
    return names.resolve(name)


def _first(hits: Sequence[pd.Series], column: str) -> str:
    return next((str(hit[column]) for hit in hits if hit[column]), "")


def _refuse_unlike(parts: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse names that would be taken for different perturbations though their parts are the same."""
    by_parts: dict[frozenset[str], list[str]] = {}
    for name, held in parts.items():
        by_parts.setdefault(frozenset(held), []).append(name)
    unlike = [f"{' = '.join(names)}" for names in by_parts.values() if len(names) > 1]
    unlike += [f"{name} (is {held[0] if held else 'a control'})" for name, held in parts.items() if len(held) < 2 and (name,) != held]  # fmt: skip
    if unlike:
        msg = f"{len(unlike)} perturbations are written in more than one way: {listed(unlike)}. Write the column by canonical_names first"
        raise DataError(msg)


def _one_text(obs: pd.DataFrame, names: np.ndarray, key: str) -> dict[str, str]:
    """Return the one text of a column that each perturbation has."""
    table = pd.DataFrame({"name": names, "text": complete_column(obs, key, "dose_key or time_key")}).drop_duplicates()
    several = sorted(set(table.loc[table["name"].duplicated(), "name"]))
    if several:
        found = listed(table.loc[table["name"] == several[0], "text"])
        msg = (
            f"{len(several)} perturbations have several values of {key!r} ({several[0]}: {found}); a library has one each: write a column in "
            "which name and value are one text, and pass it as perturbation_key="
        )
        raise DataError(msg)
    return dict(zip(table["name"], table["text"]))
