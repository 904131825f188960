"""From cells or a corpus to a run folder: encode, build examples, train, save model, curves and responses."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from transformers import AutoModelForCausalLM, PreTrainedModel, set_seed

from c2s.artefacts import check_folder, prepare_folder, read_json, write_json
from c2s.cells.library import Perturbation
from c2s.errors import ArtefactError, ConfigError
from c2s.locks import locked_folder
from c2s.models.cell_lm import CellLM
from c2s.models.folder import ModelParts
from c2s.models.loading import cell_lm, load_cell_lm
from c2s.models.presets import PRESETS, preset_config
from c2s.models.tokenizer import PartTokenizer, build_tokenizer
from c2s.sentences.background import Background
from c2s.sentences.corpus import CellSentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode
from c2s.tasks import TASKS
from c2s.training.cell_data import CellExamples
from c2s.training.config import TrainConfig
from c2s.training.continuing import continued_responses, continued_settings
from c2s.training.corpora import check_corpus
from c2s.training.curves import write_curves
from c2s.training.example_sets import example_sets
from c2s.training.examples import Collator, RenderedExamples
from c2s.training.sft import fit

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


def train(
    cells: AnnData | CellSentences,
    out: str | os.PathLike[str],
    *,
    config: TrainConfig | None = None,
    library: Sequence[Perturbation] | None = None,
    decoder: RankDecoder | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
    **settings: Any,
) -> CellLM:
    """Train a model on cells and return it.

    Parameters
    ----------
    cells : AnnData or CellSentences
        Training cells, counts or log1p CP10k; every cell is used, so leave test cells out. Or a corpus of them, which may be
        mapped from disk (:func:`c2s.read_sentences`), for cell types and generation: only the rows of a batch are read.
        Perturbation responses average expression, so they need the AnnData.
    out : path
        Run folder: ``config.json``, ``curves.json``, ``curves.png`` and ``model/``.
    config : TrainConfig, optional
        Or its fields as keyword arguments.
    library : sequence of Perturbation, optional
        Targets, mechanisms and doses of the perturbations; without it they have names only.
    decoder : RankDecoder, optional
        What the ranks stand for; it is kept with the model. Fitted to an AnnData when left out; needed with a corpus, unless
        training goes on from a model, whose decoder is then kept.
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
    with locked_folder(out):
        return _train(
            cells, out, config, library=library, decoder=decoder, overwrite=overwrite, resume=resume, progress=progress
        )


def _train(
    cells: AnnData | CellSentences, out: str | os.PathLike[str], config: TrainConfig, *, library: Sequence[Perturbation] | None,
    decoder: RankDecoder | None, overwrite: bool, resume: bool, progress: bool,
) -> CellLM:  # fmt: skip
    """Train in a folder that no other process writes."""
    folder = _run_folder(out, config, overwrite=overwrite, resume=resume)
    started = time.monotonic()
    previous = None if config.model in PRESETS else _trained(config.model)
    if isinstance(cells, CellSentences):
        decoder = decoder or (previous.decoder if previous else None)
        check_corpus(cells, config, decoder, previous)
        sentences = cells
    else:
        sentences = _encoded(cells, previous, config)
    background, vocabulary = sentences.background, sentences.vocabulary
    assert background is not None  # encode fits one, and check_corpus refuses a corpus without
    settings_, examples, responses = example_sets(cells, sentences, library, config)
    if previous:
        settings_ = continued_settings(previous.settings, settings_)
        responses = continued_responses(previous.responses, responses, settings_)
    tokens = (
        previous.tokens
        if previous
        else PartTokenizer(
            build_tokenizer(
                vocabulary, _texts(sentences, library, config), with_mask=config.objective == "masked_diffusion"
            ),
            vocabulary,
        )
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
    training = examples(tokens, max_length, validation=False)
    assert training is not None  # only validation may be
    validation = examples(tokens, max_length, validation=True) if config.validation_share else None
    task = TASKS[config.task](**settings_.tasks[config.task])
    how = _objective(model, tokens, task, config, max_length, (training, validation))
    if overwrite and not resume:
        prepare_folder(folder, overwrite=True)  # only now that nothing can be wrong with the input
    write_json(folder / "config.json", config.model_dump(mode="json"))
    _same_examples(training, folder / "checkpoints" / "examples.json", resume=resume)
    trained: Any = _with_lora(model, config) if config.lora_rank else model
    history = fit(
        trained, training, validation, config, folder / "checkpoints", resume=resume, progress=progress, **how
    )
    if config.lora_rank:
        trained = trained.merge_and_unload()
    record = {
        "data_hash": sentences.encoding.source_hash, "seed": config.seed, "steps": config.steps, "examples": len(training),
        "tokens": int(training.lengths.mean() * config.batch_size * config.steps), "longest_example": int(training.lengths.max()),
        "seconds": round(time.monotonic() - started, 1),
        "loss": next((row["loss"] for row in reversed(history) if "loss" in row), None),
        "held_out_loss": _held_out_loss(history, config),
    }  # fmt: skip
    if decoder is None:
        decoder = RankDecoder.fit(cells, layer=config.layer, background=background)
    result = cell_lm(ModelParts(trained, tokens, background, settings_.with_(training=record), decoder, responses))
    result.save(folder / "model")
    write_curves(folder, history)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return result


def _objective(
    model: PreTrainedModel, tokens: PartTokenizer, task: Any, config: TrainConfig, max_length: int,
    sets: Sequence[RenderedExamples | CellExamples | None],
) -> dict[str, Any]:  # fmt: skip
    """Return the trainer and the collator of the objective, as :func:`fit` takes them; makes a diffusion model see both ways."""
    if config.objective == "next_token":
        return {"collator": Collator(tokens.pad)}
    from c2s.engines.elastic_cache.bidirectional import make_bidirectional
    from c2s.training.diffusion import CanvasCollator, DiffusionTrainer, require_canvas

    n_places = sum(min(high, len(tokens.vocabulary)) + 1 for _, _, high in task.segments)
    for examples in sets:
        require_canvas(examples, n_places, max_length)
    make_bidirectional(model)
    return {
        "collator": CanvasCollator(tokens.pad, n_places),
        "trainer_class": partial(DiffusionTrainer, mask_id=tokens.mask),
    }


def _held_out_loss(history: list[dict[str, float]], config: TrainConfig) -> float | None:
    """Return the held-out loss of the weights that are kept."""
    losses = [row["eval_loss"] for row in history if "eval_loss" in row]
    return (min(losses) if config.keep_best else losses[-1]) if losses else None


def _trained(model: str) -> CellLM:
    if not Path(model).exists():
        msg = f"model is {model!r}; give one of the presets {', '.join(PRESETS)}, or the folder of a trained model"
        raise ConfigError(msg)
    return load_cell_lm(model)


def _run_folder(out: str | os.PathLike[str], config: TrainConfig, *, overwrite: bool, resume: bool) -> Path:
    folder = Path(out)
    if resume and overwrite:
        msg = "resume goes on with what is in out, overwrite replaces it; give one"
        raise ConfigError(msg)
    if not resume:
        return check_folder(out, overwrite=True) if overwrite else prepare_folder(out)
    if not (folder / "config.json").is_file():
        msg = f"{folder} holds no run to resume; leave resume (--resume) out"
        raise ArtefactError(msg)
    if (folder / "model" / "c2s.json").is_file():
        msg = f"the run in {folder} is finished; nothing is left to resume"
        raise ArtefactError(msg)
    refuse_other_settings(folder, config)
    return folder


def refuse_other_settings(folder: Path, config: TrainConfig) -> None:
    """Raise a ConfigError where the run in ``folder`` was started with other settings; it names them."""
    before = TrainConfig(**read_json(folder / "config.json"))
    changed = [name for name, value in before.model_dump().items() if value != getattr(config, name)]
    if changed:
        msg = f"{folder} was started with other settings: {', '.join(changed)} differ; resume with the same, or start anew"
        raise ConfigError(msg)


def _same_examples(training: RenderedExamples | CellExamples, path: Path, *, resume: bool) -> None:
    """Note what is trained on; refuse to go on with other examples than those the run was started with."""
    now = training.hash
    if resume and path.is_file() and read_json(path)["hash"] != now:
        msg = f"{path.parents[1]} was started with other cells or another library; resume with the same, or start anew"
        raise ConfigError(msg)
    write_json(path, {"hash": now})


def _encoded(adata: AnnData, previous: CellLM | None, config: TrainConfig) -> CellSentences:
    background = previous.background if previous else Background.fit(adata, layer=config.layer)
    vocabulary = previous.vocabulary if previous else background.vocabulary
    return encode(adata, layer=config.layer, background=background, vocabulary=vocabulary)


def _texts(sentences: CellSentences, library: Sequence[Perturbation] | None, config: TrainConfig) -> list[str]:
    """Return the texts whose sub-words the tokenizer learns: labels, contexts, names, mechanisms."""
    columns = {config.labels_key, config.perturbation_key, *config.context_keys} & set(sentences.obs.columns)
    texts = [value for column in columns for value in pd.Series(sentences.obs[column].unique()).astype(str)]
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
