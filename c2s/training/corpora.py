"""What a corpus must have to be trained on: sentences long enough, a background, a decoder, and the genes of the model."""

from __future__ import annotations

from c2s.errors import ConfigError, DataError
from c2s.models.cell_lm import CellLM
from c2s.sentences.corpus import CellSentences
from c2s.sentences.decode import RankDecoder
from c2s.training.config import TrainConfig


def check_corpus(
    sentences: CellSentences, config: TrainConfig, decoder: RankDecoder | None, previous: CellLM | None
) -> None:
    """Refuse sentences that cannot be trained on as ``config`` says.

    Parameters
    ----------
    decoder : RankDecoder or None
        What is to be kept with the model.
    previous : CellLM or None
        The model to go on from.

    Raises
    ------
    ConfigError
        The task needs expression, a layer is named, the sentences are shorter than ``n_genes`` or have no background, there
        is no decoder for their genes, or they were not encoded as the model's.
    DataError
        There is no sentence.
    """
    encoding, background = sentences.encoding, sentences.background
    if config.task == "perturbation_response":
        msg = "perturbation_response averages the expression of cells, which sentences do not hold; pass the AnnData (.h5ad)"
        raise ConfigError(msg)
    if not len(sentences):
        msg = "the corpus holds no sentence"
        raise DataError(msg)
    if config.layer is not None:
        msg = f"layer is {config.layer!r}, but the sentences are encoded already, of layer {encoding.layer!r}; leave layer out"
        raise ConfigError(msg)
    if encoding.n_genes is not None and config.n_genes > encoding.n_genes:
        msg = f"n_genes is {config.n_genes}, the sentences were cut after {encoding.n_genes}; lower n_genes or encode the cells again"
        raise ConfigError(msg)
    if background is None:
        msg = f"the sentences have no background (ties={encoding.ties!r}), with which new cells are encoded alike; encode with ties='background'"
        raise ConfigError(msg)
    if decoder is None or decoder.vocabulary.hash != sentences.vocabulary.hash:
        found = "none" if decoder is None else f"one of {len(decoder.vocabulary):,} other genes"
        msg = (
            f"a model keeps a decoder of its training cells, found {found}; encode with --fit-decoder, or pass decoder="
        )
        raise ConfigError(msg)
    if previous is None:
        return
    if previous.vocabulary.hash != sentences.vocabulary.hash or previous.background.hash != background.hash:
        msg = (
            "the sentences have other genes or another background than the model; encode the cells with "
            "c2s.encode(adata, vocabulary=model.vocabulary, background=model.background)"
        )
        raise ConfigError(msg)
