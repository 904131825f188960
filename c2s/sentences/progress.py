"""A progress bar on a terminal or in a notebook; in a log file a line at each hundredth, half a minute apart or more."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tqdm import auto, tqdm
from tqdm.asyncio import tqdm_asyncio

LINE_SECONDS = 30.0


class _Lines(tqdm):
    """A bar whose every state is a line of its own."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """Return what prints one state."""

        def line(text: str) -> None:
            if text.strip():
                file.write(f"{text}\n")
                file.flush()

        return line


def progress_bar(total: int, *, done: int = 0, what: str, unit: str, shown: bool) -> tqdm:
    """Return a bar on stderr with the share done, units per second since the start, and the time that remains.

    Parameters
    ----------
    total, done : int
        Units in all, and those done before.
    what, unit : str
        Words in front and behind the rate.
    shown : bool
        False shows nothing.
    """
    kind: Any = auto.tqdm
    pace = {"mininterval": 0.2}
    if kind is tqdm_asyncio and not sys.stderr.isatty():  # no notebook, no terminal
        kind, pace = _Lines, {"mininterval": LINE_SECONDS, "miniters": total / 100}
    settings = {"initial": done, "desc": what, "unit": f" {unit}", "unit_scale": True, "smoothing": 0, **pace}
    bar: tqdm = kind(total=total, disable=not shown, **settings)
    return bar
