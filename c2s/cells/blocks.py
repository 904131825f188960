"""Cells in row blocks: one ``.h5ad`` or zarr store, or a folder of them, never more than a block of it in memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.cells.genes import OnCollision, listed, names_of
from c2s.cells.matrix import checked_matrix, whole_index
from c2s.cells.reading import merged_genes, unreadable
from c2s.errors import ArtefactError, DataError

logger = logging.getLogger(__name__)

SUFFIXES = (".h5ad", ".zarr")


@dataclass(frozen=True, eq=False)
class CellBlocks:
    """Metadata of all cells in memory, their matrix on disk. Make one by :meth:`open`.

    Attributes
    ----------
    obs : DataFrame, n rows, unique index
    genes : list of str
        Unique, in the order of the columns that :meth:`read` returns.
    n_entries : int
        Stored values of the matrix on disk, an upper bound of what sentences can hold.
    sources : list of (str, int, int)
        Name, bytes and time of change (ns) of each file: another content has other ones.
    """

    obs: pd.DataFrame
    genes: list[str]
    n_entries: int
    sources: list[tuple[str, int, int]]
    _matrices: list[Any]
    _starts: np.ndarray
    _names: list[str]
    _label: str
    _hint: str
    _on_collision: OnCollision

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, layer: str | None = None, on_collision: OnCollision = "error"
    ) -> CellBlocks:
        """Return the cells of a file or zarr store, or of all those in a folder, in the order of their names.

        Cell names that several files share get the name of their file behind them, all of them if one does.

        Parameters
        ----------
        layer, on_collision
            As for :func:`c2s.encode`.

        Raises
        ------
        ArtefactError
            Nothing is there, it is another format, or it cannot be read.
        DataError
            There is no such layer, files differ in their genes, genes collide, or the matrix is stored column by column.
        """
        files = _files(Path(path))
        parts = [_open(file, layer) for file in files]
        names = parts[0].names
        for file, part in zip(files, parts, strict=True):
            if part.names != names:
                msg = f"{file.name} has other genes than {files[0].name} ({len(part.names):,} and {len(names):,}); bring them to the same genes in the same order first"
                raise DataError(msg)
        frames = [part.obs for part in parts]
        if len(files) > 1 and pd.Index(np.concatenate([frame.index for frame in frames])).has_duplicates:
            logger.info("files share cell names; each gets the name of its file")
            frames = [frame.set_axis(frame.index + f"-{file.stem}") for file, frame in zip(files, frames, strict=True)]
        obs = pd.concat(frames) if len(frames) > 1 else frames[0]
        label, hint = f"{files[0].name}:{parts[0].place}", parts[0].hint
        empty = sp.csr_matrix((1, len(names)), dtype=np.float32)
        _, genes = merged_genes(empty, names, label=label, on_collision=on_collision)
        return cls(
            obs=obs,
            genes=genes,
            n_entries=sum(part.n_entries for part in parts),
            sources=[_stamp(file) for file in files],
            _matrices=[part.matrix for part in parts],
            _starts=np.concatenate([[0], np.cumsum([len(frame) for frame in frames])]),
            _names=names,
            _label=label,
            _hint=hint,
            _on_collision=on_collision,
        )

    def __len__(self) -> int:
        return len(self.obs)

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Return rows ``start`` to ``stop`` as canonical CSR over :attr:`genes`; a block may be all zeros.

        Raises
        ------
        DataError
            NaN, infinite or negative values.
        ArtefactError
            The file ends before its matrix does.
        """
        pieces = []
        for number, matrix in enumerate(self._matrices):
            first, last = max(start, self._starts[number]), min(stop, self._starts[number + 1])
            if first < last:
                here = slice(int(first - self._starts[number]), int(last - self._starts[number]))
                try:
                    pieces.append(matrix[here])
                except Exception as error:  # whatever a damaged file makes h5py, zarr, anndata and scipy raise
                    msg = f"cannot read cells {start:,} to {stop:,} of {self._label}: {error}. The file is damaged"
                    raise ArtefactError(msg) from error
        values = pieces[0] if len(pieces) == 1 else sp.vstack([sp.csr_matrix(piece) for piece in pieces], format="csr")
        checked = checked_matrix(values, label=self._label, hint=self._hint)
        return merged_genes(checked, self._names, label=self._label, on_collision=self._on_collision)[0]

    def spans(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield ``(start, stop)`` of blocks of ``size`` cells, in order."""
        yield from ((start, min(start + size, len(self))) for start in range(0, len(self), size))

    def sample(self, *, n_blocks: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield ``n_blocks`` evenly spaced blocks of ``size`` cells; all cells where there are no more than that."""
        if len(self) <= n_blocks * size:
            yield from self.spans(size)
            return
        for start in np.linspace(0, len(self) - size, n_blocks).astype(int):
            yield int(start), int(start) + size


@dataclass(frozen=True)
class _Part:
    matrix: Any
    obs: pd.DataFrame
    names: list[str]
    n_entries: int
    place: str
    hint: str


def _files(path: Path) -> list[Path]:
    if not path.exists():
        msg = f"no file {path}; pass the path of an .h5ad file, a .zarr store or a folder of them"
        raise ArtefactError(msg)
    if path.suffix.lower() in SUFFIXES:
        if path.is_dir() == (path.suffix.lower() == ".h5ad"):
            found, expected = ("folder", "file") if path.is_dir() else ("file", "folder")
            msg = f"{path.name} is a {found}, but {path.suffix.lower()} is the name of a {expected}; pass what c2s, scanpy or anndata wrote"
            raise ArtefactError(msg)
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES) if path.is_dir() else []
    if not files:
        kind = "a folder without .h5ad files or .zarr stores" if path.is_dir() else "not an .h5ad file"
        msg = f"{path.name} is {kind}; convert it, e.g. scanpy.read_10x_h5(...).write_h5ad('cells.h5ad')"
        raise ArtefactError(msg)
    return files


def _open(file: Path, layer: str | None) -> _Part:
    try:
        store = _store(file)
        obs, raw, layers = ad.io.read_elem(store["obs"]), "raw" in store, sorted(store.get("layers", {}))
        options = [
            f'layer="{name}"'
            for name, there in (("raw", raw), ("counts", "counts" in layers))
            if there and name != layer
        ]
        hint = f". Try {' or '.join(options)}" if options else ""
        place, genes = {None: ("X", "var"), "raw": ("raw/X", "raw/var")}.get(layer, (f"layers/{layer}", "var"))
        if place not in store:
            found = f"layers {listed(layers) or 'none'}" + (" and raw" if raw else "")
            msg = f"{file.name} has no {place}; found {found}{hint}"
            raise DataError(msg)
        names = names_of(ad.io.read_elem(store[genes]).index, "genes")
        matrix = store[place]
        kind = matrix.attrs.get("encoding-type", "array")
        if kind == "csc_matrix":
            msg = f"{file.name} stores {place} column by column; rows cannot be read one block at a time. Write it again as CSR"
            raise DataError(msg)
        if kind == "csr_matrix":
            n_entries = int(matrix["data"].shape[0])
            if not whole_index(matrix["indptr"][:], len(obs), n_entries):
                msg = f"the index of {place} points outside its {n_entries:,} values"
                raise OSError(msg)
            matrix = ad.io.sparse_dataset(matrix)
        else:
            n_entries = int(np.prod(matrix.shape))
    except DataError:
        raise
    except Exception as error:  # whatever a damaged file makes h5py, zarr and anndata raise
        raise unreadable(file, error) from error
    if tuple(matrix.shape[:2]) != (len(obs), len(names)):
        msg = f"{file.name}: {place} is {' × '.join(map(str, matrix.shape))}, but there are {len(obs):,} cells and {len(names):,} genes. Write it again"
        raise ArtefactError(msg)
    obs.index = pd.Index(names_of(obs.index, "cells"), dtype=object)
    return _Part(matrix, obs, names, n_entries, place, hint)


def _store(file: Path) -> Any:
    if file.suffix.lower() == ".h5ad":
        import h5py

        return h5py.File(file, "r")
    import zarr

    return zarr.open_group(str(file), mode="r")


def _stamp(file: Path) -> tuple[str, int, int]:
    parts = [file] if file.is_file() else [part for part in sorted(file.rglob("*")) if part.is_file()]
    found = [part.stat() for part in parts]
    return file.name, sum(stat.st_size for stat in found), max((stat.st_mtime_ns for stat in found), default=0)
