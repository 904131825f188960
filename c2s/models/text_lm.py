"""A language model that reads cell sentences as words: any causal checkpoint of transformers, released Cell2Sentence ones among them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from c2s.cells.genes import listed
from c2s.engines.noise import noise_keys
from c2s.errors import ConfigError
from c2s.models.annotation import checked_labels, label_log_likelihood, label_table, log_prior
from c2s.models.answers import with_columns
from c2s.models.asked_annotation import ask_for_types, organism_of
from c2s.models.backends.transformers_backend import TransformersBackend
from c2s.models.embedding import Passage
from c2s.models.gene_coverage import gene_coverage
from c2s.models.gene_trie import gene_constraint
from c2s.models.prefix import PrefixDecoder
from c2s.models.reader import CellReader
from c2s.models.text_sampling import sample_texts
from c2s.models.text_tokens import TextTokens
from c2s.sentences.corpus import CellSentences
from c2s.sentences.encode import encode
from c2s.sentences.progress import progress_bar
from c2s.sentences.record import Encoding
from c2s.tasks import TASKS
from c2s.tasks.base import Part
from c2s.tasks.text_task import Columns, TextTask
from c2s.tasks.wording import SentenceStyle

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.cells.genes import GeneVocabulary

logger = logging.getLogger(__name__)

RENDERED = 1024  # prompts written at a time
CONTENT_FREE = "content_free"


class TextLM(CellReader):
    """A causal language model and its tokenizer, asked in words.

    Parameters
    ----------
    model : PreTrainedModel
    tokenizer : PreTrainedTokenizerBase
    prompts : str
        Whose wordings are used: ``"c2s"``, or the installed package ``"cell2sentence"``, whose released checkpoints know them.
    n_genes : int
        Genes of each cell that are shown.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, prompts: str = "c2s", n_genes: int = 200
    ) -> None:
        self.tokens, self.prompts, self.n_genes = TextTokens(tokenizer), prompts, n_genes
        super().__init__(model, pad=self.tokens.pad, n_outputs=int(model.get_output_embeddings().weight.shape[0]))

    def __repr__(self) -> str:
        kind, n = self.model.config.model_type, self.n_parameters
        return f"TextLM: {kind}, {n:,} parameters, {len(self.tokens):,} tokens, prompts of {self.prompts}"

    def task(self, name: str, *, wording: int = 0) -> Any:
        """Return the task ``name`` in one wording of the model's prompts, with the model's number of genes."""
        if name not in TASKS:
            msg = f"no task {name!r}; there are {', '.join(sorted(TASKS))}"
            raise ConfigError(msg)
        return TASKS[name](n_genes=self.n_genes, wording=wording, prompts=self.prompts)

    def gene_coverage(self, vocabulary: GeneVocabulary) -> pd.DataFrame:
        """Return how the tokenizer covers each gene: one token, several, or not (:func:`c2s.models.gene_coverage.gene_coverage`)."""
        return gene_coverage(self.tokens.tokenizer, vocabulary, style=self.task("cell_type_annotation").style)

    def annotate(
        self,
        sentences: CellSentences,
        *,
        labels: Sequence[str],
        prior: Mapping[str, float] | Literal["uniform", "content_free"] = "uniform",
        length_correction: bool = True,
        columns: Columns = None,
        wording: int = 0,
        batch_size: int = 256,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Return the most likely label of each cell from a closed set.

        ``score(l) = (log p(l, end | cell) - log p(l, end | no cell)) [/ tokens of l] + log prior(l)``; the middle term only with
        ``prior="content_free"``. Probabilities are the softmax of the scores; calibrate them before they are trusted
        (:class:`c2s.models.calibration.Calibration`).

        Parameters
        ----------
        labels : sequence of str
            At least two.
        prior : {"uniform", "content_free"} or mapping of label to probability
            ``"content_free"`` takes off what the model says of a cell without genes (Zhao et al., ICML 2021).
        length_correction : bool
            Divide by the number of tokens, so that long names are not at a loss.
        columns : mapping, optional
            Optional fields of the prompt, as organism and tissue → column of ``obs``; columns of these names by default. Without
            one, the organism is that of the vocabulary's genes.
        wording : int
        batch_size : int
            Cells a batch, at most.
        progress : bool

        Returns
        -------
        DataFrame
            Indexed like ``sentences.obs``: ``label``, ``probability``, ``margin`` and one column ``p(<label>)`` per label.
        """
        if isinstance(prior, str) and prior not in ("uniform", CONTENT_FREE):
            msg = f"prior={prior!r}; choose 'uniform', {CONTENT_FREE!r} or a mapping of labels to probabilities"
            raise ConfigError(msg)
        task, names = self.task("cell_type_annotation", wording=wording), checked_labels(labels)
        answers = self.label_tokens(names, sentences.vocabulary, wording=wording)
        fields = task.fields(sentences.obs, columns)
        known = organism_of(sentences.vocabulary)
        asked = self._asked(sentences, lambda i: task.prompt(sentences, i, fields=known | fields([i])), task)
        decoder, lengths = PrefixDecoder(self.model), np.array([len(answer) for answer in answers], dtype=float)
        settings: dict[str, Any] = {"n_tokens": self.n_outputs, "pad": self.pad, "batch_size": batch_size}
        with (
            decoder.attached(),
            progress_bar(len(sentences), what="annotating", unit="cells", shown=progress) as bar,
        ):
            scores = label_log_likelihood(decoder, asked, answers, done=bar.update, **settings)
            if prior == CONTENT_FREE:
                ((passage, _),) = self.gene_passages([np.empty(0, np.int32)], sentences.vocabulary, wording=wording)
                scores -= label_log_likelihood(decoder, [passage.ids], answers, **settings)
        if length_correction:
            scores /= lengths
        weights = None if isinstance(prior, str) else log_prior(names, prior)
        return label_table(scores if weights is None else scores + weights, names, sentences.obs.index)

    def answer(self, sentences: CellSentences, *, labels: Sequence[str] | None = None, **settings: Any) -> pd.DataFrame:
        """Return what the model writes when it is asked for each cell's type, and what was read of it.

        The arguments and the table are those of :func:`c2s.models.asked_annotation.ask_for_types`.
        """
        backend = TransformersBackend(self.model, self.tokens.tokenizer)
        settings = {"n_genes": self.n_genes, "prompts": self.prompts, **settings}
        return ask_for_types(backend, sentences, labels=labels, **settings)

    def generate(
        self,
        vocabulary: GeneVocabulary,
        *,
        n: int,
        n_genes: int | None = None,
        min_genes: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        conditions: Mapping[str, str] | None = None,
        wording: int = 0,
        progress: bool = False,
        **named: str,
    ) -> CellSentences:
        """Return ``n`` sampled cells for the given conditions, such as ``cell_type="B cell", organism="Homo sapiens"``.

        Every sentence holds genes of ``vocabulary`` only and none twice: sampling is constrained, exactly (mask and
        renormalise), over the tokens that spell them (:func:`c2s.models.gene_trie.gene_constraint`).

        Parameters
        ----------
        vocabulary : GeneVocabulary
            The genes that may be named.
        n : int
        n_genes, min_genes : int
            Longest and shortest sentence; the model's number of genes at most by default.
        seed : int
            Decides the noise; the i-th cell of a seed is the same whatever ``n`` is, but for rounding.
        temperature : float
            0 takes the most likely token every time.
        conditions, **named : str
            What the prompt says of the cell; without ``organism``, that of the vocabulary's genes.
        wording : int

        Returns
        -------
        CellSentences
            ``obs`` has a column per condition and ``seed``; a condition called ``seed`` is kept as ``condition_seed``.

        Raises
        ------
        ConfigError
            The wording has no place for a condition, or a number is below 1.
        """
        if n < 1 or (n_genes is not None and n_genes < 1):
            msg = f"n is {n}, n_genes {n_genes}; ask for at least one cell of at least one gene"
            raise ConfigError(msg)
        task, asked = self.task("cell_generation", wording=wording), {**(conditions or {}), **named}
        if untold := task.untold(asked):
            msg = f"the prompt says nothing of {', '.join(untold)}: wording {wording} of {self.prompts} has no place for it"
            raise ConfigError(msg)
        symbols, longest = vocabulary.symbols, min(self.n_genes if n_genes is None else n_genes, len(vocabulary))
        lead = task.prompt_set.answers[task.which(None)].partition("{sentence}")[0]
        constraint = gene_constraint(
            self.tokens.tokenizer,
            _writable(symbols, task.style),
            task.style,
            n_genes=longest,
            min_genes=min_genes,
            lead=lead,
        )
        told = organism_of(vocabulary) | asked
        (prompt,) = self.tokens.prompts([task.prompt(told, n_genes=longest)], symbols, task.style)
        names = [f"generated{i}" for i in range(n)]
        decoder = PrefixDecoder(self.model)
        with decoder.attached(), progress_bar(n, what="generating", unit="cells", shown=progress) as bar:
            keys = noise_keys(seed, names, 1)[:, 0]
            written = sample_texts(decoder, prompt, constraint, keys, temperature=temperature, done=bar.update)
        texts = self.tokens.tokenizer.batch_decode(written, clean_up_tokenization_spaces=False)
        lists = [task.parse(text, vocabulary=vocabulary) for text in texts]
        obs = pd.DataFrame({key: [value] * n for key, value in asked.items()}, index=names)
        obs = with_columns(obs, {"seed": seed}, owner="condition", rows=np.arange(n))
        return CellSentences.from_lists(lists, vocabulary, obs=obs, encoding=Encoding(n_genes=longest))

    def encode(self, adata: AnnData, *, layer: str | None = None) -> CellSentences:
        """Return cells as sentences of the model's number of genes, over the genes of ``adata``."""
        return encode(adata, layer=layer, n_genes=self.n_genes)

    def passages(self, sentences: CellSentences, *, wording: int = 0) -> Iterator[Passage]:
        """Yield the prompt that asks for each cell's type and where its genes lie; of metadata, the organism of the vocabulary."""
        for rows in _spans(len(sentences)):
            genes = [sentences.row(i) for i in rows]
            yield from (passage for passage, _ in self.gene_passages(genes, sentences.vocabulary, wording=wording))

    def gene_passages(
        self, rows: Sequence[np.ndarray], vocabulary: GeneVocabulary, *, wording: int = 0
    ) -> list[tuple[Passage, list[slice]]]:
        """Return the same for lists of gene ids, with the tokens of each gene."""
        task = self.task("cell_type_annotation", wording=wording)
        known = organism_of(vocabulary)
        prompts = [task.prompt_set.prompt({**task.cell_slots(row), **known}, wording=wording) for row in rows]
        return self.tokens.passages(prompts, vocabulary.symbols, task.style)

    def label_tokens(self, labels: Sequence[str], vocabulary: GeneVocabulary, *, wording: int = 0) -> list[list[int]]:
        """Return the answers that name ``labels``."""
        task = self.task("cell_type_annotation", wording=wording)
        return self.tokens.answers([task.answer(label) for label in labels], vocabulary.symbols, task.style)

    def _asked(
        self, sentences: CellSentences, prompt: Callable[[int], Sequence[Part]], task: TextTask
    ) -> Iterator[list[int]]:
        for rows in _spans(len(sentences)):
            yield from self.tokens.prompts([prompt(i) for i in rows], sentences.vocabulary.symbols, task.style)


def _spans(n: int) -> Iterator[range]:
    return (range(start, min(start + RENDERED, n)) for start in range(0, n, RENDERED))


def _writable(symbols: Sequence[str], style: SentenceStyle) -> list[str]:
    """Return the symbols that a style tells apart: of those that become one name in upper case, the one that is that name."""
    if not style.upper:
        return list(symbols)
    counts = Counter(symbol.upper() for symbol in symbols)
    kept = [symbol for symbol in symbols if counts[symbol.upper()] == 1 or symbol == symbol.upper()]
    if len(kept) < len(symbols):
        dropped = sorted(set(symbols).difference(kept))
        logger.warning("in upper case other genes have these names, so they are not generated: %s", listed(dropped))
    return kept
