"""The conditions of a perturbation experiment, real and predicted, checked before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from c2s.cells.genes import listed
from c2s.cells.reading import complete_column
from c2s.cells.scale import scale_of
from c2s.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]
MIN_CELLS = 2


@dataclass(frozen=True, eq=False)
class Condition:
    """A perturbation in a context, with its cells.

    Attributes
    ----------
    key : tuple of str
        Values of the context keys, then the perturbation.
    real, predicted, control : csr_matrix, shapes (n, n_genes), log1p CP10k
        Real controls are those of the context.
    reason : str or None
        Why it cannot be scored.
    """

    key: tuple[str, ...]
    real: sp.csr_matrix
    predicted: sp.csr_matrix
    control: sp.csr_matrix
    reason: str | None


def conditions_of(
    matrices: list[sp.csr_matrix], obs: list[pd.DataFrame], keys: list[str], control: str
) -> list[Condition]:
    """Return the conditions of real and predicted cells, sorted; those with too few cells say so.

    Parameters
    ----------
    matrices, obs
        Of the real and of the predicted cells.
    keys
        Context keys, then the perturbation key.

    Raises
    ------
    DataError
        A column is missing or has gaps, or no real cell is a control.
    """
    codes = [
        list(zip(*(complete_column(each, key, "perturbation_key or context_keys") for key in keys))) for each in obs
    ]
    rows: list[dict[tuple[str, ...], list[int]]] = [{}, {}]
    for found, names in zip(rows, codes):
        for row, key in enumerate(names):
            found.setdefault(key, []).append(row)
    if not any(key[-1] == control for key in rows[0]):
        named = sorted({key[-1] for key in rows[0]})
        msg = f"no real cell has {keys[-1]} == {control!r}; found {listed(named)}. Pass control="
        raise DataError(msg)
    conditions = []
    for key in sorted(set(rows[0]) | set(rows[1])):
        if key[-1] == control:
            continue
        sides = [matrix[found.get(key, [])] for matrix, found in zip(matrices, rows)]
        controls = matrices[0][rows[0].get((*key[:-1], control), [])]
        counts = {"real": sides[0].shape[0], "predicted": sides[1].shape[0], "control": controls.shape[0]}
        few = [f"{n} {name} cells" for name, n in counts.items() if n < MIN_CELLS]
        reason = f"{', '.join(few)}; at least {MIN_CELLS} are needed" if few else None
        conditions.append(Condition(key, sides[0], sides[1], controls, reason))
    return conditions


def mean_change(training: AnnData, genes: pd.Index, keys: list[str], control: str) -> Array:
    """Return the mean over training conditions of their change against the training controls of their context, shape (n_genes,).

    Raises
    ------
    DataError
        Genes are missing, or no condition has controls.
    """
    place = training.var_names.astype(str).get_indexer(genes)
    if (place < 0).any():
        msg = f"training cells lack {int((place < 0).sum()):,} of the {len(genes):,} genes of the real ones"
        raise DataError(msg)
    matrix = logarithms(training.X, "training")[:, place]
    found = [
        each
        for each in conditions_of([matrix, matrix], [training.obs, training.obs], keys, control)
        if each.reason is None
    ]
    if not found:
        msg = f"no training condition has {MIN_CELLS} cells and {MIN_CELLS} controls of its context; give training cells without those, or leave them out"
        raise DataError(msg)
    return np.mean([mean_profile(each.real) - mean_profile(each.control) for each in found], axis=0)


def logarithms(matrix: Any, side: str) -> sp.csr_matrix:
    """Return a matrix as CSR float32; a DataError where it holds no log1p CP10k."""
    found = sp.csr_matrix(matrix, dtype=np.float32)
    if found.nnz and (not np.isfinite(found.data).all() or found.data.min() < 0):
        msg = f"{side} cells hold values that are negative or not finite; expected log1p CP10k"
        raise DataError(msg)
    if found.nnz and scale_of(found) in ("counts",):
        msg = f"{side} cells hold counts; expected log1p CP10k: c2s.cells.normalise.to_log1p_cp10k, or scanpy's normalize_total(target_sum=1e4) and log1p"
        raise DataError(msg)
    return found


def mean_profile(matrix: sp.csr_matrix) -> Array:
    """Return the mean over cells, shape (n_genes,)."""
    return np.asarray(matrix.mean(axis=0), dtype=np.float64).ravel()
