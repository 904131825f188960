"""``c2s perturb``: cells before to cells after each perturbation of a library."""

from __future__ import annotations

from pathlib import Path

import typer

from c2s.cli._config import config_option


def perturb(
    model: Path = typer.Argument(..., metavar="MODEL", help="Folder of a model trained on perturbation responses."),
    cells: Path = typer.Argument(..., metavar="CELLS.h5ad", help="Untreated cells."),
    library: Path = typer.Argument(
        ..., metavar="LIBRARY.csv", help="name, targets, mechanism, smiles, dose, time, role."
    ),
    out: Path = typer.Argument(..., metavar="OUT_FOLDER", help="A corpus; c2s decode turns it into an .h5ad file."),
    n_samples: int = typer.Option(1, min=1, help="Answers sampled per cell and perturbation."),
    layer: str = typer.Option(None, help="'raw' for adata.raw, or a layer. [default: X]", show_default=False),
    seed: int = typer.Option(0, help="Of sampling."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what OUT_FOLDER holds."),
    config: Path | None = config_option(),
) -> None:
    """Write each cell's predicted sentence after each perturbation of a library.

    **Example**

    `c2s perturb runs/screen/model cells.h5ad drugs.csv after && c2s decode after after.h5ad --decoder runs/screen/model`
    """
    from c2s.artefacts import spare_inputs, whole_folder
    from c2s.cells.library import read_library
    from c2s.cells.reading import read_cells
    from c2s.models.cell_lm import load_cell_lm
    from c2s.sentences.encode import encode

    spare_inputs(out, model, cells, library)
    with whole_folder(out, overwrite=overwrite) as scratch:
        known = load_cell_lm(model)
        rows = read_library(library)
        known.task("perturbation_response")
        sentences = encode(read_cells(cells), layer=layer, vocabulary=known.vocabulary, background=known.background)
        after = known.perturb(sentences, rows, n_samples=n_samples, seed=seed)
        after.write(scratch)
    typer.echo(f"{len(after):,} sentences ({len(sentences):,} cells × {len(rows)} perturbations × {n_samples}) → {out}")
