"""How far a gene moves when a delta lists it: by the gene, its place on the list and how long the list is.

``size = exp(base[gene] + a log(place) + b log(length))``, place from 1: interferon's first gene rises by tens of times what the twentieth does in
the same list, a strong response has a longer list, and some genes have more room to move than others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

PRIOR = 20.0  # listings by which a gene's own base is drawn towards the mean of all
ROUNDS = 30  # of least squares, gene by gene and then place and length


@dataclass(frozen=True, eq=False)
class ChangeSizes:
    """Sizes of one direction, log1p CP10k.

    Attributes
    ----------
    base : ndarray, shape (n_genes,), float64
        Logarithm of the size at place 1 of a list of one gene; genes never listed have the mean.
    place, length : float
        Exponents of the place and of the list's length.
    """

    base: NDArray[np.float64]
    place: float
    length: float

    @classmethod
    def fit(cls, lists: Sequence[np.ndarray], sizes: Sequence[np.ndarray], n_genes: int) -> Self:
        """Return the sizes that fit the listed genes (int32 ids) and how far each moved, by least squares of logarithms.

        The sizes that come out add up to what went in: logarithms alone would be too low.
        """
        genes, features = _flat(lists)
        if not len(genes):
            return cls(np.zeros(n_genes), 0.0, 0.0)
        known = np.concatenate([np.asarray(size, dtype=np.float64) for size in sizes])
        target = np.log(np.maximum(known, 1e-3))
        counts = np.bincount(genes, minlength=n_genes)
        slopes, mean, own = np.zeros(2), float(target.mean()), np.zeros(n_genes)
        centred = features - features.mean(axis=0)
        for _ in range(ROUNDS):
            left = target - centred @ slopes
            mean = float((left - own[genes]).mean())
            own = np.bincount(genes, weights=left - mean, minlength=n_genes) / (counts + PRIOR)
            slopes = np.linalg.lstsq(centred, target - mean - own[genes], rcond=None)[0]
        base = mean + own - float(features.mean(axis=0) @ slopes)
        found = cls(base, float(slopes[0]), float(slopes[1]))
        return cls(base + np.log(known.sum() / found.of(lists).sum()), found.place, found.length)

    def of(self, lists: Sequence[np.ndarray]) -> NDArray[np.float64]:
        """Return the size of every gene of every list, one after another."""
        genes, features = _flat(lists)
        return np.exp(self.base[genes] + features @ np.array([self.place, self.length]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able values."""
        return {"base": self.base.tolist(), "place": self.place, "length": self.length}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the sizes that :meth:`to_dict` wrote."""
        return cls(np.asarray(values["base"], dtype=np.float64), float(values["place"]), float(values["length"]))


def _flat(lists: Sequence[np.ndarray]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the gene of each listing, and the logarithms of its place and of its list's length."""
    lengths = np.array([len(each) for each in lists], dtype=np.int64)
    genes = np.concatenate([*(np.asarray(each, dtype=np.int64) for each in lists), np.empty(0, dtype=np.int64)])
    places = np.arange(len(genes)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
    return genes, np.column_stack([np.log(places), np.log(np.repeat(lengths, lengths))]).reshape(len(genes), 2)
