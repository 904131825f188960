"""What every test gets: no network, no display, and public data only where C2S_DATA_DIR says it is."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's threads cost more than they bring on tiny models

import pytest


@pytest.fixture(autouse=True)
def _one_thread():
    """Keep torch at one thread, whatever a test before has left: more of them wait for one another beside other processes."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network(request, monkeypatch):
    """Refuse connections to other machines, except in tests marked ``network``."""
    if request.node.get_closest_marker("network"):
        return
    connect = socket.socket.connect

    def local_only(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            msg = f"a test tried to reach {address[0]}; mark it `network` or leave the network out"
            raise RuntimeError(msg)
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of public data files, or skip with the reason."""
    value = os.environ.get("C2S_DATA_DIR")
    if not value:
        pytest.skip("C2S_DATA_DIR is not set: it names the folder of public data files")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip("C2S_DATA_DIR names no folder")
    return folder
