"""Files on disk: atomic writes, JSON, hashes, and output folders that are never overwritten by accident."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

import numpy as np

from c2s.errors import ArtefactError

# files that mark a folder as ours, and keys they hold: other programs write a plan.json or a config.json, too
OWN_FILES = {
    "corpus.json": {"format", "n_ids", "vocabulary", "encoding"},
    "decoder.json": {"format", "unit", "vocabulary", "surface"},
    "c2s.json": {"settings", "vocabulary", "background"},
    "plan.json": {"key", "config"},
    "screen.json": {"config", "contexts", "programme", "gates"},
    "demo.json": {"seed", "quick"},
    "config.json": {"task", "model", "steps", "labels_key", "perturbation_key"},  # a training run
    "reinforcement.json": {"recipe", "settings"},
    "results.json": {"format", "results"},  # an evaluation
    "router.json": {"format", "n_layers", "base"},
    "plans.json": {"format", "base", "plans"},  # a search of layer plans
}

_SHORT = 100  # items of a list that are laid out one a line


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` that replaces it when the block succeeds and vanishes when it fails; a link is followed."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; results are ordinary ones
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as JSON, atomically: indented, long lists on one line.

    NaN becomes ``null``, numpy scalars and arrays become plain values.
    """
    text = _laid_out(plain(value)) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _laid_out(value: Any, margin: str = "\n") -> str:
    """Return plain ``value`` as JSON that people can read, and that takes no time where a list has a line a gene."""
    inner = margin + "  "
    if isinstance(value, dict) and value:
        items = (f"{json.dumps(key, ensure_ascii=False)}: {_laid_out(item, inner)}" for key, item in value.items())
        return "{" + inner + f",{inner}".join(items) + margin + "}"
    if isinstance(value, list) and 0 < len(value) <= _SHORT:
        return "[" + inner + f",{inner}".join(_laid_out(item, inner) for item in value) + margin + "]"
    kinds = set(map(type, value)) if isinstance(value, list) else set()
    if kinds == {int}:
        return str(value)
    if kinds == {str}:
        return "[" + ", ".join(map(encode_basestring, value)) + "]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


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


def read_record(path: str | os.PathLike[str], *, kind: str, version: int) -> dict[str, Any]:
    """Return the JSON mapping in ``path`` that says it is of this kind and of no later version.

    Raises
    ------
    ArtefactError
        The file cannot be read, is of another kind or of a later version.
    """
    record = read_json(path)
    found = record if isinstance(record, dict) else {}
    number = found.get("version", 0)
    if found.get("format") != kind or not isinstance(number, int):
        msg = f"{path} holds a record of {found.get('format')!r}, version {number!r}; expected {kind!r}. Write it again"
        raise ArtefactError(msg)
    if number > version:
        msg = f"{path} is version {number} of {kind!r}; this c2s reads up to {version}: install a newer c2s"
        raise ArtefactError(msg)
    return found


@contextmanager
def whole_record(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what a record with missing or wrong fields makes the block raise into an ArtefactError that names ``path``."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        msg = f"{path} is damaged ({reason}); write it again"
        raise ArtefactError(msg) from error


def plain(value: Any) -> Any:
    """Return ``value`` with numpy scalars, arrays, paths and sets as what JSON can hold, and NaN as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        whole = len(value) > _SHORT and set(map(type, value)) <= {str, int, bool}
        return list(value) if whole else [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)  # the order of a set differs from process to process
    if isinstance(value, np.ndarray):
        finite = value.dtype.kind in "iub" or (value.dtype.kind == "f" and bool(np.isfinite(value).all()))
        return value.tolist() if finite else plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def require_access(path: Path) -> None:
    """Raise an ArtefactError where ``path`` lies in, or is, a folder that may not be read; return None otherwise.

    Asked first, because in a closed folder not even what is there can be told.
    """
    try:
        if path.is_dir():
            os.scandir(path).close()
            os.stat(f"{path}/.")  # noqa: PTH116  pathlib drops the dot, which asks for more
    except PermissionError as error:
        raise no_permission(path) from error


def no_permission(path: Path) -> ArtefactError:
    """Return what to raise where ``path`` may not be read."""
    return ArtefactError(f"cannot read {path}: no permission; ask its owner, or copy it to where you may read")


def check_file(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return ``path`` if :func:`atomic_path` may write that file; nothing is touched, so ask before the work.

    Raises
    ------
    ArtefactError
        The file exists and ``overwrite`` is false, or the path is a folder, or nothing can be written there.
    """
    file = Path(path)
    if file.is_dir():
        msg = f"{file} is a folder; name a file"
        raise ArtefactError(msg)
    if file.exists() and not file.is_file():
        msg = f"{file} is a device or a pipe, which a file would replace; name a file"
        raise ArtefactError(msg)
    if file.exists() and not overwrite:
        msg = f"{file} exists; name another file, or pass --overwrite to replace it"
        raise ArtefactError(msg)
    _check_above(file)
    return file


def check_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return ``path`` if that folder may be made, filled or replaced; nothing is touched, so ask before the work.

    Raises
    ------
    ArtefactError
        The folder holds files and ``overwrite`` is false; the path is a file, or nothing can be written there; or
        ``overwrite`` would delete a folder that c2s did not write (it holds none of :data:`OWN_FILES` with their keys),
        that is a link, a mount point or the working folder.
    """
    folder = Path(path)
    if not folder.exists():
        if folder.is_symlink():
            msg = f"{folder} is a link to {folder.readlink()}, which does not exist; make that folder, or name another"
            raise ArtefactError(msg)
        _check_above(folder)
        return folder
    if not folder.is_dir():
        msg = f"{folder} is a file; name a folder"
        raise ArtefactError(msg)
    if not any(folder.iterdir()):
        return folder
    if not overwrite:
        begun = (folder / "checkpoints").is_dir() and _is_own(folder)
        then = ", or resume=True (--resume) to go on with the run that was begun there" if begun else ""
        msg = f"{folder} is not empty; name another folder, or pass overwrite=True (--overwrite) to replace it{then}"
        raise ArtefactError(msg)
    if not _is_own(folder):
        msg = f"{folder} was not written by c2s, so overwrite (--overwrite) does not delete it; name another folder"
        raise ArtefactError(msg)
    if folder.is_symlink():
        msg = f"{folder} is a link, which overwrite (--overwrite) does not follow; name the folder itself: {folder.resolve()}"
        raise ArtefactError(msg)
    _refuse_fixed(folder)
    return folder


def spare_inputs(out: str | os.PathLike[str] | None, *inputs: str | os.PathLike[str] | None) -> None:
    """Refuse an output that is, or holds, one of the inputs: to overwrite it would delete what is read.

    Raises
    ------
    ArtefactError
        An input, or the ``model`` in an input that is a run folder, lies at or below ``out``, or an input is a ``.zarr`` store that ``out``
        lies in; inputs that are None are none.
    """
    if out is None:
        return
    target = Path(out).resolve()
    for path in inputs:
        if path is None:
            continue
        read = [Path(path).resolve()]
        with suppress(PermissionError):  # the reader says so
            if (read[0] / "model").is_dir():
                read.append((read[0] / "model").resolve())
        if any(each.is_relative_to(target) for each in read):
            msg = f"{out} is or holds {path}, which is an input; name another place for the output"
            raise ArtefactError(msg)
        if Path(path).suffix == ".zarr" and target.is_relative_to(Path(path).resolve()):
            msg = f"{out} lies in the store {path}, which is an input; name another place for the output"
            raise ArtefactError(msg)


def prepare_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return ``path`` as an existing empty folder; :func:`check_folder` says what is refused."""
    folder = check_folder(path, overwrite=overwrite)
    if folder.is_dir() and any(folder.iterdir()):
        with whole_folder(folder, overwrite=True):
            pass
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def whole_folder(
    path: str | os.PathLike[str], *, overwrite: bool = False, resume_key: str | None = None
) -> Iterator[Path]:
    """Yield an empty hidden sibling of ``path`` that takes its place when the block succeeds and vanishes when it fails.

    What ``path`` held stays until then. A process killed meanwhile leaves its sibling behind, which no later write minds.
    With ``resume_key`` the sibling is named by it and stays when the block fails, so that the next call with the same
    key finds what was done: the block has to know what of it is whole.

    Raises
    ------
    ArtefactError
        As :func:`check_folder`; or the sibling cannot take its place, and then it is kept and named.
    """
    target = check_folder(path, overwrite=overwrite).resolve()
    _check_above(target)
    if target.exists():
        _refuse_fixed(target)
    scratch = _sibling(target) if resume_key is None else target.parent / f".{target.name}.{resume_key}"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        yield scratch
    except BaseException:
        if resume_key is None:
            shutil.rmtree(scratch, ignore_errors=True)
        raise
    try:
        check_folder(target, overwrite=overwrite)  # again: the block may have taken hours
        _swap(scratch, target, replace=overwrite)
    except OSError as error:
        msg = f"cannot replace {target}: {error}. What was written is kept in {scratch}"
        raise ArtefactError(msg) from error


def _swap(new: Path, target: Path, *, replace: bool) -> None:
    """Put the folder ``new`` in the place of ``target``; an older one is deleted only after that.

    Without ``replace`` the kernel refuses a target that another process has filled since it was looked at.
    """
    ordinary = 0o666 & ~_umask()
    for file in new.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(ordinary)  # safetensors makes private files
    if not replace or not target.exists():
        new.rename(target)
        return
    old = _sibling(target)
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sibling(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    folder.chmod(0o777 & ~_umask())
    return folder


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _check_above(path: Path) -> None:
    """Refuse a path below a file, or in a folder that cannot be written."""
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        msg = f"{path} lies below {above}, which is a file; name another place"
        raise ArtefactError(msg)
    if not os.access(above, os.W_OK | os.X_OK):
        msg = f"{path} cannot be written: no permission in {above}; name another place"
        raise ArtefactError(msg)


def _refuse_fixed(folder: Path) -> None:
    """Refuse a folder that cannot be replaced by another of its name."""
    if folder.is_mount() or Path.cwd().is_relative_to(folder.resolve()):
        msg = f"{folder} is a mount point or holds the working folder, so it cannot be replaced whole; name a folder in it"
        raise ArtefactError(msg)


def _is_own(folder: Path) -> bool:
    """Return whether c2s wrote ``folder``."""
    for name, keys in OWN_FILES.items():
        if (folder / name).is_file():
            try:
                record = read_json(folder / name)
            except ArtefactError:
                continue
            if isinstance(record, dict) and record.keys() >= keys:
                return True
    return False


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
