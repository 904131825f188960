"""What a screen will run: everything checked, cells, decoys and reference drawn, before anything is computed or written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from c2s.artefacts import hash_of
from c2s.cells.genes import listed
from c2s.cells.library import Perturbation, check_library
from c2s.cells.reading import complete_column, require_column
from c2s.errors import ConfigError, DataError, ModelError
from c2s.models.cell_lm import CellLM
from c2s.screening.config import ScreenConfig
from c2s.screening.decoys import make_decoys, silent_perturbations, support_of
from c2s.screening.measure import CONTEXT, UNIT, ScreenPlan
from c2s.screening.programmes import Programme, load_programme, programme_ids
from c2s.sentences.corpus import CellSentences
from c2s.sentences.encode import encode

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


def make_plan(model: CellLM, cells: AnnData, library: Sequence[Perturbation], config: ScreenConfig) -> ScreenPlan:
    """Check everything and return what will be run; nothing is computed or written before."""
    model.task("perturbation_response")
    details = model.settings.perturbation
    if details is None:
        msg = "this model holds no perturbation settings; train it on drug responses"
        raise ModelError(msg)
    rows = check_library(library)
    programme = load_programme(
        config.programme if isinstance(config.programme, str) else list(config.programme), gmt=config.gmt
    )
    measured = set(
        map(str, cells.raw.var_names if config.layer == "raw" and cells.raw is not None else cells.var_names)
    )
    gene_ids = programme_ids(programme, model.vocabulary, measured=measured, min_share=config.min_share)
    if config.max_rank is not None and config.max_rank < len(gene_ids):
        msg = f"max_rank is {config.max_rank}, but {programme.name} has {len(gene_ids)} genes; a sentence must hold them all"
        raise ConfigError(msg)
    sentences = _screened_cells(model, cells, config)
    for note in foreign_contexts(model, config):
        logger.warning(note)
    trained = [Perturbation.from_dict(row) for row in details.library]
    learned = [row for row in trained if row.name not in details.held_out]
    vehicles = [row for row in rows if row.role == "vehicle"] or [row for row in trained if row.role == "vehicle"]
    if len(vehicles) > 1:
        msg = f"{', '.join(row.name for row in vehicles)} all have the role vehicle; a screen has one zero"
        raise DataError(msg)
    if vehicles[0].name not in {row.name for row in learned}:
        logger.warning("the model was not trained on the vehicle %s; its effect may not be zero", vehicles[0].name)
    silent = _silent(model, gene_ids)
    drugs = [row for row in rows if row.role != "vehicle"]
    if not drugs:
        msg = "the library holds no perturbation but the vehicle; add what is to be screened"
        raise DataError(msg)
    drugs = [row.with_role("positive_control") if row.name in config.positive_controls else row for row in drugs]
    targets = {target for row in drugs for target in row.targets}
    if targets and (strange := sorted(target for target in targets if target not in model.vocabulary)):
        shown = ", ".join(strange[:8]) + (" …" if len(strange) > 8 else "")
        logger.warning(
            "%d of %d targets of the library are no genes of the model: %s; compare the spelling",
            len(strange),
            len(targets),
            shown,
        )
    unknown = set(config.positive_controls) - {row.name for row in drugs}
    if unknown:
        msg = f"positive controls {', '.join(sorted(unknown))} are not in the library"
        raise DataError(msg)
    decoys = make_decoys(
        drugs,
        learned,
        silent=silent,
        programme=programme,
        background=model.background,
        n=config.n_decoys,
        seed=config.seed,
    )
    reference = _reference(trained, details.held_out, config)
    frame = []
    groups = (("vehicle", vehicles), ("library", drugs), ("decoy", decoys), ("reference", reference))
    for kind, members in groups:
        frame += [
            {"name": p.name, "role": p.role, "targets": "|".join(p.targets), "mechanism": p.mechanism,
             "support": support_of(p, learned), "set": kind}
            for p in members
        ]  # fmt: skip
    perturbations = [p for _, members in groups for p in members]
    table = pd.DataFrame(frame)
    swap = (
        np.flatnonzero((table["set"] == "reference") & (table["support"] == "seen"))
        if config.context_key in details.context_keys
        else np.array([], dtype=int)
    )
    spec = model.settings.tasks["perturbation_response"]
    usual = (
        int(np.median(sentences.n_expressed))
        if spec["target"] == "delta"
        else min(int(np.median(sentences.n_expressed)), spec["n_answer"])
    )
    max_rank = config.max_rank or max(usual, len(gene_ids))
    model.require_all_layers("screens")
    weights = model.weights_hash()
    key = hash_of(
        [p.to_dict() for p in perturbations], config.model_dump(mode="json", exclude={"threads"}), sentences.ids, sentences.offsets,
        list(sentences.obs.index), sentences.obs[[*details.context_keys, CONTEXT, UNIT]].astype(str).to_dict("list"),
        weights, max_rank, gene_ids,
    )  # fmt: skip
    return ScreenPlan(sentences, vehicles[0], table, perturbations, swap, gene_ids, max_rank, programme, config, key)


def foreign_contexts(model: CellLM, config: ScreenConfig) -> list[str]:
    """Return what to say of contexts that a model which reads the context column was never trained on."""
    details = model.settings.perturbation
    if details is None or config.context_key not in details.context_keys or model.responses is None:
        return []
    known = sorted(set(model.responses[config.context_key].astype(str)))
    foreign = [context for context in config.contexts if context not in known]
    if not foreign:
        return []
    trained = f"the model was trained with {config.context_key} = {', '.join(known)}, not with {' and '.join(foreign)}"
    return [f"{trained}: what it says there is a guess"]


def rewarded_genes(model: CellLM, programme: Programme) -> list[str]:
    """Return what to say of a programme whose genes the model was reinforced on: its hits are what it was paid for."""
    paid = model.settings.training.get("reinforced", {}).get("programme", ())
    shared = [gene for gene in programme.genes if gene in set(paid)]
    if not shared:
        return []
    return [
        f"the model was reinforced on {len(shared)} of the {len(programme.genes)} genes of {programme.name} ({listed(shared, 5)}): a hit may be what it was "
        "rewarded for, which is circular; screen for genes it was not rewarded on, or use the supervised model"
    ]


def _screened_cells(model: CellLM, cells: AnnData, config: ScreenConfig) -> CellSentences:
    """Return the sentences of the screened cells with context and unit, at most ``cells_per_unit`` a unit and context."""
    column = require_column(cells.obs, config.context_key, "context_key")
    if gaps := int(column.isna().sum()):
        logger.warning("%d of %d cells have no value in %s and are left out", gaps, len(column), config.context_key)
    values = column.astype(str)
    for context in config.contexts:
        if context not in set(values):
            found = ", ".join(sorted(set(values))[:12]) or "no cells"
            msg = f"no cell has {config.context_key} == {context!r}; found {found}. Pass contexts="
            raise DataError(msg)
    keep = values.isin(config.contexts).to_numpy()
    details = model.settings.perturbation
    for key in details.context_keys if details else ():
        if key not in cells.obs:
            msg = f"the model reads the context column {key!r}, which obs lacks; found {', '.join(map(str, cells.obs))}. Add it"
            raise DataError(msg)
        complete_column(cells.obs[keep], key, "a context column of the model")
    if details is not None and details.perturbation_key in cells.obs:
        untreated = (cells.obs[details.perturbation_key].astype(str) == details.control).to_numpy()
        logger.info(
            "%d of %d cells are controls (%s == %s); only they are screened",
            untreated.sum(),
            len(untreated),
            details.perturbation_key,
            details.control,
        )
        keep &= untreated
    units = (
        complete_column(cells.obs, config.unit_key, "unit_key") if config.unit_key else np.full(len(cells.obs), "all")
    )
    rng = np.random.default_rng([config.seed, 23])
    chosen = []
    frame = pd.DataFrame({"context": values.to_numpy(), "unit": units})
    for _, rows in frame[keep].groupby(["context", "unit"], sort=True).indices.items():
        rows = np.flatnonzero(keep)[rows]
        chosen.append(np.sort(rng.permutation(rows)[: config.cells_per_unit]))
    missing = [
        c
        for c in config.contexts
        if not (frame["context"].to_numpy()[np.concatenate([*chosen, np.empty(0, int)])] == c).any()
    ]
    if missing:
        msg = f"no untreated cell in context {' and '.join(map(repr, missing))}; the screen starts from untreated cells"
        raise DataError(msg)
    rows = np.concatenate(chosen)
    subset = cells[rows].copy()
    sentences = encode(subset, layer=config.layer, vocabulary=model.vocabulary, background=model.background)
    labels = {CONTEXT: frame["context"].to_numpy()[rows], UNIT: frame["unit"].to_numpy()[rows]}
    return sentences.with_obs(sentences.obs.assign(**labels))


def _silent(model: CellLM, gene_ids: np.ndarray) -> set[str]:
    if model.responses is None:
        return set()
    return silent_perturbations(model.responses[~model.responses["held_out"].astype(bool)], gene_ids)


def _reference(trained: Sequence[Perturbation], held_out: Sequence[str], config: ScreenConfig) -> list[Perturbation]:
    """Return training perturbations for the gates, in a seeded order: at most half of them were held out."""
    drugs = [row for row in trained if row.role != "vehicle"]
    rng = np.random.default_rng([config.seed, 29])
    order = [drugs[i] for i in rng.permutation(len(drugs))]
    unseen = [row for row in order if row.name in held_out][: config.n_reference // 2]
    learnt = [row for row in order if row.name not in held_out]
    return [*unseen, *learnt][: config.n_reference]
