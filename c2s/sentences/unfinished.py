"""The hidden folder of a corpus being written: what is done, what a killed run left, and whether there is room."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from c2s.cells.columns import RECORD
from c2s.errors import ArtefactError

logger = logging.getLogger(__name__)

WORK, CLOSING = "unfinished", "closing"  # the working folder, and its name while it is removed


@contextmanager
def working_folder(folder: Path) -> Iterator[Path]:
    """Yield ``folder/unfinished`` with all an earlier run recorded there, and remove it when the block succeeds.

    When the block fails it stays, for the next run to go on with; if nothing in it was done, ``folder`` goes whole.
    """
    work, closing = folder / WORK, folder / CLOSING
    if closing.is_dir() and not work.is_dir():
        os.replace(closing, work)
    work.mkdir(exist_ok=True)
    for temporary in work.glob("part-*"):  # of killed processes
        temporary.unlink(missing_ok=True)
    try:
        yield work
    except BaseException:
        if not (any(work.glob("shard-*.json")) or any(work.glob(f"*/{RECORD}"))):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    for rows in work.glob("rows-*"):
        (rows / RECORD).unlink(missing_ok=True)  # first: without it they do not count as whole
        shutil.rmtree(rows)
    os.replace(
        work, closing
    )  # at once, so that a worker still busy with a shard done elsewhere finds no folder to write to
    shutil.rmtree(closing)


def name_leftovers(out: Path, folder: Path) -> None:
    """Warn of what killed runs with other cells or settings left beside ``out``: nobody else will go on with it."""
    for other in out.absolute().parent.glob(f".{out.name}.*"):
        if other.name != folder.name and any((other / name).is_dir() for name in (WORK, CLOSING)):
            logger.warning(
                "%s is left of an unfinished run with other cells or settings; delete it if nobody needs it", other
            )


def require_room(out: Path, n_bytes: int, *, what: str, remedy: str = "") -> None:
    """Refuse to start what cannot end.

    Parameters
    ----------
    n_bytes : int
        How much will be written beside or below ``out``.
    what, remedy : str
        For the message.

    Raises
    ------
    ArtefactError
        The disk has less free.
    """
    above = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(above).free
    if free < n_bytes:
        msg = f"{out} needs up to {n_bytes / 1e9:,.2f} GB {what}, {free / 1e9:,.2f} GB are free; make room{remedy}"
        raise ArtefactError(msg)
