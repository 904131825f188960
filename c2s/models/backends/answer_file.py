"""Answers kept as they arrive: one JSON line each, on disk before it counts."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from c2s.errors import ArtefactError
from c2s.locks import locked
from c2s.models.backends.base import Completion, Finish

logger = logging.getLogger(__name__)


class AnswerFile:
    """Answers by key, in a file that one process holds; made by :func:`opened`."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle = path, handle
        self.known: dict[str, Completion] = {}
        self._read()

    def add(self, key: str, answer: Completion) -> None:
        """Write an answer and wait until the disk has it; threads take turns outside.

        Raises
        ------
        ArtefactError
            The disk is full or fails. Nothing of this answer is left in the file.
        """
        line = json.dumps({"key": key, **asdict(answer)}).encode("ascii") + b"\n"
        end = os.fstat(self._handle).st_size
        try:
            while line:
                line = line[os.write(self._handle, line) :]
            os.fsync(self._handle)
        except OSError as error:
            os.ftruncate(self._handle, end)
            msg = f"cannot write {self.path}: {error}; make room, and call again: what is in it is not asked for again"
            raise ArtefactError(msg) from error
        self.known[key] = answer

    def _read(self) -> None:
        """Read the answers; a last line that was cut off is taken away, other broken lines are left out."""
        text = self.path.read_bytes()
        if text and not text.startswith(b"{"):
            msg = f"{self.path} is no file of answers, and nothing is written to it; name another"
            raise ArtefactError(msg)
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            logger.warning("the last line of %s was cut off; it is asked for again", self.path)
            os.ftruncate(self._handle, whole)
        for number, line in enumerate(text[:whole].split(b"\n")[:-1], start=1):
            try:
                key, answer = _record(line)
            except (ValueError, KeyError, TypeError):
                logger.warning("line %d of %s is no answer; it is left out", number, self.path)
                continue
            self.known[key] = answer


def _record(line: bytes) -> tuple[str, Completion]:
    record = json.loads(line)
    answer = Completion(*(record[name] for name in ("text", "finish_reason", "n_prompt_tokens", "n_tokens")))
    counts = answer.n_prompt_tokens, answer.n_tokens
    sound = isinstance(answer.text, str) and answer.finish_reason in get_args(Finish)
    if not sound or not all(count is None or isinstance(count, int) for count in counts):
        msg = f"{line[:80]!r} is no answer"
        raise ValueError(msg)
    return str(record["key"]), answer


@contextmanager
def opened(path: Path) -> Iterator[AnswerFile]:
    """Yield the answers in ``path``, which is made where there is none, and held until the block ends.

    Raises
    ------
    ArtefactError
        Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock"), what=str(path)):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            yield AnswerFile(path, handle)
        finally:
            os.close(handle)
