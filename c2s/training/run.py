"""From cells to a run folder: encode, build examples, train, save model, curves and responses."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import AutoModelForCausalLM, PreTrainedModel, set_seed

from c2s.artefacts import check_folder, hash_of, prepare_folder, read_json, write_json
from c2s.cells.library import Perturbation
from c2s.cells.normalise import to_log1p_cp10k
from c2s.cells.reading import complete_column, expression
from c2s.errors import ArtefactError, ConfigError
from c2s.models.cell_lm import CellLM, load_model
from c2s.models.presets import PRESETS, preset_config
from c2s.models.settings import ModelSettings, PerturbationSettings
from c2s.models.tokenizer import PartTokenizer, build_tokenizer
from c2s.sentences.background import Background
from c2s.sentences.corpus import CellSentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode
from c2s.tasks import CellGeneration, CellTypeAnnotation, PerturbationResponse
from c2s.training.config import TrainConfig
from c2s.training.continuing import continued_responses, continued_settings
from c2s.training.curves import write_curves
from c2s.training.examples import RenderedExamples, render_examples
from c2s.training.perturbation_data import PerturbationData, prepare
from c2s.training.sft import fit

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

VALIDATION_CELLS = 512


def train(
    adata: AnnData,
    out: str | os.PathLike[str],
    *,
    config: TrainConfig | None = None,
    library: Sequence[Perturbation] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
    **settings: Any,
) -> CellLM:
    """Train a model on cells and return it.

    Parameters
    ----------
    adata : AnnData
        Training cells, counts or log1p CP10k; every cell is used, so leave test cells out.
    out : path
        Run folder: ``config.json``, ``curves.json``, ``curves.png`` and ``model/``.
    config : TrainConfig, optional
        Or its fields as keyword arguments.
    library : sequence of Perturbation, optional
        Targets, mechanisms and doses of the perturbations; without it they have names only.
    overwrite, resume : bool
        Replace what is in ``out``, or go on from its last checkpoint with the same settings.

    Raises
    ------
    ArtefactError
        ``out`` is not empty, or there is nothing to resume.
    DataError, ConfigError
        Cells, columns and settings do not fit each other.
    """
    config = (config or TrainConfig()).with_(**settings) if settings else config or TrainConfig()
    folder = _run_folder(out, config, overwrite=overwrite, resume=resume)
    started = time.monotonic()
    previous = None if config.model in PRESETS else _trained(config.model)
    background = previous.background if previous else Background.fit(adata, layer=config.layer)
    vocabulary = previous.vocabulary if previous else background.vocabulary
    sentences = encode(adata, layer=config.layer, background=background, vocabulary=vocabulary)
    rng = np.random.default_rng([config.seed, 11])
    settings_, data, examples = _examples(adata, sentences, library, config, rng)
    responses = data.responses() if data is not None else None
    if previous:
        settings_ = continued_settings(previous.settings, settings_)
        responses = continued_responses(previous.responses, responses, settings_)
    tokens = (
        previous.tokens
        if previous
        else PartTokenizer(build_tokenizer(vocabulary, _texts(sentences, library, config)), vocabulary)
    )
    set_seed(config.seed)
    model = (
        previous.model
        if previous
        else AutoModelForCausalLM.from_config(
            preset_config(config.model, n_tokens=len(tokens), pad=tokens.pad, end=tokens.marks["end"])
        )
    )
    max_length = int(model.config.max_position_embeddings)
    training = render_examples(examples(False), tokens, max_length=max_length)
    validation = _validation(examples, tokens, max_length, config)
    if overwrite and not resume:
        prepare_folder(folder, overwrite=True)  # only now that nothing can be wrong with the input
    write_json(folder / "config.json", config.model_dump(mode="json"))
    _same_examples(training, folder / "checkpoints" / "examples.json", resume=resume)
    trained: Any = _with_lora(model, config) if config.lora_rank else model
    history = fit(
        trained, training, validation, config, folder / "checkpoints", pad=tokens.pad, resume=resume, progress=progress
    )
    if config.lora_rank:
        trained = trained.merge_and_unload()
    record = {
        "data_hash": sentences.encoding.source_hash, "seed": config.seed, "steps": config.steps, "examples": len(training),
        "tokens": int(training.lengths.mean() * config.batch_size * config.steps), "longest_example": int(training.lengths.max()),
        "seconds": round(time.monotonic() - started, 1),
        "loss": next((row["loss"] for row in reversed(history) if "loss" in row), None),
        "held_out_loss": next((row["eval_loss"] for row in reversed(history) if "eval_loss" in row), None),
    }  # fmt: skip
    decoder = RankDecoder.fit(adata, layer=config.layer, background=background)
    result = CellLM(
        trained.eval(), tokens, background, settings_.with_(training=record), decoder=decoder, responses=responses
    )
    result.save(folder / "model")
    write_curves(folder, history)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return result


def _trained(model: str) -> CellLM:
    if not Path(model).exists():
        msg = f"model is {model!r}; give one of the presets {', '.join(PRESETS)}, or the folder of a trained model"
        raise ConfigError(msg)
    return load_model(model)


def _run_folder(out: str | os.PathLike[str], config: TrainConfig, *, overwrite: bool, resume: bool) -> Path:
    folder = Path(out)
    if not resume:
        return check_folder(out, overwrite=True) if overwrite else prepare_folder(out)
    if not (folder / "config.json").is_file():
        msg = f"{folder} holds no run to resume; leave resume (--resume) out"
        raise ArtefactError(msg)
    if (folder / "model" / "c2s.json").is_file():
        msg = f"the run in {folder} is finished; nothing is left to resume"
        raise ArtefactError(msg)
    before = TrainConfig(**read_json(folder / "config.json"))
    changed = [name for name, value in before.model_dump().items() if value != getattr(config, name)]
    if changed:
        msg = f"{folder} was started with other settings: {', '.join(changed)} differ; resume with the same, or start anew"
        raise ConfigError(msg)
    return folder


def _same_examples(training: RenderedExamples, path: Path, *, resume: bool) -> None:
    """Note what is trained on; refuse to go on with other examples than those the run was started with."""
    now = hash_of(training.ids, training.offsets, training.weights)
    if resume and path.is_file() and read_json(path)["hash"] != now:
        msg = f"{path.parents[1]} was started with other cells or another library; resume with the same, or start anew"
        raise ConfigError(msg)
    write_json(path, {"hash": now})


def _examples(
    adata: AnnData,
    sentences: CellSentences,
    library: Sequence[Perturbation] | None,
    config: TrainConfig,
    rng: np.random.Generator,
) -> tuple[ModelSettings, PerturbationData | None, Any]:
    """Return the model's settings, the perturbation data (if any), and a function of ``validation`` that yields examples."""
    from c2s import __version__

    base = {
        "version": __version__,
        "encoding": sentences.encoding.model_dump(),
        "n_expressed": int(np.median(sentences.n_expressed)),
    }
    if config.task == "perturbation_response":
        matrix, _ = expression(adata, layer=config.layer)
        values = to_log1p_cp10k(matrix)[0]
        if sentences.vocabulary.symbols != tuple(adata.raw.var_names if config.layer == "raw" else adata.var_names):
            msg = "going on from a model needs cells with exactly its genes, in its order; select them: adata[:, list(model.vocabulary.symbols)]"
            raise ConfigError(msg)
        data = prepare(sentences, values, library, config)
        task = PerturbationResponse(
            target=config.target, n_genes=config.n_genes, n_up=config.n_up, n_down=config.n_down, n_answer=config.n_answer,
            moved_weight=config.moved_weight,
        )  # fmt: skip
        rule = data.fit_rule(rng)
        details = PerturbationSettings(
            perturbation_key=config.perturbation_key, control=config.control, context_keys=config.context_keys,
            match_by=tuple(data.match_by), library=tuple(p.to_dict() for p in data.library.values()), held_out=data.held_out,
            delta_rule=rule.to_dict() if config.target == "delta" else None,
        )  # fmt: skip
        n_treated = len(data.rows(validation=False))
        passes = max(1, -(-config.steps * config.batch_size // n_treated))

        def perturbation_examples(validation: bool) -> Any:
            seeded = np.random.default_rng([config.seed, 12, int(validation)])
            return data.examples(task, rule, validation=validation, passes=1 if validation else passes, rng=seeded)

        return ModelSettings(**base, tasks={task.name: asdict(task)}, perturbation=details), data, perturbation_examples

    complete_column(sentences.obs, config.labels_key, "labels_key")
    is_validation = _cell_split(sentences, config)
    sides = {True: sentences[np.flatnonzero(is_validation)], False: sentences[np.flatnonzero(~is_validation)]}
    if config.task == "cell_type_annotation":
        annotation = CellTypeAnnotation(n_genes=config.n_genes)
        share = sides[False].obs[config.labels_key].astype(str).value_counts(normalize=True).sort_index()
        settings = ModelSettings(
            **base,
            tasks={annotation.name: asdict(annotation)},
            labels=tuple(share.index),
            label_share=tuple(share.tolist()),
        )
        return settings, None, lambda validation: annotation.examples(sides[validation], labels_key=config.labels_key)
    generation = CellGeneration(n_genes=config.n_genes)
    conditions = {"cell_type": config.labels_key, **{key: key for key in config.context_keys}}
    seen = {name: complete_column(sides[False].obs, key, "context_keys") for name, key in conditions.items()}
    settings = ModelSettings(
        **base,
        tasks={generation.name: asdict(generation)},
        conditions={name: tuple(sorted(set(values))) for name, values in seen.items()},
    )
    return settings, None, lambda validation: generation.examples(sides[validation], conditions=conditions)


def _cell_split(sentences: CellSentences, config: TrainConfig) -> np.ndarray:
    """Return the validation mask of tasks without perturbations: whole groups of ``split_by``, or random cells."""
    rng = np.random.default_rng([config.seed, 7])
    if config.split_by is None:
        return rng.random(len(sentences)) < config.validation_share
    groups = complete_column(sentences.obs, config.split_by, "split_by")
    choices = np.unique(groups)
    n = min(int(round(config.validation_share * len(choices))), len(choices) - 1)
    if config.validation_share and not n:
        logger.warning(
            "%s has %d groups, validation_share is %g: none is held out",
            config.split_by,
            len(choices),
            config.validation_share,
        )
    return np.isin(groups, rng.choice(choices, size=n, replace=False))


def _validation(examples: Any, tokens: PartTokenizer, max_length: int, config: TrainConfig) -> RenderedExamples | None:
    held_out = list(examples(True)) if config.validation_share else []
    if not held_out:
        return None
    chosen = np.linspace(0, len(held_out) - 1, min(len(held_out), VALIDATION_CELLS)).astype(int)
    return render_examples((held_out[i] for i in np.unique(chosen)), tokens, max_length=max_length)


def _texts(sentences: CellSentences, library: Sequence[Perturbation] | None, config: TrainConfig) -> list[str]:
    """Return the texts whose sub-words the tokenizer learns: labels, contexts, names, mechanisms."""
    columns = {config.labels_key, config.perturbation_key, *config.context_keys} & set(sentences.obs.columns)
    texts = [value for column in columns for value in sentences.obs[column].astype(str).unique()]
    for row in library or ():
        texts += [row.name, row.mechanism, row.dose, row.time]
    return [text for text in texts if text]


def _with_lora(model: PreTrainedModel, config: TrainConfig) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model,
        LoraConfig(
            r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
