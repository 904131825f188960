"""A language model of cell sentences: load, save, annotate, generate, perturb."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from c2s.cells.genes import GeneVocabulary, listed
from c2s.cells.library import Perturbation
from c2s.cells.reading import require_column
from c2s.engines.constraint import Constraint, Segment
from c2s.engines.layer_routing.decisions import FixedPlans
from c2s.engines.noise import noise_keys
from c2s.errors import ConfigError, DataError, ModelError
from c2s.models.annotation import checked_labels, label_log_likelihood, label_table, prior_shift
from c2s.models.answers import perturbed_cells, with_columns
from c2s.models.batching import TOKENS, by_length
from c2s.models.conditions import checked_conditions
from c2s.models.embedding import Passage
from c2s.models.folder import ModelParts
from c2s.models.prefix import PrefixDecoder
from c2s.models.reader import CellReader
from c2s.models.routed_prefix import Plans, RoutedPrefixDecoder, RoutingCost
from c2s.models.sampling import sample_answers
from c2s.models.settings import ModelSettings
from c2s.models.tokenizer import PartTokenizer
from c2s.sentences.background import Background
from c2s.sentences.corpus import CellSentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.delta import DeltaRule
from c2s.sentences.encode import encode
from c2s.sentences.progress import progress_bar
from c2s.sentences.record import Encoding
from c2s.tasks import TASKS, CellGeneration, CellTypeAnnotation, PerturbationResponse
from c2s.tasks.base import Genes, Mark

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.engines.layer_routing.plan import LayerPlan
    from c2s.tasks.perturbation_response import Target

logger = logging.getLogger(__name__)


class CellLM(CellReader):
    """A causal language model with its tokenizer, vocabulary and settings.

    Parameters
    ----------
    model : PreTrainedModel
    tokens : PartTokenizer
    background : Background
        Fitted on training cells; encode new cells with it, so that ties break as in training.
    settings : ModelSettings
    decoder : RankDecoder
        Fitted on training cells: what the ranks the model writes stand for.
    responses : DataFrame, optional
        Mean observed responses of the training perturbations, for baselines and gates.

    Attributes
    ----------
    routing : Router, LayerPlan, Decider or None
        Who decides which layers each cell skips, runs or repeats; None: all are run. Labels, generated and perturbed cells are made
        under it, a cell's perturbations under the one plan that its own prompt decides; vectors and attributions are refused.
    routing_cost : RoutingCost or None
        What the last call under it cost.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokens: PartTokenizer,
        background: Background,
        settings: ModelSettings,
        *,
        decoder: RankDecoder,
        responses: pd.DataFrame | None = None,
    ) -> None:
        super().__init__(model, pad=tokens.pad, n_outputs=len(tokens))
        self.tokens, self.background, self.settings = tokens, background, settings
        self.decoder, self.responses = decoder, responses
        self.routing_cost: RoutingCost | None = None

    def __repr__(self) -> str:
        tasks = ", ".join(self.settings.tasks) or "none"
        return f"CellLM: {self.n_parameters:,} parameters, {len(self.vocabulary):,} genes, tasks: {tasks}"

    @property
    def vocabulary(self) -> GeneVocabulary:
        """The genes the model knows."""
        return self.tokens.vocabulary

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write weights (safetensors), tokenizer and ``c2s.json``; an ordinary transformers folder."""
        ModelParts(self.model, self.tokens, self.background, self.settings, self.decoder, self.responses).write(folder)

    def task(self, name: str) -> Any:
        """Return the task ``name`` with the settings the model was trained with.

        Raises
        ------
        ModelError
            The model was not trained on it.
        """
        if name not in self.settings.tasks:
            trained = ", ".join(self.settings.tasks) or "no task"
            hint = " Train one on drug responses (c2s train --task perturbation_response) or load one." * (
                name == PerturbationResponse().name
            )
            msg = f"this model was trained on {trained}, not on {name}.{hint}"
            raise ModelError(msg)
        return TASKS[name](**self.settings.tasks[name])

    def _require_same_genes(self, vocabulary: GeneVocabulary) -> None:
        if vocabulary.hash != self.vocabulary.hash:
            msg = (
                f"the sentences use another vocabulary ({len(vocabulary):,} {vocabulary.species} genes) than the "
                f"model ({len(self.vocabulary):,} {self.vocabulary.species} genes); encode the cells with "
                "c2s.encode(adata, vocabulary=model.vocabulary, background=model.background)"
            )
            raise ModelError(msg)

    def encode(self, adata: AnnData, *, layer: str | None = None) -> CellSentences:
        """Return cells as whole sentences over the model's genes, ties broken as in training."""
        return encode(adata, layer=layer, vocabulary=self.vocabulary, background=self.background)

    def passages(self, sentences: CellSentences, *, wording: int = 0) -> Iterator[Passage]:
        """Yield the prompt that asks for each cell's type, and where its genes lie; there is one wording."""
        self._require_same_genes(sentences.vocabulary)
        return (self._passage(sentences.row(i)) for i in range(len(sentences)))

    def gene_passages(
        self, rows: Sequence[np.ndarray], vocabulary: GeneVocabulary, *, wording: int = 0
    ) -> list[tuple[Passage, list[slice]]]:
        """Return the same for lists of gene ids, with the token of each gene."""
        self._require_same_genes(vocabulary)
        found = [self._passage(row) for row in rows]
        return [(each, [slice(place, place + 1) for place in range(each.start, each.stop)]) for each in found]

    def label_tokens(self, labels: Sequence[str], vocabulary: GeneVocabulary, *, wording: int = 0) -> list[list[int]]:
        """Return the answers that name ``labels``."""
        task: CellTypeAnnotation = self.task("cell_type_annotation")
        return [self.tokens.render(task.answer(label)) for label in labels]

    def _passage(self, genes: np.ndarray) -> Passage:
        """Return ``<cell> genes <cell_type>``, at most as many genes as in training, 200 where that was no task."""
        n_genes = self.settings.tasks.get("cell_type_annotation", {}).get("n_genes", 200)
        ids = self.tokens.render((Mark("cell"), Genes(genes[:n_genes]), Mark("cell_type")))
        return Passage(ids, 1, len(ids) - 1)

    def annotate(
        self,
        sentences: CellSentences,
        *,
        labels: Sequence[str] | None = None,
        prior: Mapping[str, float] | str = "training",
        length_correction: bool = False,
        batch_size: int = 64,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Return the most likely label of each cell from a closed set.

        ``score(l) = log p(l, end | cell) [/ tokens of l] - log share(l) + log prior(l)``; probabilities are the softmax
        of the scores over ``labels``. ``share`` is the label's share among training cells, so the default prior
        ``"training"`` leaves the likelihood as it is and ``"uniform"`` favours no label for being common.

        Parameters
        ----------
        labels : sequence of str, optional
            The model's training labels when left out.
        prior : {"training", "uniform"} or mapping of label to probability
        length_correction : bool
            Divide by the number of tokens, for label sets the model was not trained on.
        batch_size : int
            Cells a batch, at most; with many labels fewer are taken, so that memory stays bounded.
        progress : bool
            Show a bar.

        Returns
        -------
        DataFrame
            Indexed like ``sentences.obs``: ``label``, ``probability``, ``margin`` (to the runner-up) and one column
            ``p(<label>)`` per label; each row of those sums to 1.
        """
        self.task("cell_type_annotation")
        names = checked_labels(labels if labels is not None else self.settings.labels)
        if unseen := sorted(set(names) - set(self.settings.labels)):
            logger.warning(
                "%d of %d labels were never seen in training, which had %s: the answer for %s is a guess",
                len(unseen), len(names), listed(self.settings.labels), listed(unseen),
            )  # fmt: skip
        shift = prior_shift(names, prior, labels=self.settings.labels, shares=self.settings.label_share)
        decoder = self._decoder()
        answers = self.label_tokens(names, self.vocabulary)
        prompts = (passage.ids for passage in self.passages(sentences))
        with decoder.attached(), progress_bar(len(sentences), what="annotating", unit="cells", shown=progress) as bar:
            scores = label_log_likelihood(
                decoder, prompts, answers, n_tokens=self.n_outputs, pad=self.pad, batch_size=batch_size, done=bar.update
            )
        if length_correction:
            scores /= np.array([len(answer) for answer in answers], dtype=float)
        return label_table(scores + shift, names, sentences.obs.index)

    def generate(
        self,
        task: str = "cell_generation",
        *,
        n: int,
        seed: int = 0,
        temperature: float = 1.0,
        min_genes: int = 1,
        conditions: Mapping[str, str] | None = None,
        **named: str,
    ) -> CellSentences:
        """Return ``n`` sampled cells for the given conditions, such as ``cell_type="B cell"``.

        Every sentence holds only known genes and none twice: sampling is constrained.

        Parameters
        ----------
        task : str
            ``"cell_generation"``.
        n : int
        seed : int
            Decides the noise; the i-th cell of a seed is the same whatever ``n`` is.
        temperature : float
            0 takes the most likely gene every time.
        min_genes : int
            Shortest sentence.
        conditions, **named : str
            Value of each condition the model was trained with, as a mapping or as keywords. The mapping takes any name,
            that of another parameter too: ``conditions={"n": "3"}``.

        Returns
        -------
        CellSentences
            ``obs`` has a column per condition and ``seed``; a condition called ``seed`` is kept as ``condition_seed``.

        Raises
        ------
        ConfigError
            A condition has a name that the model was not trained with. A value never seen is warned of.
        """
        spec: CellGeneration = self.task(task)
        if n < 1:
            msg = f"n is {n}; ask for at least one cell"
            raise ConfigError(msg)
        asked = checked_conditions(conditions, named, known=self.settings.conditions)
        prompt = self.tokens.render(spec.prompt(asked))
        constraint = self._constraint([(stop, min_genes, n_genes) for stop, _, n_genes in spec.segments])
        names = [f"generated{i}" for i in range(n)]
        answers = self._sampled(
            [prompt[:-1]] * n, [[prompt[-1:]]] * n, constraint, noise_keys(seed, names, 1), temperature
        )
        lists = [spec.parse(self.tokens.parts(row.tolist())) for row in answers[:, 0, 0]]
        obs = pd.DataFrame({key: [value] * n for key, value in asked.items()}, index=names)
        return CellSentences.from_lists(
            lists,
            self.vocabulary,
            obs=with_columns(obs, {"seed": seed}, owner="condition", rows=np.arange(n)),
            encoding=Encoding(**self.settings.encoding),
            background=self.background,
        )

    def perturb(
        self,
        sentences: CellSentences,
        perturbations: Sequence[Perturbation],
        *,
        n_samples: int = 1,
        seed: int = 0,
        target: Target | None = None,
        temperature: float = 1.0,
    ) -> CellSentences:
        """Return each cell after each perturbation, sampled ``n_samples`` times.

        Parameters
        ----------
        sentences : CellSentences
            Full control sentences in the model's vocabulary, with the model's context columns in ``obs``.
        perturbations : sequence of Perturbation
            The vehicle is a perturbation like any other: its row is the control to compare with.
        n_samples, seed, temperature
            Sampling. Noise depends on seed, cell and sample only, so all perturbations of a cell share it.
        target : {"delta", "sentence"}, optional
            Checked against the form the model was trained for.

        Returns
        -------
        CellSentences
            ``len(sentences) * len(perturbations) * n_samples`` rows, cell by cell, then perturbation, then sample;
            ``obs`` has ``cell``, ``perturbation``, ``sample`` and the columns of ``sentences.obs``. Where those have one
            of these names, it is kept as ``cells_cell``, ``cells_perturbation`` or ``cells_sample``, and logged.
        """
        spec: PerturbationResponse = self.task("perturbation_response")
        details = self.settings.perturbation
        if details is None:
            msg = "c2s.json says nothing of how this model was trained on perturbations; train it again"
            raise ModelError(msg)
        if target is not None and target != spec.target:
            msg = f"this model answers with target={spec.target!r}, not {target!r}"
            raise ModelError(msg)
        self._require_same_genes(sentences.vocabulary)
        if not perturbations or not len(sentences):
            msg = f"{len(sentences)} cells and {len(perturbations)} perturbations: at least one of each is needed"
            raise DataError(msg)
        if n_samples < 1:
            msg = f"n_samples is {n_samples}; ask for at least one"
            raise ConfigError(msg)
        contexts = [
            require_column(sentences.obs, key, "context_keys").astype(str).to_numpy() for key in details.context_keys
        ]
        gene_ids = {symbol: i for i, symbol in enumerate(self.vocabulary.symbols)}
        rendered: dict[tuple[str, ...], list[list[int]]] = {}
        suffixes = []
        for values in zip(*contexts) if contexts else [()] * len(sentences):
            if values not in rendered:
                context = dict(zip(details.context_keys, values, strict=True))
                rendered[values] = [self.tokens.render(spec.suffix(context, p, gene_ids)) for p in perturbations]
            suffixes.append(rendered[values])
        prefixes = [self.tokens.render(spec.prefix(sentences.row(i))) for i in range(len(sentences))]
        keys = noise_keys(seed, sentences.obs.index.astype(str), n_samples)
        answers = self._sampled(prefixes, suffixes, self.response_constraint(), keys, temperature)
        return perturbed_cells(
            answers.numpy(), sentences, perturbations, tokens=self.tokens, target=spec.target, background=self.background,
            rule=DeltaRule.from_dict(details.delta_rule) if details.delta_rule else None,
        )  # fmt: skip

    def response_constraint(self) -> Constraint:
        """Return the constraint that perturbation answers are sampled under."""
        spec: PerturbationResponse = self.task("perturbation_response")
        return self._constraint(spec.segments)

    def cost(self) -> str:
        """Return what the last answers cost in a line, where that depends on settings; else nothing."""
        return "" if self.routing_cost is None else str(self.routing_cost)

    @contextmanager
    def routed(self, plans: Plans | None) -> Iterator[Self]:
        """Let ``plans`` be :attr:`routing` inside the block."""
        before, self.routing = self.routing, plans
        try:
            yield self
        finally:
            self.routing = before

    def plans(self, sentences: CellSentences, *, batch_size: int = 64) -> list[LayerPlan]:
        """Return the plan under which each cell is annotated; a ConfigError where there is no :attr:`routing`."""
        decoder = self._decoder()
        if not isinstance(decoder, RoutedPrefixDecoder):
            msg = "this model runs all its layers on every cell; load it with routing= to have plans"
            raise ConfigError(msg)
        found: dict[int, LayerPlan] = {}
        budget = TOKENS.get(self.model.device.type, TOKENS["cpu"])
        with decoder.attached():
            prompts = (passage.ids for passage in self.passages(sentences))
            for places, batch in by_length(prompts, tokens=budget, rows=batch_size):
                found.update(zip(places, decoder.prefill(batch, pad=self.pad).plans))
        return [found[place] for place in range(len(sentences))]

    def _decoder(self) -> PrefixDecoder:
        """Return what runs prompts and answers, under :attr:`routing` where there is any."""
        self.routing_cost = None
        if self.routing is None:
            return PrefixDecoder(self.model)
        routed = RoutedPrefixDecoder(self.model, self.routing)
        self.routing_cost = routed.cost
        return routed

    def _require_routable(self, plans: Plans) -> None:
        self.require_next_token("routing")
        if isinstance(plans, FixedPlans) and len(plans.actions) > 1:
            msg = f"{len(plans.actions)} plans in order, and cells are read in batches of like lengths, not in theirs; give one plan, or a router"
            raise ConfigError(msg)

    def require_next_token(self, purpose: str) -> None:
        """Raise a ModelError where the model is none that foretells the next token, which ``purpose`` needs."""
        if self.settings.objective != "next_token":
            msg = f"{purpose} needs a model that foretells the next token; this one was trained with objective={self.settings.objective!r}"
            raise ModelError(msg)

    def _constraint(self, segments: Sequence[tuple[str, int, int]]) -> Constraint:
        items, n_known = torch.from_numpy(self.tokens.gene_tokens), len(self.vocabulary)
        return Constraint(
            items, [Segment(min(high, n_known), self.tokens.marks[stop], low) for stop, low, high in segments],
            n_tokens=len(self.tokens), pad=self.tokens.pad,
        )  # fmt: skip

    def _sampled(
        self, prefixes: Sequence[Sequence[int]], suffixes: Sequence[Sequence[Sequence[int]]], constraint: Constraint,
        keys: np.ndarray, temperature: float,
    ) -> torch.Tensor:  # fmt: skip
        """Return answers, int64 (cells, suffixes, samples, longest); see :func:`c2s.models.sampling.sample_answers`."""
        decoder = self._decoder()
        with decoder.attached():
            return sample_answers(
                decoder, prefixes, suffixes, constraint, keys, pad=self.tokens.pad, temperature=temperature
            )
