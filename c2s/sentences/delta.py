"""Delta sentences: the genes that rise and fall against matched controls, and how they change a control's sentence.

A delta is read and written on the log1p CP10k scale. With ``x`` the mean of a treated cell and a few cells treated
alike, and ``m`` the mean of its matched controls, ``z_g = (x_g - m_g) / s_g`` where ``s_g`` is the spread of that
difference between controls and controls (plus the lower quartile of all spreads, so that a silent gene cannot win).
The genes with ``z >= threshold`` are listed by falling ``z`` (at most ``n_up``), those with ``z <= -threshold`` by
rising ``z`` (at most ``n_down``).

Applying a delta to a control sentence: rank ``r`` of ``n`` genes stands for ``v(r, n) = max(0, a + b log(r) +
c log(n))`` with ``b < 0``; the gene at place ``j`` of the rising list gains ``up[j]``, at place ``j`` of the falling
list loses ``down[j]``, the median changes seen in training; a gene outside the sentence starts from 0, one that falls
to 0 leaves it; genes are then ranked again, unchanged genes keep their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import scipy.sparse as sp

from c2s.errors import DataError
from c2s.sentences.change_sizes import ChangeSizes
from c2s.sentences.corpus import CellSentences
from c2s.sentences.ranking import over_rows


@dataclass(frozen=True)
class DeltaRule:
    """How deltas are read from expression and applied to sentences; stored with the model.

    Attributes
    ----------
    scale : ndarray, shape (n_genes,), float64, log1p CP10k
        Spread ``s_g`` of a pool of controls against the mean of other controls.
    up, down : ndarray, shape (n_up,) and (n_down,), float64, log1p CP10k
        Median rise and fall at each place of the lists, both positive.
    curve : tuple of float
        ``(a, b, c)`` of ``v(r, n)``.
    threshold : float
        Smallest ``|z|`` that is listed.
    sizes : tuple of ChangeSizes, optional
        Of rising and of falling genes, by gene, place and length of the list, instead of the medians at each place.
    """

    scale: np.ndarray
    up: np.ndarray
    down: np.ndarray
    curve: tuple[float, float, float]
    threshold: float = 1.5
    sizes: tuple[ChangeSizes, ChangeSizes] | None = None

    @classmethod
    def fit(
        cls,
        expression: sp.csr_matrix,
        treated: np.ndarray,
        matches: np.ndarray,
        is_control: np.ndarray,
        *,
        n_up: int = 12,
        n_down: int = 12,
        threshold: float = 1.5,
        by_gene: bool = False,
    ) -> DeltaRule:
        """Fit spread, place-wise changes and the rank curve on training cells.

        Parameters
        ----------
        expression : csr_matrix, shape (n_cells, n_genes), log1p CP10k
        treated : ndarray of int, shape (m, p)
            Rows of pools of cells treated alike, pools of controls among them.
        matches : ndarray of int, shape (m, k)
            Their matched controls.
        is_control : ndarray of bool, shape (m,)
            Which of ``treated`` are themselves controls; the spread comes from these (from all when there are < 20).
        by_gene : bool
            Also fit sizes by gene, place and length of the list.
        """
        base = is_control if is_control.sum() >= 20 else np.ones(len(treated), dtype=bool)
        sums = np.zeros((2, expression.shape[1]))
        for difference in _differences(expression, treated[base], matches[base]):
            sums += difference.sum(axis=0), np.square(difference).sum(axis=0)
        mean, square = sums / base.sum()
        spread = np.sqrt(np.maximum(square - mean**2, 0.0))
        expressed = spread[spread > 0]
        if not len(expressed):
            msg = "control cells do not differ in any gene; deltas need cells with measured expression"
            raise DataError(msg)
        scale = spread + np.quantile(expressed, 0.25)  # keeps silent genes from dividing by nothing
        rule = cls(scale, np.zeros(n_up), np.zeros(n_down), _fit_curve(expression[np.unique(matches)]), threshold)
        ups, downs, sizes_up, sizes_down = rule._read(expression, treated, matches)
        sizes = None
        if by_gene:
            n_genes = expression.shape[1]
            sizes = (ChangeSizes.fit(ups, sizes_up, n_genes), ChangeSizes.fit(downs, sizes_down, n_genes))
        medians = _place_medians(sizes_up, n_up), _place_medians(sizes_down, n_down)
        return cls(scale, *medians, rule.curve, threshold, sizes)

    def read(
        self, expression: sp.csr_matrix, treated: np.ndarray, matches: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the rising and falling gene ids (int32) of each pool of treated cells against its matched controls."""
        return self._read(expression, treated, matches)[:2]

    def _read(
        self, expression: sp.csr_matrix, treated: np.ndarray, matches: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        out: tuple[list[np.ndarray], ...] = ([], [], [], [])
        for difference in _differences(expression, treated, matches):
            z = difference / self.scale
            for row in range(len(z)):
                for sign, n, ids, sizes in ((1, len(self.up), out[0], out[2]), (-1, len(self.down), out[1], out[3])):
                    value = sign * z[row]
                    passed = np.flatnonzero(value >= self.threshold)
                    passed = passed[np.argsort(-value[passed], kind="stable")][:n].astype(np.int32)
                    ids.append(passed)
                    sizes.append(sign * difference[row, passed])
        return out  # type: ignore[return-value]

    def apply(
        self, controls: CellSentences, rows: np.ndarray, up: Sequence[np.ndarray], down: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the changed sentences of ``controls[rows]`` as flat ids and offsets.

        Parameters
        ----------
        controls : CellSentences
            Full control sentences.
        rows : ndarray of int, shape (m,)
            Control of each delta.
        up, down : sequence of int32 arrays, length m
            Rising and falling gene ids.

        Returns
        -------
        ids : ndarray of int32
        offsets : ndarray of int64, shape (m + 1,)
        """
        up_offsets, down_offsets = _offsets(up), _offsets(down)
        up_ids = np.concatenate([*up, np.empty(0, np.int32)]).astype(np.int32)
        down_ids = np.concatenate([*down, np.empty(0, np.int32)]).astype(np.int32)
        rows = np.asarray(rows, dtype=np.int64)
        room = np.cumsum(np.r_[0, controls.lengths[rows] + np.diff(up_offsets)]).astype(np.int64)
        ids = np.empty(int(room[-1]), dtype=np.int32)
        lengths = np.zeros(len(rows), dtype=np.int64)
        rises, falls = self._moves(up, 0), self._moves(down, 1)
        a, b, c = self.curve

        def work(start: int, stop: int) -> None:
            _apply(
                controls.ids, controls.offsets, rows, up_ids, up_offsets, down_ids, down_offsets,
                rises, falls, a, b, c, len(controls.vocabulary), room, ids, lengths, start, stop,
            )  # fmt: skip

        over_rows(work, len(rows))
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        _close_gaps(ids, room, offsets)
        return ids[: offsets[-1]], offsets

    def _moves(self, lists: Sequence[np.ndarray], side: int) -> np.ndarray:
        """Return how far each gene of rising (0) or falling (1) lists moves, one after another."""
        if self.sizes is not None:
            return self.sizes[side].of(lists)
        medians = (self.up, self.down)[side]
        places = [np.minimum(np.arange(len(each)), len(medians) - 1) for each in lists]
        return medians[np.concatenate([*places, np.empty(0, dtype=np.int64)])]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able values."""
        arrays = {name: getattr(self, name).tolist() for name in ("scale", "up", "down")}
        sizes = {} if self.sizes is None else {"sizes": [each.to_dict() for each in self.sizes]}
        return {**arrays, "curve": list(self.curve), "threshold": self.threshold, **sizes}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DeltaRule:
        """Return the rule that :meth:`to_dict` wrote."""
        arrays = {name: np.asarray(values[name], dtype=np.float64) for name in ("scale", "up", "down")}
        a, b, c = values["curve"]
        rises, falls = map(ChangeSizes.from_dict, values["sizes"]) if "sizes" in values else (None, None)
        sizes = (rises, falls) if rises is not None and falls is not None else None
        return cls(**arrays, curve=(a, b, c), threshold=values["threshold"], sizes=sizes)


def _differences(expression: sp.csr_matrix, treated: np.ndarray, matches: np.ndarray, block: int = 512) -> Any:
    """Yield dense blocks of mean of treated minus mean of matched controls, float64."""
    for start in range(0, len(treated), block):
        pools = (treated[start : start + block], matches[start : start + block])
        after, before = (_mean_rows(rows, expression.shape[0]) @ expression for rows in pools)
        yield (after - before).toarray().astype(np.float64)


def _mean_rows(rows: np.ndarray, n_cells: int) -> sp.csr_matrix:
    """Return the (m, n_cells) matrix that averages each of the m groups of ``rows`` (m, k)."""
    k = rows.shape[1]
    weights = np.full(rows.size, 1.0 / k)
    return sp.csr_matrix((weights, rows.ravel(), np.arange(0, rows.size + 1, k)), shape=(len(rows), n_cells))


def _place_medians(sizes: list[np.ndarray], n: int) -> np.ndarray:
    """Return the median change at each place, never rising with the place; places never seen repeat the last one."""
    medians = np.full(n, np.nan)
    for place in range(n):
        seen = [size[place] for size in sizes if len(size) > place]
        if seen:
            medians[place] = np.median(seen)
    if np.isnan(medians).all():
        return np.ones(n)
    last = np.flatnonzero(~np.isnan(medians))[-1]
    medians[last + 1 :] = medians[last]
    return np.minimum.accumulate(np.maximum(medians, 1e-3))


def _fit_curve(expression: sp.csr_matrix, max_cells: int = 512) -> tuple[float, float, float]:
    """Return ``(a, b, c)`` of the least-squares line value = a + b log(rank) + c log(genes in the cell)."""
    rows = np.linspace(0, expression.shape[0] - 1, min(max_cells, expression.shape[0])).astype(int)
    features, values = [], []
    for row in np.unique(rows):
        value = np.sort(expression.data[expression.indptr[row] : expression.indptr[row + 1]])[::-1]
        rank = np.log(np.arange(1, len(value) + 1))
        features.append(np.column_stack([np.ones_like(rank), rank, np.full_like(rank, np.log(max(len(value), 1)))]))
        values.append(value)
    design = np.concatenate(features)
    if len(design) < 3:
        msg = f"only {len(design)} expressed values among the controls; a rank curve needs at least 3"
        raise DataError(msg)
    a, b, c = np.linalg.lstsq(design, np.concatenate(values), rcond=None)[0]
    return float(a), float(min(b, -1e-3)), float(c)


def _offsets(lists: Sequence[np.ndarray]) -> np.ndarray:
    return np.cumsum([0, *(len(ids) for ids in lists)], dtype=np.int64)


@numba.njit(nogil=True, cache=True)
def _apply(
    ids: Any, offsets: Any, rows: Any, up_ids: Any, up_offsets: Any, down_ids: Any, down_offsets: Any,
    up: Any, down: Any, a: float, b: float, c: float, n_genes: int, room: Any, out: Any, lengths: Any, first: int, last: int,
) -> None:  # fmt: skip
    for i in range(first, last):
        start, stop = offsets[rows[i]], offsets[rows[i] + 1]
        n = stop - start
        place = np.full(n_genes, -1, np.int32)
        for r in range(n):
            place[ids[start + r]] = r
        n_new = 0
        gene = np.empty(n + up_offsets[i + 1] - up_offsets[i], np.int32)
        value = np.empty(len(gene), np.float64)
        fallen = np.zeros(len(gene), np.bool_)
        level = a + c * np.log(max(n, 1))
        for r in range(n):
            gene[r] = ids[start + r]
            value[r] = max(level + b * np.log(r + 1.0), 0.0)
        for j in range(up_offsets[i], up_offsets[i + 1]):
            g = up_ids[j]
            size = up[j]
            if place[g] >= 0:
                value[place[g]] += size
            else:
                gene[n + n_new] = g
                value[n + n_new] = size
                place[g] = n + n_new
                n_new += 1
        for j in range(down_offsets[i], down_offsets[i + 1]):
            g = down_ids[j]
            if place[g] >= 0:
                value[place[g]] -= down[j]
                fallen[place[g]] = True
        total = n + n_new
        order = np.argsort(-value[:total], kind="mergesort")  # stable: equal genes keep their order
        kept = 0
        for j in range(total):
            if value[order[j]] > 0.0 or not fallen[order[j]]:
                out[room[i] + kept] = gene[order[j]]
                kept += 1
        lengths[i] = kept


@numba.njit(nogil=True, cache=True)
def _close_gaps(ids: Any, room: Any, offsets: Any) -> None:
    """Move row ``i``, which starts at ``room[i]``, to ``offsets[i]``; no row moves right, so it is done in place."""
    for i in range(len(offsets) - 1):
        for j in range(offsets[i + 1] - offsets[i]):
            ids[offsets[i] + j] = ids[room[i] + j]
