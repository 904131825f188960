"""A bar tells cells a second and the time that remains, and fills no log."""

from __future__ import annotations

import io
import re
import sys

from c2s.sentences import progress
from c2s.sentences.progress import progress_bar


def shown(monkeypatch, *, terminal: bool, pause: float = 0.0) -> str:
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "LINE_SECONDS", pause)
    with progress_bar(100_000, done=20_000, what="encoding", unit="cells", shown=True) as bar:
        for _ in range(800):
            bar.update(100)
    return stream.getvalue().rstrip() + "\n"


def test_a_log_gets_a_line_at_each_hundredth_at_most(monkeypatch):
    lines = shown(monkeypatch, terminal=False).splitlines()
    assert 3 <= len(lines) <= 102
    assert "\r" not in "".join(lines)
    for line in lines[1:-1]:
        assert re.match(r"encoding: +\d+%\|.*\| \d+\.?\d*k/100k \[\d\d:\d\d<\d\d:\d\d, .*cells/s\]$", line), line
    assert "100k/100k" in lines[-1]


def test_a_log_gets_no_line_before_its_time(monkeypatch):
    assert len(shown(monkeypatch, terminal=False, pause=30.0).splitlines()) == 2  # at the start and at the end


def test_a_terminal_gets_one_line_that_is_written_over(monkeypatch):
    text = shown(monkeypatch, terminal=True)
    assert text.startswith("\r")
    assert text.count("\n") == 1


def test_nothing_is_shown_when_told(capsys):
    with progress_bar(10, what="encoding", unit="cells", shown=False) as bar:
        bar.update(10)
    assert capsys.readouterr().err == ""
