"""``c2s evaluate``: predicted perturbed cells against real ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from c2s.cli._config import config_option

if TYPE_CHECKING:
    from c2s.results import Result


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
        None, metavar="TRAINING.h5ad", help="Training cells: space of distances, mean perturbation.", show_default=False
    ),
    off_programme: Path = typer.Option(
        None,
        metavar="GENES.txt",
        help="Genes, one a line, that no reward has seen; distances on them alone.",
        show_default=False,
    ),
    max_cells: int = typer.Option(500, min=2, help="Most cells of a side in distances."),
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
    """
    from c2s.artefacts import spare_inputs, whole_folder
    from c2s.cells.reading import read_cells
    from c2s.metrics.frechet import N_RESAMPLES
    from c2s.metrics.perturbation import UNSCORED, response_scores, space_of, summarised
    from c2s.metrics.response_files import cell_eval_pair, write_changes, write_evaluation
    from c2s.metrics.scfid import scfid

    given = [path for path in (real, predicted, training, off_programme) if path is not None]
    spare_inputs(out, *given)
    with whole_folder(out, overwrite=overwrite) as scratch:
        genes = [] if off_programme is None else off_programme.read_text(encoding="utf-8").split()
        cells = [read_cells(path) for path in (real, predicted)]
        known = None if training is None else read_cells(training)
        space = space_of(cells[0], known, perturbation_key, control)
        scores = response_scores(
            *cells, perturbation_key=perturbation_key, control=control, context_keys=context_keys, training=known, embedder=space,
            off_programme=genes, max_cells=max_cells, seed=seed,
        )  # fmt: skip
        scored = scores.loc[scores["metric"] != UNSCORED, perturbation_key].unique()
        treated = [each[each.obs[perturbation_key].astype(str).isin(scored).to_numpy()] for each in cells]
        results = summarised(scores, seed=seed)
        results += scfid(
            *treated,
            embedder=space,
            groupby=[*context_keys, perturbation_key],
            n_resamples=N_RESAMPLES if intervals else 0,
            seed=seed,
        )
        write_evaluation(scratch, scores, results)
        picture = scratch / "changes.png"
        write_changes(picture, *cells, perturbation_key=perturbation_key, control=control, context_keys=context_keys)
        if cell_eval:
            for name, each in zip(
                ("real", "predicted"), cell_eval_pair(*cells, perturbation_key=perturbation_key, control=control)
            ):
                each.write_h5ad(scratch / f"{name}.h5ad", compression="gzip")
    shown = [row for row in results if not row.metric.startswith("scFID") or row.metric == "scFID, mean of groups"]
    print_results(shown, n=scores.groupby([*context_keys, perturbation_key]).ngroups, out=out)


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
