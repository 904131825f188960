"""What the values of a matrix are: counts, logarithms and to which base, normalised, or scaled gene by gene.

Counts leave a trace in what is made of them. In a cell normalised to any total the values are whole multiples of one
number, and all cells have one total. Undoing a logarithm brings this back only with its own base, so the base that does
is the base that was taken.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.sparse as sp

Scale = Literal["counts", "normalised", "linear", "log1p", "log2", "log10", "sqrt", "log", "scaled", "mixed"]

LOG_CEILING = 30.0  # log1p CP10k cannot exceed log(1e4 + 1) = 9.2; 30 leaves room for other totals and for log2
LOGARITHMS: dict[Scale, float] = {"log1p": 1.0, "log2": float(np.log(2)), "log10": float(np.log(10))}  # in natural ones
ADDITIVE: tuple[Scale, ...] = ("counts", "normalised", "linear")  # what two columns may be added up in
NAMES: dict[Scale, str] = {
    "counts": "counts",
    "normalised": "normalised values, not logarithms",
    "linear": "fractions of no known scale, not logarithms",
    "log1p": "natural logarithms, log(1 + x)",
    "log2": "logarithms to base 2, log2(1 + x)",
    "log10": "logarithms to base 10, log10(1 + x)",
    "sqrt": "square roots",
    "log": "logarithms of no known base, or other small fractions",
    "scaled": "values that look scaled gene by gene",
    "mixed": "counts in some cells and logarithms or square roots in others",
}

_ROWS, _VALUES = 48, 1 << 14  # of the sample: its rows at most (at least 4), its values about
_TOLERANCE = 2e-3  # of a ratio that should be whole; single precision leaves 1e-4
_ROUNDED = 1e-2  # of a step of rounding; single precision leaves 1e-3
_SLACK = 0.05  # of a ratio, by rounding; above it whole numbers cannot be told from others
_EQUAL = 1e-3  # relative spread of totals that are one total
_ROUND_TOTALS = (1.0, 1e2, 1e4, 1e6)


def scale_of(matrix: sp.csr_matrix) -> Scale:
    """Return what the values are, judged by some 16,000 of them from evenly spaced cells.

    Parameters
    ----------
    matrix : CSR, shape (n_cells, n_genes), any number type

    Returns
    -------
    scale : str
        * ``"counts"``: whole numbers.
        * ``"normalised"``: fractions, whole multiples of one number in each cell or of one total (CP10k, CPM, shares).
        * ``"log1p"``, ``"log2"``, ``"log10"``: log(1 + x) of counts or of normalised values.
        * ``"sqrt"``: square roots of these.
        * ``"log"``: fractions below 30 of which none of the above can be shown, such as corrected logarithms.
        * ``"linear"``: other fractions, such as corrected counts.
        * ``"scaled"``: some are negative, none is above 1, or many are cut off at one value. Genes divided by their deviation
          and not cut off cannot be told from logarithms.
        * ``"mixed"``: counts in some cells, logarithms or square roots in others.
    """
    rows = _sample(matrix)
    if rows.size == 0:
        return "counts"
    if float(rows.data.min()) < 0:
        return "scaled"
    whole = rows.data == np.rint(rows.data)
    if whole.all():
        return "counts"
    fractional = rows.only(np.logical_or.reduceat(~whole, rows.starts))
    found = _shown(fractional)
    if found is not None:
        return "mixed" if _holds_counts(rows, fractional, found) else found
    if _looks_scaled(rows):
        return "scaled"
    step = max(1, matrix.nnz >> 16)
    return "log" if float(matrix.data[::step].max()) < LOG_CEILING else "linear"


class _Rows:
    """Values above 0 (or below) of some cells, float64, cell after cell, and where each begins."""

    def __init__(self, data: np.ndarray, genes: np.ndarray, lengths: np.ndarray) -> None:
        self.data, self.genes, self.lengths = data, genes, lengths
        self.starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        self.n, self.size = len(lengths), len(data)

    def only(self, kept: np.ndarray) -> _Rows:
        entries = np.repeat(kept, self.lengths)
        return _Rows(self.data[entries], self.genes[entries], self.lengths[kept])


def _sample(matrix: sp.csr_matrix) -> _Rows:
    n = matrix.shape[0]
    size = int(np.clip(_VALUES * n // max(matrix.nnz, 1), 4, _ROWS))
    chosen = np.unique(np.linspace(0, n - 1, min(n, size)).astype(np.int64)) if n else np.empty(0, np.int64)
    spans = [slice(matrix.indptr[i], matrix.indptr[i + 1]) for i in chosen]
    data = np.concatenate([np.empty(0), *(matrix.data[span] for span in spans)]).astype(np.float64)
    genes = np.concatenate([np.empty(0, np.int64), *(matrix.indices[span] for span in spans)])
    cells = np.repeat(np.arange(len(spans)), [span.stop - span.start for span in spans])
    kept = np.isfinite(data) & (data != 0)
    lengths = np.bincount(cells[kept], minlength=len(spans))
    return _Rows(data[kept], genes[kept], lengths[lengths > 0])


def _shown(rows: _Rows) -> Scale | None:
    """Return the scale whose undoing leaves whole multiples in most cells, else one total in all; None if none does."""
    top = float(rows.data.max())
    scales: list[Scale] = [
        "normalised",
        "sqrt",
        *(name for name, unit in LOGARITHMS.items() if top * unit < LOG_CEILING),
    ]
    undone = {scale: linear_values(rows.data, scale) for scale in scales}
    half = _rounding(rows.data) / 2
    errors = {scale: np.abs(linear_values(rows.data + half, scale) - values) for scale, values in undone.items()}
    misfits = {scale: _misfit(values, errors[scale], rows) for scale, values in undone.items()}
    fitting = {scale: misfit for scale, misfit in misfits.items() if misfit is not None}
    if "normalised" in fitting:
        fitting.pop("sqrt", None)  # squares of whole numbers are whole, too
    if fitting:
        return min(fitting, key=lambda scale: fitting[scale])
    spreads = {scale: spread_of_totals(np.add.reduceat(values, rows.starts)) for scale, values in undone.items()}
    one_total = sorted((spread, scale) for scale, spread in spreads.items() if spread < _EQUAL)
    if len(one_total) == 1 or (len(one_total) > 1 and one_total[0][0] < 0.1 * one_total[1][0]):
        return one_total[0][1]
    return None


def _holds_counts(rows: _Rows, fractional: _Rows, scale: Scale) -> bool:
    """Return whether cells beside the ``fractional`` ones hold counts, untouched by what made these ``scale``.

    log2(1 + 1) and sqrt(4) are whole as well, but of counts that nobody normalised, or of a cell with the one total.
    """
    if scale == "normalised" or fractional.n > 0.95 * rows.n or are_whole(linear_values(fractional.data, scale)):
        return False
    with np.errstate(over="ignore", invalid="ignore"):  # counts are no exponents
        return not has_one_total(np.add.reduceat(linear_values(rows.data, scale), rows.starts))


def _rounding(data: np.ndarray) -> float:
    """Return 0.01, 0.001 or 0.0001 where values were rounded to so much before they were stored, else 0."""
    steps = (1e-2, 1e-3, 1e-4)
    return next((step for step in steps if np.abs(data / step - np.rint(data / step)).max() < _ROUNDED), 0.0)


def _misfit(values: np.ndarray, errors: np.ndarray, rows: _Rows) -> float | None:
    """Return how far the values are from whole multiples of their cell's smallest, or None if too far or too few.

    ``errors`` is how far rounding may have moved each of them, the smallest the least.
    """
    least, least_error = (np.repeat(np.minimum.reduceat(x, rows.starts), rows.lengths) for x in (values, errors))
    ratios = values / least
    slack = (errors + ratios * least_error) / least
    told = (ratios > 1.5) & (ratios < 500) & (slack < _SLACK)  # one says nothing, a large one is not exact enough
    off = np.where(told, np.maximum(np.abs(ratios - np.rint(ratios)) - slack, 0.0), 0.0)
    enough = np.add.reduceat(told.astype(np.int64), rows.starts) >= 3
    fits = enough & (np.maximum.reduceat(off, rows.starts) < _TOLERANCE)
    if not enough.any() or fits.sum() < 0.6 * enough.sum():
        return None
    return float(off[np.repeat(fits, rows.lengths)].mean())


def linear_values(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Return what was transformed: ``values`` before the logarithm or the square root, float64."""
    if scale in LOGARITHMS:
        return np.expm1(values * np.float64(LOGARITHMS[scale]))
    return values.astype(np.float64) ** 2 if scale == "sqrt" else values.astype(np.float64, copy=False)


def are_whole(values: np.ndarray) -> bool:
    """Return whether all values are whole numbers as far as single precision can tell."""
    return bool(np.all(np.abs(values - np.rint(values)) < 1e-3 + 1e-5 * values))


def has_one_total(totals: np.ndarray) -> bool:
    """Return whether cells of these totals were normalised to one total."""
    return spread_of_totals(totals) < _EQUAL


def spread_of_totals(totals: np.ndarray) -> float:
    """Return the relative distance of the 5th from the 95th percentile of cells' totals, inf where it says nothing.

    One or two cells are compared with the usual totals 1, 100, 1e4 and 1e6.
    """
    totals = totals[totals > 0]
    if len(totals) == 0:
        return float("inf")
    if len(totals) < 3:
        nearest = min(_ROUND_TOTALS, key=lambda usual: abs(np.log(totals[0] / usual)))
        return float(np.abs(totals / nearest - 1).max())
    low, middle, high = np.quantile(totals, [0.05, 0.5, 0.95])
    return float((high - low) / middle)


def _looks_scaled(rows: _Rows) -> bool:
    """Return whether values lie in 0 to 1, or are cut off at one value in several genes and cells."""
    top = float(rows.data.max())
    if top <= 1:
        return True
    at_top = rows.data == top
    if at_top.sum() <= max(3, 1e-3 * rows.size) or len(np.unique(rows.genes[at_top])) <= 2:
        return False
    cells = np.repeat(np.arange(rows.n), rows.lengths)
    return len(np.unique(cells[at_top])) > 2
