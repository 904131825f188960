"""A router for a model of cells: it learns from prompts alone the plans that a search found with the labels at hand."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from c2s.artefacts import whole_folder, write_json
from c2s.engines.layer_routing.fingerprint import fingerprint
from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.router import Router
from c2s.engines.layer_routing.router_training import train_routers
from c2s.engines.layer_routing.routing import calibrate_depth, mean_depth, plans_of
from c2s.engines.layer_routing.settings import RouterSettings
from c2s.errors import ModelError
from c2s.models.batching import right_padded

if TYPE_CHECKING:
    from c2s.models.cell_lm import CellLM
    from c2s.sentences.corpus import CellSentences
    from c2s.training.searched_plans import SearchedPlans

AT_ONCE = 16  # prompts
RECORD = "training.json"


def prompt_batches(model: CellLM, sentences: CellSentences) -> Iterator[dict[str, Tensor]]:
    """Yield ``input_ids`` and ``attention_mask`` of the prompts that ask for the cells' types, in their order, padded on the right."""
    prompts = [list(passage.ids) for passage in model.passages(sentences)]
    for start in range(0, len(prompts), AT_ONCE):
        ids, mask = right_padded(prompts[start : start + AT_ONCE], model.pad, model.model.device)
        yield {"input_ids": ids, "attention_mask": mask.long()}


def train_router(
    model: CellLM,
    searched: SearchedPlans,
    out: str | os.PathLike[str],
    *,
    settings: RouterSettings | None = None,
    depth: float | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Router:
    """Return a router that learned the plans of a search, and write it; the model stays as it is.

    Parameters
    ----------
    model : CellLM
        The one that was searched.
    searched : SearchedPlans
    out : path
        Folder of ``router.json``, ``router.safetensors`` and ``training.json``, which says how far it decides as it was taught.
    settings : RouterSettings, optional
    depth : float, optional
        Mean layers to which it is calibrated on the searched cells (:func:`~c2s.engines.layer_routing.routing.calibrate_depth`). Rare
        decisions weigh more in training, so that a router left as it was trained may run more or fewer layers than it was taught.
    overwrite : bool
    progress : bool

    Raises
    ------
    ArtefactError
        ``out`` is not empty.
    ConfigError
        ``depth`` is out of the router's reach.
    ModelError
        The plans are those of other weights.
    """
    settings = settings or RouterSettings()
    require_searched(model, searched)
    with whole_folder(out, overwrite=overwrite) as scratch:
        plans = searched.plans
        router = train_routers(
            model.model, prompt_batches(model, searched.sentences), plans, settings, progress=progress
        )
        router.to(model.model.device)
        if depth is not None:
            calibrate_depth(router, model.model, list(prompt_batches(model, searched.sentences)), depth=depth)
        decided = plans_of(router, model.model, prompt_batches(model, searched.sentences))
        taught, found = (np.array([plan.actions for plan in each]) for each in (plans, decided))
        router.save(scratch)
        record = {
            "settings": settings.model_dump(mode="json"), "cells": len(plans), "taught": _shares(plans), "decided": _shares(decided),
            "agreement": float((taught == found).mean()), "agreement_by_layer": (taught == found).mean(axis=0),
        }  # fmt: skip
        write_json(scratch / RECORD, record)
    return router


def require_searched(model: CellLM, searched: SearchedPlans) -> None:
    """Raise a ModelError where plans were searched for other weights than a model's."""
    if (found := fingerprint(model.model)) != searched.base:
        msg = f"the plans were searched for weights {searched.base}; these are {found}. Give the model that c2s route search was given"
        raise ModelError(msg)


def _shares(plans: Sequence[LayerPlan]) -> dict[str, float]:
    """Return mean depth and the share of each action."""
    counts = Counter(action for plan in plans for action in plan)
    total = sum(counts.values())
    named = {name: counts[action] / total for action, name in enumerate(("skip", "execute", "repeat"))}
    return {"mean_layers": mean_depth(plans), **named}
