"""``c2s encode``: cells on disk to a corpus of sentences, and a decoder beside it."""

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

    gene_aware = "gene_aware"
    depth_aware = "depth_aware"
    log_rank = "log_rank"


def encode(
    cells: Path = typer.Argument(
        ..., metavar="INPUT", help="An .h5ad file, a .zarr store or a folder of them: counts, or a monotone transform."
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
    decoder_model: DecoderModel = typer.Option(
        None, help="What --fit-decoder fits. [default: gene_aware]", show_default=False
    ),
    scheduler: str = typer.Option(
        None,
        metavar="ADDRESS",
        help="Of a Dask cluster whose workers see INPUT and OUT_FOLDER under the same paths, as tcp://host:8786; "
        "needs c2s\\[distributed]. [default: this process]",
        show_default=False,
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what OUT_FOLDER holds."),
    config: Path | None = config_option(),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the settings as JSON and stop."),
) -> None:
    """Write each cell's expressed genes, by falling expression, as a corpus of sentences.

    Files of any size are read block by block. The same command after a kill goes on where it was; a Dask cluster makes the same bytes.

    **Examples**

    `c2s encode pbmc.h5ad corpus --n-genes 200 --fit-decoder`

    `c2s encode scaled.h5ad corpus --layer raw`

    `c2s encode held_out.h5ad test_corpus --background corpus --vocabulary corpus`

    `c2s encode atlas/ /shared/corpus --n-genes 200 --scheduler tcp://10.0.0.5:8786`
    """
    if dry_run:
        import json

        settings = {name: value for name, value in locals().items() if name not in {"json", "dry_run", "config"}}
        typer.echo(json.dumps(settings, indent=2, default=str))
        return
    from c2s.artefacts import check_folder, spare_inputs
    from c2s.cells.scale import NAMES
    from c2s.errors import ConfigError
    from c2s.sentences.background import Background
    from c2s.sentences.ranking import kernels_are_compiled
    from c2s.sentences.record import read_vocabulary
    from c2s.sentences.stream import encode_file

    if decoder_model is not None and not fit_decoder:
        msg = "--decoder-model says what --fit-decoder fits; add --fit-decoder"
        raise ConfigError(msg)
    check_folder(out, overwrite=overwrite)
    spare_inputs(out, cells, background, vocabulary)
    if not kernels_are_compiled():
        typer.echo("compiling for this machine, once: about half a minute …", err=True)
    written = encode_file(
        cells,
        out,
        n_genes=n_genes,
        layer=layer,
        ties=ties.value,
        background=None if background is None else Background.read(background),
        vocabulary=None if vocabulary is None else read_vocabulary(vocabulary),
        seed=seed,
        on_collision=on_collision.value,
        decoder=(decoder_model or DecoderModel.gene_aware).value if fit_decoder else None,
        scheduler=scheduler,
        overwrite=overwrite,
    )
    typer.echo(
        f"{written.n_cells:,} sentences of {written.n_ids / written.n_cells:,.0f} genes on average over a vocabulary of "
        f"{len(written.vocabulary):,} {written.vocabulary.species} genes → {out}"
    )
    typer.echo(f"found {NAMES[written.values]}")
    if written.n_empty:
        typer.echo(f"{written.n_empty:,} sentences are empty: their cells express no gene of the vocabulary")
    if written.n_dropped_genes:
        typer.echo(
            f"{written.n_dropped_genes:,} genes of {cells} are not in the vocabulary of {vocabulary} and were dropped"
        )
    decoder = written.decoder
    if decoder is not None:
        typer.echo(
            f"decoder ({decoder.model}, fitted to {decoder.n_cells:,} cells of {NAMES[decoder.normalised_from]}) → {out / 'decoder'}"
        )
