"""What a screen measures before anything is decided: effects of each perturbation on each cell, against vehicle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from c2s.screening.programmes import Programme

STATISTICS = ("u", "logit_u", "log_expression")


@dataclass
class ScreenEffects:
    """Effects of every row of a screen on every screened cell.

    Attributes
    ----------
    rows : DataFrame
        One per perturbation: ``name``, ``role``, ``targets`` (joined by ``|``), ``mechanism``, ``support``
        (``seen``, ``seen target``, ``unseen``) and ``set`` (``library``, ``decoy``, ``reference``, ``vehicle``).
        The single ``vehicle`` row is the vehicle against an independent draw of itself.
    cells : DataFrame
        One per screened cell: ``cell``, ``context`` (one of ``contexts``) and ``unit`` (donor or sample x model).
    effect : dict of ndarray, shape (n_rows, n_cells), float32
        Score after the drug minus score after vehicle (same model, cell and noise), mean over samples, per statistic
        of :data:`STATISTICS`.
    vehicle_score : dict of ndarray, shape (n_cells,), float32
        Score after vehicle, per statistic.
    rank_shift : ndarray, shape (n_rows, 2, k), float32
        Mean over cells of rank after drug minus rank after vehicle, per context and programme gene, ranks capped at
        ``max_rank + 1``; negative means that the gene rises.
    control_rank, present : ndarray, shape (2, k), float32
        Mean rank of each programme gene in vehicle sentences, and the share of those sentences that hold it.
    """

    rows: pd.DataFrame
    cells: pd.DataFrame
    effect: dict[str, np.ndarray]
    vehicle_score: dict[str, np.ndarray]
    rank_shift: np.ndarray
    control_rank: np.ndarray
    present: np.ndarray
    programme: Programme
    gene_symbols: list[str]
    contexts: tuple[str, str]
    max_rank: int
