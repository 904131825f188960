"""``c2s encode``: cells in an .h5ad file to a corpus of sentences, and a decoder beside it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from c2s.cli._config import config_option


class Ties(StrEnum):
    """What decides between genes of equal expression."""

    background = "background"
    hash = "hash"
    vocabulary = "vocabulary"


class OnCollision(StrEnum):
    """What happens to genes of the same name."""

    error = "error"
    sum = "sum"


class DecoderModel(StrEnum):
    """The decoders there are."""

    gene = "gene"
    log_rank = "log_rank"


def encode(
    cells: Path = typer.Argument(
        ..., metavar="INPUT.h5ad", help="Cells × genes: counts, or a monotone transform of them."
    ),
    out: Path = typer.Argument(..., metavar="OUT_FOLDER", help="The corpus: part-*.parquet and corpus.json."),
    n_genes: int = typer.Option(
        None, min=1, help="Longest sentence. [default: every expressed gene]", show_default=False
    ),
    layer: str = typer.Option(None, help="'raw' for adata.raw, or a layer. [default: X]", show_default=False),
    ties: Ties = typer.Option(Ties.background, help="Order of genes with equal expression in a cell."),
    background: Path = typer.Option(
        None,
        metavar="FOLDER|JSON",
        help="Reuse the background of this corpus or file: for held-out cells. [default: fit it on these cells]",
        show_default=False,
    ),
    vocabulary: Path = typer.Option(
        None, metavar="FOLDER", help="Use the genes of this corpus. [default: those of INPUT]", show_default=False
    ),
    seed: int = typer.Option(0, help="Of --ties hash."),
    on_collision: OnCollision = typer.Option(
        OnCollision.error, help="Genes of the same name: refuse, or add counts up."
    ),
    fit_decoder: bool = typer.Option(False, "--fit-decoder", help="Also fit OUT_FOLDER/decoder on these cells."),
    decoder_model: DecoderModel = typer.Option(DecoderModel.gene, help="What --fit-decoder fits."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what OUT_FOLDER holds."),
    config: Path | None = config_option(),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the settings as JSON and stop."),
) -> None:
    """Write each cell's expressed genes, by falling expression, as a corpus of sentences.

    **Examples**

    `c2s encode pbmc.h5ad corpus --n-genes 200 --fit-decoder`

    `c2s encode scaled.h5ad corpus --layer raw`

    `c2s encode held_out.h5ad test_corpus --background corpus --vocabulary corpus`
    """
    if dry_run:
        import json

        settings = {name: value for name, value in locals().items() if name not in {"json", "dry_run", "config"}}
        typer.echo(json.dumps(settings, indent=2, default=str))
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from c2s.artefacts import whole_folder
    from c2s.cells.reading import read_cells
    from c2s.sentences.background import Background
    from c2s.sentences.corpus import read_sentences
    from c2s.sentences.decode import RankDecoder
    from c2s.sentences.encode import encode as encode_cells

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    with whole_folder(out, overwrite=overwrite) as scratch, bar as progress:
        step = progress.add_task(f"reading {cells.name}")
        known = None if background is None else Background.read(background)
        genes = None if vocabulary is None else read_sentences(vocabulary).vocabulary
        adata = read_cells(cells)
        progress.update(step, description=f"ranking {adata.n_obs:,} cells × {adata.n_vars:,} genes")
        sentences = encode_cells(
            adata,
            n_genes=n_genes,
            layer=layer,
            ties=ties.value,
            background=known,
            vocabulary=genes,
            seed=seed,
            on_collision=on_collision.value,
        )
        decoder = None
        if fit_decoder:
            progress.update(step, description="fitting the decoder")
            decoder = RankDecoder.fit(
                adata,
                layer=layer,
                background=sentences.background,
                model=decoder_model.value,
                ties=ties.value,
                seed=seed,
                on_collision=on_collision.value,
            )
        progress.update(step, description=f"writing {out}")
        sentences.write(scratch)
        if decoder is not None:
            decoder.write(scratch / "decoder")
    lengths = sentences.lengths
    typer.echo(
        f"{len(sentences):,} sentences of {lengths.min():,} to {lengths.max():,} genes over a vocabulary of "
        f"{len(sentences.vocabulary):,} {sentences.vocabulary.species} genes → {out}"
    )
    if decoder is not None:
        typer.echo(
            f"decoder ({decoder.model}, fitted to {decoder.n_cells:,} cells of {decoder.normalised_from}) → {out / 'decoder'}"
        )
