"""Cells in row blocks: one ``.h5ad`` or zarr store, or a folder of them, never more than a block of it in memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.artefacts import require_access
from c2s.cells.columns import RECORD, Columns, TurnedRows, turn
from c2s.cells.genes import OnCollision, listed, names_of
from c2s.cells.matrix import checked_matrix, require_numbers, require_two_dimensions
from c2s.cells.reading import merged_genes, unreadable
from c2s.cells.rows import DenseRows, SparseRows
from c2s.errors import ArtefactError, DataError

logger = logging.getLogger(__name__)

SUFFIXES = (".h5ad", ".zarr")
Rows = SparseRows | DenseRows | TurnedRows
Stamp = tuple[str, int, int]


@dataclass(frozen=True, eq=False)
class MatrixBlocks:
    """The matrix of all cells, on disk. Make one by :meth:`open`, and close it: it is a context manager.

    Attributes
    ----------
    genes : list of str
        Unique, in the order of the columns that :meth:`read` returns.
    label : str
        What the matrix is called in messages.
    """

    genes: list[str]
    label: str
    _parts: Sequence[Rows | Columns]
    _stores: list[Any]
    _names: list[str]
    _hint: str
    _on_collision: OnCollision

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        layer: str | None = None,
        on_collision: OnCollision = "error",
        turned: Path | None = None,
    ) -> MatrixBlocks:
        """Return the matrix of a file or zarr store, or of all those in a folder, in the order of their names.

        Parameters
        ----------
        layer, on_collision
            As for :func:`c2s.encode`.
        turned
            Where :meth:`turn` wrote the rows of what is stored column by column.

        Raises
        ------
        ArtefactError
            Nothing is there, it is another format, or it cannot be read.
        DataError
            There is no such layer, files differ in their genes, or genes collide.
        """
        found = _files(Path(path))
        opened = [_open(file, layer) for file in found]
        names = opened[0].names
        for file, each in zip(found, opened, strict=True):
            if each.names != names:
                msg = f"{file.name} has other genes than {found[0].name} ({len(each.names):,} and {len(names):,}); bring them to the same genes in the same order first"
                raise DataError(msg)
        label = f"{found[0].name}:{opened[0].place}"
        empty = sp.csr_matrix((1, len(names)), dtype=np.float32)
        _, genes = merged_genes(empty, names, label=label, on_collision=on_collision)
        stores, parts = [each.store for each in opened], [each.part for each in opened]
        blocks = cls(genes, label, parts, stores, names, opened[0].hint, on_collision)
        return blocks if turned is None else blocks.turn(turned)

    def __len__(self) -> int:
        return sum(part.shape[0] for part in self._parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._stores:
            if hasattr(store, "close"):  # HDF5
                store.close()

    @property
    def n_entries(self) -> int | None:
        """Stored values, which no sentences outnumber; None where a matrix is dense."""
        counts = [part.n_entries for part in self._parts]
        return None if None in counts else sum(count for count in counts if count is not None)

    def to_turn(self, folder: Path) -> list[Columns]:
        """Return the matrices stored column by column whose rows are not yet in ``folder``."""
        return [
            part
            for number, part in enumerate(self._parts)
            if isinstance(part, Columns) and not (folder / f"rows-{number}" / RECORD).is_file()
        ]

    def turn(self, folder: Path, *, done: Callable[[int], object] = lambda _: None) -> MatrixBlocks:
        """Return these blocks with what is stored column by column written into ``folder`` as rows, where it is not yet.

        ``done`` is told how many entries each step has moved.
        """
        parts = [
            turn(part, folder / f"rows-{number}", done=done) if isinstance(part, Columns) else part
            for number, part in enumerate(self._parts)
        ]
        return replace(self, _parts=parts)

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Return rows ``start`` to ``stop`` as canonical CSR over :attr:`genes`; a block may be all zeros.

        Raises
        ------
        DataError
            NaN, infinite or negative values.
        ArtefactError
            The file ends before its matrix does, or is damaged.
        """
        pieces, before = [], 0
        for part in self._parts:
            first, last = max(start - before, 0), min(stop - before, part.shape[0])
            if first < last:
                try:
                    pieces.append(part.read(first, last))
                except ArtefactError:
                    raise
                except Exception as error:  # whatever a damaged file makes h5py, zarr and scipy raise
                    msg = f"cannot read cells {start:,} to {stop:,} of {self.label}: {error}. The file is damaged"
                    raise ArtefactError(msg) from error
            before += part.shape[0]
        values = pieces[0] if len(pieces) == 1 else sp.vstack(pieces, format="csr")
        rows = range(start, stop)
        checked = checked_matrix(values, label=self.label, hint=self._hint, genes=self._names, cells=rows)
        return merged_genes(checked, self._names, label=self.label, on_collision=self._on_collision)[0]

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


def read_metadata(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Return ``obs`` of a file or zarr store, or of all those in a folder, in the order of their names.

    Cell names that several files share get the name of their file behind them, all of them if one does.

    Raises
    ------
    ArtefactError
        As for :meth:`MatrixBlocks.open`.
    """
    files = _files(Path(path))
    frames = []
    for file in files:
        with _readable(file):
            store = _store(file)
            frame = ad.io.read_elem(store["obs"])
            if hasattr(store, "close"):
                store.close()
        frames.append(frame.set_axis(pd.Index(names_of(frame.index, "cells"), dtype=object)))
    if len(files) > 1 and pd.Index(np.concatenate([frame.index for frame in frames])).has_duplicates:
        logger.info("files share cell names; each gets the name of its file")
        frames = [frame.set_axis(frame.index + f"-{file.stem}") for file, frame in zip(files, frames, strict=True)]
    return pd.concat(frames) if len(frames) > 1 else frames[0]


def stamps(path: str | os.PathLike[str]) -> list[Stamp]:
    """Return name, bytes and time of change (ns) of each file or store: another content has other ones.

    Raises
    ------
    ArtefactError
        There is none.
    """
    return [_stamp(file) for file in _files(Path(path))]


def are_there(path: str | os.PathLike[str], expected: Sequence[Stamp]) -> bool:
    """Return whether the files at ``path`` are those of :func:`stamps`; of a zarr store, which is many files, only the name."""
    files = _files(Path(path))
    same = [file.name for file in files] == [name for name, *_ in expected]
    return same and all(
        file.is_dir() or _stamp(file) == tuple(stamp) for file, stamp in zip(files, expected, strict=True)
    )


def _stamp(file: Path) -> Stamp:
    parts = [file] if file.is_file() else [part for part in sorted(file.rglob("*")) if part.is_file()]
    states = [part.stat() for part in parts]
    changed = max((state.st_mtime_ns for state in states), default=0)
    return file.name, sum(state.st_size for state in states), changed


@dataclass(frozen=True)
class _Opened:
    store: Any
    part: Rows | Columns
    names: list[str]
    place: str
    hint: str


def _files(path: Path) -> list[Path]:
    require_access(path)
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


def _open(file: Path, layer: str | None) -> _Opened:
    with _readable(file):
        store = _store(file)
        _ = store["obs"], store["var"]  # what is no AnnData file lacks them
        raw, layers = "raw" in store, sorted(store.get("layers", {}))
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
        part = _part(store[place], f"{file.name}: {place}")
    if not names:
        msg = f"{file.name} is empty: {part.shape[0]:,} cells × 0 genes"
        raise DataError(msg)
    if part.shape[1] != len(names):
        msg = f"{file.name}: {place} is {part.shape[0]:,} × {part.shape[1]:,}, but there are {len(names):,} genes. Write it again"
        raise ArtefactError(msg)
    return _Opened(store, part, names, place, hint)


def _part(element: Any, label: str) -> Rows | Columns:
    kind = element.attrs.get("encoding-type", "array")
    values = element["data"] if kind in ("csr_matrix", "csc_matrix") else element
    require_numbers(values.dtype, label)
    if values is element:
        require_two_dimensions(element.shape, label)
        return DenseRows(element, (int(element.shape[0]), int(element.shape[1])))
    n_rows, n_columns = (int(size) for size in element.attrs["shape"])
    n_entries = int(element["data"].shape[0])
    if kind == "csc_matrix":
        return Columns(element, (n_rows, n_columns), n_entries)
    return SparseRows(element, (n_rows, n_columns), n_entries)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes h5py, zarr and anndata raise into one clear error."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise unreadable(file, error) from error


def _store(file: Path) -> Any:
    if file.suffix.lower() == ".h5ad":
        import h5py

        return h5py.File(file, "r")
    import zarr

    return zarr.open_group(str(file), mode="r")
