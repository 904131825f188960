"""``c2s evaluate``: predicted perturbed cells against real ones."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from c2s.cli._config import config_option

if TYPE_CHECKING:
    from c2s.results import Result

ENDS = (", all cells", ", mean of groups")  # of the rows of scFID that are printed


class Covariance(StrEnum):
    """How scFID takes covariances."""

    plain = "plain"
    shrunk = "shrunk"


def evaluate(
    real: Path = typer.Argument(..., metavar="REAL.h5ad", help="Real cells, controls among them; X is log1p CP10k."),
    predicted: Path = typer.Argument(..., metavar="PREDICTED.h5ad", help="Predicted cells, same columns of obs."),
    out: Path = typer.Argument(..., metavar="OUT_FOLDER", help="scores.csv, summary.md, results.json, changes.png."),
    perturbation_key: str = typer.Option("perturbation", help="Column of obs that names the perturbation."),
    control: str = typer.Option("control", help="Its value for control cells."),
    context_keys: list[str] = typer.Option(
        [], "--context-key", help="Column of the context, as a cell type; repeat it."
    ),
    training: Path = typer.Option(
        None,
        metavar="TRAINING.h5ad",
        help="Training cells: space of distances, mean perturbation, copies; no treated real cell may be among them.",
        show_default=False,
    ),
    road: Path = typer.Option(
        None,
        metavar="FOLDER",
        help="Model, run, corpus or decoder: real cells are encoded, cut and decoded as the predicted ones were.",
        show_default=False,
    ),
    off_programme: Path = typer.Option(
        None,
        metavar="GENES.txt",
        help="Genes, one a line, that no reward has seen; distances on them alone.",
        show_default=False,
    ),
    max_cells: int = typer.Option(500, min=2, help="Most cells of a side in distances."),
    donor_key: str = typer.Option(
        None, metavar="COLUMN", help="Donors of the real cells: scFID between them is its floor.", show_default=False
    ),
    covariance: Covariance = typer.Option(
        Covariance.plain, help="Of scFID: plain and extrapolated, or shrunk for few cells or many dimensions."
    ),
    intervals: bool = typer.Option(True, help="Of scFID, by resampling cells: minutes for many conditions."),
    cell_eval: bool = typer.Option(False, "--cell-eval", help="Also write real.h5ad and predicted.h5ad for cell-eval."),
    seed: int = typer.Option(0, help="Of draws and resamples."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what OUT_FOLDER holds."),
    config: Path | None = config_option(),
) -> None:
    """Score predicted cells: profiles, responding genes, distances, scFID; each condition, and means with intervals.

    **Examples**

    `c2s evaluate real.h5ad predicted.h5ad scores --perturbation-key stim --control ctrl --context-key cell`

    `c2s evaluate real.h5ad prediction.h5ad scores --perturbation-key target_gene --control non-targeting --cell-eval`

    `c2s evaluate real.h5ad decoded.h5ad scores --training train.h5ad --road runs/kang --donor-key donor`
    """
    from c2s.artefacts import spare_inputs, whole_folder
    from c2s.cells.reading import complete_column, read_cells
    from c2s.metrics.cell_fid import scfid
    from c2s.metrics.comparison import Comparison
    from c2s.metrics.frechet import N_RESAMPLES
    from c2s.metrics.neighbours import neighbour_accuracy
    from c2s.metrics.perturbation import scores_of, space_of, summarised
    from c2s.metrics.response_files import cell_eval_pair, write_changes, write_evaluation
    from c2s.metrics.road import SentenceRoad

    given = [path for path in (real, predicted, training, off_programme, road) if path is not None]
    spare_inputs(out, *given)
    with whole_folder(out, overwrite=overwrite) as scratch:
        genes = [] if off_programme is None else off_programme.read_text(encoding="utf-8").split()
        taken = None if road is None else SentenceRoad.read(road)
        cells = [read_cells(path) for path in (real, predicted)]
        if donor_key is not None:
            complete_column(cells[0].obs, donor_key, "donor_key")
        compared = Comparison.of(
            *cells, perturbation_key=perturbation_key, control=control, context_keys=context_keys,
            training=None if training is None else read_cells(training), road=taken,
        )  # fmt: skip
        space = space_of(compared.real, compared.training, perturbation_key, control)
        scores = scores_of(compared, embedder=space, off_programme=genes, max_cells=max_cells, seed=seed)
        results = summarised(scores, seed=seed)
        results += scfid(
            compared.treated(compared.raw), compared.treated(compared.predicted), embedder=space, groupby=compared.keys, road=taken,
            donor_key=donor_key, covariance=covariance.value, n_resamples=N_RESAMPLES if intervals else 0, seed=seed,
        )  # fmt: skip
        sides = [compared.treated(each) for each in (compared.real, compared.predicted)]
        results += neighbour_accuracy(
            *map(space, sides), real_labels=compared.labels(sides[0]), generated_labels=compared.labels(sides[1]),
            training=None if compared.training is None else space(compared.training), space=space.name, seed=seed,
        )  # fmt: skip
        write_evaluation(scratch, scores, results)
        write_changes(scratch / "changes.png", compared)
        if cell_eval:
            for name, each in zip(
                ("real", "predicted"),
                cell_eval_pair(compared.real, compared.predicted, perturbation_key=perturbation_key, control=control),
            ):
                each.write_h5ad(scratch / f"{name}.h5ad", compression="gzip")
    shown = [row for row in results if not row.metric.startswith("scFID") or row.metric.endswith(ENDS)]
    print_results(shown, n=len(compared.conditions), out=out)


def print_results(results: list[Result], *, n: int, out: Path) -> None:
    """Print the means over conditions, and where the rest lies."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(title=f"Means over {n} conditions", box=None)
    for column in ("metric", "value", "95 % interval", "n", "measured on"):
        table.add_column(column, justify="left" if column in ("metric", "measured on") else "right")
    for row in results:
        value = "–" if row.value != row.value else f"{row.value:.4g}"
        ends = "" if row.low is None else f"{row.low:.4g} to {row.high:.4g}"
        table.add_row(escape(row.metric), value, ends, str(row.n), escape(row.space or ""))
    console.print(table)
    console.print(
        f"every condition: {out / 'scores.csv'}   picture: {out / 'changes.png'}", soft_wrap=True, markup=False
    )
