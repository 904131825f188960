"""``c2s embed``: a vector for each cell."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from c2s.cli._config import config_option


class Pool(StrEnum):
    """What of the hidden states a vector is."""

    mean = "mean"
    last = "last"


def embed(
    model: str = typer.Argument(
        ..., metavar="MODEL", help="Folder of c2s train, or any causal language model of transformers."
    ),
    cells: Path = typer.Argument(..., metavar="CELLS", help="An .h5ad file, or a corpus that c2s encode wrote."),
    out: Path = typer.Argument(
        ..., metavar="OUT", help=".parquet: cell and vector, written as they come; .h5ad: CELLS with obsm['X_c2s']."
    ),
    hidden_layer: int = typer.Option(
        None,
        help="0 the token embeddings, k the output of block k. [default: the last, normalised]",
        show_default=False,
    ),
    pooling: Pool = typer.Option(Pool.mean, help="Mean over the cell's genes, or the prompt's last token."),
    n_genes: int = typer.Option(200, min=1, help="Genes of a cell shown to a model that reads words."),
    prompts: str = typer.Option(
        "c2s", help="Wordings for a model that reads words: c2s, or the installed cell2sentence."
    ),
    layer: str = typer.Option(None, help="'raw' for adata.raw, or a layer. [default: X]", show_default=False),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace OUT."),
    config: Path | None = config_option(),
) -> None:
    """Write a vector for each cell: hidden states of a language model over the cell's sentence.

    **Examples**

    `c2s embed runs/pbmc cells.h5ad embedded.h5ad`

    `c2s embed models/pythia-410m corpus vectors.parquet --prompts cell2sentence --hidden-layer 12`
    """
    from c2s.artefacts import atomic_path, check_file, spare_inputs
    from c2s.cells.reading import read_cells
    from c2s.errors import ConfigError
    from c2s.models.loading import load_model
    from c2s.models.vector_file import write_vectors
    from c2s.sentences.corpus import read_sentences
    from c2s.sentences.record import is_corpus

    check_file(out, overwrite=overwrite)
    spare_inputs(out, Path(model), cells)
    table = out.suffix.lower() == ".parquet"
    if not table and (out.suffix.lower() != ".h5ad" or is_corpus(cells)):
        kinds = ".parquet" if is_corpus(cells) else ".parquet or .h5ad"
        msg = f"{out.name} would hold vectors; name it {kinds}"
        raise ConfigError(msg)
    if layer is not None and is_corpus(cells):
        msg = f"{cells} is a corpus, whose sentences are already written; --layer is for .h5ad files. Leave it out (--hidden-layer chooses a layer of the model)"
        raise ConfigError(msg)
    known = load_model(model, prompts=prompts, n_genes=n_genes)
    if table:
        sentences = (
            read_sentences(cells, memory_map=None) if is_corpus(cells) else known.encode(read_cells(cells), layer=layer)
        )
        write_vectors(
            known, sentences, out, layer=hidden_layer, pooling=pooling.value, overwrite=overwrite, progress=True
        )
        typer.echo(f"{len(sentences):,} vectors → {out}")
        return
    adata = read_cells(cells)
    vectors = known.embed(known.encode(adata, layer=layer), layer=hidden_layer, pooling=pooling.value, progress=True)
    adata.obsm["X_c2s"] = vectors
    with atomic_path(out) as temporary:
        adata.write_h5ad(temporary, compression="gzip")
    typer.echo(f"{adata.n_obs:,} vectors of {vectors.shape[1]:,} numbers → obsm['X_c2s'] of {out}")
