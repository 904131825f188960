"""``c2s decode``: a corpus of sentences back to cells × genes in an .h5ad file."""

from __future__ import annotations

from pathlib import Path

import typer

from c2s.cli._config import config_option
from c2s.errors import ArtefactError, ConfigError


def decode(
    corpus: Path = typer.Argument(
        ..., metavar="CORPUS_FOLDER", help="Sentences, as c2s encode or a model writes them."
    ),
    out: Path = typer.Argument(..., metavar="OUT.h5ad", help="Decoded cells: X is log1p of counts per 10,000, sparse."),
    decoder: Path = typer.Option(
        None,
        metavar="FOLDER",
        help="A fitted decoder, or a corpus with one. [default: the decoder of CORPUS_FOLDER]",
        show_default=False,
    ),
    uncertainty: bool = typer.Option(
        False, "--uncertainty", help="Add the layer sd: standard deviation of each value's error, log1p CP10k."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace OUT.h5ad."),
    config: Path | None = config_option(),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the settings as JSON and stop."),
) -> None:
    """Write the expression that a fitted decoder gives to each gene of each sentence.

    **Examples**

    `c2s encode pbmc.h5ad corpus --fit-decoder`

    `c2s decode corpus decoded.h5ad --uncertainty`

    `c2s decode generated decoded.h5ad --decoder corpus/decoder`
    """
    if dry_run:
        import json

        settings = {name: value for name, value in locals().items() if name not in {"json", "dry_run", "config"}}
        typer.echo(json.dumps(settings, indent=2, default=str))
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from c2s.artefacts import atomic_path, check_file, spare_inputs
    from c2s.sentences.corpus import read_sentences
    from c2s.sentences.decode import RankDecoder
    from c2s.sentences.record import is_corpus

    check_file(out, overwrite=overwrite)
    spare_inputs(out, corpus, decoder)
    if out.suffix.lower() != ".h5ad":
        msg = f"{out.name} would hold an AnnData; name it .h5ad"
        raise ConfigError(msg)
    if not is_corpus(corpus):
        msg = f"{corpus} is not a corpus (no corpus.json); make one by c2s encode"
        raise ArtefactError(msg)
    if decoder is None and not (corpus / "decoder").is_dir():
        msg = f"pass --decoder FOLDER: {corpus} holds no decoder.json; make one by c2s encode --fit-decoder"
        raise ArtefactError(msg)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        step = progress.add_task(f"reading {corpus}")
        fitted = RankDecoder.read(corpus if decoder is None else decoder)
        sentences = read_sentences(corpus)
        progress.update(step, description=f"decoding {len(sentences):,} sentences")
        cells = fitted.decode(sentences, uncertainty=uncertainty)
        progress.update(step, description=f"writing {out}")
        with atomic_path(out) as temporary:
            cells.write_h5ad(temporary, compression="gzip")
    typer.echo(f"{cells.n_obs:,} cells × {cells.n_vars:,} genes, {cells.X.nnz:,} values of log1p CP10k → {out}")
