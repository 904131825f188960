"""AnnData in: files read with clear errors, and one checked, canonical CSR matrix out of any layer."""

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
from c2s.cells.scale import ADDITIVE, NAMES, scale_of
from c2s.errors import ArtefactError, ConfigError, DataError

_INFINITE = 0x7F800000  # the bits of a float32 infinity


def read_cells(path: str | os.PathLike[str]) -> ad.AnnData:
    """Return the AnnData in an ``.h5ad`` file, in memory.

    Raises
    ------
    ArtefactError
        There is no such file, it is another format, or it may not or cannot be read to its end.
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
    matrix = checked_matrix(values, label=label, hint=hint)
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


def checked_matrix(values: Any, *, label: str, hint: str = "") -> sp.csr_matrix:
    """Return numbers in memory as canonical CSR: sorted unique columns, no stored zeros, int32/int64/float32, all above 0.

    Parameters
    ----------
    values : sparse matrix or ndarray, shape (n_cells, n_genes)
        Never changed.
    label, hint : str
        What the matrix is called in messages, and what they add.

    Raises
    ------
    DataError
        No cells or genes, no numbers, NaN, infinite or negative values.
    """
    if 0 in values.shape:
        msg = f"{label} is empty: {values.shape[0]:,} cells × {values.shape[1]:,} genes"
        raise DataError(msg)
    matrix, own = _canonical(values, label)
    if _all_above_zero(matrix.data):
        return matrix
    _refuse_bad_values(matrix, label, hint)
    matrix = matrix if own else matrix.copy()
    matrix.eliminate_zeros()
    return matrix


def require_numbers(values: Any, label: str) -> None:
    """Raise a DataError where an array, in memory or on disk, is no matrix of numbers; return None if it is.

    Parameters
    ----------
    values
        Anything with ``ndim`` and ``dtype``.
    label : str
        What it is called in the message.
    """
    if values.ndim != 2:
        msg = f"{label} has {values.ndim} dimensions; expected cells × genes"
        raise DataError(msg)
    if values.dtype.kind not in "buif":
        msg = f"{label} holds {values.dtype} values; expected numbers. Convert it, e.g. by .astype('float32')"
        raise DataError(msg)


def _canonical(values: Any, label: str) -> tuple[sp.csr_matrix, bool]:
    """Return values as sorted CSR without duplicates, int32, int64 or float32, and whether it is nobody else's."""
    require_numbers(values, label)
    kind = values.dtype.kind
    if values.dtype == np.float16:  # scipy has no half precision
        values = values.astype(np.float32)
    if sp.issparse(values) and values.format in ("csr", "csc"):
        _refuse_damaged_ends(values, label)
    own = not (sp.issparse(values) and values.format == "csr")
    matrix = sp.csr_matrix(values) if own or not isinstance(values, sp.csr_matrix) else values
    if kind == "u" and matrix.data.max(initial=0) >= 2**63:
        matrix, own, kind = matrix.astype(np.float32), True, "f"
    if not matrix.has_canonical_format:
        wide = np.int64 if kind != "f" else matrix.dtype  # int8 entries may not be added up in eight bits
        matrix = matrix.astype(wide, copy=not own)
        matrix.sum_duplicates()
        own = True
    _refuse_damaged_columns(matrix, label)
    if kind == "f":
        own = own or matrix.dtype != np.float32
        return _single(matrix, label), own
    target: np.dtype[Any] = np.dtype(np.int32)
    if matrix.dtype != target:
        if matrix.data.max(initial=0) >= 2**31:
            target = np.dtype(np.int64)
        own = own or matrix.dtype != target
        matrix = matrix.astype(target, copy=False)
    return matrix, own


def _all_above_zero(data: np.ndarray) -> bool:
    """Return whether int32, int64 or float32 values are all above 0 and finite: the bits of such floats are such integers."""
    if data.dtype.kind == "i":
        return bool(data.min(initial=1) > 0)
    bits = data.view(np.int32)
    return bool(bits.min(initial=1) > 0 and bits.max(initial=1) < _INFINITE)


def _single(matrix: sp.csr_matrix, label: str) -> sp.csr_matrix:
    """Return the matrix as float32."""
    if matrix.dtype == np.float32:
        return matrix
    with np.errstate(over="ignore"):
        single = matrix.astype(np.float32)
    if single.nnz and np.isinf(single.data.max()) and np.isfinite(matrix.data.max()):
        msg = f"{label} holds values up to {matrix.data.max():.4g}, beyond single precision (3.4e38); rescale them"
        raise DataError(msg)
    return single


def _refuse_damaged_ends(matrix: Any, label: str) -> None:
    """Refuse compressed rows or columns that lie outside their arrays, which would be read without asking."""
    lines = matrix.shape[0] if matrix.format == "csr" else matrix.shape[1]
    if not whole_index(matrix.indptr, lines, min(len(matrix.indices), len(matrix.data))):
        _refuse_damaged(matrix, label)
    if (
        matrix.format == "csc"
        and matrix.nnz
        and not 0 <= matrix.indices.min() <= matrix.indices.max() < matrix.shape[0]
    ):
        _refuse_damaged(matrix, label)


def _refuse_damaged_columns(matrix: sp.csr_matrix, label: str) -> None:
    """Refuse columns outside a matrix in canonical form: only the first and last of each row need to be looked at."""
    filled = matrix.indptr[:-1] < matrix.indptr[1:]
    first, last = matrix.indices[matrix.indptr[:-1][filled]], matrix.indices[matrix.indptr[1:][filled] - 1]
    if first.min(initial=0) < 0 or last.max(initial=0) >= matrix.shape[1]:
        _refuse_damaged(matrix, label)


def _refuse_damaged(matrix: Any, label: str) -> None:
    rows, columns = matrix.shape
    msg = f"{label} is damaged: its sparse index points outside the matrix of {rows:,} × {columns:,}. Write it again"
    raise DataError(msg)


def whole_index(ends: np.ndarray, rows: int, n_entries: int) -> bool:
    """Return whether the row ends of a compressed matrix start at 0, never fall and stay within its entries."""
    return len(ends) == rows + 1 and ends[0] == 0 and ends[-1] <= n_entries and not np.any(ends[1:] < ends[:-1])


def _refuse_bad_values(matrix: sp.csr_matrix, label: str, hint: str) -> None:
    bad = int(np.count_nonzero(~np.isfinite(matrix.data)))
    if bad:
        msg = f"{label} holds {bad:,} NaN or infinite values; remove those cells or genes{hint}"
        raise DataError(msg)
    if matrix.data.min() < 0:
        msg = (
            f"{label} holds negative values (smallest {float(matrix.data.min()):.4g}), as scaled or centred data do; "
            f"ranks need counts or a monotone transform of them{hint}"
        )
        raise DataError(msg)


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
