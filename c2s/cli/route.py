"""``c2s route``: search the layers that cells need, train a router of them, hold it against rivals of its depth."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from c2s.cli._config import config_option

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False
)


class Method(StrEnum):
    """How plans are searched."""

    uct = "uct"
    random = "random"
    greedy = "greedy"
    exhaustive = "exhaustive"


class Reward(StrEnum):
    """What a plan is worth on a cell."""

    log_probability = "log_probability"
    correct = "correct"


@app.callback()
def route() -> None:
    """Give each cell the layers it needs: search plans, train a router of them, evaluate it against rivals.

    `docs/guide/routing.md` goes through all three.
    """


@app.command("search")
def search(
    model: Path = typer.Argument(..., metavar="MODEL", help="Folder of a model trained on cell_type_annotation."),
    cells: Path = typer.Argument(..., metavar="CELLS.h5ad", help="Training cells with labels; leave test cells out."),
    out: Path = typer.Argument(..., metavar="OUT_FOLDER", help="Gets plans.json, plans.csv, cells/ and search/."),
    labels_key: str = typer.Option("cell_type", help="Column of obs with the right labels."),
    n_cells: int = typer.Option(200, min=1, help="Cells that get a search, alike many of each type."),
    budget: int = typer.Option(64, min=2, help="Plans tried a cell."),
    method: Method = typer.Option(Method.uct, help="How plans are proposed."),
    reward: Reward = typer.Option(
        Reward.log_probability, help="Log-probability of the right label in the closed set, or 1 and 0."
    ),
    length_penalty: float = typer.Option(
        0.3, min=0, help="What a plan of full depth gives up, in units of the reward."
    ),
    n_fresh: int = typer.Option(8, min=1, help="Other cells of the type that a plan must hold on."),
    candidates: int = typer.Option(4, min=1, help="Best plans of a cell that are tested until one holds."),
    margin: float = typer.Option(0.05, min=0, help="Reward that a plan may cost there where it saves layers."),
    alpha: float = typer.Option(0.05, help="Level of that test."),
    pool: int = typer.Option(200, min=1, help="Cells of a type among which the most alike are looked for."),
    layer: str = typer.Option(None, help="'raw' for adata.raw, or a layer. [default: X]", show_default=False),
    seed: int = typer.Option(0, min=0, help="Of cells and searches."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what OUT_FOLDER holds."),
    config: Path | None = config_option(),
) -> None:
    """Search for each of some cells which layers to skip, run or repeat, and keep what holds on other cells of its type.

    A search that was killed goes on where it was when it is called again.

    **Examples**

    `c2s route search runs/pbmc training.h5ad runs/plans`

    `c2s route search runs/pbmc training.h5ad runs/plans --labels-key type --n-cells 400 --budget 128 --length-penalty 0.1`
    """
    from c2s.artefacts import check_folder, spare_inputs
    from c2s.cells.reading import read_cells
    from c2s.models.loading import load_cell_lm
    from c2s.training.plan_search import search_plans
    from c2s.training.plan_settings import PlanSearchConfig

    spare_inputs(out, model, cells)
    check_folder(out, overwrite=overwrite)
    settings = PlanSearchConfig(
        n_cells=n_cells, budget=budget, method=method.value, reward=reward.value, length_penalty=length_penalty, n_fresh=n_fresh,
        candidates=candidates, margin=margin, alpha=alpha, pool=pool, seed=seed,
    )  # fmt: skip
    known = load_cell_lm(model)
    known.task("cell_type_annotation")
    sentences = known.encode(read_cells(cells), layer=layer)
    found = search_plans(known, sentences, out, labels_key=labels_key, config=settings, overwrite=overwrite)
    typer.echo(f"{found.summary()} → {out}")


@app.command("train")
def train(
    model: Path = typer.Argument(..., metavar="MODEL", help="The model that was searched."),
    search: Path = typer.Argument(..., metavar="SEARCH", help="Folder of c2s route search."),
    out: Path = typer.Argument(..., metavar="ROUTER", help="Gets router.json, router.safetensors and training.json."),
    depth: float = typer.Option(
        None, min=0, help="Mean layers to calibrate to on the searched cells. [default: as trained]", show_default=False
    ),
    windows: int = typer.Option(8, min=1, help="Parts of a prompt that are averaged."),
    bottleneck: int = typer.Option(128, min=1, help="Width of the perceptrons."),
    epochs: int = typer.Option(25, min=1, help="Passes over the plans."),
    batch_size: int = typer.Option(16, min=1, help="Prompts an update."),
    learning_rate: float = typer.Option(1e-3, help="Peak rate of AdamW."),
    focusing: float = typer.Option(2.0, min=0, help="Of the focal loss; 0 is cross-entropy."),
    class_balance: float = typer.Option(0.999, min=0, max=0.99999, help="Of rare decisions; 0 weighs all alike."),
    seed: int = typer.Option(0, min=0, help="Of weights and order."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what ROUTER holds."),
    config: Path | None = config_option(),
) -> None:
    """Train a router, a small perceptron a layer, to decide the searched plans from the prompts alone.

    **Examples**

    `c2s route train runs/pbmc runs/plans runs/router`

    `c2s route train runs/pbmc runs/plans runs/router --depth 10`
    """
    from c2s.artefacts import check_folder, read_json, spare_inputs
    from c2s.engines.layer_routing.settings import RouterSettings
    from c2s.models.loading import load_cell_lm
    from c2s.training.routing import RECORD, train_router
    from c2s.training.searched_plans import SearchedPlans

    spare_inputs(out, model, search)
    check_folder(out, overwrite=overwrite)
    settings = RouterSettings(
        windows=windows, bottleneck=bottleneck, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, focusing=focusing,
        class_balance=class_balance, seed=seed,
    )  # fmt: skip
    searched = SearchedPlans.read(search)
    train_router(load_cell_lm(model), searched, out, settings=settings, depth=depth, overwrite=overwrite)
    told = read_json(out / RECORD)
    typer.echo(
        f"{told['cells']:,} cells: taught {told['taught']['mean_layers']:.2f} layers on average, decides {told['decided']['mean_layers']:.2f}, "
        f"{told['agreement']:.0%} of decisions as taught → {out}"
    )


@app.command("evaluate")
def evaluate(
    model: Path = typer.Argument(..., metavar="MODEL", help="The model that the router was trained on."),
    cells: Path = typer.Argument(..., metavar="CELLS.h5ad", help="Test cells with labels, none of them searched."),
    router: Path = typer.Argument(..., metavar="ROUTER", help="Folder of c2s route train."),
    out: Path = typer.Argument(..., metavar="OUT_FOLDER", help="scores.csv, summary.md, decisions.csv, decisions.png, results.json."),
    search: Path = typer.Option(
        ..., metavar="SEARCH", help="Folder of c2s route search: on its cells depth is calibrated and rivals are fitted."
    ),
    labels_key: str = typer.Option("cell_type", help="Column of obs with the right labels."),
    depth: str = typer.Option(
        None, metavar="LAYERS,…", help="Mean depths to calibrate the router to, such as 9,10,11. [default: as trained]",
        show_default=False,
    ),
    draws: int = typer.Option(3, min=0, help="Random removals of layers at each depth."),
    rounds: int = typer.Option(5, min=1, help="Rounds of timing, all rows in turn."),
    timed: int = typer.Option(256, min=1, help="Test cells of a round, at most."),
    layer: str = typer.Option(None, help="'raw' for adata.raw, or a layer. [default: X]", show_default=False),
    seed: int = typer.Option(0, min=0, help="Of removals and intervals."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what OUT_FOLDER holds."),
    config: Path | None = config_option(),
) -> None:  # fmt: skip
    """Hold a router against the model as it is and against rivals of its depth: accuracy, macro F1, layers, token-layers, time.

    **Examples**

    `c2s route evaluate runs/pbmc test.h5ad runs/router scores --search runs/plans`

    `c2s route evaluate runs/pbmc test.h5ad runs/router scores --search runs/plans --depth 9,10,11`
    """
    from c2s.artefacts import spare_inputs, whole_folder
    from c2s.baselines.routing import evaluate_routing
    from c2s.cells.reading import read_cells
    from c2s.engines.layer_routing.router import Router
    from c2s.models.loading import load_cell_lm
    from c2s.training.searched_plans import SearchedPlans

    depths = _depths(depth)
    spare_inputs(out, model, cells, router, search)
    with whole_folder(out, overwrite=overwrite) as scratch:
        routers, searched = Router.load(router), SearchedPlans.read(search)
        known = load_cell_lm(model)
        sentences = known.encode(read_cells(cells), layer=layer)
        found = evaluate_routing(
            known, sentences, routers, labels_key=labels_key, training=searched, depths=depths, draws=draws, rounds=rounds,
            timed=timed, seed=seed,
        )  # fmt: skip
        found.write(scratch)
    typer.echo(found.markdown())
    typer.echo(f"decisions by type and layer: {out / 'decisions.png'}")


def _depths(text: str | None) -> list[float]:
    """Return the numbers of a list with commas."""
    from c2s.errors import ConfigError

    try:
        found = [float(each) for each in (text or "").split(",") if each.strip()]
    except ValueError:
        found = [-1.0]
    if any(not 0 < each < float("inf") for each in found):
        msg = f"--depth {text}: write mean layers with commas between them, such as 9,10,11"
        raise ConfigError(msg)
    return found
