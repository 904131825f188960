"""Probabilities that mean what they say: a temperature fitted to labelled cells, and a threshold under which a cell is unknown."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from c2s.artefacts import read_record, write_json
from c2s.cells.genes import listed
from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.models.annotation import label_table

UNKNOWN = "unknown"
_WIDEST = np.log(1e3)  # of temperatures looked at, either way


@dataclass(frozen=True)
class Calibration:
    """How a table of :meth:`annotate` becomes trustworthy.

    Attributes
    ----------
    temperature : float
        Logarithms of probabilities are divided by it.
    threshold : float
        A cell whose best label is less probable is unknown; 0 never says so.
    n_cells : int
        Cells it was fitted to.
    accuracy, coverage : float
        Among the cells fitted: share of right labels of those that were not unknown, and the share of those.
    """

    temperature: float
    threshold: float
    n_cells: int
    accuracy: float
    coverage: float

    @classmethod
    def fit(
        cls, table: pd.DataFrame, truth: Sequence[str] | pd.Series, *, target_accuracy: float | None = None
    ) -> Self:
        """Return the calibration of labelled cells that the model was not trained on.

        The temperature maximises the likelihood of the true labels (Guo et al., ICML 2017); cells whose true label is not
        among the table's are left out of it. The threshold is the lowest at which the labels given are right as often as
        ``target_accuracy`` asks, cells of other labels counting as wrong.

        Parameters
        ----------
        table : DataFrame
            From ``annotate``.
        truth : sequence of str
            The label of each cell.
        target_accuracy : float, optional
            From 0 to 1; None sets no threshold.

        Raises
        ------
        DataError
            No cell has a label of the table, or truth and table differ in length.
        ConfigError
            ``target_accuracy`` is not from 0 to 1, or no threshold reaches it.
        """
        names, log_p = _log_probabilities(table)
        true = np.asarray(truth, dtype=object).astype(str)
        if len(true) != len(table):
            msg = f"{len(true):,} true labels for {len(table):,} cells"
            raise DataError(msg)
        place = pd.Index(names).get_indexer(pd.Index(true))
        known = np.flatnonzero(place >= 0)
        if not len(known):
            msg = f"none of the true labels ({listed(sorted(set(true)), 5)}) is among the table's ({listed(names, 5)})"
            raise DataError(msg)

        def loss(log_temperature: float) -> float:
            scaled = log_p[known] / np.exp(log_temperature)
            return -float(np.mean(_log_softmax(scaled)[np.arange(len(known)), place[known]]))

        found = minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded", options={"xatol": 1e-6})
        temperature = float(np.exp(found.x))
        scaled = label_table(log_p / temperature, names, table.index)
        right = scaled["label"].to_numpy() == true
        best = scaled["probability"].to_numpy()
        threshold, accuracy, coverage = _threshold(best, right, target_accuracy)
        return cls(temperature, threshold, len(known), accuracy, coverage)

    def apply(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the table with calibrated probabilities and margins; the label of a cell below the threshold is ``"unknown"``."""
        names, log_p = _log_probabilities(table)
        out = label_table(log_p / self.temperature, names, table.index)
        out.loc[out["probability"] < self.threshold, "label"] = UNKNOWN
        return out

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the calibration as JSON."""
        write_json(Path(path), {"format": "c2s-calibration", "version": 1, **asdict(self)})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Return what :meth:`write` left; another file is an ArtefactError."""
        record = read_record(Path(path), kind="c2s-calibration", version=1)
        fields: dict[str, Any] = {name: record.get(name) for name in cls.__dataclass_fields__}
        numbers = all(isinstance(value, int | float) for value in fields.values())
        if not numbers or not (fields["temperature"] > 0 and 0 <= fields["threshold"] <= 1):
            msg = f"{path} holds no calibration: {fields}; a temperature is above 0 and a threshold from 0 to 1. Fit it again"
            raise ArtefactError(msg)
        return cls(**fields)


def _threshold(best: np.ndarray, right: np.ndarray, target: float | None) -> tuple[float, float, float]:
    """Return the lowest probability above which labels are right often enough, with their accuracy and share."""
    if target is None:
        return 0.0, float(right.mean()), 1.0
    if not 0 <= target <= 1:
        msg = f"target_accuracy={target}; give a share from 0 to 1"
        raise ConfigError(msg)
    order = np.argsort(-best, kind="stable")
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last_of_ties = np.append(best[order][1:] < best[order][:-1], True)  # equal probabilities are told apart by nothing
    enough = np.flatnonzero((accuracy >= target) & last_of_ties)
    if not len(enough):
        msg = f"no threshold gives an accuracy of {target}; the most certain labels reach {accuracy[last_of_ties].max():.3f}"
        raise ConfigError(msg)
    place = int(enough[-1])
    return float(best[order][place]), float(accuracy[place]), (place + 1) / len(order)


def _log_probabilities(table: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    columns = [name for name in table.columns if str(name).startswith("p(") and str(name).endswith(")")]
    if len(columns) < 2:
        msg = f"the table has columns {listed(table.columns) or 'none'}; expected p(<label>) for two labels or more, as annotate gives"
        raise DataError(msg)
    with np.errstate(divide="ignore"):
        log_p = np.log(table[columns].to_numpy(dtype=float))
    return [str(name)[2:-1] for name in columns], np.maximum(log_p, -745.0)  # of what was rounded to 0


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
