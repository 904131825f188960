"""``c2s demo``: the whole path, offline, on simulated drug responses and on real blood cells."""

from __future__ import annotations

import time
from pathlib import Path

import typer


def demo(
    out: Path = typer.Argument(
        Path("c2s-demo"), metavar="OUT_FOLDER", help="Gets cells, drugs, model, screen and report."
    ),
    quick: bool = typer.Option(
        False, "--quick", help="A tiny run that only shows that everything works; its results mean nothing."
    ),
    seed: int = typer.Option(0, help="Of simulation, training and screen."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what OUT_FOLDER holds."),
) -> None:
    """Simulate a drug screen, train a model, rank held-out drugs; annotate real cells. Needs no network.

    Responses are simulated: no drug name or target says anything of a real one.

    **Examples**

    `c2s demo`

    `c2s demo out --quick`
    """
    from c2s.artefacts import prepare_folder, write_json
    from c2s.cli.screen import print_result
    from c2s.demo.real_cells import run_real_cells
    from c2s.demo.simulated import run_simulated

    folder = prepare_folder(out, overwrite=overwrite)
    write_json(folder / "demo.json", {"seed": seed, "quick": quick})
    typer.echo(
        "1/2  simulated screen: training drugs, held-out drugs of seven planted classes, two interferon contexts"
    )
    table, seconds = run_simulated(folder, seed=seed, quick=quick)
    print_result(table, folder / "screen")
    record = table.attrs["record"]["demo"]
    auc = record["auc"]
    typer.echo(
        "planted conditional amplifiers among held-out drugs with seen targets, ROC area of the split: "
        f"model {auc['model']:.2f}, ridge {auc['ridge']:.2f}, nearest neighbours {auc['knn']:.2f}; "
        + (
            f"{record['hits']} hits, precision {record['precision']:.2f}, recall {record['recall']:.2f}"
            if record["hits"]
            else "no hit"
        )
    )
    typer.echo(
        "2/2  real cells: 700 blood cells (Zheng 2017, as scanpy ships them), types by likelihood over the label set"
    )
    started = time.perf_counter()
    cells = run_real_cells(folder / "real_cells", seed=seed, quick=quick)
    seconds["real_cells"] = time.perf_counter() - started
    typer.echo(
        f"{cells['n_test']:.0f} held-out cells: accuracy {cells['accuracy']:.2f} (balanced {cells['balanced_accuracy']:.2f}); "
        f"logistic regression on all values {cells['logistic_accuracy']:.2f} (balanced {cells['logistic_balanced_accuracy']:.2f}); "
        f"largest class {cells['majority']:.2f}; decoding R² {cells['decoding_r2']:.2f}"
    )
    write_json(
        folder / "demo.json", {"seed": seed, "quick": quick, "screen": record, "real_cells": cells, "seconds": seconds}
    )
    typer.echo("seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))
    if quick:
        typer.echo(
            "this was --quick: everything ran, but the model is hardly trained; run c2s demo for results that mean something"
        )
    typer.echo(f"open {folder / 'screen' / 'screen.html'}")
