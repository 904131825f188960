"""``c2s screen``: a perturbation library on cells in two contexts, to a ranked list with its evidence."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from c2s.cli._config import config_option
from c2s.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return ``(i - 1, n)`` for ``"i/n"``."""
    if text is None:
        return None
    index, _, total = text.partition("/")
    if not (index.isdigit() and total.isdigit() and 1 <= int(index) <= int(total)):
        msg = f"--shard is {text!r}; expected i/n with 1 <= i <= n, such as 2/8"
        raise ConfigError(msg)
    return int(index) - 1, int(total)


class _Group(TyperGroup):
    """``c2s screen MODEL …`` runs a screen, ``c2s screen merge …`` joins shards."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read arguments as those of ``run`` unless a sub-verb is named."""
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False, no_args_is_help=True,
    help="Rank a perturbation library by how it moves a gene programme in one context and not in another.",
)  # fmt: skip


@app.command("run")
def screen(
    model: Path = typer.Argument(..., metavar="MODEL", help="Folder of a model trained on perturbation responses."),
    cells: Path = typer.Argument(..., metavar="CELLS.h5ad", help="Untreated cells with the context column."),
    library: Path = typer.Argument(
        ..., metavar="LIBRARY.csv", help="name, targets (A|B), mechanism, smiles, dose, time, role."
    ),
    out: Path = typer.Argument(
        ..., metavar="OUT_FOLDER", help="Gets screen.csv, screen.json, screen.html, screen.png."
    ),
    context_key: str = typer.Option(..., help="Column of obs that tells the contexts apart."),
    contexts: tuple[str, str] = typer.Option(
        ..., help="The context the effect is wanted in, then the one where it is not."
    ),
    programme: str = typer.Option("MHC_CLASS_I", help="A packaged programme, a text file of genes, or a set of --gmt."),
    gmt: Path = typer.Option(
        None, help="GMT file whose sets the programme may name and the pathway display shows.", show_default=False
    ),
    unit_key: str = typer.Option(
        None, help="Column of donors or samples. [default: none, cells are bootstrapped]", show_default=False
    ),
    layer: str = typer.Option(None, help="'raw' for adata.raw, or a layer. [default: X]", show_default=False),
    n_samples: int = typer.Option(2, min=1, help="Answers sampled per cell and perturbation."),
    cells_per_unit: int = typer.Option(16, min=1, help="Most cells screened per unit and context."),
    n_decoys: int = typer.Option(192, min=0, help="Made-up drugs of the null distribution."),
    n_reference: int = typer.Option(16, min=0, help="Training perturbations that the gates ask about."),
    positive_controls: list[str] = typer.Option(
        [], "--positive-control", help="Library row known to move the programme; repeat it."
    ),
    delta: float = typer.Option(0.02, help="Smallest effect on U worth having, and the largest that counts as none."),
    alpha: float = typer.Option(0.05, help="One-sided level of each bound."),
    fdr: float = typer.Option(0.1, help="Largest q-value of a hit."),
    co_treatment: bool = typer.Option(
        False, "--co-treatment", help="The first context is the second plus a treatment: report the Bliss excess."
    ),
    max_rank: int = typer.Option(
        None, min=1, help="Sentence length of the score. [default: median genes per cell]", show_default=False
    ),
    min_share: float = typer.Option(0.5, help="Share of the programme's genes that must be known."),
    temperature: float = typer.Option(1.0, min=0, help="Of sampling."),
    block_size: int = typer.Option(8, min=1, help="Cells a work item."),
    shard: str = typer.Option(
        None,
        metavar="I/N",
        help="Run only every N-th work item from the I-th; then c2s screen merge.",
        show_default=False,
    ),
    threads: int = typer.Option(0, min=0, help="CPU threads; 0 leaves the choice to torch."),
    seed: int = typer.Option(0, help="Of cells, decoys and sampling."),
    overwrite: bool = typer.Option(
        False, "--overwrite", help="Replace what OUT_FOLDER holds instead of going on with it."
    ),
    config: Path | None = config_option(),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the settings as JSON and stop."),
) -> None:
    """Screen a perturbation library on cells in two contexts.

    A killed screen started again with the same arguments goes on where it was.

    **Examples**

    `c2s screen runs/screen/model cells.h5ad drugs.csv out --context-key ifn --contexts low none --unit-key donor`

    `c2s screen runs/m/model cells.h5ad drugs.csv out … --shard 1/4` on four machines, then `c2s screen merge` with the same arguments
    """
    from c2s.screening.config import ScreenConfig

    settings = ScreenConfig(
        context_key=context_key, contexts=contexts, programme=programme, gmt=str(gmt) if gmt else None, unit_key=unit_key,
        layer=layer, n_samples=n_samples, cells_per_unit=cells_per_unit, n_decoys=n_decoys, n_reference=n_reference,
        positive_controls=tuple(positive_controls), delta=delta, alpha=alpha, fdr=fdr, co_treatment=co_treatment,
        max_rank=max_rank, min_share=min_share, temperature=temperature, block_size=block_size, threads=threads, seed=seed,
    )  # fmt: skip
    if dry_run:
        typer.echo(settings.model_dump_json(indent=2))
        return
    part = parse_shard(shard)
    from c2s.artefacts import spare_inputs
    from c2s.cells.library import read_library
    from c2s.cells.reading import read_cells
    from c2s.models.loading import load_cell_lm
    from c2s.screening.screen import screen as run

    spare_inputs(out, model, cells, library, gmt)
    for name in ("plan", "screen"):  # they say which cells are taken, and what the screen will cost, before it starts
        announce = logging.getLogger(f"c2s.screening.{name}")
        announce.setLevel(logging.INFO)
        announce.propagate = False
        announce.addHandler(logging.StreamHandler())
    table = run(
        load_cell_lm(model),
        read_cells(cells),
        read_library(library),
        out,
        config=settings,
        shard=part,
        overwrite=overwrite,
    )
    if part is None:
        print_result(table, out)
    else:
        typer.echo(f"shard {shard} done; when all have run: c2s screen merge {model} {cells} {library} {out}")


@app.command()
def merge(
    model: Path = typer.Argument(..., metavar="MODEL", help="As given to the shards."),
    cells: Path = typer.Argument(..., metavar="CELLS.h5ad", help="As given to the shards."),
    library: Path = typer.Argument(..., metavar="LIBRARY.csv", help="As given to the shards."),
    out: Path = typer.Argument(
        ..., metavar="OUT_FOLDER", help="Where the shards wrote, or where their parts/ were copied."
    ),
) -> None:
    """Join the shards of a screen into its table and report; the settings are those the shards ran with."""
    from c2s.artefacts import read_json
    from c2s.cells.library import read_library
    from c2s.cells.reading import read_cells
    from c2s.models.loading import load_cell_lm
    from c2s.screening.config import ScreenConfig
    from c2s.screening.screen import PLAN_FILE
    from c2s.screening.screen import merge as join

    settings = ScreenConfig(**read_json(out / PLAN_FILE)["config"])
    table = join(load_cell_lm(model), read_cells(cells), read_library(library), out, config=settings)
    print_result(table, out)


def print_result(table: pd.DataFrame, out: Path) -> None:
    """Print the gates, the best rows and where everything lies."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    record = table.attrs["record"]
    marks = {True: "[green]pass[/]", False: "[red]fail[/]", None: "[yellow]not testable[/]"}
    grid = Table(title="Gates", show_header=False, box=None, padding=(0, 1))
    for gate in record["gates"]:
        grid.add_row(marks[gate["passed"]], gate["question"], escape(gate["answer"]))
    console.print(grid)
    first, second = record["contexts"]
    shown = Table(title=f"{escape(record['programme']['name'])}: {int(table['hit'].sum())} hits of {len(table)} rows")
    for column in ("perturbation", "targets", f"effect in {first}", f"effect in {second}", "split", "q", "verdict"):
        shown.add_column(
            escape(column), justify="left" if column in ("perturbation", "targets", "verdict") else "right"
        )
    for row in table.head(12).itertuples():
        verdict = (
            "hit" if row.hit else f"refused: {row.refused_because.partition(':')[0]}" if row.refused_because else ""
        )
        q = "–" if row.q_value != row.q_value else f"{row.q_value:.3f}"  # controls are not tested
        effects = (f"{value:+.3f}" for value in (row.effect_first, row.effect_second, row.split))
        shown.add_row(escape(str(row.perturbation)), escape(str(row.targets)), *effects, q, verdict)
    console.print(shown)
    console.print(f"report: {out / 'screen.html'}   table: {out / 'screen.csv'}", soft_wrap=True, markup=False)
