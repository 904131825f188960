"""One writer at a time: a lock file that the kernel releases when its process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from c2s.errors import ArtefactError

logger = logging.getLogger(__name__)

PATIENCE = 0.5  # seconds: a process that is just ending
_BUSY = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}
_UNKNOWN = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


@contextmanager
def locked(path: str | os.PathLike[str], *, what: str) -> Iterator[None]:
    """Hold the lock file ``path``, which goes when the block ends. A killed process leaves the file, but not the lock.

    Parameters
    ----------
    what : str
        What is locked, for the message.

    Raises
    ------
    ArtefactError
        Another process, on this machine or on one that shares the file system, holds it; the message names that process.
    """
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquire(file, what)
    try:
        os.truncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is held, so that no other process has it
        os.close(handle)


def locked_folder(folder: str | os.PathLike[str]) -> AbstractContextManager[None]:
    """Return a lock on a run's folder, held in a hidden file beside it, so that the folder itself may be emptied."""
    place = Path(folder).resolve()
    return locked(place.parent / f".{place.name}.lock", what=f"the run in {folder}")


def _acquire(file: Path, what: str) -> int:
    """Return a handle of ``file`` that holds its lock."""
    end = time.monotonic() + PATIENCE
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _UNKNOWN:
                logger.warning(
                    "the file system of %s knows no locks; see to it that no other process writes %s", file, what
                )
                return handle
            holder = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
            os.close(handle)
            if error.errno not in _BUSY:
                raise
            if time.monotonic() < end:
                time.sleep(0.05)
                continue
            msg = f"{what} is being written by {holder}; wait for it, or name another place"
            raise ArtefactError(msg) from error
        if file.exists() and os.path.samestat(file.stat(), os.fstat(handle)):
            return handle
        os.close(handle)  # its last holder removed it meanwhile: what is locked is no longer there
