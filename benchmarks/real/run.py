"""The screen on public cells: does a model trained on one donor say what interferon beta does to another donor's cells?

(a) Kang et al. 2018 as excerpted by muscat: donor 101 trains, donor 107 is held out. (b) The excerpt of harmony, which
names no donor: types from a classifier, random-cell split, class I antigen presentation with its parts apart.

Run: ``C2S_DATA_DIR=… python -m benchmarks.real.run [--reduced]``. Reports are in ``runs/real``. ``--reduced`` shows that
everything runs and that what must be refused is refused; its figures mean nothing and no card is written.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
import warnings
from pathlib import Path

import torch

from benchmarks.card import ROOT, Figure, write_card
from benchmarks.real import cells_split, donor
from benchmarks.real.kang import KangFiles, describe, read_harmony, read_muscat

FOLDER = Path(__file__).parent
RUNS = ROOT / "runs"


def main(arguments: list[str] | None = None) -> list[Figure]:
    """Run both parts, print what was found, write the card unless reduced."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reduced", action="store_true", help="a few steps and cells, for CI; writes no card")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder of models and reports (default: runs/real)")
    chosen = parser.parse_args(arguments)
    files = KangFiles.find()
    out = chosen.out or RUNS / ("real_reduced" if chosen.reduced else "real")
    warnings.filterwarnings("ignore", category=UserWarning, module="anndata|torch")
    logging.getLogger("c2s").setLevel(logging.ERROR)  # absent genes and units are in the notes
    torch.set_num_threads(1)  # the models are small: one thread is as fast, and leaves the other core alone
    if chosen.reduced:
        print("REDUCED run: a few steps and cells show that everything runs; the figures below mean nothing.\n")
    figures: list[Figure] = []
    notes: list[str] = []
    started = time.perf_counter()
    for part, name in ((donor, "held_out_donor"), (cells_split, "random_cell_split")):
        begun = time.perf_counter()
        found, said, _ = part.run(files, out / name, seed=chosen.seed, reduced=chosen.reduced)
        figures += found
        notes += said
        print_figures(found, said)
        print(f"{name}: {time.perf_counter() - begun:.0f} s\n")
    seconds = time.perf_counter() - started
    check_finite(figures)
    if chosen.reduced:
        print(
            f"REDUCED run finished in {seconds:.0f} s; benchmarks/real/card.json is left as it is. Reports: {_shown(out)}"
        )
        return figures
    data = {
        "name": "Kang et al. 2018 (GSE96583), 6 h of interferon beta",
        "held-out donor": describe(read_muscat(files.muscat)),
        "random-cell split": describe(read_harmony(files.harmony)),
    }
    notes = [
        "U is 0 where all programme genes are absent and 1 where they lead the sentence. All intervals are 95 % and resample cells: "
        "they speak for these cells and this one model per part, not for new donors.",
        "Observed effects and baselines are mean differences of treated and control cells at the screened cells' mix of types.",
        *notes,
    ]
    write_card(FOLDER, figures, data=data, notes=notes, seconds=seconds)
    print(f"card written in {seconds:.0f} s; reports: {_shown(out)}")
    return figures


def print_figures(figures: list[Figure], notes: list[str]) -> None:
    """Print one line per figure, then the notes."""
    for figure in figures:
        interval = "" if figure.low is None else f" [{figure.low:+.3f}, {figure.high:+.3f}]"
        verdict = "met" if figure.met else f"NOT met: {figure.reason}"
        bar = f"   bar: {figure.bar}: {verdict}" if figure.bar else ""
        value = f"none: {figure.reason}" if figure.value is None else f"{figure.value:.3f}"
        print(f"{figure.name:110s} {value}{interval}{bar}")
    print()
    for note in notes:
        print(note)
    print()


def check_finite(figures: list[Figure]) -> None:
    """Raise where a figure or an end of its interval is not a number."""
    bad = [f.name for f in figures if not all(v is None or math.isfinite(v) for v in (f.value, f.low, f.high))]
    if bad:
        msg = f"not finite: {'; '.join(bad)}"
        raise AssertionError(msg)


def _shown(out: Path) -> str:
    return str(out.relative_to(ROOT)) if out.is_relative_to(ROOT) else out.name


if __name__ == "__main__":
    main()
