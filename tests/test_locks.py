"""One writer at a time: a lock is refused while it is held, and never outlives its process."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys

import pytest

from c2s import locks
from c2s.errors import ArtefactError
from c2s.locks import locked

HOLD = """
import sys, time
from c2s.locks import locked
with locked(sys.argv[1], what="the corpus"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.05)


def test_a_held_lock_is_refused_and_names_its_holder(tmp_path):
    with locked(tmp_path / "new" / "lock", what="out"):
        holder = rf"out is being written by process {os.getpid()} on \S+; wait for it, or name another place"
        with pytest.raises(ArtefactError, match=holder), locked(tmp_path / "new" / "lock", what="out"):
            pass
    assert list((tmp_path / "new").iterdir()) == []
    with locked(tmp_path / "new" / "lock", what="out"):
        assert (tmp_path / "new" / "lock").exists()


def test_a_killed_process_leaves_a_file_but_no_lock(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ArtefactError, match=f"process {process.pid}"), locked(tmp_path / "lock", what="out"):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "lock").exists()
    with locked(tmp_path / "lock", what="out"):
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
    assert not (tmp_path / "lock").exists()


def test_a_file_removed_by_its_last_holder_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    real, opened = locks.fcntl.flock, []

    def removed_meanwhile(handle, how):
        opened.append(handle)
        if len(opened) == 1:
            (tmp_path / "lock").unlink()
        real(handle, how)

    monkeypatch.setattr(locks.fcntl, "flock", removed_meanwhile)
    with locked(tmp_path / "lock", what="out"):
        assert len(opened) == 2
        assert (tmp_path / "lock").read_text()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def unknown(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", unknown)
    with caplog.at_level(logging.WARNING, logger="c2s"), locked(tmp_path / "lock", what="out"):
        assert "knows no locks; see to it that no other process writes out" in caplog.text
