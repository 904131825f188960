"""``c2s train``: cells in an .h5ad file, or a corpus of them, to a trained model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from c2s.cli._config import config_option


class TaskName(StrEnum):
    """What a model can be trained on."""

    perturbation_response = "perturbation_response"
    cell_type_annotation = "cell_type_annotation"
    cell_generation = "cell_generation"


class Objective(StrEnum):
    """How an answer is learned."""

    next_token = "next_token"
    masked_diffusion = "masked_diffusion"


class Sizes(StrEnum):
    """What decides how far a gene of a delta moves."""

    place = "place"
    gene = "gene"


class Pairing(StrEnum):
    """Which of the controls that agree a treated cell is paired with."""

    random = "random"
    nearest = "nearest"
    transport = "transport"


class Target(StrEnum):
    """Forms of a perturbation answer."""

    delta = "delta"
    sentence = "sentence"


def train(
    cells: Path = typer.Argument(
        ...,
        metavar="CELLS.h5ad|CORPUS",
        help="Training cells; leave test cells out. A corpus of c2s encode, of any size, for cell types and generation.",
    ),
    out: Path = typer.Argument(..., metavar="RUN_FOLDER", help="Gets config.json, curves.json, curves.png and model/."),
    task: TaskName = typer.Option(TaskName.perturbation_response, help="What to learn."),
    objective: Objective = typer.Option(
        Objective.next_token, help="Gene after gene, or hidden genes in any order, of which several are written a step."
    ),
    model: str = typer.Option(
        "c2s-mini",
        help="c2s-micro, c2s-mini, c2s-midi, c2s-small, c2s-deep, or the folder of a trained model to go on from.",
    ),
    library: Path = typer.Option(
        None, metavar="CSV", help="Targets, mechanisms, doses of the perturbations.", show_default=False
    ),
    perturbation_key: str = typer.Option("perturbation", help="Column of obs that names each cell's perturbation."),
    control: str = typer.Option("control", help="Its value in control (vehicle) cells."),
    context_keys: list[str] = typer.Option([], "--context-key", help="Column told to the model as context; repeat it."),
    match_by: list[str] = typer.Option(
        [], help="Further column on which controls must agree (donor, cell type); repeat it."
    ),
    pairing: Pairing = typer.Option(
        Pairing.random, help="Controls of those that agree: any, the most alike, or by optimal transport."
    ),
    labels_key: str = typer.Option("cell_type", help="Column of cell types (annotation, generation)."),
    target: Target = typer.Option(
        Target.delta, help="Answer with rising and falling genes, or with the whole sentence."
    ),
    n_genes: int = typer.Option(48, min=1, help="Genes of a cell that are shown (generation: written)."),
    n_up: int = typer.Option(12, min=1, help="Most rising genes of a delta."),
    n_down: int = typer.Option(12, min=1, help="Most falling genes of a delta."),
    n_answer: int = typer.Option(200, min=1, help="Longest answer with --target sentence."),
    n_treated: int = typer.Option(4, min=1, help="Cells treated alike that are averaged for a delta."),
    n_controls: int = typer.Option(8, min=1, help="Matched controls that are averaged for a delta."),
    delta_threshold: float = typer.Option(1.5, help="Spreads of the control noise a listed gene must move by."),
    delta_sizes: Sizes = typer.Option(
        Sizes.place, help="How far a listed gene moves: by its place, or by gene, place and length of the list."
    ),
    moved_weight: float = typer.Option(4.0, min=1, help="Loss weight of genes in the delta, with --target sentence."),
    prompt_weight: float = typer.Option(
        0.0,
        min=0,
        help="Annotation: learn the cell's own genes too, with this weight beside the label's; 0.3 helps on few cells.",
    ),
    name_dropout: float = typer.Option(0.3, min=0, max=0.99, help="Share of prompts without the perturbation's name."),
    split_by: str = typer.Option(
        None,
        help="Column whose groups are held out whole, or 'condition' for perturbations in contexts. [default: the perturbation]",
        show_default=False,
    ),
    validation_share: float = typer.Option(0.1, min=0, max=0.9, help="Share of the groups (or cells) held out."),
    layer: str = typer.Option(None, help="'raw' for adata.raw, or a layer. [default: X]", show_default=False),
    steps: int = typer.Option(1000, min=1, help="Optimiser steps."),
    batch_size: int = typer.Option(16, min=1, help="Examples a step."),
    learning_rate: float = typer.Option(2e-3, help="Peak rate of AdamW."),
    warmup: float = typer.Option(0.05, min=0, max=0.99, help="Share of the steps over which the rate rises."),
    weight_decay: float = typer.Option(0.01, min=0, help="Of AdamW."),
    lora_rank: int = typer.Option(
        0, min=0, help="Adapt a trained --model with LoRA of this rank; 0 trains all weights."
    ),
    checkpoint_steps: int = typer.Option(500, min=1, help="Steps between checkpoints, from which --resume goes on."),
    keep_best: bool = typer.Option(False, "--keep-best", help="Keep the weights of the lowest held-out loss."),
    threads: int = typer.Option(0, min=0, help="CPU threads; 0 leaves the choice to torch."),
    seed: int = typer.Option(0, help="Of split, pairs, weights and order."),
    cache: Path = typer.Option(
        None,
        metavar="FOLDER",
        help="Gets the mapped ids of a corpus larger than a quarter of memory. [default: CORPUS]",
        show_default=False,
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what RUN_FOLDER holds."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the last checkpoint of RUN_FOLDER."),
    config: Path | None = config_option(),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the settings as JSON and stop."),
) -> None:
    """Train a language model on cells: perturbation responses, cell types, or cells themselves.

    **Examples**

    `c2s train screen.h5ad runs/screen --perturbation-key drug --control DMSO --library drugs.csv --context-key ifn --match-by donor`

    `c2s train pbmc.h5ad runs/pbmc --task cell_type_annotation --labels-key cell_type --n-genes 200 --prompt-weight 0.3 --learning-rate 5e-4`

    `c2s train corpus runs/cells --task cell_generation --labels-key cell_type --n-genes 200`

    `c2s train corpus runs/diffusion --task cell_generation --objective masked_diffusion --n-genes 256`

    `c2s train more.h5ad runs/more --model runs/screen --lora-rank 16 --perturbation-key drug --control DMSO`
    """
    from c2s.training.config import TrainConfig

    settings = TrainConfig(
        task=task.value, objective=objective.value, model=model, layer=layer, seed=seed, n_genes=n_genes, labels_key=labels_key,
        perturbation_key=perturbation_key, control=control, context_keys=tuple(context_keys), match_by=tuple(match_by), pairing=pairing.value,
        target=target.value, n_up=n_up, n_down=n_down, n_answer=n_answer, delta_threshold=delta_threshold, delta_sizes=delta_sizes.value,
        n_treated=n_treated, n_controls=n_controls, moved_weight=moved_weight, prompt_weight=prompt_weight, name_dropout=name_dropout,
        split_by=split_by, validation_share=validation_share, steps=steps, batch_size=batch_size,
        learning_rate=learning_rate, warmup=warmup, weight_decay=weight_decay, lora_rank=lora_rank,
        checkpoint_steps=checkpoint_steps, keep_best=keep_best, threads=threads,
    )  # fmt: skip
    if dry_run:
        typer.echo(settings.model_dump_json(indent=2))
        return
    from c2s.artefacts import spare_inputs
    from c2s.cells.library import read_library
    from c2s.cells.reading import read_cells
    from c2s.sentences.corpus import read_sentences
    from c2s.sentences.decode import RankDecoder
    from c2s.sentences.record import is_corpus
    from c2s.training.run import train as fit

    spare_inputs(out, cells, library, model)

    known = read_library(library) if library else None
    given = read_sentences(cells, memory_map=None, cache=cache) if is_corpus(cells) else read_cells(cells)
    decoder = RankDecoder.read(cells) if (cells / "decoder").is_dir() else None
    trained = fit(
        given, out, config=settings, library=known, decoder=decoder, overwrite=overwrite, resume=resume
    )  # fmt: skip
    record = trained.settings.training
    held_out = "" if record["held_out_loss"] is None else f", held out {record['held_out_loss']:.3f}"
    unit = "nats per answer token" if objective is Objective.next_token else "nats per place, hidden ones weighed"
    typer.echo(f"{trained.n_parameters:,} parameters, loss {record['loss']:.3f}{held_out} {unit} → {out / 'model'}")
