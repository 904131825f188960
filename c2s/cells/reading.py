"""AnnData in: files read with clear errors, and the matrix of any layer with its genes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.artefacts import no_permission, require_access
from c2s.cells.genes import OnCollision, apply_aliases, listed, names_of, refuse_duplicates
from c2s.cells.matrix import checked_matrix
from c2s.cells.scale import ADDITIVE, NAMES, scale_of
from c2s.errors import ArtefactError, ConfigError, DataError


def read_cells(path: str | os.PathLike[str]) -> ad.AnnData:
    """Return the AnnData in an ``.h5ad`` file, in memory.

    Raises
    ------
    ArtefactError
        There is no such file, it is another format, or it cannot be read to its end.
    """
    file = Path(path)
    require_access(file)
    if file.is_dir():
        msg = f"{file} is a folder; pass an .h5ad file. c2s encode (encode_file) also reads .zarr stores and folders of files"
        raise ArtefactError(msg)
    if not file.is_file():
        msg = f"no file {file}; pass the path of an .h5ad file"
        raise ArtefactError(msg)
    if file.suffix.lower() != ".h5ad":
        msg = f"{file.name} is not an .h5ad file; convert it, e.g. scanpy.read_10x_h5(...).write_h5ad('cells.h5ad')"
        raise ArtefactError(msg)
    try:
        return ad.read_h5ad(file)
    except Exception as error:  # whatever a damaged file makes h5py and anndata raise
        raise unreadable(file, error) from error


def unreadable(file: Path, error: Exception) -> ArtefactError:
    """Return what to raise where reading ``file`` ended in ``error``."""
    if isinstance(error, PermissionError):
        return no_permission(file)
    size = f" ({file.stat().st_size:,} bytes)" if file.is_file() else ""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ArtefactError(
        f"cannot read {file}{size}: {reason}. It is truncated or not an AnnData file: download or write it again"
    )


def require_cells(adata: Any) -> None:
    """Raise a DataError where ``adata`` is no AnnData; return None if it is."""
    if not isinstance(adata, ad.AnnData):
        msg = f"expected an AnnData, got {type(adata).__name__}; read a file by c2s.read_cells(path), or make one by anndata.AnnData(matrix)"
        raise DataError(msg)


def require_column(obs: pd.DataFrame, column: str, argument: str) -> pd.Series:
    """Return ``obs[column]``.

    Parameters
    ----------
    argument
        The argument a user would change, e.g. ``"perturbation_key"``; it goes into the message.

    Raises
    ------
    DataError
        There is no such column; the message lists those there are.
    """
    if column not in obs.columns:
        found = listed(obs.columns) if len(obs.columns) else "no columns"
        msg = f"obs has no column {column!r}; found {found}. Pass {argument}="
        raise DataError(msg)
    return obs[column]


def complete_column(obs: pd.DataFrame, column: str, argument: str) -> np.ndarray:
    """Return ``obs[column]`` as strings, shape (n,).

    Parameters
    ----------
    argument
        As for :func:`require_column`.

    Raises
    ------
    DataError
        There is no such column, or cells without a value in it.
    """
    return _without_gaps(obs, column, argument).astype(str).to_numpy()


def coded_column(obs: pd.DataFrame, column: str, argument: str) -> tuple[np.ndarray, list[str]]:
    """Return ``obs[column]`` as places (int32, shape (n,)) in the sorted list of its values, and that list.

    For columns of many cells and few values: no string is made per cell.

    Parameters
    ----------
    argument
        As for :func:`require_column`.

    Raises
    ------
    DataError
        There is no such column, or cells without a value in it.
    """
    codes, found = pd.factorize(_without_gaps(obs, column, argument))
    values, place = np.unique(pd.Series(found).astype(str).to_numpy(dtype=object), return_inverse=True)
    return place.astype(np.int32)[codes], values.tolist()


def _without_gaps(obs: pd.DataFrame, column: str, argument: str) -> pd.Series:
    values = require_column(obs, column, argument)
    gaps = int(values.isna().sum())
    if gaps:
        msg = f"{gaps} of {len(obs)} cells have no value in {column!r} ({argument}); leave them out or name it"
        raise DataError(msg)
    return values


def refuse_repeated_cells(index: pd.Index) -> None:
    """Raise a DataError that lists the cell names occurring twice; return None if there is none."""
    if not index.is_unique:
        repeated = index[index.duplicated()].unique()
        msg = f"{len(repeated)} cell names occur more than once: {listed(repeated, 5)}. Call adata.obs_names_make_unique()"
        raise DataError(msg)


def expression(
    adata: ad.AnnData,
    *,
    layer: str | None = None,
    on_collision: OnCollision = "error",
    aliases: Mapping[str, str] | None = None,
) -> tuple[sp.csr_matrix, list[str]]:
    """Return the chosen matrix as canonical CSR, and its gene names.

    Parameters
    ----------
    layer
        None reads ``adata.X``, ``"raw"`` reads ``adata.raw.X`` with its own genes, any other name reads that layer.
    on_collision
        What to do with genes of the same name: ``"error"`` or ``"sum"`` (adds counts).
    aliases
        Old name → current name, applied first.

    Returns
    -------
    matrix : csr_matrix, shape (n_cells, n_genes), int32, int64 or float32
        Columns sorted in each row, no duplicate entries, no stored zeros. Where the caller's matrix is so already, it is the
        caller's own: do not write into it.
    genes : list of str, unique

    Raises
    ------
    DataError
        No cells or genes, no such layer, NaN or infinite values, negative values, nothing but zeros, duplicated genes.
    """
    require_cells(adata)
    values, index, label = _choose(adata, layer)
    hint = _alternatives(adata, layer)
    matrix = checked_matrix(values, label=label, hint=hint, genes=list(index), cells=list(adata.obs_names))
    if matrix.nnz == 0:
        msg = f"{label} holds nothing but zeros{hint}"
        raise DataError(msg)
    names = names_of(index, "genes")
    if index.is_unique and not aliases and on_collision == "error":  # pandas remembers the first of these
        return matrix, names
    return merged_genes(matrix, names, label=label, on_collision=on_collision, aliases=aliases)


def merged_genes(
    matrix: sp.csr_matrix,
    names: list[str],
    *,
    label: str,
    on_collision: OnCollision = "error",
    aliases: Mapping[str, str] | None = None,
) -> tuple[sp.csr_matrix, list[str]]:
    """Return a canonical matrix whose columns are unique genes, and their names; see :func:`expression`.

    Parameters
    ----------
    label
        What the matrix is called in messages.
    """
    genes = apply_aliases(names, aliases)
    if on_collision == "sum":
        matrix, genes = _summed(matrix, genes, label)
    elif on_collision == "error":
        refuse_duplicates(genes)
    else:
        msg = f"on_collision is {on_collision!r}; choose 'error' or 'sum'"
        raise ConfigError(msg)
    return matrix, genes


def _choose(adata: ad.AnnData, layer: str | None) -> tuple[Any, pd.Index, str]:
    """Return the matrix, the index of its genes and its name in messages."""
    if layer == "raw":
        if adata.raw is None:
            msg = f"layer='raw', but adata.raw is None{_alternatives(adata, layer)}"
            raise DataError(msg)
        return _in_memory(adata.raw.X), adata.raw.var_names, "adata.raw.X"
    if layer is not None:
        if layer not in adata.layers:
            msg = f"there is no layer {layer!r}; found {listed(adata.layers) or 'none'}{_alternatives(adata, layer)}"
            raise DataError(msg)
        return _in_memory(adata.layers[layer]), adata.var_names, f"layers[{layer!r}]"
    if adata.X is None:
        msg = f"adata.X is None{_alternatives(adata, layer)}"
        raise DataError(msg)
    return _in_memory(adata.X), adata.var_names, "adata.X"


def _in_memory(values: Any) -> Any:
    if hasattr(values, "to_memory"):  # a sparse matrix backed by a file
        return values.to_memory()
    if hasattr(values, "compute"):  # a dask array
        values = values.compute()
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.is_masked(values):
            msg = f"the matrix is a masked array with {np.ma.count_masked(values):,} masked values; fill them, e.g. by .filled(0)"
            raise DataError(msg)
        return values.data
    return values if sp.issparse(values) else np.asarray(values)


def _alternatives(adata: ad.AnnData, layer: str | None) -> str:
    """Return '. Try …' with the layers that exist and may hold counts, or an empty string."""
    options = []
    if adata.raw is not None and layer != "raw":
        options.append('layer="raw"')
    if "counts" in adata.layers and layer != "counts":
        options.append('layer="counts"')
    return f". Try {' or '.join(options)}" if options else ""


def _summed(matrix: sp.csr_matrix, genes: list[str], label: str) -> tuple[sp.csr_matrix, list[str]]:
    """Return the matrix with columns of one name added up, in the order of first appearance."""
    unique = {gene: position for position, gene in enumerate(dict.fromkeys(genes))}
    if len(unique) == len(genes):
        return matrix, genes
    scale = scale_of(matrix)
    if scale not in ADDITIVE:
        msg = f"{label} holds {NAMES[scale]}, which cannot be added up; pass a layer of counts with on_collision='sum'"
        raise DataError(msg)
    target = np.array([unique[gene] for gene in genes], dtype=matrix.indices.dtype)
    merged = sp.csr_matrix(
        (matrix.data.copy(), target[matrix.indices], matrix.indptr.copy()), (matrix.shape[0], len(unique))
    )
    merged.sum_duplicates()
    return merged, list(unique)
