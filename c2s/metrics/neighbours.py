"""Do generated cells lie among the real cells of their label? Nearest-neighbour accuracy both ways, and cells that repeat training."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import mode
from sklearn.neighbors import NearestNeighbors

from c2s.cells.genes import listed
from c2s.errors import ConfigError, DataError
from c2s.results import Result
from c2s.stats import proportion_interval

Array = NDArray[np.float64]

N_NEIGHBORS = (5, 15, 25)
MAX_CELLS = 5000
SAME = 1e-6  # of the median distance between generated cells and their nearest real ones


def neighbour_accuracy(
    real: ArrayLike,
    generated: ArrayLike,
    *,
    real_labels: ArrayLike,
    generated_labels: ArrayLike,
    training: ArrayLike | None = None,
    n_neighbors: int | tuple[int, ...] = N_NEIGHBORS,
    max_cells: int = MAX_CELLS,
    space: str | None = None,
    seed: int = 0,
) -> list[Result]:
    """Return how often neighbours give a cell its label, generated cells among real ones and the reverse, and what repeats training.

    Parameters
    ----------
    real, generated, training : array-like, shapes (n, d), (m, d) and (l, d)
        Finite vectors in one space. ``real`` are cells that no model was trained on.
    real_labels, generated_labels : array-like, shapes (n,) and (m,)
        True labels, and those the cells were generated for; a label that the other side lacks is always missed.
    n_neighbors : int or tuple of int
        Neighbours that vote, each number in its turn; the first label by name of a tie.
    max_cells : int
        Most cells of each side, drawn by ``seed``.
    space : str, optional
        Name of the space, for the results.

    Returns
    -------
    list of Result
        ``kNN accuracy, generated cells among real ones, k = 5`` and so on, then ``…, real cells among generated ones``; NaN with a reason
        where there are fewer cells than neighbours. Generated cells that keep to a part of their label's cells score high in the
        first and lower in the second. Then, with ``training``, the share of generated cells whose nearest cell, of as many real as training ones,
        is a training cell (0.5 where nothing was memorised, equal distances count half), and of those that lie on a training cell.
        Intervals are exact ones over the cells that are judged (Clopper and Pearson).

    Raises
    ------
    DataError
        Shapes do not fit, values are not finite, or no label is on both sides.
    ConfigError
        ``n_neighbors`` or ``max_cells`` is below 1.
    """
    ks = (n_neighbors,) if isinstance(n_neighbors, int) else tuple(n_neighbors)
    if not ks or min(*ks, max_cells) < 1:
        msg = f"n_neighbors={n_neighbors}, max_cells={max_cells}; both must be at least 1"
        raise ConfigError(msg)
    rng = np.random.default_rng(seed)
    one, codes = _drawn(real, real_labels, "real", max_cells, rng)
    other, other_codes = _drawn(generated, generated_labels, "generated", max_cells, rng)
    if one.shape[1] != other.shape[1]:
        msg = f"real vectors have {one.shape[1]} dimensions, generated ones {other.shape[1]}; bring both to one space"
        raise DataError(msg)
    if not set(codes) & set(other_codes):
        msg = f"no label is on both sides: real cells are {listed(sorted(set(codes)))}; generated ones {listed(sorted(set(other_codes)))}"
        raise DataError(msg)
    rows = _votes(one, codes, other, other_codes, ks, ("generated", "real"), space, seed)
    rows += _votes(other, other_codes, one, codes, ks, ("real", "generated"), space, seed)
    if training is not None:
        rows += _repeats(one, other, _vectors(training, "training"), max_cells, space, seed)
    return rows


def _votes(
    known: Array,
    labels: NDArray[np.str_],
    judged: Array,
    truth: NDArray[np.str_],
    ks: tuple[int, ...],
    names: tuple[str, str],
    space: str | None,
    seed: int,
) -> list[Result]:
    """Return the accuracy of each number of neighbours among ``known``."""
    most = min(max(ks), len(known))
    near = NearestNeighbors(n_neighbors=most).fit(known).kneighbors(judged, return_distance=False)
    classes, codes = np.unique(labels, return_inverse=True)
    rows = []
    for k in ks:
        metric, told = f"kNN accuracy, {names[0]} cells among {names[1]} ones, k = {k}", f"{names[1]} cells"
        if k > len(known):
            reason = f"{len(known)} {names[1]} cells; {k} neighbours need as many"
            rows.append(Result(metric, float("nan"), n=len(judged), space=space, reference=told, reason=reason))
            continue
        said = classes[mode(codes[near[:, :k]], axis=1).mode]
        rows.append(_share(metric, int((said == truth).sum()), len(truth), space, told, seed))
    return rows


def _repeats(
    real: Array, generated: Array, training: Array, max_cells: int, space: str | None, seed: int
) -> list[Result]:
    if training.shape[1] != real.shape[1]:
        msg = (
            f"training vectors have {training.shape[1]} dimensions, real ones {real.shape[1]}; bring both to one space"
        )
        raise DataError(msg)
    rng = np.random.default_rng(seed)
    n = min(len(real), len(training), max_cells)
    all_of_it = _nearest(training, generated)
    there, here = (_nearest(each[rng.permutation(len(each))[:n]], generated) for each in (training, real))
    nearer, tied = int((there < here).sum()), int((there == here).sum())
    copies = int((all_of_it <= SAME * float(np.median(here))).sum())
    first = "generated cells whose nearest cell is a training cell"
    return [
        Result(
            first, (nearer + tied / 2) / len(generated), n=len(generated), space=space,
            reference=f"{n} real and {n} training cells", seed=seed,
        ),
        _share("generated cells that lie on a training cell", copies, len(generated), space, "training cells", seed),
    ]  # fmt: skip


def _share(metric: str, successes: int, trials: int, space: str | None, reference: str, seed: int) -> Result:
    found = proportion_interval(successes, trials)
    low, high = float(found.low), float(found.high)
    return Result(metric, float(found.value), low, high, n=trials, space=space, reference=reference, seed=seed)


def _nearest(cells: Array, judged: Array) -> Array:
    return np.asarray(NearestNeighbors(n_neighbors=1).fit(cells).kneighbors(judged)[0][:, 0], dtype=np.float64)


def _drawn(
    vectors: ArrayLike, labels: ArrayLike, side: str, max_cells: int, rng: np.random.Generator
) -> tuple[Array, NDArray[np.str_]]:
    values, names = _vectors(vectors, side), np.asarray(labels).astype(str)
    if names.shape != (len(values),):
        msg = f"{side} labels have shape {names.shape} for {len(values)} cells; give one a cell"
        raise DataError(msg)
    chosen = np.sort(rng.permutation(len(values))[:max_cells])
    return values[chosen], names[chosen]


def _vectors(vectors: ArrayLike, side: str) -> Array:
    values = np.asarray(vectors, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        msg = f"{side} vectors have shape {values.shape}; expected (cells, dimensions), at least one of each"
        raise DataError(msg)
    if not np.isfinite(values).all():
        msg = f"{int((~np.isfinite(values)).any(1).sum())} {side} vectors hold values that are not finite; drop or fill them"
        raise DataError(msg)
    return values
