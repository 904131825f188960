"""``c2s genes``: gene names by a table, or the genes of another species, and a report of what became of each."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from c2s.cli._config import config_option
from c2s.cli.encode import OnCollision

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.cells.gene_report import GeneReport

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False
)


class OnAmbiguous(StrEnum):
    """What happens to a gene with several new names."""

    drop = "drop"
    keep = "keep"
    error = "error"


class OnMany(StrEnum):
    """What happens to genes that share an ortholog."""

    drop = "drop"
    sum = "sum"


class Species(StrEnum):
    """What genes can become."""

    human = "human"
    mouse = "mouse"


CELLS = typer.Argument(..., metavar="CELLS.h5ad", help="Cells × genes.")
OUT = typer.Argument(..., metavar="OUT.h5ad", help="The same cells with the new genes.")
TABLE = typer.Option(..., metavar="FILE|NAME", help="CSV or TSV, plain or .gz, or a name of the catalogue.")
SOURCE = typer.Option(None, metavar="COLUMN", help="Old names: a header's word, or a number. [default: 1]")
TARGET = typer.Option(None, metavar="COLUMN", help="New names: likewise. [default: 2]")
REPORT = typer.Option(None, metavar="FILE.csv", help="Write what became of each gene. [default: nothing]")
OVERWRITE = typer.Option(False, "--overwrite", help="Replace OUT.h5ad and the report.")
DRY_RUN = typer.Option(False, "--dry-run", help="Print the settings as JSON and stop.")


@app.callback()
def genes() -> None:
    """Give genes their approved symbols, or map mouse genes to human ones and back, by a table.

    Each gene is renamed, merged, dropped or left, and `--report` says which and why.
    """


@app.command("map")
def map_genes(
    cells: Path = CELLS,
    out: Path = OUT,
    table: str = TABLE,
    source: str = SOURCE,
    target: str = TARGET,
    on_ambiguous: OnAmbiguous = typer.Option(OnAmbiguous.drop, help="Genes with several new names."),
    on_collision: OnCollision = typer.Option(
        OnCollision.error, help="Several genes with the same new name: refuse, or add counts up."
    ),
    report: Path = REPORT,
    overwrite: bool = OVERWRITE,
    config: Path | None = config_option(),
    dry_run: bool = DRY_RUN,
) -> None:
    """Rename genes by a table of old and new names: aliases or Ensembl ids to approved symbols.

    **Examples**

    `c2s genes map cells.h5ad renamed.h5ad --table aliases.tsv.gz --report genes.csv`

    `c2s genes map cells.h5ad renamed.h5ad --table hgnc.txt --source alias_symbol --target symbol`

    `c2s genes map cells.h5ad renamed.h5ad --table gencode44_id_to_symbol --on-collision sum`
    """
    if dry_run:
        _show({name: value for name, value in locals().items() if name not in {"dry_run", "config"}})
        return
    from c2s.cells.catalogue import find_table
    from c2s.cells.identity import read_gene_table, rename_genes
    from c2s.cells.reading import read_cells

    _check(cells, table, out, report, overwrite)
    names = read_gene_table(find_table(table), source=source, target=target)
    renamed, outcome = rename_genes(
        read_cells(cells), names, on_ambiguous=on_ambiguous.value, on_collision=on_collision.value
    )
    _write(renamed, outcome, out, report)


@app.command("ortholog")
def ortholog(
    cells: Path = CELLS,
    out: Path = OUT,
    table: str = TABLE,
    species: Species = typer.Option(..., help="What the genes become."),
    source: str = SOURCE,
    target: str = TARGET,
    on_many: OnMany = typer.Option(OnMany.drop, help="Genes that share an ortholog: drop, or add counts up."),
    report: Path = REPORT,
    overwrite: bool = OVERWRITE,
    config: Path | None = config_option(),
    dry_run: bool = DRY_RUN,
) -> None:
    """Map mouse genes to their human orthologs, or human to mouse; the table may run in either direction.

    **Examples**

    `c2s genes ortholog mouse.h5ad human.h5ad --table ensembl105_human_mouse --species human`

    `c2s genes ortholog mouse.h5ad human.h5ad --table pairs.csv --species human --on-many sum --report genes.csv`
    """
    if dry_run:
        _show({name: value for name, value in locals().items() if name not in {"dry_run", "config"}})
        return
    from c2s.cells.catalogue import find_table
    from c2s.cells.identity import read_gene_table, to_species
    from c2s.cells.reading import read_cells

    _check(cells, table, out, report, overwrite)
    pairs = read_gene_table(find_table(table), source=source, target=target)
    mapped, outcome = to_species(read_cells(cells), pairs, species=species.value, on_many=on_many.value)
    _write(mapped, outcome, out, report)


def _show(settings: dict[str, object]) -> None:
    import json

    typer.echo(json.dumps(settings, indent=2, default=str))


def _check(cells: Path, table: str, out: Path, report: Path | None, overwrite: bool) -> None:
    from c2s.artefacts import check_file, spare_inputs

    for path in (out, report):
        if path is not None:
            check_file(path, overwrite=overwrite)
            spare_inputs(path, cells, table)
    spare_inputs(report, out)  # nor may one output be the other


def _write(cells: AnnData, outcome: GeneReport, out: Path, report: Path | None) -> None:
    from c2s.artefacts import atomic_path

    with atomic_path(out) as temporary:
        cells.write_h5ad(temporary, compression="gzip")
    if report is not None:
        outcome.write(report)
    typer.echo(outcome.summary())
    typer.echo(f"{cells.n_obs:,} cells × {cells.n_vars:,} genes → {out}")
    if report is not None:
        typer.echo(f"what became of each gene → {report}")
