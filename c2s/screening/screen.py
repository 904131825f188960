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

from c2s.artefacts import atomic_path, prepare_folder, read_json, write_json
from c2s.cells.gene_sets import read_gmt
from c2s.cells.library import Perturbation
from c2s.errors import ArtefactError, ConfigError
from c2s.models.cell_lm import CellLM
from c2s.screening import gates
from c2s.screening.config import ScreenConfig
from c2s.screening.effects import ScreenEffects
from c2s.screening.hits import call_hits
from c2s.screening.measure import CONTEXT, ScreenPlan, estimate_seconds, gather, run_blocks
from c2s.screening.pathways import pathway_changes
from c2s.screening.plan import foreign_contexts, make_plan, rewarded_genes
from c2s.screening.programmes import packaged_sets
from c2s.screening.report import write_report
from c2s.screening.rivals import Rivals
from c2s.screening.truth import score_against_truth

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
    attrs = {
        **table.attrs,
        "notes": [*foreign_contexts(model, config), *rewarded_genes(model, plan.programme), *table.attrs["notes"]],
    }
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
