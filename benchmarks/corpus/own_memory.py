"""Memory of a process's own: what the system cannot drop and read again."""

from __future__ import annotations

import gc
import threading
from pathlib import Path


class OwnMemory:
    """How far RssAnon stands above its start, in bytes: ``now()``, and ``most`` of it, looked at a hundred times a second."""

    def __enter__(self) -> OwnMemory:
        self.most, self.base = 0.0, 0.0
        self.base, self.done = self.now(), threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.wait(0.01):
            self.most = max(self.most, anonymous() - self.base)

    def now(self) -> float:
        """Return bytes above the start, with garbage collected."""
        gc.collect()
        return anonymous() - self.base


def anonymous() -> float:
    """Return RssAnon of this process, bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
