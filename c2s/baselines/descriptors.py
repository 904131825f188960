"""What training perturbations are made of, parts and target genes, as columns of ones and zeros."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from c2s.cells.library import Perturbation


class Descriptors:
    """A column for each part and each target gene of the training perturbations.

    Parameters
    ----------
    perturbations : iterable of Perturbation
        Of training.
    control : str
        Name of the control, which as a part says nothing.
    """

    def __init__(self, perturbations: Iterable[Perturbation], *, control: str) -> None:
        self._control = control
        found = sorted({each for perturbation in perturbations for each in self.of(perturbation)})
        self._column = {each: column for column, each in enumerate(found)}

    def __len__(self) -> int:
        return len(self._column)

    def of(self, perturbation: Perturbation) -> list[tuple[str, str]]:
        """Return the descriptors of a perturbation, known or not: ("part", name) and ("target", symbol)."""
        parts = [("part", name) for name in perturbation.single if name != self._control]
        return parts + [("target", symbol) for symbol in perturbation.targets]

    def hot(self, perturbations: Sequence[Perturbation]) -> NDArray[np.float32]:
        """Return 1 where a perturbation has a descriptor, shape (n, n_descriptors); of those not in training nothing."""
        values = np.zeros((len(perturbations), len(self)), dtype=np.float32)
        for row, each in enumerate(perturbations):
            values[row, [self._column[found] for found in self.of(each) if found in self._column]] = 1.0
        return values
