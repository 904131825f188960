"""``c2s annotate``: cell types by likelihood over a closed label set."""

from __future__ import annotations

from pathlib import Path

import typer

from c2s.cli._config import config_option


def annotate(
    model: Path = typer.Argument(..., metavar="MODEL", help="Folder of a model trained on cell_type_annotation."),
    cells: Path = typer.Argument(..., metavar="CELLS.h5ad", help="Cells to annotate."),
    out: Path = typer.Argument(..., metavar="OUT.csv", help="label, probability, margin and one column per label."),
    labels: list[str] = typer.Option(
        [], "--label", help="Candidate label; repeat it. [default: the training labels]", show_default=False
    ),
    uniform_prior: bool = typer.Option(False, "--uniform-prior", help="Favour no label for being common in training."),
    layer: str = typer.Option(None, help="'raw' for adata.raw, or a layer. [default: X]", show_default=False),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace OUT.csv."),
    config: Path | None = config_option(),
) -> None:
    """Write the most likely cell type of each cell.

    **Example**

    `c2s annotate runs/pbmc/model cells.h5ad types.csv`
    """
    from c2s.artefacts import atomic_path, check_file, spare_inputs
    from c2s.cells.reading import read_cells
    from c2s.models.cell_lm import load_model
    from c2s.sentences.encode import encode

    check_file(out, overwrite=overwrite)
    spare_inputs(out, model, cells)
    known = load_model(model)
    sentences = encode(read_cells(cells), layer=layer, vocabulary=known.vocabulary, background=known.background)
    table = known.annotate(sentences, labels=labels or None, prior="uniform" if uniform_prior else "training")
    with atomic_path(out) as temporary:
        table.to_csv(temporary)
    typer.echo(f"{len(table):,} cells, {table['label'].nunique()} types → {out}")
