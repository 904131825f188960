"""Routers learn the plans a search found: the frozen decoder runs each plan once, routers are fitted to what entered its layers."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from c2s.engines.layer_routing.decisions import Reading
from c2s.engines.layer_routing.fingerprint import fingerprint
from c2s.engines.layer_routing.hooks import decided
from c2s.engines.layer_routing.plan import N_ACTIONS, LayerPlan
from c2s.engines.layer_routing.pooling import window_means
from c2s.engines.layer_routing.router import Router
from c2s.engines.layer_routing.settings import RouterSettings
from c2s.engines.layer_routing.support import decoder_of
from c2s.errors import ConfigError, DataError, ModelError

logger = logging.getLogger(__name__)


def class_weights(labels: Tensor, *, balance: float) -> Tensor:
    """Return the weight of each action by the effective number of its labels, shape (3,), of mean 1 over those that occur.

    w_c ∝ (1 − β) / (1 − β^n_c), for the n_c labels there are of class c; 0 where there is none. β = 0 weighs all alike.

    Parameters
    ----------
    labels : Tensor, int64
        Actions, of all layers together.
    balance : float
        β, at least 0 and below 1.

    References
    ----------
    Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples.
    """
    if not 0 <= balance < 1 or not labels.numel():
        msg = f"balance={balance} must be at least 0 and below 1, and there are {labels.numel()} labels, of at least 1"
        raise ConfigError(msg)
    counts = torch.bincount(labels.reshape(-1), minlength=N_ACTIONS).to(torch.float64)
    weights = torch.where(counts > 0, (1 - balance) / (1 - balance ** counts.clamp(min=1)), 0.0)
    return weights / weights.sum() * (counts > 0).sum()


def focal_loss(logits: Tensor, labels: Tensor, *, weights: Tensor, focusing: float) -> Tensor:
    """Return the mean over labels of −w_y (1 − p_y)^γ log p_y, in nats.

    Parameters
    ----------
    logits : Tensor, shape (..., 3)
    labels : Tensor, shape (...), int64
    weights : Tensor, shape (3,)
    focusing : float
        γ; 0 with weights of 1 gives cross-entropy.

    References
    ----------
    Lin et al. 2017, Focal Loss for Dense Object Detection.
    """
    log_p = logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    return (-weights.to(logits)[labels] * (-log_p.expm1()).clamp(min=1e-12) ** focusing * log_p).mean()


class _Teacher:
    """Decides as it is told, and keeps the windows of what enters each layer."""

    def __init__(self, windows: int) -> None:
        self.windows = windows
        self.plans: Sequence[LayerPlan] = ()
        self.means: list[Tensor] = []
        self.there = torch.empty(0)

    def decide(self, layer: int, hidden: Tensor, reading: Reading) -> Tensor:
        """Return the actions that the labels name."""
        means, there = window_means(hidden, reading.tokens(hidden), self.windows)
        self.means.append(means.float().cpu())
        self.there = there.cpu()
        return torch.tensor([plan[layer] for plan in self.plans], dtype=torch.int8)


def prompt_windows(
    model: Any,
    batches: Iterable[Mapping[str, Tensor]],
    plans: Sequence[LayerPlan],
    *,
    windows: int,
    progress: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return what routers see while a decoder runs given plans.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
    batches : iterable of mapping
        Prompts: ``input_ids`` and ``attention_mask``.
    plans : sequence of LayerPlan
        One a row, over all batches in order.
    windows : int

    Returns
    -------
    means : Tensor, shape (n, L, windows, d), float32, CPU
        4·n·L·windows·d bytes: 2.8 GB for 1000 prompts of a model of 28 layers of width 3072.
    there : Tensor, shape (n, windows), bool

    Raises
    ------
    DataError
        There are not as many plans as rows, or a prompt has no token.
    """
    teacher, means, there, done = _Teacher(windows), [], [], 0
    was_training = model.training
    model.eval()
    try:
        with (
            torch.no_grad(),
            decided(model, teacher),
            tqdm(total=len(plans), desc="reading prompts", unit="prompt", disable=not progress) as bar,
        ):
            for batch in batches:
                rows = len(batch["input_ids"])
                teacher.plans, teacher.means = plans[done : done + rows], []
                if len(teacher.plans) != rows:
                    msg = f"there are {len(plans)} plans, and more rows in the batches; give one plan a row"
                    raise DataError(msg)
                model(**batch, use_cache=False)
                means.append(torch.stack(teacher.means, 1))
                there.append(teacher.there)
                done += rows
                bar.update(rows)
    finally:
        model.train(was_training)
    if done != len(plans) or not done:
        msg = f"there are {len(plans)} plans and {done} rows in the batches; give one plan a row, and at least one"
        raise DataError(msg)
    return torch.cat(means), torch.cat(there)


def train_routers(
    model: Any,
    batches: Iterable[Mapping[str, Tensor]],
    plans: Sequence[LayerPlan],
    settings: RouterSettings,
    *,
    progress: bool = True,
) -> Router:
    """Return a router that was fitted to plans; the decoder stays as it is.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
    batches : iterable of mapping
        Prompts, without their answers: ``input_ids`` and ``attention_mask``.
    plans : sequence of LayerPlan
        The label of each row, over all batches in order.
    settings : RouterSettings
    progress : bool

    Raises
    ------
    ConfigError
        A plan is of another number of layers than the model has.
    DataError
        There are not as many plans as rows, or a prompt has no token.
    ModelError
        The model cannot be routed, or its hidden states are not finite.
    """
    decoder = decoder_of(model)
    if wrong := [plan for plan in plans if len(plan) != decoder.n_layers]:
        msg = f"plan {wrong[0]} is of {len(wrong[0])} layers; the model has {decoder.n_layers}"
        raise ConfigError(msg)
    means, there = prompt_windows(model, batches, plans, windows=settings.windows, progress=progress)
    if not bool(means.isfinite().all()):
        row = int((~means.isfinite().flatten(1).all(1)).nonzero()[0])
        msg = f"hidden states of prompt {row} are not finite under plan {plans[row]}; load the model in a wider dtype"
        raise ModelError(msg)
    router = Router(
        decoder.n_layers, decoder.hidden_size, windows=settings.windows, bottleneck=settings.bottleneck, seed=settings.seed
    )  # fmt: skip
    router.standardise(means, there)
    fit_router(router, means, there, torch.tensor([plan.actions for plan in plans]), settings, progress=progress)
    router.base = fingerprint(model)
    return router.eval()


def fit_router(
    router: Router, means: Tensor, there: Tensor, labels: Tensor, settings: RouterSettings, *, progress: bool = True
) -> list[float]:
    """Fit a router to labels and return the mean loss of each epoch, in nats.

    Parameters
    ----------
    means, there : Tensor
        As of :func:`prompt_windows`.
    labels : Tensor, shape (n, L), int64
    """
    weights = class_weights(labels, balance=settings.class_balance)
    draw = torch.Generator().manual_seed(settings.seed)
    steps = math.ceil(len(labels) / settings.batch_size) * settings.epochs
    warmup = int(settings.warmup * steps)

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    optimiser = torch.optim.AdamW(router.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    history = []
    with tqdm(range(settings.epochs), desc="training routers", unit="epoch", disable=not progress) as bar:
        for _ in bar:
            losses = 0.0
            for rows in torch.randperm(len(labels), generator=draw).split(settings.batch_size):
                logits = router(means[rows].to(router.down), there[rows].to(router.down.device))
                loss = focal_loss(logits, labels[rows].to(logits.device), weights=weights, focusing=settings.focusing)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                losses += float(loss.detach()) * len(rows)
            history.append(losses / len(labels))
            bar.set_postfix(loss=f"{history[-1]:.4f}", refresh=False)
    logger.info("routers: loss %.4f in the first epoch, %.4f in the last", history[0], history[-1])
    return history
