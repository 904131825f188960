"""The ids of a corpus as one array over a file: a corpus larger than memory opens at once, and is read where it is used."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from c2s.artefacts import hash_of
from c2s.cells.reading import refuse_repeated_cells
from c2s.errors import ArtefactError, DataError
from c2s.sentences.background import hash_of_names
from c2s.sentences.parquet import part_files, read_runs
from c2s.sentences.ranking import first_repeat

logger = logging.getLogger(__name__)

MEMORY_SHARE = 0.25  # of the machine's memory that ids may take before they are mapped unasked
NAMES_AT_ONCE = 1 << 18


def is_large(n_ids: int) -> bool:
    """Return whether so many ids take more than a quarter of the memory this process may use."""
    return 4 * n_ids > MEMORY_SHARE * _memory()


def mapped_flat(
    folder: Path,
    record: dict[str, Any],
    names: pd.Index,
    *,
    n_genes: int,
    cache: str | os.PathLike[str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids int32 (n_ids,), a read-only view of a file, and offsets int64 (n + 1,) of a corpus.

    The files, ``mapped-<key>/ids.npy`` and ``offsets.npy``, lie in the corpus or in ``cache``. The key names the shards (names,
    sizes, times of change) and ``corpus.json``. Where they are missing or damaged they are made from the shards, a few
    thousand sentences at a time, and appear whole or not at all; of several processes that make them the first counts. Ids
    and cell names are checked then, and not again.

    Parameters
    ----------
    folder : Path
        The corpus.
    record : dict
        What its ``corpus.json`` holds.
    names : Index
        Its cell names.
    n_genes : int
        Genes of its vocabulary.
    cache : path, optional
        Where the files go instead of ``folder``.

    Raises
    ------
    ArtefactError
        Shards are missing or truncated, or the files are lacking and cannot be written, or the disk has too little room.
    DataError
        Ids lie outside the vocabulary, or cell names or a sentence's genes occur twice.
    """
    place = folder if cache is None else Path(cache)
    stats = [(file.name, file.stat()) for file in part_files(folder)]
    key = hash_of([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats], record)
    target, n, n_ids = place / f"mapped-{key}", int(record["n"]), int(record["n_ids"])
    found = _opened(target, n, n_ids)
    if found is None:
        _require_place(place, 4 * n_ids + 8 * n)
        _refuse_repeats(names)
        logger.info("writing the %s ids of %s to %s, once", f"{n_ids:,}", folder, target)
        try:
            _make(folder, target, n=n, n_ids=n_ids, n_genes=n_genes)
        except ArtefactError:  # of the shards
            raise
        except OSError as error:
            msg = f"cannot write {target}: {error}. Make room, or pass cache= (--cache), a folder that can be written"
            raise ArtefactError(msg) from error
        found = _opened(target, n, n_ids)
        if cache is None:
            _name_others(place, target)
    if found is None:
        msg = f"{target} was changed while it was written; open the corpus again"
        raise ArtefactError(msg)
    return found


def _opened(target: Path, n: int, n_ids: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the arrays in ``target``, or None where they are missing or damaged."""
    if not target.is_dir():
        return None
    try:
        ids = np.asarray(np.load(target / "ids.npy", mmap_mode="r", allow_pickle=False))
        offsets = np.load(target / "offsets.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        logger.warning("%s is damaged (%s) and made anew", target, error)
        return None
    fits = ids.dtype == np.int32 and ids.shape == (n_ids,) and offsets.dtype == np.int64 and offsets.shape == (n + 1,)
    if not fits or offsets[0] != 0 or offsets[-1] != n_ids or np.any(offsets[1:] < offsets[:-1]):
        logger.warning("%s does not fit its corpus and is made anew", target)
        return None
    return ids, offsets


def _make(folder: Path, target: Path, *, n: int, n_ids: int, n_genes: int) -> None:
    """Write ``target`` from the shards, whole or not at all."""
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        offsets = _write_ids(folder, scratch / "ids.npy", n=n, n_ids=n_ids, n_genes=n_genes)
        np.save(scratch / "offsets.npy", offsets, allow_pickle=False)
        scratch.chmod(target.parent.stat().st_mode & 0o777)
        try:
            scratch.rename(target)
        except OSError:  # it exists: damaged, or made by another process meanwhile
            if _opened(target, n, n_ids) is None:
                shutil.rmtree(target)
                scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_ids(folder: Path, path: Path, *, n: int, n_ids: int, n_genes: int) -> np.ndarray:
    """Write the ids and return the offsets. Plain writes: a full disk is an error here, and a crash under a mapping."""
    offsets = np.zeros(n + 1, dtype=np.int64)
    with path.open("wb") as file:
        header = {"descr": np.dtype(np.int32).str, "fortran_order": False, "shape": (n_ids,)}
        np.lib.format.write_array_header_1_0(file, header)
        for first, start, ids, ends in read_runs(folder, n=n, n_ids=n_ids):
            if len(ids) and (ids.min() < 0 or ids.max() >= n_genes):
                msg = f"{folder} has ids from {ids.min()} to {ids.max()} in a vocabulary of {n_genes:,} genes; write it again"
                raise DataError(msg)
            if first_repeat(ids, np.concatenate(([0], ends - start)), n_genes) >= 0:
                msg = f"{folder} has a gene twice in one sentence, among rows {first:,} to {first + len(ends):,}; write it again"
                raise DataError(msg)
            file.write(np.ascontiguousarray(ids).data)
            offsets[first + 1 : first + 1 + len(ends)] = ends
        file.flush()
        os.fsync(file.fileno())
    return offsets


def _refuse_repeats(names: pd.Index) -> None:
    """Refuse repeated cell names, at 8 bytes a name unless two hashes are equal."""
    parts = [hash_of_names(names[i : i + NAMES_AT_ONCE]) for i in range(0, len(names), NAMES_AT_ONCE)]
    hashes = np.concatenate([np.empty(0, np.uint64), *parts])
    hashes.sort()
    if np.any(hashes[1:] == hashes[:-1]):
        refuse_repeated_cells(names)


def _require_place(place: Path, needed: int) -> None:
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        msg = f"{place} is no folder that can be written, and the mapped ids go there; pass cache= (--cache), a folder that can"
        raise ArtefactError(msg)
    free = shutil.disk_usage(place).free
    if free < needed:
        msg = f"the mapped ids take {needed / 1e9:,.2f} GB, {free / 1e9:,.2f} GB are free in {place}; make room, or pass cache= (--cache)"
        raise ArtefactError(msg)


def _name_others(place: Path, target: Path) -> None:
    """Delete what was made of earlier shards of this corpus, and warn of what killed processes left."""
    for other in place.glob("mapped-*"):
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
    for other in place.glob(".mapped-*"):
        logger.warning("%s is left of a killed process unless one is writing it now; delete it", other)


def _memory() -> float:
    """Return the bytes of memory this process may use: the machine's, or its control group's limit."""
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    try:
        limits.append(float(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        pass
    return min(limits)
