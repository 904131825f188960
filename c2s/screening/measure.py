"""Running the model over library x cells: in blocks of cells, each saved when done, so that a killed screen goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from c2s.artefacts import atomic_path
from c2s.cells.library import Perturbation
from c2s.errors import ArtefactError
from c2s.models.cell_lm import CellLM
from c2s.screening.config import ScreenConfig
from c2s.screening.effects import STATISTICS, ScreenEffects
from c2s.screening.programmes import Programme
from c2s.screening.scores import programme_scores
from c2s.sentences.corpus import CellSentences

logger = logging.getLogger(__name__)

# columns of a plan's cells, named so that none of the user's is hidden
CONTEXT, UNIT = "screen_context", "screen_unit"
TOKENS_TIMED = 64  # rows of the trial that the cost estimate rests on
IDS_AT_ONCE = 1 << 25  # gene ids of the sentences held at once while they are scored


@dataclass
class ScreenPlan:
    """What is run: the same plan, on any shard, gives the same numbers.

    Attributes
    ----------
    cells : CellSentences
        Screened cells, ``obs`` with :data:`CONTEXT` and :data:`UNIT`.
    vehicle : Perturbation
    rows : DataFrame
        ``name``, ``role``, ``targets``, ``mechanism``, ``support``, ``set``; vehicle first, then library, decoys and
        reference.
    perturbations : list of Perturbation
        One per row.
    swap_rows : ndarray of int
        Reference rows that are also run with the other context's tag; empty when the model reads no tag.
    gene_ids : ndarray of int32
        The programme.
    key : str
        Names everything above, the model and the settings; parts of another plan are refused.
    """

    cells: CellSentences
    vehicle: Perturbation
    rows: pd.DataFrame
    perturbations: list[Perturbation]
    swap_rows: np.ndarray
    gene_ids: np.ndarray
    max_rank: int
    programme: Programme
    config: ScreenConfig
    key: str

    @property
    def blocks(self) -> list[slice]:
        """Cells of each work item."""
        size = self.config.block_size
        return [slice(start, min(start + size, len(self.cells))) for start in range(0, len(self.cells), size)]


def part_path(folder: Path, block: int) -> Path:
    """Return the file of a work item."""
    return folder / "parts" / f"block-{block:05d}.safetensors"


def read_part(folder: Path, block: int, plan: ScreenPlan) -> dict[str, np.ndarray] | None:
    """Return a finished work item, or None if it is missing or truncated.

    Raises
    ------
    ArtefactError
        It belongs to another plan.
    """
    path = part_path(folder, block)
    if not path.is_file():
        return None
    try:
        part = load_file(path)
    except (SafetensorError, OSError, ValueError):
        logger.warning("%s is truncated; it is run again", path.name)
        return None
    if bytes(part.pop("key")).decode() != plan.key:
        msg = f"{path} belongs to another screen (other cells, library, model or settings); name another folder or pass overwrite=True (--overwrite)"
        raise ArtefactError(msg)
    return part


def run_block(model: CellLM, plan: ScreenPlan, block: int) -> dict[str, np.ndarray]:
    """Return the scores of one work item.

    Returns
    -------
    dict of ndarray
        Per statistic ``s``: ``effect_s`` (n_rows, b), ``vehicle_s`` (b,), ``swap_s`` (len(swap_rows), b);
        ``rank_shift`` (n_rows, k, b), ``control_rank`` and ``present`` (k, b).
    """
    config = plan.config
    cells = plan.cells[plan.blocks[block]]
    scores, each = _scores(model, plan, cells, [plan.vehicle, *plan.perturbations[1:]], seed=config.seed)
    independent, other = _scores(model, plan, cells, [plan.vehicle], seed=config.seed + 1_000_003)
    ranks, other_ranks = each.mean(axis=2), other.mean(axis=2)
    out: dict[str, np.ndarray] = {}
    for name in STATISTICS:
        vehicle = scores[name][:, 0]
        effect = scores[name] - vehicle[:, None]
        effect[:, 0] = vehicle - independent[name][:, 0]  # row 0: the vehicle against another draw of itself
        out[f"effect_{name}"], out[f"vehicle_{name}"] = effect.T.astype(np.float32), vehicle.astype(np.float32)
    shift = ranks - ranks[:, :1]
    shift[:, 0] = ranks[:, 0] - other_ranks[:, 0]
    out["rank_shift"] = shift.transpose(1, 2, 0).astype(np.float32)
    out["control_rank"] = ranks[:, 0].T.astype(np.float32)
    out["present"] = (each[:, 0] <= plan.max_rank).mean(axis=1).T.astype(np.float32)
    if len(plan.swap_rows):
        first, second = config.contexts
        swapped = cells.obs[config.context_key].astype(str).map({first: second, second: first})
        retagged = cells.with_obs(cells.obs.assign(**{config.context_key: swapped}))
        chosen = [plan.vehicle, *(plan.perturbations[row] for row in plan.swap_rows)]
        scores, _ = _scores(model, plan, retagged, chosen, seed=config.seed)
        for name in STATISTICS:
            out[f"swap_{name}"] = (scores[name][:, 1:] - scores[name][:, :1]).T.astype(np.float32)
    return {name: np.ascontiguousarray(array) for name, array in out.items()}


def _scores(
    model: CellLM, plan: ScreenPlan, cells: CellSentences, perturbations: list[Perturbation], *, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return scores (b, n_rows) per statistic, means over samples, and programme ranks (b, n_rows, n_samples, k)."""
    config = plan.config
    details = model.settings.perturbation
    read = cells.obs.columns.intersection(list(details.context_keys if details else ()))
    cells = cells.with_obs(cells.obs[read])  # all that the model reads; nothing else is repeated for every row
    longest = (len(cells.ids) + len(cells) * model.response_constraint().max_length) * config.n_samples
    size = max(1, IDS_AT_ONCE // longest)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in STATISTICS}
    ranks = []
    for start in range(0, len(perturbations), size):
        chosen = perturbations[start : start + size]
        after = model.perturb(cells, chosen, n_samples=config.n_samples, seed=seed, temperature=config.temperature)
        shape = (len(cells), len(chosen), config.n_samples)
        found = programme_scores(after, plan.gene_ids, max_rank=plan.max_rank, decoder=model.decoder)
        for name, values in found.items():
            scores[name].append(values.reshape(shape).mean(axis=2))
        ranks.append(after.ranks(plan.gene_ids, absent=plan.max_rank + 1).reshape(*shape, -1))
    return {name: np.concatenate(parts, axis=1) for name, parts in scores.items()}, np.concatenate(ranks, axis=1)


def run_blocks(model: CellLM, plan: ScreenPlan, folder: Path, blocks: Iterable[int], *, progress: bool = True) -> None:
    """Run and save the work items that are not finished yet, with a progress bar of cells."""
    from tqdm.auto import tqdm

    todo = [block for block in blocks if read_part(folder, block, plan) is None]
    sizes = [plan.blocks[block].stop - plan.blocks[block].start for block in todo]
    with tqdm(total=sum(sizes), desc="screening", unit="cell", disable=not progress) as bar:
        for block, size in zip(todo, sizes, strict=True):
            part = run_block(model, plan, block)
            part["key"] = np.frombuffer(plan.key.encode(), dtype=np.uint8)
            with atomic_path(part_path(folder, block)) as temporary:
                save_file(part, temporary)
            bar.update(size)


def gather(plan: ScreenPlan, folder: Path) -> tuple[ScreenEffects, dict[str, np.ndarray]]:
    """Return the effects of all work items, and the effects of ``swap_rows`` under the other context's tag.

    Raises
    ------
    ArtefactError
        Work items are missing: their shards have not run.
    """
    context = plan.cells.obs[CONTEXT].to_numpy()
    sides = np.stack([context == value for value in plan.config.contexts])
    kept: dict[str, list[np.ndarray]] = {}
    sums: dict[str, np.ndarray] = {}  # of cells, per context: what is told of each cell is too large to keep
    missing = []
    for block, span in enumerate(plan.blocks):
        part = read_part(folder, block, plan)
        if part is None:
            missing.append(block)
            continue
        for name, array in part.items():
            if name in ("rank_shift", "control_rank", "present"):
                here = np.stack([array[..., side].sum(axis=-1, dtype=np.float64) for side in sides[:, span]], axis=-2)
                sums[name] = here + sums.get(name, 0.0)
            else:
                kept.setdefault(name, []).append(array)
    if missing:
        msg = f"{len(missing)} of {len(plan.blocks)} parts are missing ({', '.join(map(str, missing[:8]))}…); run the remaining shards first"
        raise ArtefactError(msg)
    joined = {name: np.concatenate(arrays, axis=-1) for name, arrays in kept.items()}
    by_context = {name: (total / sides.sum(axis=1)[:, None]).astype(np.float32) for name, total in sums.items()}
    cells = pd.DataFrame({"cell": plan.cells.obs.index, "context": context, "unit": plan.cells.obs[UNIT].to_numpy()})
    effects = ScreenEffects(
        rows=plan.rows,
        cells=cells,
        effect={name: joined[f"effect_{name}"] for name in STATISTICS},
        vehicle_score={name: joined[f"vehicle_{name}"] for name in STATISTICS},
        **by_context,
        programme=plan.programme,
        gene_symbols=[plan.cells.vocabulary.symbols[i] for i in plan.gene_ids],
        contexts=plan.config.contexts,
        max_rank=plan.max_rank,
    )
    swap = {name: joined[f"swap_{name}"] for name in STATISTICS if f"swap_{name}" in joined}
    return effects, swap


def estimate_seconds(model: CellLM, plan: ScreenPlan) -> float:
    """Return the expected seconds of the whole screen, from a timed trial on one cell and a few rows."""
    rows = plan.perturbations[1 : 1 + TOKENS_TIMED]
    for _ in range(2):  # the first pass compiles and warms up
        started = time.perf_counter()
        _scores(model, plan, plan.cells[:1], [plan.vehicle, *rows], seed=plan.config.seed)
        once = time.perf_counter() - started
    return once / (len(rows) + 1) * (len(plan.rows) + 1 + len(plan.swap_rows)) * len(plan.cells)
