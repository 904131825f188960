"""Splits of tissue: blocks with a buffer around them, so that no cell learnt from lies beside a cell asked; and whole samples."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from c2s.errors import ConfigError, DataError
from c2s.spatial.neighbourhoods import SLACK, checked_coordinates, sample_numbers

logger = logging.getLogger(__name__)

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SpatialSplit:
    """Rows of the cells to learn from, of those asked, and of those in the buffer, which are neither; each rising.

    Attributes
    ----------
    train, test, dropped : ndarray of int64
        Together every row once.
    """

    train: Rows
    test: Rows
    dropped: Rows


def blocks_of(
    coordinates: ArrayLike, *, n_blocks: int | Sequence[int], sample: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Return the number of the rectangular block in which each cell lies, shape (n,).

    Parameters
    ----------
    coordinates : array-like, shape (n, 2) or (n, 3)
    n_blocks : int or sequence of int
        Blocks along each axis, of equal width between the outermost cells. A single number is cut into blocks as near to
        squares (cubes) as it can be factored into; blocks may hold no cell.
    sample : array-like, shape (n,), optional
        Section or patient of each cell; each is cut into its own blocks.

    Raises
    ------
    ConfigError
        A number below 1, or not one an axis.
    DataError
        As :func:`block_split`.
    """
    places = checked_coordinates(coordinates)
    samples = sample_numbers(sample, len(places))
    blocks = np.zeros(len(places), dtype=np.int64)
    for number in range(samples.max() + 1):
        rows = np.flatnonzero(samples == number)
        low, width = places[rows].min(axis=0), np.ptp(places[rows], axis=0)
        along = _along(n_blocks, width)
        share = (places[rows] - low) / np.where(width > 0, width, 1)
        cell = np.minimum((share * along).astype(np.int64), np.array(along) - 1)
        blocks[rows] = number * int(np.prod(along)) + np.ravel_multi_index(tuple(cell.T), along)
    return blocks


def block_split(
    coordinates: ArrayLike,
    *,
    n_blocks: int | Sequence[int],
    test_share: float = 0.25,
    buffer: float,
    seed: int = 0,
    sample: ArrayLike | None = None,
) -> SpatialSplit:
    """Return a split by blocks of tissue: blocks drawn by ``seed`` are asked, and cells within ``buffer`` of them are dropped.

    No cell of ``train`` lies within ``buffer`` (or exactly at it) of a cell of ``test`` of its sample. With neighbourhoods of
    a radius r, ``buffer=2 * r`` leaves no cell that is a neighbour of both.

    Parameters
    ----------
    coordinates : array-like, shape (n, 2) or (n, 3)
    n_blocks, sample
        As :func:`blocks_of`.
    test_share : float
        Blocks are drawn until they hold this share of the cells; the last one is left out if that comes closer.
    buffer : float
        In the coordinates' unit; 0 drops only cells at the very place of one that is asked.
    seed : int

    Raises
    ------
    ConfigError
        A share outside 0 to 1, a buffer below 0, or blocks that are none.
    DataError
        Coordinates that are none, or nothing left to learn from or to ask.
    """
    if not 0 < test_share < 1:
        msg = f"test_share={test_share}; expected a share between 0 and 1"
        raise ConfigError(msg)
    _check_buffer(buffer)
    places = checked_coordinates(coordinates)
    samples = sample_numbers(sample, len(places))
    blocks = blocks_of(places, n_blocks=n_blocks, sample=samples)
    drawn = np.random.default_rng(seed).permutation(np.unique(blocks))
    held = np.cumsum([(blocks == block).sum() for block in drawn])
    wanted = test_share * len(places)
    n_taken = int(np.searchsorted(held, wanted)) + 1
    if n_taken > 1 and wanted - held[n_taken - 2] <= held[n_taken - 1] - wanted:
        n_taken -= 1
    test = np.isin(blocks, drawn[:n_taken])
    return _buffered(places, samples, test, buffer)


def block_folds(
    coordinates: ArrayLike, *, n_blocks: int | Sequence[int], buffer: float, sample: ArrayLike | None = None
) -> Iterator[tuple[int, SpatialSplit]]:
    """Yield the number of each block that holds cells, and the split that asks it and drops those within ``buffer`` of it.

    Every cell is asked once. Blocks that span a gradient of the tissue, such as ``n_blocks=(4, 1)`` over layers that follow the
    second axis, leave every layer to learn from.

    Parameters
    ----------
    coordinates, n_blocks, buffer, sample
        As :func:`block_split`, whose errors it raises.
    """
    places = checked_coordinates(coordinates)
    samples = sample_numbers(sample, len(places))
    blocks = blocks_of(places, n_blocks=n_blocks, sample=samples)
    _check_buffer(buffer)
    for block in np.unique(blocks):
        yield int(block), _buffered(places, samples, blocks == block, buffer)


def leave_one_sample_out(sample: ArrayLike) -> Iterator[tuple[str, SpatialSplit]]:
    """Yield the name of each sample, sorted, and the split that asks it and learns from all others; none is dropped.

    Parameters
    ----------
    sample : array-like, shape (n,)
        Section, slide or patient of each cell. Sections of one patient are no independent samples: pass the patient.

    Raises
    ------
    DataError
        A cell without a sample, or fewer than two samples.
    """
    values = pd.Series(np.asarray(sample, dtype=object))
    sample_numbers(values, len(values))
    names = values.astype(str).to_numpy()
    if len(set(names)) < 2:
        msg = f"found {len(set(names))} sample(s); leaving one out needs two"
        raise DataError(msg)
    for name in sorted(set(names)):
        test = names == name
        yield name, SpatialSplit(np.flatnonzero(~test), np.flatnonzero(test), np.array([], dtype=np.int64))


def _check_buffer(buffer: float) -> None:
    if not 0 <= buffer < np.inf:
        msg = f"buffer={buffer}; expected a distance of at least 0, in the coordinates' unit"
        raise ConfigError(msg)


def _buffered(
    places: NDArray[np.float64], samples: NDArray[np.int64], test: NDArray[np.bool_], buffer: float
) -> SpatialSplit:
    near = _near(places, samples, test, buffer)
    split = SpatialSplit(*(np.flatnonzero(mask) for mask in (~test & ~near, test, ~test & near)))
    sizes = f"{len(split.train):,} cells to learn from, {len(split.test):,} asked, {len(split.dropped):,} dropped"
    if not len(split.train):
        msg = f"{sizes}; pass a smaller buffer= or test_share=, or more blocks"
        raise DataError(msg)
    logger.info("%s", sizes)
    return split


def _along(n_blocks: int | Sequence[int], width: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the number of blocks along each axis."""
    if not isinstance(n_blocks, int | np.integer):
        along = tuple(int(n) for n in n_blocks)
        if len(along) != len(width) or min(along) < 1:
            msg = f"n_blocks={n_blocks}; expected a number, or {len(width)} of them, each at least 1"
            raise ConfigError(msg)
        return along
    if n_blocks < 1:
        msg = f"n_blocks={n_blocks}; expected at least 1"
        raise ConfigError(msg)
    tallies = _factored(int(n_blocks), len(width))
    safe = np.where(width > 0, width, width.max() * 1e-9 or 1)
    return min(tallies, key=lambda tally: np.ptp(np.log(safe / tally)))


def _factored(number: int, parts: int) -> list[tuple[int, ...]]:
    if parts == 1:
        return [(number,)]
    firsts = [first for first in range(1, number + 1) if number % first == 0]
    return [(first, *rest) for first in firsts for rest in _factored(number // first, parts - 1)]


def _near(
    places: NDArray[np.float64], samples: NDArray[np.int64], test: NDArray[np.bool_], buffer: float
) -> NDArray[np.bool_]:
    """Return which cells lie within ``buffer`` of a test cell of their sample; a rounding error further counts, too."""
    from sklearn.neighbors import KDTree

    near = np.zeros(len(places), dtype=bool)
    for number in np.unique(samples[test]):
        rows = np.flatnonzero(samples == number)
        distance = KDTree(places[rows[test[rows]]]).query(places[rows])[0][:, 0]
        near[rows] = distance <= buffer * SLACK
    return near
