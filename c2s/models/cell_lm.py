"""A language model of cell sentences: load, save, annotate, generate, perturb."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from c2s.artefacts import atomic_path, read_json, write_json
from c2s.cells.genes import GeneVocabulary
from c2s.cells.library import Perturbation
from c2s.cells.reading import require_column
from c2s.engines.constraint import Constraint, Segment
from c2s.errors import ArtefactError, ConfigError, DataError, ModelError
from c2s.models.prefix import PrefixDecoder, RowCache, right_padded
from c2s.models.quiet import no_bars
from c2s.models.sampling import noise_keys, sample_answers
from c2s.models.settings import FORMAT, SETTINGS_FILE, ModelSettings
from c2s.models.tokenizer import PartTokenizer
from c2s.sentences.background import Background
from c2s.sentences.corpus import CellSentences, Encoding
from c2s.sentences.decode import RankDecoder
from c2s.sentences.delta import DeltaRule
from c2s.tasks import TASKS, CellGeneration, CellTypeAnnotation, PerturbationResponse

if TYPE_CHECKING:
    from c2s.tasks.perturbation_response import Target

ROWS_PER_BATCH = 2048
RESPONSES_FILE = "responses.parquet"


class CellLM:
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
        self.model, self.tokens, self.background, self.settings = model, tokens, background, settings
        self.decoder, self.responses = decoder, responses

    def __repr__(self) -> str:
        tasks = ", ".join(self.settings.tasks) or "none"
        return f"CellLM: {self.n_parameters:,} parameters, {len(self.vocabulary):,} genes, tasks: {tasks}"

    @property
    def vocabulary(self) -> GeneVocabulary:
        """The genes the model knows."""
        return self.tokens.vocabulary

    @property
    def n_parameters(self) -> int:
        """Number of parameters, embeddings included."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write weights (safetensors), tokenizer and ``c2s.json``; an ordinary transformers folder."""
        with no_bars():
            self.model.save_pretrained(folder)  # safetensors
        self.tokens.tokenizer.save_pretrained(folder)
        record = {"vocabulary": self.vocabulary.to_dict(), "background": self.background.to_dict()}
        self.decoder.write(Path(folder) / "decoder", overwrite=True)
        if self.responses is not None:
            with atomic_path(Path(folder) / RESPONSES_FILE) as temporary:
                self.responses.to_parquet(temporary)
        write_json(Path(folder) / SETTINGS_FILE, {**record, "settings": self.settings.model_dump(mode="json")})

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

    def _require_same_genes(self, sentences: CellSentences) -> None:
        if sentences.vocabulary.hash != self.vocabulary.hash:
            msg = (
                f"the sentences use another vocabulary ({len(sentences.vocabulary):,} {sentences.vocabulary.species} genes) than the "
                f"model ({len(self.vocabulary):,} {self.vocabulary.species} genes); encode the cells with "
                "c2s.encode(adata, vocabulary=model.vocabulary, background=model.background)"
            )
            raise ModelError(msg)

    def annotate(
        self,
        sentences: CellSentences,
        *,
        labels: Sequence[str] | None = None,
        prior: Mapping[str, float] | str = "training",
        length_correction: bool = False,
        batch_size: int = 64,
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
            Cells a batch.

        Returns
        -------
        DataFrame
            Indexed like ``sentences.obs``: ``label``, ``probability``, ``margin`` (to the runner-up) and one column
            ``p(<label>)`` per label; each row of those sums to 1.
        """
        task: CellTypeAnnotation = self.task("cell_type_annotation")
        self._require_same_genes(sentences)
        names = list(labels if labels is not None else self.settings.labels)
        if len(names) < 2 or len(set(names)) != len(names):
            msg = f"labels must be at least two different names, found {names}"
            raise ConfigError(msg)
        shift = self._prior_shift(names, prior)
        decoder = PrefixDecoder(self.model)
        answers = [self.tokens.render(task.answer(name)) for name in names]
        scores = np.empty((len(sentences), len(names)))
        with decoder.attached():
            for start in range(0, len(sentences), batch_size):
                cells = range(start, min(start + batch_size, len(sentences)))
                prompts = [self.tokens.render(task.prompt(sentences, i)) for i in cells]
                log_p, lengths = self._answer_log_likelihood(decoder, prompts, answers)
                scores[start : cells.stop] = log_p / lengths if length_correction else log_p
        scores += shift
        scores -= scores.max(axis=1, keepdims=True)
        probability = np.exp(scores)
        probability /= probability.sum(axis=1, keepdims=True)
        ranked = np.sort(probability, axis=1)
        table = pd.DataFrame(probability, index=sentences.obs.index, columns=[f"p({name})" for name in names])
        table.insert(0, "margin", ranked[:, -1] - ranked[:, -2])
        table.insert(0, "probability", ranked[:, -1])
        table.insert(0, "label", np.array(names, dtype=object)[probability.argmax(axis=1)])
        return table

    def _prior_shift(self, names: list[str], prior: Mapping[str, float] | str) -> np.ndarray:
        if prior == "training":
            return np.zeros(len(names))
        share = dict(zip(self.settings.labels, self.settings.label_share, strict=True))
        unknown = [name for name in names if name not in share]
        if unknown:
            msg = f"prior={prior!r} needs each label's share in training; {unknown} are not among the training labels"
            raise ConfigError(msg)
        if isinstance(prior, str):
            if prior != "uniform":
                msg = f"prior must be 'training', 'uniform' or a mapping of labels to probabilities, found {prior!r}"
                raise ConfigError(msg)
            wanted = np.ones(len(names))
        else:
            wanted = np.array([prior.get(name, 0.0) for name in names], dtype=float)
            if (wanted <= 0).any():
                msg = f"prior needs a probability above 0 for each of {names}"
                raise ConfigError(msg)
        return np.log(wanted) - np.log([share[name] for name in names])

    def _answer_log_likelihood(
        self, decoder: PrefixDecoder, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return log p(answer | prompt), (n_prompts, n_answers), nats, and the answers' lengths in tokens."""
        pad = self.tokens.pad
        prefix = decoder.prefill([prompt[:-1] for prompt in prompts], pad=pad)
        rows = [[prompt[-1], *answer] for prompt in prompts for answer in answers]
        ids, seen = right_padded(rows, pad, decoder.device)
        hidden = decoder.extend(prefix, RowCache(decoder.n_layers, ids.shape[1]), ids, seen)
        log_p = torch.log_softmax(
            decoder.logits(hidden[:, :-1], torch.arange(len(self.tokens), device=decoder.device)), dim=-1
        )
        token_log_p = log_p.gather(2, ids[:, 1:, None])[..., 0].masked_fill(~seen[:, 1:], 0.0)
        total = token_log_p.sum(1).view(len(prompts), len(answers))
        return total.double().cpu().numpy(), np.array([len(answer) for answer in answers], dtype=float)

    def generate(
        self,
        task: str = "cell_generation",
        *,
        n: int,
        seed: int = 0,
        temperature: float = 1.0,
        min_genes: int = 1,
        **conditions: str,
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
        """
        spec: CellGeneration = self.task(task)
        if n < 1:
            msg = f"n is {n}; ask for at least one cell"
            raise ConfigError(msg)
        prompt = self.tokens.render(spec.prompt(conditions))
        constraint = self._constraint([(min(spec.n_genes, len(self.vocabulary)), "end", min_genes)])
        names = [f"generated{i}" for i in range(n)]
        decoder = PrefixDecoder(self.model)
        lists: list[np.ndarray] = []
        with decoder.attached():
            for start in range(0, n, 256):
                block = names[start : start + 256]
                out = sample_answers(
                    decoder, [prompt[:-1]] * len(block), [[prompt[-1:]]] * len(block), constraint,
                    noise_keys(seed, block, 1), pad=self.tokens.pad, temperature=temperature,
                )  # fmt: skip
                lists += [spec.parse(self.tokens.parts(row.tolist())) for row in out[:, 0, 0]]
        obs = pd.DataFrame({**{key: [value] * n for key, value in conditions.items()}, "seed": seed}, index=names)
        return CellSentences.from_lists(
            lists, self.vocabulary, obs=obs, encoding=self._encoding(), background=self.background
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
            ``obs`` has ``cell``, ``perturbation``, ``sample`` and the columns of ``sentences.obs``.
        """
        spec: PerturbationResponse = self.task("perturbation_response")
        details = self.settings.perturbation
        if details is None:
            msg = "c2s.json says nothing of how this model was trained on perturbations; train it again"
            raise ModelError(msg)
        if target is not None and target != spec.target:
            msg = f"this model answers with target={spec.target!r}, not {target!r}"
            raise ModelError(msg)
        self._require_same_genes(sentences)
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
        constraint = self.response_constraint()
        decoder = PrefixDecoder(self.model)
        rule = DeltaRule.from_dict(details.delta_rule) if details.delta_rule else None
        cells = sentences.obs.index.astype(str)
        rendered: dict[tuple[str, ...], list[list[int]]] = {}
        n_rows = len(perturbations) * n_samples
        block = max(1, ROWS_PER_BATCH // n_rows)
        answers: list[np.ndarray] = []
        with decoder.attached():
            for start in range(0, len(sentences), block):
                stop = min(start + block, len(sentences))
                suffixes = []
                for i in range(start, stop):
                    values = tuple(column[i] for column in contexts)
                    if values not in rendered:
                        context = dict(zip(details.context_keys, values, strict=True))
                        rendered[values] = [
                            self.tokens.render(spec.suffix(context, p, gene_ids)) for p in perturbations
                        ]
                    suffixes.append(rendered[values])
                prefixes = [self.tokens.render(spec.prefix(sentences.row(i))) for i in range(start, stop)]
                keys = noise_keys(seed, cells[start:stop], n_samples)
                out = sample_answers(
                    decoder, prefixes, suffixes, constraint, keys, pad=self.tokens.pad, temperature=temperature
                )
                answers.append(out.reshape(-1, out.shape[-1]).numpy())
        return self._responses(sentences, perturbations, n_samples, np.concatenate(answers), spec, rule)

    def response_constraint(self) -> Constraint:
        """Return the constraint that perturbation answers are sampled under."""
        spec: PerturbationResponse = self.task("perturbation_response")
        if spec.target == "delta":
            return self._constraint([(spec.n_up, "down", 0), (spec.n_down, "end", 0)])
        return self._constraint([(min(spec.n_answer, len(self.vocabulary)), "end", 1)])

    def _constraint(self, segments: Sequence[tuple[int, str, int]]) -> Constraint:
        items = torch.from_numpy(self.tokens.gene_tokens)
        return Constraint(
            items, [Segment(n, self.tokens.marks[stop], low) for n, stop, low in segments],
            n_tokens=len(self.tokens), pad=self.tokens.pad,
        )  # fmt: skip

    def _encoding(self) -> Encoding:
        return Encoding(**self.settings.encoding)

    def _responses(
        self,
        sentences: CellSentences,
        perturbations: Sequence[Perturbation],
        n_samples: int,
        answers: np.ndarray,
        spec: PerturbationResponse,
        rule: DeltaRule | None,
    ) -> CellSentences:
        gene_of = np.full(len(self.tokens), -1, dtype=np.int32)
        gene_of[self.tokens.gene_tokens] = np.arange(len(self.vocabulary), dtype=np.int32)
        genes = gene_of[answers]
        each = len(perturbations) * n_samples
        rows = np.repeat(np.arange(len(sentences)), each)
        if spec.target == "delta":
            if rule is None:
                msg = "the model answers with deltas but holds no rule to apply them; train it again"
                raise ModelError(msg)
            falling = np.cumsum(answers == self.tokens.marks["down"], axis=1) > 0
            up = [row[mask] for row, mask in zip(genes, (genes >= 0) & ~falling, strict=True)]
            down = [row[mask] for row, mask in zip(genes, (genes >= 0) & falling, strict=True)]
            ids, offsets = rule.apply(sentences, rows, up, down)
            change = np.diff(offsets) - sentences.lengths[rows]
            n_expressed = np.where(
                sentences.n_expressed[rows] < 0, -1, np.maximum(sentences.n_expressed[rows] + change, 0)
            )
        else:
            ids = genes[genes >= 0]
            offsets = np.r_[0, np.cumsum((genes >= 0).sum(axis=1))]
            n_expressed = np.full(len(rows), -1)
        obs = sentences.obs.iloc[rows].copy()
        obs["cell"] = np.asarray(sentences.obs.index.astype(str))[rows]
        obs["perturbation"] = np.tile(np.repeat([p.name for p in perturbations], n_samples), len(sentences))
        obs["sample"] = np.tile(np.arange(n_samples), len(sentences) * len(perturbations))
        obs.index = pd.Index([str(i) for i in range(len(rows))])
        return CellSentences(
            ids=ids, offsets=offsets, n_expressed=n_expressed.astype(np.int32), vocabulary=self.vocabulary, obs=obs,
            encoding=sentences.encoding, background=self.background,
        )  # fmt: skip


def load_model(folder: str | os.PathLike[str], *, device: str | None = None, dtype: str = "auto") -> CellLM:
    """Return the model in ``folder``, as ``c2s train`` writes it.

    Parameters
    ----------
    folder : path
        Holds weights, tokenizer and ``c2s.json``. Nothing is downloaded.
    device : str, optional
        ``"cuda"`` when there is one, else ``"cpu"``.
    dtype : str
        A torch dtype name, or ``"auto"`` for the one on disk.

    Raises
    ------
    ArtefactError
        No such folder, or a file is missing or truncated.
    ModelError
        The files do not belong together or were written by a newer c2s.
    """
    path = Path(folder)
    if path.joinpath("model", SETTINGS_FILE).is_file():
        path = path / "model"  # a run folder of c2s train
    if not path.joinpath(SETTINGS_FILE).is_file():
        msg = f"{folder} holds no {SETTINGS_FILE}, so it is not a c2s model; give the folder that c2s train wrote"
        raise ArtefactError(msg)
    record = read_json(path / SETTINGS_FILE)
    if not isinstance(record, dict) or not {"settings", "vocabulary", "background"} <= record.keys():
        msg = f"{path / SETTINGS_FILE} lacks the settings, the vocabulary or the background; train or copy the model again"
        raise ArtefactError(msg)
    written = record["settings"].get("format", FORMAT)
    if written > FORMAT:  # asked first, because it may hold fields that this c2s does not know
        msg = f"{folder} was written by a newer c2s (format {written}, this one reads up to {FORMAT}); upgrade c2s"
        raise ModelError(msg)
    settings = ModelSettings(**record["settings"])
    vocabulary = GeneVocabulary.from_dict(record["vocabulary"])
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, dtype=dtype, use_safetensors=True
            )
    except Exception as error:  # transformers, tokenizers and safetensors raise their own kinds
        msg = f"cannot load the model in {folder}: {error}. The files may be truncated; train or copy it again"
        raise ArtefactError(msg) from error
    if model.get_input_embeddings().num_embeddings < len(tokenizer):
        msg = f"{folder}: {len(tokenizer)} tokens but {model.get_input_embeddings().num_embeddings} embeddings; the files belong to different models"
        raise ModelError(msg)
    return CellLM(
        model.to(where).eval(),
        PartTokenizer(tokenizer, vocabulary),
        Background.from_dict(record["background"]),
        settings,
        decoder=RankDecoder.read(path / "decoder"),
        responses=_read_responses(path / RESPONSES_FILE),
    )


def _read_responses(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        msg = f"cannot read {path}: {error}. It may be truncated; train or copy the model again"
        raise ArtefactError(msg) from error
