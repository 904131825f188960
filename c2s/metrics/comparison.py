"""Real and predicted cells brought together once: the same road, the same genes, condition by condition, and no cell that was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from c2s.cells.genes import listed
from c2s.cells.hashes import refuse_shared_cells
from c2s.cells.reading import complete_column
from c2s.errors import DataError
from c2s.metrics.conditions import Condition, conditions_of, logarithms

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is compared. Make one by :meth:`of`.

    Attributes
    ----------
    real, predicted : AnnData
        As compared; the real cells by the road, if there is one.
    training : AnnData or None
        By the road, if there is one.
    training_forms : tuple of AnnData
        Training cells in each form in which a copy of one would show: as compared and, where a road changed them, as they were.
    raw : AnnData
        The real cells before the road.
    keys : tuple of str
        Context keys, then the perturbation key.
    control : str
    conditions : list of Condition
        Sorted; those that cannot be scored say why.
    """

    real: AnnData
    predicted: AnnData
    training: AnnData | None
    training_forms: tuple[AnnData, ...]
    raw: AnnData
    keys: tuple[str, ...]
    control: str
    conditions: list[Condition]

    @classmethod
    def of(
        cls,
        real: AnnData,
        predicted: AnnData,
        *,
        perturbation_key: str,
        control: str,
        context_keys: Sequence[str] = (),
        training: AnnData | None = None,
        road: Callable[[Any], AnnData] | None = None,
    ) -> Self:
        """Return the comparison; parameters are those of :func:`~c2s.metrics.perturbation.response_scores`.

        Raises
        ------
        DataError
            Treated real cells are training cells, no condition can be scored, columns or controls are missing, values are no
            logarithms, or genes are missing.
        """
        raw, known = real, training
        treated = complete_column(real.obs, perturbation_key, "perturbation_key") != control
        if training is not None:
            refuse_shared_cells(training, real[treated])
        if road is not None:
            real, training = road(real), None if training is None else road(training)
        genes = real.var_names.astype(str)
        place = predicted.var_names.astype(str).get_indexer(genes)
        if (place < 0).any():
            msg = f"predicted cells lack {int((place < 0).sum()):,} of the {len(genes):,} genes of the real ones ({listed(list(genes[place < 0]), 3)}); leave these out of the real cells, or predict them"
            raise DataError(msg)
        matrices = [logarithms(real.X, "real"), logarithms(predicted.X, "predicted")[:, place]]
        keys = (*context_keys, perturbation_key)
        conditions = conditions_of(matrices, [real.obs, predicted.obs], list(keys), control)
        if all(each.reason for each in conditions):
            msg = (
                f"no condition can be scored: {conditions[0].reason}"
                if conditions
                else "no perturbation is in both real and predicted cells"
            )
            raise DataError(msg)
        forms = (training,) if road is None else (training, known)
        return cls(
            real,
            predicted,
            training,
            tuple(each for each in forms if each is not None),
            raw,
            keys,
            control,
            conditions,
        )

    @property
    def genes(self) -> pd.Index:
        """Genes compared."""
        return self.real.var_names.astype(str)

    @property
    def scored(self) -> list[Condition]:
        """Conditions that can be scored."""
        return [each for each in self.conditions if each.reason is None]

    def treated(self, cells: AnnData) -> AnnData:
        """Return those of ``cells`` that are of a condition that can be scored, such as ``raw`` or ``predicted``."""
        chosen = {each.key for each in self.scored}
        columns = [complete_column(cells.obs, key, "perturbation_key or context_keys") for key in self.keys]
        return cells[np.array([key in chosen for key in zip(*columns)], dtype=bool)]

    def labels(self, cells: AnnData) -> list[str]:
        """Return the condition of each cell, as ``context | perturbation``."""
        return [" | ".join(key) for key in zip(*(cells.obs[key].astype(str) for key in self.keys))]
