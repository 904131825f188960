"""Supervised fine-tuning on transformers' Trainer: logits at answer places only, because the head dominates otherwise."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import EvalLoopOutput

from c2s.errors import ModelError
from c2s.quiet import no_bars
from c2s.training.cell_data import CellExamples
from c2s.training.examples import RenderedExamples
from c2s.training.order import AlikeLengths, Shuffled

if TYPE_CHECKING:
    from c2s.training.config import TrainConfig

logger = logging.getLogger(__name__)


def answer_loss(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Return the weighted mean cross-entropy of the answer tokens, nats, scalar.

    ``sum_t w_t (-log p(x_t | x_<t)) / sum_t w_t`` over tokens with ``w_t > 0``; the output layer runs at those places
    only.
    """
    # padding is on the right, where no causal token looks: without a mask, attention takes its fast road
    hidden = answer_decoder(model)(input_ids=batch["input_ids"], use_cache=False).last_hidden_state
    weights = batch["weights"][:, 1:]
    where = weights > 0
    logits = answer_logits(model, hidden[:, :-1][where])
    loss = nn.functional.cross_entropy(logits, batch["input_ids"][:, 1:][where], reduction="none")
    return (loss * weights[where]).sum() / weights[where].sum()


def answer_decoder(model: PreTrainedModel) -> Any:
    """Return the layers of a model, or of the model that a peft model adapts, without the output layer."""
    return _base(model).get_decoder()


def answer_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Return the logits (n, V), float32, of hidden states (n, width)."""
    base = _base(model)
    logits = base.get_output_embeddings()(hidden)
    cap = getattr(base.config, "final_logit_softcapping", None)
    return (cap * torch.tanh(logits / cap) if cap else logits).float()


def _base(model: PreTrainedModel) -> Any:
    return model.get_base_model() if hasattr(model, "peft_config") else model


class AnswerTrainer(Trainer):
    """Trainer whose loss is :func:`answer_loss`."""

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        """Return the loss of a batch."""
        with self.accelerator.autocast():  # accelerate casts model.forward, which the loss goes around
            loss = self.batch_loss(self.accelerator.unwrap_model(model), inputs)
        return (loss, {}) if return_outputs else loss

    def batch_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch."""
        return answer_loss(model, inputs)

    def batch_weight(self, inputs: dict[str, Tensor]) -> float:
        """Return the weight of a batch's loss among those of other batches."""
        return float(inputs["weights"][:, 1:].sum())

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        """Shuffle; only where lengths differ much, batch examples of similar length so that little is padding.

        Length says something of the answer (a drug without effect has a short delta), so batches of one length are
        batches of one kind: sorting is kept for sets in which padding would cost more than a third.
        """
        examples = train_dataset if train_dataset is not None else self.train_dataset
        lengths = examples.lengths
        if lengths.max() <= 1.5 * lengths.mean():
            return Shuffled(len(lengths), seed=self.args.data_seed)
        return AlikeLengths(lengths, batch_size=self.args.train_batch_size, seed=self.args.seed)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Return the held-out loss over all answer tokens, in which a short last batch weighs no more than it holds."""
        self.model.eval()
        total = weight = 0.0
        for batch in dataloader:
            inputs = self._prepare_inputs(batch)
            held = self.batch_weight(inputs)
            with torch.no_grad():
                total += held * float(self.compute_loss(self.model, inputs))
            weight += held
        metrics = {f"{metric_key_prefix}_loss": total / weight}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=len(dataloader.dataset))  # type: ignore[arg-type]


class _Progress(TrainerCallback):
    """A progress bar with loss, held-out loss and tokens per second."""

    def __init__(self, tokens_per_step: float) -> None:
        self.tokens_per_step = tokens_per_step
        self.shown: dict[str, str] = {}
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        from tqdm.auto import tqdm

        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc="training", unit="step", disable=args.disable_tqdm
        )
        self.start, self.first = time.monotonic(), state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        for key, name in (("loss", "loss"), ("eval_loss", "held-out")):
            if logs and key in logs:
                if not np.isfinite(logs[key]):
                    msg = f"the {name} is {logs[key]} at step {state.global_step}: training diverged; lower learning_rate ({args.learning_rate:g})"
                    raise ModelError(msg)
                self.shown[name] = f"{logs[key]:.3f}"
        seconds = max(time.monotonic() - self.start, 1e-9)
        self.shown["tok/s"] = f"{(state.global_step - self.first) * self.tokens_per_step / seconds:,.0f}"
        self.bar.set_postfix(self.shown)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.close()


def fit(
    model: PreTrainedModel,
    training: RenderedExamples | CellExamples,
    validation: RenderedExamples | CellExamples | None,
    config: TrainConfig,
    folder: Path,
    *,
    collator: Callable[[Sequence[dict[str, Any]]], dict[str, Tensor]],
    trainer_class: Callable[..., AnswerTrainer] = AnswerTrainer,
    resume: bool = False,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train ``model`` in place and return the logged history.

    Parameters
    ----------
    model : PreTrainedModel
        A language model, or a peft model around one.
    training, validation : RenderedExamples or CellExamples
    folder : Path
        For checkpoints, from which ``resume=True`` goes on.
    collator : callable
        Makes a batch of examples.
    trainer_class : callable
        Of the loss: next tokens (:class:`AnswerTrainer`) or hidden ones (:class:`c2s.training.diffusion.DiffusionTrainer`).

    Returns
    -------
    list of dict
        ``step`` with ``loss``, ``eval_loss``, ``learning_rate`` where logged.
    """
    on_gpu = torch.cuda.is_available()
    if config.threads:
        torch.set_num_threads(config.threads)
    every = max(1, config.steps // 10)
    keep_best = config.keep_best and validation is not None
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=max(config.batch_size, 32),
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=int(config.warmup * config.steps),
        weight_decay=config.weight_decay,
        max_grad_norm=1.0,
        adam_beta2=0.98,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        seed=config.seed,
        data_seed=config.seed,
        logging_steps=max(1, config.steps // 50),
        eval_strategy="steps" if validation is not None else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every if keep_best else config.checkpoint_steps,
        save_total_limit=1,
        load_best_model_at_end=keep_best,
        metric_for_best_model="eval_loss" if keep_best else None,
        greater_is_better=False if keep_best else None,
        report_to=[],
        remove_unused_columns=False,
        prediction_loss_only=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=on_gpu,
        disable_tqdm=not progress,
        logging_nan_inf_filter=False,  # a loss that is not finite ends the run
    )
    per_step = float(training.lengths.mean()) * config.batch_size
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=training,
        eval_dataset=validation,
        data_collator=collator,
        callbacks=[_Progress(per_step)],
    )
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    checkpoint = _last_checkpoint(folder) if resume else None
    if resume and checkpoint is None:
        logger.warning("no checkpoint in %s: training starts from the beginning", folder)
    with no_bars(), _no_word_of_tied_weights():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return [{k: v for k, v in row.items() if isinstance(v, int | float)} for row in trainer.state.log_history]


@contextmanager
def _no_word_of_tied_weights() -> Iterator[None]:
    """Leave out that the output layer is not in a checkpoint: it is the embedding's own."""
    log = logging.getLogger("transformers.trainer")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint: one whose state file, written last, can be read."""
    complete = []
    for path in folder.glob("checkpoint-*"):
        try:
            complete.append((json.loads((path / "trainer_state.json").read_text())["global_step"], path))
        except (OSError, ValueError, KeyError):
            continue
    return max(complete)[1] if complete else None
