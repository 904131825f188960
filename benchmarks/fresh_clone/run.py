"""What a new user waits for: a fresh clone, an empty pip cache, ``make demo``, ``make test`` twice, ``import c2s``.

Run: ``python -m benchmarks.fresh_clone.run`` (about half an hour on 2 cores; nothing else should run).
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.card import ROOT, Figure, write_card
from c2s.artefacts import read_json

IMPORTS = 5


def main() -> None:
    """Measure in a temporary folder and write the card."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place) / "c2s"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("C2S_", "PYTEST", "VIRTUAL_ENV"))
        }
        environment |= {
            "PIP_CACHE_DIR": str(Path(place) / "pip"),
            "HF_HUB_OFFLINE": "1",
            "XDG_CACHE_HOME": str(Path(place) / "cache"),
        }
        demo = timed(["make", "demo"], clone, environment)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        record = read_json(clone / "runs" / "demo" / "demo.json")
        tests = [timed(["make", "test"], clone, environment) for _ in range(2)]
        imports = [
            timed([str(clone / ".venv" / "bin" / "python"), "-c", "import c2s"], clone, environment)
            for _ in range(IMPORTS)
        ]
        bare = [
            timed([str(clone / ".venv" / "bin" / "python"), "-c", "pass"], clone, environment) for _ in range(IMPORTS)
        ]
    light = statistics.median(imports) - statistics.median(bare)
    inside = sum(record["seconds"].values())
    figures = [
        at_most("make demo, fresh clone and empty pip cache, to the report (s)", demo, 600),
        at_most("the demo itself (s)", inside, 300),
        *(at_most(f"demo: {name} (s)", value, limit) for name, value, limit in (
            ("train", record["seconds"]["train"], 180), ("screen", record["seconds"]["screen"], 60), ("real_cells", record["seconds"]["real_cells"], 40))),
        at_most("largest process (GB)", peak, 6),
        at_most("make test, first run with set-up of the test tools (s)", tests[0], 480),
        at_most("make test, second run in a row (s)", tests[1], 480),
        at_most("import c2s above a bare interpreter, median of 5 (s)", light, 0.3),
    ]  # fmt: skip
    write_card(
        Path(__file__).parent, figures, data={"name": "the demo of this commit", "demo": record},
        notes=["One run each. Both make test runs passed, without C2S_DATA_DIR."], seconds=time.perf_counter() - started,
    )  # fmt: skip


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Return the seconds a command takes; its failure ends the benchmark with the end of its output."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return time.perf_counter() - started


def at_most(name: str, value: float, limit: float) -> Figure:
    """Return a figure whose bar is an upper limit."""
    met = value <= limit
    return Figure(
        name, value, bar=f"<= {limit:g}", met=met, reason=None if met else "slower than asked for on this machine"
    )


if __name__ == "__main__":
    main()
