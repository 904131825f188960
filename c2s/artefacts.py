"""Files on disk: atomic writes, JSON, hashes, and output folders that are never overwritten by accident."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from c2s.errors import ArtefactError

OWN_FILES = ("corpus.json", "decoder.json", "c2s.json", "plan.json", "screen.json", "demo.json")
RUN_FILE, RUN_KEYS = "config.json", {"task", "model", "steps"}  # a training run; other programs write config.json too


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` that replaces it when the block succeeds and vanishes when it fails."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; results are ordinary ones
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN becomes ``null``, numpy scalars and arrays become plain values."""
    text = json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the JSON value in ``path``.

    Raises
    ------
    ArtefactError
        The file is missing, cannot be read or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"no file {path}"
        raise ArtefactError(msg) from error
    except OSError as error:
        msg = f"cannot read {path}: {error}"
        raise ArtefactError(msg) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is not valid JSON ({error}); it may be truncated: write it again"
        raise ArtefactError(msg) from error


def plain(value: Any) -> Any:
    """Return ``value`` with numpy scalars, arrays, paths and sets as what JSON can hold, and NaN as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)  # the order of a set differs from process to process
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def prepare_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return ``path`` as an existing empty folder.

    Raises
    ------
    ArtefactError
        The folder holds files and ``overwrite`` is false, or the path is a file, or ``overwrite`` would delete a folder
        that c2s did not write (it holds none of :data:`OWN_FILES` and no training run).
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        msg = f"{folder} is a file; name a folder"
        raise ArtefactError(msg)
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            msg = f"{folder} is not empty; name another folder, or pass overwrite=True (--overwrite) to replace it"
            raise ArtefactError(msg)
        if not _is_own(folder):
            msg = f"{folder} was not written by c2s, so overwrite (--overwrite) does not delete it; name another folder"
            raise ArtefactError(msg)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_own(folder: Path) -> bool:
    """Return whether c2s wrote ``folder``."""
    if any((folder / name).is_file() for name in OWN_FILES):
        return True
    try:
        record = read_json(folder / RUN_FILE)
    except ArtefactError:
        return False
    return isinstance(record, dict) and record.keys() >= RUN_KEYS


def hash_of(*parts: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of arrays (dtype, shape, bytes) and of anything JSON can hold."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(json.dumps(plain(part), sort_keys=True).encode())
        digest.update(b"\x00")
    return digest.hexdigest()[:16]
