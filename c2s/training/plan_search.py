"""Plans for cells: a search of each cell for the layers it needs, and a test of what was found on other cells of its type."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from c2s.artefacts import hash_of, whole_folder
from c2s.cells.genes import listed
from c2s.cells.reading import complete_column
from c2s.engines.layer_routing.fingerprint import fingerprint
from c2s.engines.layer_routing.samples import search_samples
from c2s.engines.layer_routing.support import decoder_of
from c2s.errors import DataError
from c2s.training.label_rewards import LabelRewards
from c2s.training.plan_settings import PlanSearchConfig
from c2s.training.plan_verdicts import verdicts
from c2s.training.searched_plans import SearchedPlans, cell_hashes, plan_table

if TYPE_CHECKING:
    from c2s.models.cell_lm import CellLM
    from c2s.sentences.corpus import CellSentences

logger = logging.getLogger(__name__)

TESTS = "tests.jsonl"  # while they are going on


def search_plans(
    model: CellLM,
    sentences: CellSentences,
    out: str | os.PathLike[str],
    *,
    labels_key: str,
    config: PlanSearchConfig | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> SearchedPlans:
    """Return a plan for each of some cells: what a search found where it holds on other cells of the type, else the model as it is.

    A search that tries many plans on one cell finds some that are right by luck. So its best plans are tried again on ``n_fresh`` other
    cells of the same type, whose rewards had no part in choosing them: the sign test by permutation of
    :func:`~c2s.engines.layer_routing.rewards.retest`, at ``alpha / candidates``. A plan under which the model names the type of hardly any cell of
    other types does not read the cell: it was chosen by the label, and says it to all. Such plans are not kept.

    Parameters
    ----------
    model : CellLM
        Trained on cell types.
    sentences : CellSentences
        Training cells, or others the model may learn from; leave test cells out.
    out : path
        Folder of ``plans.json``, ``plans.csv``, ``cells/`` and ``search/``. A search that was killed goes on when it is called again with
        the same cells and settings.
    labels_key : str
        Column of ``sentences.obs`` with the right labels.
    config : PlanSearchConfig, optional
    overwrite : bool
    progress : bool

    Raises
    ------
    ArtefactError
        ``out`` is not empty.
    DataError
        A label is none of the model's, or no type has enough cells.
    ModelError
        The model was trained on something else, cannot be routed, or has a router.

    References
    ----------
    Heakl et al. 2025, Dr.LLM (arXiv 2510.12773), without such a test.
    """
    config = config or PlanSearchConfig()
    model.task("cell_type_annotation")
    model.require_next_token("a search of plans")
    model.require_all_layers("searched plans")
    n_layers, base = decoder_of(model.model).n_layers, fingerprint(model.model)
    truth = _labels(model, sentences, labels_key)
    rng = np.random.default_rng(config.seed)
    pools = _pools(truth, config, rng)
    chosen = _drawn(pools, config.n_cells)
    key = hash_of(
        base, config.model_dump(mode="json"), sentences.ids, sentences.offsets, truth.tolist(), labels_key, chosen
    )
    with whole_folder(out, overwrite=overwrite, resume_key=key) as scratch:
        rewards = LabelRewards(model, sentences, truth.tolist(), kind=config.reward)
        found = search_samples(
            lambda samples, plans: rewards([int(chosen[sample]) for sample in samples], plans), len(chosen), n_layers,
            budget=config.budget, method=config.method, length_penalty=config.length_penalty, seed=config.seed, batch_size=1,
            out=scratch / "search", data=key, progress=progress,
        )  # fmt: skip
        logger.info(
            "search: %s of %s token-layers run, others were known", f"{rewards.executed:,}", f"{rewards.naive:,}"
        )
        alike = _nearest(model, sentences, pools, truth, chosen, config.n_fresh)
        others = _of_other_types(pools, truth, chosen, config.n_fresh, np.random.default_rng([config.seed, 1]))
        judged = verdicts(rewards, found, alike, others, scratch / TESTS, config, progress=progress)
        table = plan_table(sentences.obs.index[chosen], truth[chosen], found, judged)
        read = np.unique(np.concatenate([chosen, *alike, *others]).astype(np.int64))
        searched = SearchedPlans(
            sentences[chosen],
            table,
            labels_key,
            base,
            config.model_dump(mode="json"),
            tuple(cell_hashes(sentences[read])),
        )
        searched.write(scratch)
        (scratch / TESTS).unlink()  # the table says it all
    return searched


def _labels(model: CellLM, sentences: CellSentences, labels_key: str) -> NDArray[np.object_]:
    truth = complete_column(sentences.obs, labels_key, "labels_key").astype(str).astype(object)
    if unknown := sorted(set(truth) - set(model.settings.labels)):
        msg = f"column {labels_key!r} holds {listed(unknown)}, which the model was not trained on; it knows {listed(model.settings.labels)}"
        raise DataError(msg)
    return truth


def _pools(truth: NDArray[np.object_], config: PlanSearchConfig, rng: np.random.Generator) -> dict[str, NDArray[np.intp]]:  # fmt: skip
    """Return cells of each type in random order, at most ``pool``; types with too few to test a plan are left out."""
    pools, few = {}, []
    for label in sorted(set(truth)):
        cells = rng.permutation(np.flatnonzero(truth == label))
        if len(cells) > config.n_fresh:
            pools[label] = cells[: max(config.pool, config.n_fresh + 1)]
        else:
            few.append(f"{label} ({len(cells)})")
    if not pools:
        msg = f"no type has more than n_fresh={config.n_fresh} cells ({listed(few)}); give more cells, or test on fewer"
        raise DataError(msg)
    if few:
        logger.warning("no plans are searched for %s: n_fresh=%d others of the type are needed", listed(few), config.n_fresh)  # fmt: skip
    return pools


def _drawn(pools: dict[str, NDArray[np.intp]], n_cells: int) -> NDArray[np.intp]:
    """Return cells from the pools in turn, sorted."""
    longest = max(map(len, pools.values()))
    turns = [pool[turn] for turn in range(longest) for pool in pools.values() if turn < len(pool)]
    return np.sort(np.array(turns[:n_cells], dtype=np.intp))


def _nearest(
    model: CellLM, sentences: CellSentences, pools: dict[str, NDArray[np.intp]], truth: NDArray[np.object_],
    chosen: NDArray[np.intp], n_fresh: int,
) -> list[NDArray[np.intp]]:  # fmt: skip
    """Return for each chosen cell the others of its pool whose vectors have the highest cosine with its own."""
    cells = np.unique(np.concatenate([*pools.values(), chosen]))
    vectors = model.embed(sentences[cells]).astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    place = {int(cell): i for i, cell in enumerate(cells)}
    found = []
    for cell in chosen:
        own = sentences.row(int(cell)).tobytes()  # a copy of the cell is no other cell
        others = np.array(
            [each for each in pools[truth[cell]] if each != cell and sentences.row(int(each)).tobytes() != own]
        )
        if len(others) < n_fresh:
            msg = f"only {len(others)} cells of {truth[cell]} differ from {sentences.obs.index[cell]}; n_fresh={n_fresh} are needed: leave out copies, or test on fewer"
            raise DataError(msg)
        cosine = vectors[[place[int(other)] for other in others]] @ vectors[place[int(cell)]]
        found.append(others[np.argsort(-cosine, kind="stable")[:n_fresh]])
    return found


def _of_other_types(
    pools: dict[str, NDArray[np.intp]], truth: NDArray[np.object_], chosen: NDArray[np.intp], n: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:  # fmt: skip
    """Return for each chosen cell ``n`` cells of other types, drawn by lot; none where there is one type."""
    every = np.concatenate(list(pools.values()))
    found = []
    for cell in chosen:
        others = every[truth[every] != truth[cell]]
        found.append(rng.choice(others, min(n, len(others)), replace=False))
    return found
