"""What a split of a perturbation study is: its conditions, the cells of each part, checks for leaks, and its file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from c2s.artefacts import hash_of, read_record, whole_record, write_json
from c2s.cells.genes import listed
from c2s.cells.hashes import MIN_GENES, cell_hashes
from c2s.cells.reading import complete_column, require_cells
from c2s.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

Mask = NDArray[np.bool_]
TRAIN, VALIDATION, TEST, CONTROLS, UNUSED = PARTS = ("train", "validation", "test", "controls", "unused")
FORMAT, VERSION = "c2s perturbation split", 1


@dataclass(frozen=True, eq=False)
class Split:
    """Which cells of a study are learnt from, choose the checkpoint, and are asked.

    Cells in none of the four masks take part in nothing: they belong to conditions that would give away a held-out one.

    Attributes
    ----------
    name : str
        As written in tables, e.g. ``"unseen combination"``.
    keys : tuple of str
        Columns that make a condition, the perturbation first.
    control : str
        Value of the first of them that untreated cells have.
    apart : tuple of tuple of str
        Groups of columns; what the treated cells of one part hold there, no treated cell of another part does.
    train, validation, test : ndarray of bool, shape (n,)
        ``train`` holds treated and control cells, the others treated cells only.
    controls : ndarray of bool, shape (n,)
        Control cells of held-out contexts. They are there to predict from, never to be learnt from; other predictions start from the
        control cells of ``train``. Who lets a model see them (as scGen does) says so and passes ``train | controls``.
    tier : ndarray of str, shape (n,)
        What is unseen in a cell of ``validation`` or ``test``, e.g. ``"seen 1"``; empty for all others.
    conditions : DataFrame
        A row a condition: the keys, ``part`` (one of ``train``, ``validation``, ``test``, ``controls``, ``unused``), ``tier``, ``n_cells``.
    cells : str
        Hash of the cells' names and conditions; their order is of no consequence.
    seed : int or None
        What drew the conditions; None where they were listed.
    """

    name: str
    keys: tuple[str, ...]
    control: str
    apart: tuple[tuple[str, ...], ...]
    train: Mask
    validation: Mask
    test: Mask
    controls: Mask
    tier: NDArray[np.str_]
    conditions: pd.DataFrame
    cells: str
    seed: int | None = None

    @property
    def held_out(self) -> pd.DataFrame:
        """The conditions of ``validation`` and ``test``: the keys, ``part``, ``tier``, ``n_cells``."""
        return self.conditions[self.conditions["part"].isin([VALIDATION, TEST])].reset_index(drop=True)

    @property
    def sizes(self) -> str:
        """What each part holds, in words."""
        table = self.conditions
        counts = {part: table[table["part"] == part] for part in PARTS}
        each = (f"{part} {len(rows):,} conditions, {rows['n_cells'].sum():,} cells" for part, rows in counts.items())
        return f"{self.name}: {'; '.join(each)}"

    def check(self, adata: AnnData) -> None:
        """Raise a DataError where something of the test or of the validation can be found in another part.

        Cells are compared by their values (:func:`c2s.cells.hashes.cell_hashes`), so that copies under other names are found; those that
        express fewer than ten genes are not, because different ones are alike by chance.

        Parameters
        ----------
        adata : AnnData
            The cells that were split, in the same order.

        Raises
        ------
        DataError
            Another number of cells, a cell in two parts, a treated value or a condition in two parts, a control that is asked, or two cells
            with the same genes and values in different parts (they are named).
        """
        require_cells(adata)
        masks = {TRAIN: self.train, VALIDATION: self.validation, TEST: self.test, CONTROLS: self.controls}
        for part, mask in masks.items():
            if len(mask) != adata.n_obs:
                msg = f"{part} of the split {self.name!r} is over {len(mask):,} cells, the AnnData has {adata.n_obs:,}; pass the cells that were split"
                raise DataError(msg)
        names = adata.obs_names.to_numpy()
        for one, other in combinations(masks, 2):
            both = masks[one] & masks[other]
            if both.any():
                self._refuse(f"{int(both.sum()):,} cells are in {one} and in {other}", names[both])
        values = pd.DataFrame({key: complete_column(adata.obs, key, "keys") for key in self.keys})
        treated = (values[self.keys[0]] != self.control).to_numpy()
        for part, is_control in ((VALIDATION, True), (TEST, True), (CONTROLS, False)):
            wrong = masks[part] & (treated != is_control)
            if wrong.any():
                what = "control" if is_control else "treated"
                self._refuse(f"{int(wrong.sum()):,} {what} cells are in {part}", names[wrong])
        for columns, among in (*((columns, treated) for columns in self.apart), (self.keys, np.ones_like(treated))):
            rows = {part: values.loc[mask & among, list(columns)] for part, mask in masks.items()}
            found = {
                part: set(each.drop_duplicates().itertuples(index=False, name=None)) for part, each in rows.items()
            }
            for one, other in combinations(found, 2):
                if shared := found[one] & found[other]:
                    what = f"{len(shared)} values of ({', '.join(columns)}) are in {one} and in {other}"
                    self._refuse(what, map(" | ".join, sorted(shared)))
        self._refuse_copies(adata, masks)

    def _refuse_copies(self, adata: AnnData, masks: dict[str, Mask]) -> None:
        enough = np.asarray((adata.X != 0).sum(axis=1)).ravel() >= MIN_GENES
        used = np.flatnonzero(enough & np.logical_or.reduce(list(masks.values())))
        found = pd.DataFrame({"hash": cell_hashes(adata[used]), "name": adata.obs_names[used]})
        found["part"] = np.select([mask[used] for mask in masks.values()], list(masks), default=UNUSED)
        copied = found[found.groupby("hash")["part"].transform("nunique") > 1].sort_values(["hash", "part"])
        if len(copied):
            pairs = [" = ".join(f"{row.name} ({row.part})" for row in rows.itertuples(index=False)) for _, rows in copied.groupby("hash")]  # fmt: skip
            self._refuse(f"{len(pairs):,} cells stand in two parts with the same genes and values", pairs)

    def _refuse(self, found: str, items: Iterable[str]) -> None:
        msg = f"the split {self.name!r} leaks: {found}: {listed(items, 5)}. Leave them out of one part, or split again"
        raise DataError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` needs beside the cells' metadata: conditions and their parts, and the cells' hash."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "keys": list(self.keys),
            "control": self.control,
            "apart": [list(columns) for columns in self.apart],
            "seed": self.seed,
            "cells": self.cells,
            "conditions": self.conditions.to_dict("records"),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any], obs: pd.DataFrame) -> Split:
        """Return the split that :meth:`to_dict` wrote, of the same cells in any order.

        Raises
        ------
        DataError
            A column is missing, or the cells are not those that were split.
        """
        return _again(_fields(record), obs)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the split as JSON, atomically."""
        write_json(path, self.to_dict())

    @classmethod
    def read(cls, path: str | os.PathLike[str], obs: pd.DataFrame) -> Split:
        """Return the split in ``path``, of the same cells in any order.

        Raises
        ------
        ArtefactError
            The file cannot be read, is of another kind, or damaged.
        DataError
            As :meth:`from_dict`.
        """
        record = read_record(path, kind=FORMAT, version=VERSION)
        with whole_record(path):
            fields = _fields(record)
        return _again(fields, obs)


def conditions_of(obs: pd.DataFrame, keys: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return each cell's condition as strings, shape (n, len(keys)), and a sorted table of the conditions with ``n_cells``.

    Raises
    ------
    ConfigError
        A key has the name of a column of :attr:`Split.conditions`.
    DataError
        A column is missing or has gaps.
    """
    if reserved := {"part", "tier", "n_cells"} & set(keys):
        msg = f"a split writes columns of the name {listed(sorted(reserved))}; rename those of obs"
        raise ConfigError(msg)
    values = pd.DataFrame({key: complete_column(obs, key, "perturbation_key or context_key") for key in keys})
    table = values.groupby(list(keys), sort=True).size().rename("n_cells").reset_index()
    return values, table


def divided(
    name: str,
    obs: pd.DataFrame,
    table: pd.DataFrame,
    *,
    keys: Sequence[str],
    control: str,
    apart: Sequence[Sequence[str]],
    seed: int | None,
) -> Split:
    """Return the split whose conditions ``table`` lists, with their ``part`` and ``tier``.

    Raises
    ------
    DataError
        A column is missing or has gaps, or no condition is learnt from, no control cell is, or none is asked.
    """
    values, found = conditions_of(obs, keys)
    table = found.merge(table[[*keys, "part", "tier"]], on=list(keys), how="left", validate="one_to_one")
    place = values.merge(table.reset_index(names="place"), on=list(keys), how="left")["place"].to_numpy()
    part = table["part"].to_numpy(dtype=str)[place]
    split = Split(
        name=name, keys=tuple(keys), control=control, apart=tuple(tuple(columns) for columns in apart),
        train=part == TRAIN, validation=part == VALIDATION, test=part == TEST, controls=part == CONTROLS,
        tier=table["tier"].to_numpy(dtype=str)[place], conditions=table[[*keys, "part", "tier", "n_cells"]],
        cells=_hash_of_cells(obs.index, values), seed=seed,
    )  # fmt: skip
    is_control = (values[keys[0]] == control).to_numpy()
    for mask, what in (
        (split.train & ~is_control, "treated cell to learn from"),
        (split.train & is_control, "control cell to learn from"),
        (split.test, "cell to ask"),
    ):
        if not mask.any():
            msg = f"{split.sizes}: no {what} is left. Hold out less, or check control={control!r}"
            raise DataError(msg)
    logger.info("%s", split.sizes)
    return split


def _fields(record: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a record, checked."""
    keys = [str(key) for key in record["keys"]]
    table = pd.DataFrame(record["conditions"])[[*keys, "part", "tier"]].astype(str)
    if wrong := set(table["part"]) - set(PARTS):
        msg = f"conditions are in {listed(sorted(wrong))}; expected {', '.join(PARTS)}"
        raise ValueError(msg)
    apart = [[str(key) for key in columns] for columns in record["apart"]]
    return {
        "name": str(record["name"]), "keys": keys, "control": str(record["control"]), "apart": apart, "seed": record["seed"],
        "cells": str(record["cells"]), "table": table,
    }  # fmt: skip


def _again(fields: dict[str, Any], obs: pd.DataFrame) -> Split:
    """Return the split of these fields over the cells it was made of."""
    fields = dict(fields)
    expected = fields.pop("cells")
    values, _ = conditions_of(obs, fields["keys"])
    if (found := _hash_of_cells(obs.index, values)) != expected:
        msg = (
            f"these {len(obs):,} cells are not those that were split: their names and conditions have hash {found}, expected "
            f"{expected}. Pass the cells as they were, or split again"
        )
        raise DataError(msg)
    return divided(fields.pop("name"), obs, fields.pop("table"), **fields)


def _hash_of_cells(names: pd.Index, values: pd.DataFrame) -> str:
    """Return the hash of cell names and conditions, whatever their order."""
    return hash_of(sorted("\t".join(row) for row in zip(names.astype(str), *(values[key] for key in values))))
