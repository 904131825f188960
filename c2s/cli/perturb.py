"""``c2s perturb``: train a model of responses in two stages, predict cells, hold predictions against baselines."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from c2s.cli._config import config_option
from c2s.cli.rl import Preset, parsed

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False
)


class Target(StrEnum):
    """Forms of an answer."""

    delta = "delta"
    sentence = "sentence"


class RewardKind(StrEnum):
    """What a written cell is rewarded for."""

    energy = "energy"
    squared_error = "squared_error"
    kendall = "kendall"


PARTS = ("sft", "recipe", "grpo", "reward")  # what --set can change, by the beginning of its name


@app.callback()
def perturb() -> None:
    """Model responses to perturbations: train in two stages, predict cells, evaluate against baselines.

    `docs/guide/perturb.md` goes through all three.
    """


@app.command("train")
def train(
    cells: Path = typer.Argument(..., metavar="CELLS.h5ad", help="Perturbed cells and controls; leave test cells out."),
    out: Path = typer.Argument(..., metavar="RUN_FOLDER", help="Gets supervised/ and, with --grpo-steps, reinforced/."),
    library: Path = typer.Option(None, metavar="CSV", help="Targets, parts, mechanisms, doses.", show_default=False),
    perturbation_key: str = typer.Option("perturbation", help="Column of obs that names each cell's perturbation."),
    control: str = typer.Option("control", help="Its value in control cells."),
    context_keys: list[str] = typer.Option([], "--context-key", help="Column told to the model as context; repeat it."),
    match_by: list[str] = typer.Option([], help="Further column on which controls must agree; repeat it."),
    model: str = typer.Option("c2s-mini", help="A preset, or the folder of a model trained on unperturbed cells."),
    target: Target = typer.Option(Target.delta, help="Answer with rising and falling genes, or a whole sentence."),
    sft_steps: int = typer.Option(1000, min=1, help="Of supervised fine-tuning."),
    grpo_steps: int = typer.Option(0, min=0, help="Of reinforcement; 0 leaves the second stage out."),
    recipe: Preset = typer.Option(Preset.grpo_tcr, help="Of reinforcement."),
    reward: RewardKind = typer.Option(
        RewardKind.energy, help="By distribution (energy), or likeness to one real cell, which buys collapse."
    ),
    validation_share: float = typer.Option(0.1, min=0, max=0.9, help="Share of the conditions held out."),
    changes: list[str] = typer.Option(
        [], "--set", metavar="PART.NAME=VALUE",
        help="Any other setting: sft.NAME (TrainConfig), recipe.NAME (Recipe), grpo.NAME (RunSettings), reward.NAME (RewardConfig).",
    ),
    layer: str = typer.Option(None, help="'raw' for adata.raw, or a layer. [default: X]", show_default=False),
    seed: int = typer.Option(0, min=0, help="Of split, pairs, weights, order and answers."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what RUN_FOLDER holds."),
    resume: bool = typer.Option(False, "--resume", help="Go on with what RUN_FOLDER holds."),
    config: Path | None = config_option(),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the settings as JSON and stop."),
) -> None:  # fmt: skip
    """Fine-tune on control → perturbed cells, then reinforce by how like real cells the written ones are.

    **Examples**

    `c2s perturb train screen.h5ad runs/response --perturbation-key cytokine --control medium --context-key cell_type --library cytokines.csv`

    `c2s perturb train screen.h5ad runs/response --perturbation-key cytokine --control medium --context-key cell_type --grpo-steps 200 --set grpo.learning_rate=1e-4`

    `c2s perturb train screen.h5ad runs/more --model runs/pretrained --set sft.lora_rank=16 --perturbation-key drug --control DMSO`
    """
    import json

    from c2s.artefacts import spare_inputs
    from c2s.training.config import TrainConfig

    given = _by_part(changes)
    sft = TrainConfig(
        **{
            "task": "perturbation_response", "model": model, "layer": layer, "seed": seed, "perturbation_key": perturbation_key,
            "control": control, "context_keys": tuple(context_keys), "match_by": tuple(match_by), "target": target.value,
            "steps": sft_steps, "split_by": "condition", "validation_share": validation_share, "moved_weight": 1.0, **given["sft"],
        }
    )  # fmt: skip
    stage: dict[str, Any] = {"recipe": None, "settings": None, "rewards": None}
    if grpo_steps:
        from c2s.engines.rl.recipes import recipe as chosen
        from c2s.engines.rl.settings import RunSettings
        from c2s.perturbation.problem import RewardConfig

        stage["recipe"] = chosen(recipe.value, **{**_fitting(recipe.value), **given["recipe"]})
        stage["settings"] = RunSettings(
            **{"steps": grpo_steps, "seed": seed, "answers": 16, "learning_rate": 1e-4, "eval_every": max(1, grpo_steps // 10), "keep_rollouts": False, **given["grpo"]}
        )  # fmt: skip
        stage["rewards"] = RewardConfig(**{"kind": reward.value, **given["reward"]})
    elif ignored := [part for part in PARTS[1:] if given[part]]:
        from c2s.errors import ConfigError

        msg = f"--set changes {', '.join(ignored)} of the second stage, which --grpo-steps 0 leaves out"
        raise ConfigError(msg)
    if dry_run:
        told = {"sft": sft, "recipe": stage["recipe"], "grpo": stage["settings"], "reward": stage["rewards"]}
        typer.echo(json.dumps({k: v.model_dump(mode="json") for k, v in told.items() if v is not None}, indent=2))
        return
    from c2s.cells.library import read_library
    from c2s.cells.reading import read_cells
    from c2s.perturbation.two_stages import REINFORCED, SUPERVISED, train_responses

    spare_inputs(out, cells, library, model)
    trained = train_responses(
        read_cells(cells), out, config=sft, library=read_library(library) if library else None, resume=resume,
        overwrite=overwrite, **stage,
    )  # fmt: skip
    record = trained.settings.training
    held_out = "" if record["held_out_loss"] is None else f", held out {record['held_out_loss']:.3f}"
    typer.echo(f"supervised: loss {record['loss']:.3f}{held_out} nats per answer token → {out / SUPERVISED / 'model'}")
    if grpo_steps:
        typer.echo(f"reinforced: {record['reinforced']['steps']} steps → {out / REINFORCED / 'model'}")


@app.command("predict")
def predict(
    model: Path = typer.Argument(..., metavar="MODEL", help="Folder of a model trained on perturbation responses."),
    cells: Path = typer.Argument(..., metavar="CELLS.h5ad", help="Untreated cells."),
    library: Path = typer.Argument(..., metavar="LIBRARY.csv", help="name, targets, parts, mechanism, dose, time …"),
    out: Path = typer.Argument(..., metavar="OUT.h5ad|OUT_FOLDER", help="Predicted cells, or a corpus of their sentences."),
    n_samples: int = typer.Option(1, min=1, help="Answers sampled per cell and perturbation."),
    temperature: float = typer.Option(1.0, min=0, help="Of sampling; 0 takes the most likely token."),
    layer: str = typer.Option(None, help="'raw' for adata.raw, or a layer. [default: X]", show_default=False),
    seed: int = typer.Option(0, help="Of sampling."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace OUT."),
    config: Path | None = config_option(),
) -> None:  # fmt: skip
    """Write each cell after each perturbation of a library: log1p CP10k, its control cell, the spread of its samples.

    **Examples**

    `c2s perturb predict runs/response/reinforced untreated.h5ad cytokines.csv predicted.h5ad`

    `c2s perturb predict runs/response/supervised untreated.h5ad cytokines.csv predicted.h5ad --n-samples 4`
    """
    from c2s.artefacts import atomic_path, check_file, check_folder, spare_inputs, whole_folder
    from c2s.cells.library import read_library
    from c2s.cells.reading import read_cells
    from c2s.models.loading import load_cell_lm
    from c2s.perturbation.predict import predict_cells

    spare_inputs(out, model, cells, library)
    as_cells = out.suffix == ".h5ad"
    (check_file if as_cells else check_folder)(out, overwrite=overwrite)
    known, rows = load_cell_lm(model), read_library(library)
    known.task("perturbation_response")
    sentences = known.encode(read_cells(cells), layer=layer)
    if as_cells:
        found = predict_cells(known, sentences, rows, n_samples=n_samples, seed=seed, temperature=temperature)
        with atomic_path(out) as scratch:
            found.write_h5ad(scratch, compression="gzip")
        n = found.n_obs
    else:
        with whole_folder(out, overwrite=overwrite) as folder:
            written = known.perturb(sentences, rows, n_samples=n_samples, seed=seed, temperature=temperature)
            written.write(folder)
        n = len(written)
    what = "cells" if as_cells else "sentences"
    typer.echo(f"{n:,} {what} ({len(sentences):,} cells × {len(rows)} perturbations × {n_samples}) → {out}")


@app.command("evaluate")
def evaluate(
    model: Path = typer.Argument(..., metavar="MODEL", help="Folder of a model trained on perturbation responses."),
    cells: Path = typer.Argument(..., metavar="CELLS.h5ad", help="Held-out perturbed cells and controls of their contexts."),
    out: Path = typer.Argument(..., metavar="OUT_FOLDER", help="scores.csv, summary.md, results.json."),
    training: Path = typer.Option(
        None, metavar="TRAINING.h5ad", help="What the model was trained on; baselines are fitted to it.", show_default=False
    ),
    library: Path = typer.Option(None, metavar="CSV", help="Perturbations that the model does not know.", show_default=False),
    layer: str = typer.Option(None, help="'raw' for adata.raw, or a layer. [default: X]", show_default=False),
    max_cells: int = typer.Option(500, min=2, help="Most cells of a side in distances."),
    seed: int = typer.Option(0, min=0, help="Of answers and draws."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what OUT_FOLDER holds."),
    config: Path | None = config_option(),
) -> None:  # fmt: skip
    """Hold a model against no change, means and the sum of singles on held-out conditions, and see what of its prompt it reads.

    **Examples**

    `c2s perturb evaluate runs/response/reinforced held_out.h5ad scores --training screen.h5ad`

    `c2s perturb evaluate runs/response/supervised held_out.h5ad scores --training screen.h5ad --library more.csv`
    """
    from c2s.artefacts import spare_inputs, whole_folder
    from c2s.cells.library import read_library
    from c2s.cells.reading import read_cells
    from c2s.models.loading import load_cell_lm
    from c2s.perturbation.evaluate import evaluate_responses

    spare_inputs(out, *(path for path in (model, cells, training, library) if path is not None))
    with whole_folder(out, overwrite=overwrite) as scratch:
        known = load_cell_lm(model)
        found = evaluate_responses(
            known, read_cells(cells), training=None if training is None else read_cells(training),
            library=None if library is None else read_library(library), layer=layer, max_cells=max_cells, seed=seed,
        )  # fmt: skip
        found.write(scratch)
    typer.echo(found.markdown())
    typer.echo(f"every condition: {out / 'scores.csv'}")


def _by_part(changes: list[str]) -> dict[str, dict[str, Any]]:
    """Return PART.NAME=VALUE pairs by their part."""
    from c2s.errors import ConfigError

    found: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for name, value in parsed(changes).items():
        part, dot, field = name.partition(".")
        if not dot or part not in found:
            msg = f"--set {name}: write PART.NAME=VALUE with a part of {', '.join(PARTS)}"
            raise ConfigError(msg)
        found[part][field] = tuple(value) if isinstance(value, list) else value
    return found


def _fitting(preset: str) -> dict[str, Any]:
    """Return what of a preset does not go with gene sentences, which end by themselves and have no right answer to master."""
    changes: dict[str, dict[str, Any]] = {
        "scalerl": {"interrupt": False, "drop_mastered": None},
        "grpo_tcr": {"overlong": 0},
    }
    return changes.get(preset, {})
