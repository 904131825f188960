"""``c2s annotate``: cell types by likelihood over a closed label set, of cells and of clusters."""

from __future__ import annotations

from pathlib import Path

import typer

from c2s.cli._config import config_option


def annotate(
    model: str = typer.Argument(
        ...,
        metavar="MODEL",
        help="Folder of a model trained on cell_type_annotation, or any causal language model of transformers.",
    ),
    cells: Path = typer.Argument(..., metavar="CELLS.h5ad", help="Cells to annotate."),
    out: Path = typer.Argument(..., metavar="OUT.csv", help="label, probability, margin and one column per label."),
    labels: list[str] = typer.Option(
        [], "--label", help="Candidate label; repeat it. [default: the training labels]", show_default=False
    ),
    uniform_prior: bool = typer.Option(False, "--uniform-prior", help="Favour no label for being common in training."),
    calibration: Path = typer.Option(
        None,
        metavar="JSON",
        help="Of Calibration.write: calibrated probabilities, and 'unknown' below its threshold.",
        show_default=False,
    ),
    clusters: str = typer.Option(
        None,
        metavar="COLUMN",
        help="Also write OUT.clusters.csv: the label of each cluster in this column of obs, with its genes.",
        show_default=False,
    ),
    n_genes: int = typer.Option(200, min=1, help="Genes of a cell shown to a model that reads words."),
    prompts: str = typer.Option(
        "c2s", help="Wordings for a model that reads words: c2s, or the installed cell2sentence."
    ),
    routing: Path = typer.Option(
        None, metavar="ROUTER", help="Of c2s route train: it decides which layers each cell runs.", show_default=False
    ),
    layer: str = typer.Option(None, help="'raw' for adata.raw, or a layer. [default: X]", show_default=False),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace OUT.csv."),
    config: Path | None = config_option(),
) -> None:
    """Write the most likely cell type of each cell.

    **Examples**

    `c2s annotate runs/pbmc cells.h5ad types.csv --clusters leiden`

    `c2s annotate runs/pbmc cells.h5ad types.csv --routing runs/router`

    `c2s annotate models/pythia-410m cells.h5ad types.csv --prompts cell2sentence --label "B cell" --label "T cell"`
    """
    from c2s.artefacts import atomic_path, check_file, spare_inputs
    from c2s.cells.reading import complete_column, read_cells
    from c2s.errors import ConfigError
    from c2s.models.calibration import Calibration
    from c2s.models.cell_lm import CellLM
    from c2s.models.clusters import annotate_clusters
    from c2s.models.loading import load_model

    check_file(out, overwrite=overwrite)
    of_clusters = out.with_suffix(f".clusters{out.suffix}")
    if clusters is not None:
        check_file(of_clusters, overwrite=overwrite)
    spare_inputs(out, Path(model), cells, calibration, routing)
    calibrated = None if calibration is None else Calibration.read(calibration)
    known = load_model(model, prompts=prompts, n_genes=n_genes, routing=routing)
    adata = read_cells(cells)
    groups = None if clusters is None else complete_column(adata.obs, clusters, "clusters")
    sentences = known.encode(adata, layer=layer)
    if isinstance(known, CellLM):
        prior = "uniform" if uniform_prior else "training"
        table = known.annotate(sentences, labels=labels or None, prior=prior, progress=True)
    else:
        if not labels:
            msg = (
                f"{model} was not trained by c2s train, so it has no labels of its own; pass --label for each candidate"
            )
            raise ConfigError(msg)
        table = known.annotate(sentences, labels=labels, progress=True)
    if calibrated is not None:
        table = calibrated.apply(table)
    with atomic_path(out) as temporary:
        table.to_csv(temporary)
    typer.echo(f"{len(table):,} cells, {table['label'].nunique()} types → {out}")
    if isinstance(known, CellLM) and (cost := known.cost()):
        typer.echo(cost)
    if groups is not None:
        found = annotate_clusters(table, groups, sentences)
        with atomic_path(of_clusters) as temporary:
            found.assign(genes=found["genes"].map("; ".join)).to_csv(temporary)
        typer.echo(f"{len(found):,} clusters → {of_clusters}")
