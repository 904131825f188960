"""Cards: what a benchmark measured, on what, with which versions, on which machine, at which commit."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from c2s.artefacts import hash_of, write_json

PACKAGES = ("c2s", "anndata", "scanpy", "numpy", "scipy", "numba", "scikit-learn", "torch", "transformers", "gseapy")
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes
    ----------
    name : str
        What was measured, with its unit, in words.
    value : float or None
        The measurement; None where it could not be had, and then ``reason`` says why.
    low, high : float or None
        Its interval; ``notes`` of the card say which kind.
    n : int or None
        How many units it rests on.
    seeds : list of int or None
        The seeds it rests on.
    bar : str or None
        The figure asked for, in words: ``">= 0.90 in at least 4 of 5"``.
    met : bool or None
        Whether the bar is met; None without a bar, or where it could not be measured.
    reason : str or None
        Why a bar is unmet or a value missing. Required in both cases.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    seeds: list[int] | None = None
    bar: str | None = None
    met: bool | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        missing = self.value is None or (isinstance(self.value, float) and math.isnan(self.value))
        if (missing or self.met is False) and not self.reason:
            msg = f"figure {self.name!r} is {'missing' if missing else 'below its bar'}: give the reason"
            raise ValueError(msg)
        if self.bar is not None and self.met is None and not missing:
            msg = f"figure {self.name!r} names a bar ({self.bar}) but not whether it is met"
            raise ValueError(msg)


def write_card(
    folder: Path, figures: Sequence[Figure], *, data: dict[str, Any], notes: Sequence[str] = (), seconds: float
) -> Path:
    """Write ``folder/card.json`` and return its path.

    Parameters
    ----------
    folder : Path
        The benchmark's folder.
    figures : sequence of Figure
        What was measured; an unmet bar stays in, with its reason.
    data : dict
        Which data it was measured on: name, cells, genes, hash; never a path.
    notes : sequence of str
        How to read the figures.
    seconds : float
        Wall-clock time of the measurement.
    """
    path = folder / "card.json"
    write_json(
        path,
        {
            "figures": [asdict(figure) for figure in figures],
            "data": data,
            "notes": list(notes),
            "versions": versions(),
            "machine": machine(),
            "commit": commit(),
            "seconds": round(float(seconds), 1),
        },
    )
    return path


def code_hash() -> str:
    """Return a hash of the package's sources: a cached run counts only for the code that made it."""
    sources = sorted((ROOT / "c2s").rglob("*.py"))
    return hash_of({str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sources})


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide results; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return the processor's model, usable cores, memory in GiB and accelerator. No host name, no path."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": _processor(), "cores": usable, "memory_gib": _memory_gib(), "accelerator": _accelerator()}


def commit() -> str | None:
    """Return the short commit, with ``+`` behind it where tracked files differ from it; None outside a git checkout."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if not head:
        return None
    return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _accelerator() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
