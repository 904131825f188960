"""From sampled answers to cells: deltas applied to the controls, sentences as they are, and what each row is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from c2s.errors import ModelError
from c2s.sentences.corpus import UNKNOWN, CellSentences

if TYPE_CHECKING:
    from c2s.cells.library import Perturbation
    from c2s.models.tokenizer import PartTokenizer
    from c2s.sentences.background import Background
    from c2s.sentences.delta import DeltaRule

logger = logging.getLogger(__name__)


def perturbed_cells(
    answers: np.ndarray,
    controls: CellSentences,
    perturbations: Sequence[Perturbation],
    *,
    tokens: PartTokenizer,
    rule: DeltaRule | None,
    target: str,
    background: Background,
) -> CellSentences:
    """Return the sentences that sampled answers stand for.

    Parameters
    ----------
    answers : ndarray, shape (n_controls, n_perturbations, n_samples, length), int64
        Token ids.
    controls : CellSentences
        Full sentences of the cells that were asked about.
    rule : DeltaRule or None
        How a delta changes a control; needed for ``target="delta"``.
    target : {"delta", "sentence"}

    Returns
    -------
    CellSentences
        One row per answer, cell by cell; ``obs`` is the controls' with ``cell``, ``perturbation`` and ``sample``.

    Raises
    ------
    ModelError
        The answers are deltas and there is no rule.
    """
    n_cells, n_perturbations, n_samples, _ = answers.shape
    rows = np.repeat(np.arange(n_cells), n_perturbations * n_samples)
    answers = answers.reshape(len(rows), -1)
    gene_of = np.full(len(tokens), -1, dtype=np.int32)
    gene_of[tokens.gene_tokens] = np.arange(len(tokens.vocabulary), dtype=np.int32)
    genes = gene_of[answers]
    if target == "delta":
        if rule is None:
            msg = "the model answers with deltas but holds no rule to apply them; train it again"
            raise ModelError(msg)
        falling = np.cumsum(answers == tokens.marks["down"], axis=1) > 0
        up = [row[mask] for row, mask in zip(genes, (genes >= 0) & ~falling, strict=True)]
        down = [row[mask] for row, mask in zip(genes, (genes >= 0) & falling, strict=True)]
        ids, offsets = rule.apply(controls, rows, up, down)
        before = controls.n_expressed[rows]
        change = np.diff(offsets) - controls.lengths[rows]
        n_expressed = np.where(before < 0, UNKNOWN, np.maximum(before + change, 0))
    else:
        ids = genes[genes >= 0]
        offsets = np.r_[0, np.cumsum((genes >= 0).sum(axis=1))]
        n_expressed = np.full(len(rows), UNKNOWN)
    columns = {
        "cell": np.asarray(controls.obs.index.astype(str))[rows],
        "perturbation": np.tile(np.repeat([p.name for p in perturbations], n_samples), n_cells),
        "sample": np.tile(np.arange(n_samples), n_cells * n_perturbations),
    }
    obs = with_columns(controls.obs, columns, owner="cells", rows=rows)
    return CellSentences(
        ids=ids, offsets=offsets, n_expressed=n_expressed.astype(np.int32), vocabulary=tokens.vocabulary,
        obs=obs.set_axis(pd.RangeIndex(len(rows)).astype(str), axis=0), background=background,
        encoding=controls.encoding.with_(source_hash=None),  # no cell was read for them
    )  # fmt: skip


def with_columns(obs: pd.DataFrame, columns: Mapping[str, Any], *, owner: str, rows: np.ndarray) -> pd.DataFrame:
    """Return ``obs.iloc[rows]`` with ``columns``; a column already called so is kept as ``<owner>_<name>`` and logged."""
    kept: dict[str, str] = {}
    for name in columns:
        if name in obs:
            kept[name] = f"{owner}_{name}"
            while kept[name] in obs:
                kept[name] = f"{owner}_{kept[name]}"
    if kept:
        names = ", ".join(kept), ", ".join(kept.values())
        logger.warning("obs has %s already, which the answers have too; what it was is kept as %s", *names)
    return obs.rename(columns=kept).iloc[rows].assign(**columns)
