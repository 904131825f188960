"""Neighbourhoods: which cells lie around each cell, nearest first, by radius or by number, never across samples."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from c2s.cells.genes import listed
from c2s.cells.reading import require_cells, require_column
from c2s.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

# trees round distances their own way: they are asked for a little more, and the distances of `between` decide
SLACK = 1 + 1e-9


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """The neighbours of each cell, nearest first; at equal distance the lower row first. No cell is its own neighbour.

    Attributes
    ----------
    coordinates : ndarray, shape (n, 2) or (n, 3), float64
    samples : ndarray, shape (n,), int64
        Number of each cell's sample; all 0 where none were named.
    indices : ndarray, shape (total,), int64
        Rows of the neighbours of all cells, one cell after another.
    distances : ndarray, shape (total,), float64
        Euclidean distances, in the coordinates' unit.
    offsets : ndarray, shape (n + 1,), int64
        The neighbours of cell i are ``indices[offsets[i]:offsets[i + 1]]``.
    """

    coordinates: NDArray[np.float64]
    samples: NDArray[np.int64]
    indices: NDArray[np.int64]
    distances: NDArray[np.float64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        coordinates: ArrayLike,
        *,
        radius: float | None = None,
        k: int | None = None,
        sample: ArrayLike | None = None,
    ) -> Self:
        """Return the neighbourhoods of cells at ``coordinates``; pass exactly one of ``radius`` and ``k``.

        Parameters
        ----------
        coordinates : array-like, shape (n, 2) or (n, 3)
            As :func:`coordinates_of` reads them. C2S-Scale's neighbourhoods are about 20 µm wide: with coordinates in µm, ``radius=20``.
        radius : float, optional
            Greatest distance of a neighbour, in the coordinates' unit; a cell exactly there is one.
        k : int, optional
            Neighbours of each cell; cells of a sample of k cells or fewer have all others of it.
        sample : array-like, shape (n,), optional
            Section, slide or patient of each cell. Cells of two samples are never neighbours, wherever they lie.

        Raises
        ------
        ConfigError
            Both or neither of ``radius`` and ``k``, or one that is not above 0.
        DataError
            Coordinates of another shape, NaN or infinite ones, or samples that are missing or too few.
        """
        if (radius is None) == (k is None):
            msg = f"radius={radius}, k={k}; pass exactly one: a radius in the coordinates' unit, or a number of neighbours"
            raise ConfigError(msg)
        if (radius is not None and not 0 < radius < np.inf) or (k is not None and k < 1):
            msg = f"radius={radius}, k={k}; expected a radius above 0, or at least 1 neighbour"
            raise ConfigError(msg)
        places = checked_coordinates(coordinates)
        samples = sample_numbers(sample, len(places))
        parts = []
        for number in range(samples.max() + 1):
            rows = np.flatnonzero(samples == number)
            cell, other, distance = _pairs(places[rows], radius, k)
            parts.append((rows[cell], rows[other], distance))
        cells, others, distances = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(cells, kind="stable")  # within a cell the order of _pairs stays
        offsets = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=len(places)))])
        logger.info(
            "%d cells, %d samples: median %g neighbours, %d cells without any",
            len(places), samples.max() + 1, np.median(np.diff(offsets)), (np.diff(offsets) == 0).sum(),
        )  # fmt: skip
        return cls(places, samples, others[order], distances[order], offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of neighbours of each cell, shape (n,)."""
        return np.diff(self.offsets)

    def row(self, i: int) -> NDArray[np.int64]:
        """Return the rows of the neighbours of cell ``i``, nearest first."""
        if not 0 <= i < len(self):
            msg = f"there is no cell {i}; rows run from 0 to {len(self) - 1}"
            raise DataError(msg)
        return self.indices[self.offsets[i] : self.offsets[i + 1]]

    def rows(self, cells: Sequence[int] | NDArray[np.integer], *, most: int | None = None) -> list[NDArray[np.int64]]:
        """Return the neighbours of each of ``cells``, the nearest ``most`` of them: what the spatial tasks take."""
        return [self.row(int(cell))[:most] for cell in cells]

    def adjacency(self) -> sp.csr_matrix:
        """Return the n × n matrix with 1 where the column's cell is a neighbour of the row's cell."""
        return sp.csr_matrix((np.ones(len(self.indices)), self.indices, self.offsets), shape=(len(self), len(self)))


def coordinates_of(
    adata: AnnData, *, obsm_key: str = "spatial", obs_keys: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Return the coordinates of the cells, shape (n, 2) or (n, 3), float64, in the unit they are stored in.

    Parameters
    ----------
    obsm_key
        Where they are in ``adata.obsm``.
    obs_keys
        Two or three columns of ``adata.obs`` to read instead, such as ``("x", "y")``.

    Raises
    ------
    DataError
        No such key, not two or three columns, or coordinates that are no finite numbers.
    """
    require_cells(adata)
    if obs_keys is not None:
        if isinstance(obs_keys, str) or len(obs_keys) not in (2, 3):
            msg = f"obs_keys={obs_keys!r}; pass two or three columns of obs, such as ('x', 'y')"
            raise DataError(msg)
        columns = [require_column(adata.obs, key, "obs_keys").to_numpy(dtype=object) for key in obs_keys]
        return checked_coordinates(np.column_stack(columns), f"obs[{list(obs_keys)}]")
    if obsm_key not in adata.obsm:
        numbers = adata.obs.select_dtypes("number").columns
        msg = (
            f"obsm has no {obsm_key!r}; found {listed(adata.obsm) or 'nothing'}. Pass obsm_key=, or obs_keys= with two columns "
            f"of obs; those of numbers are {listed(numbers) or 'none'}"
        )
        raise DataError(msg)
    return checked_coordinates(adata.obsm[obsm_key], f"obsm[{obsm_key!r}]")


def checked_coordinates(values: ArrayLike, name: str = "coordinates") -> NDArray[np.float64]:
    """Return ``values`` as float64, shape (n, 2) or (n, 3), n at least 1; anything else is a DataError that calls them ``name``."""
    try:
        places = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{name} hold values that are no numbers ({error}); expected x and y, or x, y and z"
        raise DataError(msg) from error
    if places.ndim != 2 or places.shape[1] not in (2, 3) or not len(places):
        msg = f"{name} have shape {places.shape}; expected a row a cell and two or three columns: x, y and perhaps z"
        raise DataError(msg)
    wrong = np.flatnonzero(~np.isfinite(places).all(axis=1))
    if len(wrong):
        msg = f"{name} of {len(wrong):,} of {len(places):,} cells are NaN or infinite (first at row {wrong[0]}); leave those cells out"
        raise DataError(msg)
    return places


def sample_numbers(sample: ArrayLike | None, n: int) -> NDArray[np.int64]:
    """Return the number of each cell's sample, by first appearance, shape (n,); all 0 for None.

    Raises
    ------
    DataError
        Not one a cell, or cells without one.
    """
    if sample is None:
        return np.zeros(n, dtype=np.int64)
    import pandas as pd

    values = pd.Series(np.asarray(sample, dtype=object))
    if len(values) != n or values.isna().any():
        msg = f"sample has {len(values):,} values, {int(values.isna().sum())} of them missing, for {n:,} cells; pass one a cell"
        raise DataError(msg)
    return pd.factorize(values)[0].astype(np.int64)


def between(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Euclidean distance of each row of ``first`` from the same row of ``second``: the one formula used here."""
    return np.sqrt(((first - second) ** 2).sum(axis=-1))


def _pairs(
    places: NDArray[np.float64], radius: float | None, k: int | None
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return cell, neighbour and distance of every pair within one sample, by cell, distance and row."""
    from sklearn.neighbors import KDTree

    tree = KDTree(places)
    if radius is None:
        assert k is not None
        reach = tree.query(places, k=min(k + 1, len(places)))[0][:, -1]  # the cell itself is among them, at 0
    else:
        reach = np.full(len(places), radius)
    found = tree.query_radius(places, reach * SLACK)
    cell = np.repeat(np.arange(len(places)), [len(each) for each in found])
    other = np.concatenate(found)
    distance = between(places[cell], places[other])
    kept = (other != cell) & (distance <= radius if radius is not None else True)
    cell, other, distance = cell[kept], other[kept], distance[kept]
    order = np.lexsort((other, distance, cell))
    cell, other, distance = cell[order], other[order], distance[order]
    if k is not None:
        starts = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=len(places)))])[:-1]
        near = np.arange(len(cell)) - starts[cell] < k
        cell, other, distance = cell[near], other[near], distance[near]
    return cell, other, distance
