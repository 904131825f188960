"""``c2s generate``: cells of a given type, as sentences."""

from __future__ import annotations

from pathlib import Path

import typer

from c2s.cli._config import config_option
from c2s.errors import ConfigError


def generate(
    model: Path = typer.Argument(..., metavar="MODEL", help="Folder of a model trained on cell_generation."),
    out: Path = typer.Argument(..., metavar="OUT_FOLDER", help="A corpus; c2s decode turns it into an .h5ad file."),
    n: int = typer.Option(100, min=1, help="Cells."),
    conditions: list[str] = typer.Option(
        [], "--condition", metavar="KEY=VALUE", help="Such as cell_type='B cell'; repeat it."
    ),
    temperature: float = typer.Option(1.0, min=0, help="Of sampling; 0 takes the most likely gene every time."),
    seed: int = typer.Option(0, help="Of sampling."),
    decoding: str = typer.Option(
        None,
        metavar="PRESET|FILE.json",
        help="Of a masked-diffusion model: 'paper', or a file of settings.",
        show_default=False,
    ),
    routing: Path = typer.Option(
        None, metavar="ROUTER", help="Of c2s route train: it decides which layers are run.", show_default=False
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what OUT_FOLDER holds."),
    config: Path | None = config_option(),
) -> None:
    """Write sampled cells: known genes only, none twice.

    **Example**

    `c2s generate runs/cells/model b_cells --n 500 --condition "cell_type=B cell"`

    `c2s generate runs/diffusion/model b_cells --condition "cell_type=B cell" --decoding paper`
    """
    wanted = dict(item.partition("=")[::2] for item in conditions)
    if len(wanted) < len(conditions):
        msg = f"--condition names a key twice: {', '.join(conditions)}"
        raise ConfigError(msg)
    if "" in wanted or any("=" not in item for item in conditions):
        msg = f"--condition takes KEY=VALUE; got {', '.join(conditions)}"
        raise ConfigError(msg)
    from c2s.artefacts import spare_inputs, whole_folder
    from c2s.models.loading import load_cell_lm

    spare_inputs(out, model, routing)
    with whole_folder(out, overwrite=overwrite) as scratch:
        known = load_cell_lm(model, decoding=decoding, routing=routing)
        cells = known.generate(n=n, seed=seed, temperature=temperature, conditions=wanted)
        cells.write(scratch)
    typer.echo(f"{len(cells):,} cells of {cells.lengths.min()} to {cells.lengths.max()} genes → {out}")
    if cost := known.cost():
        typer.echo(cost)
