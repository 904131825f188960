"""Types of ``obs`` columns: what Parquet forgets of them, and what an ``.h5ad`` file cannot hold."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pandas as pd

from c2s.cells.genes import listed

logger = logging.getLogger(__name__)

_NULLABLE = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64", "boolean")


def kinds_of(obs: pd.DataFrame) -> dict[str, Any]:
    """Return, for ``corpus.json``, the types that Parquet would not give back: nullable numbers, ordered or numeric categories.

    Returns
    -------
    kinds : dict
        Column → name of a pandas type, or ``{"categories": [...], "ordered": bool}``.
    """
    kinds: dict[str, Any] = {}
    for column, dtype in obs.dtypes.items():
        if isinstance(dtype, pd.CategoricalDtype):
            numeric = dtype.categories.dtype.kind in "iufb"
            if dtype.ordered or numeric:
                kinds[str(column)] = {"categories": dtype.categories.tolist(), "ordered": bool(dtype.ordered)}
        elif str(dtype) in _NULLABLE:
            kinds[str(column)] = str(dtype)
    return kinds


def restored(obs: pd.DataFrame, kinds: Mapping[str, Any]) -> pd.DataFrame:
    """Return ``obs`` with the types that :func:`kinds_of` recorded."""
    found: dict[str, Any] = {}
    for column, kind in kinds.items():
        if isinstance(kind, str):
            found[column] = obs[column].astype(kind)
        else:
            found[column] = pd.Categorical(obs[column], categories=kind["categories"], ordered=kind["ordered"])
    return obs.assign(**found)


def writable(obs: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of ``obs`` that ``.h5ad`` files can hold.

    Arrow strings become Python strings, in index and columns. Dates, durations and columns of mixed objects become text, a gap
    stays a gap; the columns are logged.
    """
    changed, text = {}, []
    for column, dtype in obs.dtypes.items():
        values = obs[column]
        if isinstance(dtype, pd.StringDtype):
            changed[column] = values.to_numpy(dtype=object, na_value=None)
        elif dtype.kind in "mM" or (
            dtype.kind == "O" and not isinstance(dtype, pd.CategoricalDtype) and not _is_text(values)
        ):
            changed[column] = pd.Series(
                [None if gap else str(each) for each, gap in zip(values, values.isna())], obs.index
            )
            text.append(str(column))
    if text:
        logger.warning("columns of obs that an AnnData file cannot hold are written as text: %s", listed(text))
    return obs.assign(**changed).set_axis(obs.index.astype(object), axis=0)


def _is_text(values: pd.Series) -> bool:
    return pd.api.types.infer_dtype(values, skipna=True) in ("string", "empty")
