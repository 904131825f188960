"""What every language model of cells offers, whether it reads genes as tokens or as words: vectors and attributions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from c2s.artefacts import hash_of
from c2s.errors import ConfigError, DataError, ModelError
from c2s.models.annotation import label_log_likelihood
from c2s.models.attribution import Method, attribution_table, gradient_times_input, require_method
from c2s.models.embedding import Passage, Pooling, embed_passages, gathered
from c2s.models.prefix import PrefixDecoder
from c2s.sentences.progress import progress_bar

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.cells.genes import GeneVocabulary
    from c2s.models.routed_prefix import Plans
    from c2s.sentences.corpus import CellSentences


class CellReader(ABC):
    """A causal language model that is asked for the type of a cell.

    Parameters
    ----------
    model : PreTrainedModel
    pad : int
        The token that fills up batches.
    n_outputs : int
        Tokens that compete: the first of the model's outputs.
    """

    def __init__(self, model: PreTrainedModel, *, pad: int, n_outputs: int) -> None:
        self.model, self.pad, self.n_outputs = model, pad, n_outputs
        self._routing: Plans | None = None

    @property
    def routing(self) -> Plans | None:
        """Who decides which layers a cell runs; None: all are run. A ModelError is raised where the model cannot leave layers out."""
        return self._routing

    @routing.setter
    def routing(self, plans: Plans | None) -> None:
        if plans is not None:
            self._require_routable(plans)
        self._routing = plans

    def _require_routable(self, plans: Plans) -> None:
        msg = f"routing is for models of c2s train that foretell the next token; this is a {type(self).__name__}"
        raise ModelError(msg)

    @abstractmethod
    def encode(self, adata: AnnData, *, layer: str | None = None) -> CellSentences:
        """Return cells as sentences that this model reads (:func:`c2s.encode`)."""

    @abstractmethod
    def passages(self, sentences: CellSentences, *, wording: int = 0) -> Iterable[Passage]:
        """Return the prompt that asks for each cell's type, without metadata, and where its genes lie."""

    @abstractmethod
    def gene_passages(
        self, rows: Sequence[np.ndarray], vocabulary: GeneVocabulary, *, wording: int = 0
    ) -> list[tuple[Passage, list[slice]]]:
        """Return the same for lists of gene ids, with the tokens of each gene."""

    @abstractmethod
    def label_tokens(self, labels: Sequence[str], vocabulary: GeneVocabulary, *, wording: int = 0) -> list[list[int]]:
        """Return the answers that name ``labels``."""

    def require_all_layers(self, what: str) -> None:
        """Raise a ModelError where cells leave layers out, and ``what`` is of the whole model."""
        if self.routing is not None:
            msg = f"{what} are of the whole model, and this one has a router, under which cells leave different layers out; load it without routing="
            raise ModelError(msg)

    @property
    def n_parameters(self) -> int:
        """Number of parameters, embeddings included."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def weights_hash(self) -> str:
        """Return 16 hex digits that name the weights, bit by bit; the same on any device and number of threads."""
        named = sorted(self.model.state_dict().items())
        return hash_of(
            *(np.atleast_1d(p.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()) for _, p in named)
        )

    def embed(
        self,
        sentences: CellSentences,
        *,
        layer: int | None = None,
        pooling: Pooling = "mean",
        wording: int = 0,
        batch_size: int = 1024,
        progress: bool = False,
    ) -> np.ndarray:
        """Return a vector of each cell, float32 (n, width), of the prompt that asks for its type, without metadata.

        Parameters
        ----------
        layer, pooling, batch_size
            See :func:`c2s.models.embedding.embed_passages`.
        wording : int
            Of models that read words.
        """
        with progress_bar(len(sentences), what="embedding", unit="cells", shown=progress) as bar:
            batches = self.embed_batches(
                sentences, layer=layer, pooling=pooling, wording=wording, batch_size=batch_size
            )
            return gathered(batches, len(sentences), done=bar.update)

    def embed_batches(
        self,
        sentences: CellSentences,
        *,
        layer: int | None = None,
        pooling: Pooling = "mean",
        wording: int = 0,
        batch_size: int = 1024,
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield places and vectors batch by batch, for cells whose vectors do not fit in memory; see :meth:`embed`."""
        self.require_all_layers("vectors")
        return embed_passages(
            self.model, self.passages(sentences, wording=wording), pad=self.pad, layer=layer, pooling=pooling,
            batch_size=batch_size,
        )  # fmt: skip

    def attribute(
        self,
        sentences: CellSentences,
        row: int,
        *,
        label: str,
        against: str | None = None,
        method: Method = "gradient",
        wording: int = 0,
        batch_size: int = 64,
    ) -> pd.DataFrame:
        """Return what each gene of a cell adds to the log-likelihood of a label, in nats.

        Parameters
        ----------
        row : int
        label : str
        against : str, optional
            Another label, whose log-likelihood is taken off: what speaks for the one rather than the other.
        method : {"gradient", "leave_one_out"}
            ``"gradient"``: gradient times input, summed over the tokens of the gene; one pass, a linear estimate.
            ``"leave_one_out"``: log p with the gene less log p without it; as many passes as genes, and what it says it is.

        Returns
        -------
        DataFrame
            Indexed by gene, in the order of the sentence: ``rank`` (from 1) and ``attribution``.

        Raises
        ------
        ConfigError
            There is no such method, or ``against`` is the label.
        DataError
            The sentence is empty.
        """
        require_method(method)
        self.require_all_layers("attributions")
        if against == label:
            msg = f"label and against are both {label!r}; name another label, or leave it out"
            raise ConfigError(msg)
        vocabulary, shown = sentences.vocabulary, sentences.row(row)
        ((passage, places),) = self.gene_passages([shown], vocabulary, wording=wording)
        if not places:
            msg = f"the sentence of cell {sentences.obs.index[row]} is empty; there is nothing to attribute"
            raise DataError(msg)
        shown = shown[: len(places)]
        named = [label] if against is None else [label, against]
        answers, signs = self.label_tokens(named, vocabulary, wording=wording), np.array([1.0, -1.0])[: len(named)]
        if method == "gradient":
            each = [
                gradient_times_input(self.model, passage.ids, answer, places, n_tokens=self.n_outputs)
                for answer in answers
            ]
            return attribution_table(shown, vocabulary, signs @ np.array(each))
        without = [np.delete(shown, place) for place in range(len(shown))]
        prompts = [inner.ids for inner, _ in self.gene_passages([shown, *without], vocabulary, wording=wording)]
        decoder = PrefixDecoder(self.model)
        with decoder.attached():
            found = label_log_likelihood(
                decoder, prompts, answers, n_tokens=self.n_outputs, pad=self.pad, batch_size=batch_size
            )
        return attribution_table(shown, vocabulary, (found[0] - found[1:]) @ signs)
