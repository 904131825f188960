"""The dual-context screen: library x cells x contexts in, ranked hits with their evidence out."""

from __future__ import annotations

import datetime
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from c2s.artefacts import atomic_path, hash_of, prepare_folder, read_json, write_json
from c2s.cells.library import Perturbation, check_library
from c2s.cells.reading import complete_column, require_column
from c2s.errors import ArtefactError, ConfigError, DataError, ModelError
from c2s.models.cell_lm import CellLM
from c2s.screening import gates
from c2s.screening.config import ScreenConfig
from c2s.screening.decoys import make_decoys, silent_perturbations, support_of
from c2s.screening.effects import ScreenEffects
from c2s.screening.hits import call_hits
from c2s.screening.measure import CONTEXT, UNIT, ScreenPlan, estimate_seconds, gather, run_blocks
from c2s.screening.pathways import pathway_changes
from c2s.screening.programmes import load_programme, packaged_sets, programme_ids, read_gmt
from c2s.screening.report import write_report
from c2s.screening.rivals import Rivals
from c2s.screening.truth import score_against_truth
from c2s.sentences.corpus import CellSentences
from c2s.sentences.encode import encode

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

PLAN_FILE = "plan.json"
PATHWAY_ROWS = 6  # rows whose pathway changes are shown: hits, else the largest splits


def screen(
    model: CellLM,
    cells: AnnData,
    library: Sequence[Perturbation],
    out: str | os.PathLike[str] | None = None,
    *,
    config: ScreenConfig | None = None,
    shard: tuple[int, int] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    truth: pd.DataFrame | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Return the library ranked by how much more each row moves the programme in the first context than in the second.

    Parameters
    ----------
    model : CellLM
        Trained on perturbation responses.
    cells : AnnData
        Untreated cells with the context column. Where ``obs`` has the model's perturbation column, only its controls
        are screened.
    library : sequence of Perturbation
        A row with role ``vehicle`` is optional: the model's own vehicle is used.
    out : path, optional
        Folder of ``screen.csv``, ``screen.json``, ``screen.html`` and ``screen.png``. A killed screen started again with
        the same arguments goes on where it was and gives the same table. Without it nothing is kept.
    config : ScreenConfig, optional
        Or its fields as keyword arguments; ``context_key`` and ``contexts`` are needed.
    shard : (i, n), optional
        Run only work items ``i, i + n, …`` (0-based i); :func:`merge` finishes when all shards have run. The returned
        table is then empty.
    truth : DataFrame, optional
        ``planted_class`` per perturbation of a simulated screen; the report then says that responses are simulated.

    Returns
    -------
    DataFrame
        See :func:`c2s.screening.hits.call_hits`; baseline columns ``ridge_split``, ``knn_split`` where training responses
        allow, ``planted_class`` with ``truth``. ``attrs["record"]`` is what ``screen.json`` holds.

    Raises
    ------
    ModelError
        The model was not trained on perturbations, or uses other genes.
    DataError
        Columns, contexts, genes or the library do not fit.
    ArtefactError
        ``out`` holds something else.
    """
    config = ScreenConfig(**{**(config.model_dump() if config else {}), **settings})
    if out is None:
        if shard is not None:
            msg = "a shard needs out=, a folder that keeps its part until the others have run"
            raise ConfigError(msg)
        with tempfile.TemporaryDirectory() as scratch:
            return screen(model, cells, library, scratch, config=config, progress=progress, truth=truth)
    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    plan = make_plan(model, cells, library, config)
    folder = _open_folder(Path(out), plan, overwrite=overwrite)
    seconds = estimate_seconds(model, plan)
    n_items = len(plan.blocks) if shard is None else len(range(shard[0], len(plan.blocks), shard[1]))
    expected = seconds * n_items / len(plan.blocks)
    logger.info(
        "%d rows x %d cells x %d samples: about %s",
        len(plan.rows),
        len(plan.cells),
        config.n_samples,
        _duration(expected),
    )
    if shard is not None:
        run_blocks(model, plan, folder, range(shard[0], len(plan.blocks), shard[1]), progress=progress)
        return pd.DataFrame()
    started = time.perf_counter()
    run_blocks(model, plan, folder, range(len(plan.blocks)), progress=progress)
    timings = {"estimated": seconds, "measuring": time.perf_counter() - started}
    return finish(model, plan, folder, timings=timings, truth=truth)


def merge(
    model: CellLM,
    cells: AnnData,
    library: Sequence[Perturbation],
    out: str | os.PathLike[str],
    *,
    config: ScreenConfig,
    truth: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return and write the result of a screen whose shards have all run in ``out`` (or were copied there)."""
    plan = make_plan(model, cells, library, config)
    folder = Path(out)
    if not (folder / PLAN_FILE).is_file():
        msg = f"{folder} holds no screen; run its shards first"
        raise ArtefactError(msg)
    return finish(model, plan, folder, timings={}, truth=truth)


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
    for note in _foreign_contexts(model, config):
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
    weights = model.weights_hash()
    key = hash_of(
        [p.to_dict() for p in perturbations], config.model_dump(mode="json", exclude={"threads"}), sentences.ids, sentences.offsets,
        list(sentences.obs.index), sentences.obs[[*details.context_keys, CONTEXT, UNIT]].astype(str).to_dict("list"),
        weights, max_rank, gene_ids,
    )  # fmt: skip
    return ScreenPlan(sentences, vehicles[0], table, perturbations, swap, gene_ids, max_rank, programme, config, key)


def _foreign_contexts(model: CellLM, config: ScreenConfig) -> list[str]:
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


def _screened_cells(model: CellLM, cells: AnnData, config: ScreenConfig) -> CellSentences:
    """Return the sentences of the screened cells with context and unit, at most ``cells_per_unit`` a unit and context."""
    values = require_column(cells.obs, config.context_key, "context_key").astype(str)
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


def _open_folder(folder: Path, plan: ScreenPlan, *, overwrite: bool) -> Path:
    record = folder / PLAN_FILE
    if record.is_file() and not overwrite:
        if read_json(record).get("key") != plan.key:
            msg = f"{folder} holds another screen (other cells, library, model or settings); name another folder or pass overwrite=True (--overwrite)"
            raise ArtefactError(msg)
        return folder
    prepare_folder(folder, overwrite=overwrite)
    write_json(record, {"key": plan.key, "config": plan.config.model_dump(mode="json")})
    return folder


def finish(
    model: CellLM, plan: ScreenPlan, folder: Path, *, timings: dict[str, float], truth: pd.DataFrame | None
) -> pd.DataFrame:
    """Judge the gathered effects, question the gates and write table, record and report."""
    started = time.perf_counter()
    config = plan.config
    effects, swap = gather(plan, folder)
    positive = [
        name
        for name, role, kind in zip(plan.rows["name"], plan.rows["role"], plan.rows["set"], strict=True)
        if role == "positive_control" and kind == "library"
    ]
    table = call_hits(
        effects,
        delta=config.delta,
        alpha=config.alpha,
        fdr=config.fdr,
        positive_controls=positive,
        co_treatment=config.co_treatment,
        seed=config.seed,
    )
    listed = [_library(plan)[name] for name in table["perturbation"]]
    for place, column in enumerate(("dose", "time", "smiles"), start=3):
        values = [getattr(row, column) for row in listed]
        if any(values):
            table.insert(place, column, values)
    attrs = {**table.attrs, "notes": [*_foreign_contexts(model, config), *table.attrs["notes"]]}
    details = model.settings.perturbation
    trained = [Perturbation.from_dict(row) for row in details.library] if details else []
    rivals = Rivals.of(
        model.responses, trained, context_key=config.context_key, contexts=config.contexts, gene_ids=plan.gene_ids
    )
    if rivals is not None:
        for name, split in rivals.splits(listed).items():
            if name != "mean":  # the mean response gives every drug the same split
                table[f"{name}_split"] = split
    asked = [
        gates.reads_drug(effects),
        gates.reads_context(effects, swap, plan.swap_rows),
        gates.vehicle_is_zero(effects),
        gates.controls_behave(effects, table, delta=config.delta),
        gates.near_training(table),
        gates.beats_baselines(rivals.held_out_scores(effects) if rivals else None, contexts_known=rivals is not None),
    ]
    record = _record(model, plan, effects, attrs, asked)
    if truth is not None:
        table["planted_class"] = table["perturbation"].map(truth["planted_class"]).fillna("")
        record["simulated"] = True
        record["demo"] = score_against_truth(table)
    timings = {**timings, "judging": time.perf_counter() - started}
    started = time.perf_counter()
    changes = _pathways(model, plan, table)
    record["timings"] = {**timings, "pathways": time.perf_counter() - started}
    with atomic_path(folder / "screen.csv") as temporary:
        table.to_csv(temporary, index=False)
    write_json(folder / "screen.json", record)
    write_report(folder, table, record, effects, pathways=changes)
    table.attrs = {**attrs, "record": record}
    return table


def _record(
    model: CellLM, plan: ScreenPlan, effects: ScreenEffects, attrs: dict[str, Any], asked: list[gates.Gate]
) -> dict[str, Any]:
    from c2s import __version__

    sets = plan.rows["set"]
    per_context = {context: int((effects.cells["context"] == context).sum()) for context in effects.contexts}
    subsets = {name: list(genes) for name, genes in plan.programme.subsets.items()}
    return {
        "version": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "config": plan.config.model_dump(mode="json"),
        "contexts": list(plan.config.contexts),
        "programme": {
            "name": plan.programme.name, "genes": effects.gene_symbols, "absent": [gene for gene in plan.programme.genes if gene not in effects.gene_symbols], "subsets": subsets,
        },
        "counts": {
            "library": int((sets == "library").sum()), "decoys": int((sets == "decoy").sum()), "reference": int((sets == "reference").sum()),
            "cells": per_context, "units": int(effects.cells["unit"].nunique()), "samples": plan.config.n_samples, "max_rank": plan.max_rank,
        },
        "replication": attrs.get("replication", ""),
        "smallest_p": attrs.get("smallest_p"),
        "decoys": attrs.get("decoys", {}),
        "seeds": {"screen": plan.config.seed, "model": model.settings.training.get("seed")},
        "model": {"parameters": model.n_parameters, "plan": plan.key, "training": model.settings.training},
        "gates": [gate.to_dict() for gate in asked],
        "notes": list(attrs.get("notes", [])),
        "simulated": False,
    }  # fmt: skip


def _library(plan: ScreenPlan) -> dict[str, Perturbation]:
    """Return the library's perturbations by name; decoys and reference rows may repeat a name."""
    return {p.name: p for p, kind in zip(plan.perturbations, plan.rows["set"], strict=True) if kind == "library"}


def _pathways(model: CellLM, plan: ScreenPlan, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return predicted pathway changes of the hits (else of the largest splits), per context, on a few cells."""
    chosen = table[table["hit"]] if table["hit"].any() else table[table["role"] == "drug"]
    names = list(chosen["perturbation"][:PATHWAY_ROWS])
    if not names:
        return {}
    by_name = _library(plan)
    shifts = {}
    for context in plan.config.contexts:
        cells = plan.cells[np.flatnonzero(plan.cells.obs[CONTEXT].to_numpy() == context)[:16]]
        after = model.perturb(
            cells, [plan.vehicle, *(by_name[name] for name in names)], n_samples=1, seed=plan.config.seed
        )
        values = model.decoder.decode(after).X
        which = after.obs["perturbation"].to_numpy()
        vehicle = np.asarray(values[which == plan.vehicle.name].mean(axis=0)).ravel()
        for name in names:
            shifts[f"{name} ({context})"] = np.asarray(values[which == name].mean(axis=0)).ravel() - vehicle
    shift = pd.DataFrame(shifts, index=list(model.vocabulary.symbols))
    sets = read_gmt(plan.config.gmt) if plan.config.gmt else packaged_sets()
    return pathway_changes(shift, sets, seed=plan.config.seed)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
