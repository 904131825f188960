"""Perturbed cells to examples: who is treated, which controls match, what the delta is, what is held out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.cells.library import Perturbation, check_library
from c2s.cells.matching import match_controls, pool_alike
from c2s.cells.pairing import nearest_controls, transport_controls
from c2s.cells.reading import complete_column
from c2s.errors import ConfigError, DataError
from c2s.sentences.corpus import CellSentences
from c2s.sentences.delta import DeltaRule
from c2s.tasks import Example, PerturbationResponse
from c2s.training.config import TrainConfig

logger = logging.getLogger(__name__)

PAIRING_AXES = 20
CONDITION = "condition"  # split_by: a perturbation in a context, where obs has no column of that name


@dataclass
class PerturbationData:
    """Everything examples are drawn from.

    Attributes
    ----------
    sentences : CellSentences
        All cells, full sentences.
    expression : csr_matrix, shape (n_cells, n_genes), log1p CP10k
    names : ndarray of str, shape (n_cells,)
        Perturbation of each cell.
    library : dict of str to Perturbation
    is_validation : ndarray of bool, shape (n_cells,)
    is_lone : ndarray of bool, shape (n_cells,)
        Controls without another control to be compared with; they serve as controls only.
    """

    sentences: CellSentences
    expression: sp.csr_matrix
    names: np.ndarray
    library: dict[str, Perturbation]
    is_validation: np.ndarray
    is_lone: np.ndarray
    held_out: tuple[str, ...]
    config: TrainConfig

    @property
    def match_by(self) -> list[str]:
        """Columns on which a treated cell and its controls agree."""
        return list(dict.fromkeys((*self.config.context_keys, *self.config.match_by)))

    def rows(self, *, validation: bool) -> np.ndarray:
        """Return the treated rows (vehicle among them) of one side of the split."""
        return np.flatnonzero((self.is_validation == validation) & ~self.is_lone)

    def match(self, treated: np.ndarray, pools: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return matched controls of ``treated``, none of them in its row of ``pools``, shape (m, n_controls).

        Controls come from the same side of the split; from training where the other side has none, as when whole
        perturbations are held out.
        """
        is_control = self.names == self.config.control
        control = np.flatnonzero(is_control & np.isin(self.is_validation, self.is_validation[treated]))
        if not len(control):
            control = np.flatnonzero(is_control & ~self.is_validation)
        obs, by, k = self.sentences.obs, self.match_by, self.config.n_controls
        matches = match_controls(obs, perturbed=treated, control=control, by=by, k=k, rng=rng, apart=pools)
        if self.config.pairing == "random":
            return matches
        for name in sorted(
            set(self.names[treated]) - {self.config.control}
        ):  # vehicle cells keep theirs, which none of their pool is among
            rows = np.flatnonzero(self.names[treated] == name)
            if self.config.pairing == "nearest":
                found = nearest_controls(self.vectors, obs, perturbed=treated[rows], control=control, by=by, k=k)
            else:
                found = transport_controls(
                    self.vectors, obs, perturbed=treated[rows], control=control, by=by, k=k, rng=rng
                )
            matches[rows] = found
        return matches

    @cached_property
    def vectors(self) -> np.ndarray:
        """Coordinates of all cells by which they are paired, (n_cells, 20 or fewer): principal axes of the training side's cells."""
        from sklearn.decomposition import TruncatedSVD

        n = min(PAIRING_AXES, min(self.expression.shape) - 1)
        axes = TruncatedSVD(n, random_state=self.config.seed).fit(self.expression[~self.is_validation])
        return np.asarray(axes.transform(self.expression))

    def pool(self, treated: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return pools of cells treated alike, shape (m, n_treated), from the same side of the split."""
        among = np.flatnonzero(np.isin(self.is_validation, self.is_validation[treated]))
        by = [*self.match_by, self.config.perturbation_key]
        return pool_alike(
            self.sentences.obs, cells=treated, among=among, by=by, k=self.config.n_treated, rng=rng,
            halved=self.names[treated] == self.config.control,
        )  # fmt: skip

    def fit_rule(self, rng: np.random.Generator) -> DeltaRule:
        """Return the delta rule fitted on the training side."""
        treated = self.rows(validation=False)
        config = self.config
        pools = self.pool(treated, rng)
        return DeltaRule.fit(
            self.expression, pools, self.match(treated, pools, rng), self.names[treated] == config.control,
            n_up=config.n_up, n_down=config.n_down, threshold=config.delta_threshold,
            by_gene=config.delta_sizes == "gene",
        )  # fmt: skip

    def examples(
        self,
        task: PerturbationResponse,
        rule: DeltaRule,
        *,
        validation: bool,
        passes: int,
        rng: np.random.Generator,
    ) -> Iterator[Example]:
        """Yield examples with fresh control pairs on each of ``passes`` passes."""
        treated = self.rows(validation=validation)
        obs = self.sentences.obs
        contexts = [
            dict(zip(self.config.context_keys, values, strict=True)) for values in self._context_values(treated)
        ]
        perturbations = [self.library[name] for name in self.names[treated]]
        for _ in range(passes):
            pools = self.pool(treated, rng)
            matches = self.match(treated, pools, rng)
            up, down = rule.read(self.expression, pools, matches)
            yield from task.examples(
                self.sentences, controls=matches[:, 0], treated=treated, perturbations=perturbations, contexts=contexts,
                up=up, down=down, name_dropout=0.0 if validation else self.config.name_dropout, rng=rng,
            )  # fmt: skip
        logger.info("%d examples of %d cells of %d", passes * len(treated), len(treated), len(obs))

    def _context_values(self, rows: np.ndarray) -> list[tuple[str, ...]]:
        if not self.config.context_keys:
            return [()] * len(rows)
        columns = [self.sentences.obs[key].astype(str).to_numpy()[rows] for key in self.config.context_keys]
        return list(zip(*columns, strict=True))

    def responses(self) -> pd.DataFrame:
        """Return the mean change per perturbation and context, for baselines and gates.

        Cells held out of a perturbation that training has seen (other donors, other contexts) are left out.

        Columns: ``perturbation``, one per context key, ``n_cells``, ``held_out``, ``change`` (float32 arrays of shape
        (n_genes,), mean log1p CP10k of the treated cells minus mean of the controls of their context) and
        ``half_difference`` (half the difference between the means of every other treated cell: the noise of ``change``; nan of
        a single cell).
        """
        keys = list(self.config.context_keys)
        known = np.flatnonzero(~self.is_validation | np.isin(self.names, self.held_out))
        frame = self.sentences.obs[keys].astype(str).assign(perturbation=self.names).iloc[known]
        by_key = frame.groupby([*keys, "perturbation"], observed=True).indices
        groups = {key if isinstance(key, tuple) else (key,): known[rows] for key, rows in by_key.items()}
        out = []
        for key, rows in groups.items():
            controls = groups.get((*key[:-1], self.config.control))
            if key[-1] == self.config.control or controls is None:
                continue
            half = (
                (self._mean(rows[::2]) - self._mean(rows[1::2])) / 2
                if len(rows) > 1
                else np.full_like(self._mean(rows), np.nan)
            )
            out.append(
                {"perturbation": key[-1], **dict(zip(keys, key[:-1], strict=True)), "n_cells": len(rows),
                 "held_out": key[-1] in self.held_out, "change": self._mean(rows) - self._mean(controls),
                 "half_difference": half}
            )  # fmt: skip
        return pd.DataFrame(out, columns=["perturbation", *keys, "n_cells", "held_out", "change", "half_difference"])

    def _mean(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.expression[rows].mean(axis=0), dtype=np.float32).ravel()


def prepare(
    sentences: CellSentences, expression: sp.csr_matrix, library: Sequence[Perturbation] | None, config: TrainConfig
) -> PerturbationData:
    """Return the perturbation data of a set of cells, checked.

    Raises
    ------
    DataError
        A column is missing or has gaps, no cell is a control, no cell is treated, or cells carry perturbations that are
        not in the library (they are listed).
    """
    names = complete_column(sentences.obs, config.perturbation_key, "perturbation_key")
    for key in (*config.context_keys, *config.match_by):
        complete_column(sentences.obs, key, "context_keys or match_by")
    present = list(dict.fromkeys(names))
    if config.control not in present:
        shown = ", ".join(present[:8]) + (" …" if len(present) > 8 else "")
        msg = f"no cell has {config.perturbation_key} == {config.control!r}; found {shown}. Pass control="
        raise DataError(msg)
    if len(present) < 2:
        msg = f"every cell is a control ({config.control!r}); a perturbation model needs treated cells"
        raise DataError(msg)
    rows = check_library(library) if library else [Perturbation(name) for name in present]
    known = {row.name: row for row in rows}
    missing = [name for name in present if name not in known and name != config.control]
    if missing:
        msg = f"{len(missing)} perturbations of the cells are not in the library: {', '.join(missing[:8])}"
        raise DataError(msg)
    known[config.control] = known.get(config.control, Perturbation(config.control)).with_role("vehicle")
    used = {name: known[name] for name in present}
    is_validation = held_out_cells(sentences.obs, names, used, config)
    trained = set(names[~is_validation])
    held_out = tuple(name for name in present if name not in trained and name != config.control)
    is_lone = _lone_controls(sentences.obs, names == config.control, is_validation, config)
    return PerturbationData(sentences, expression, names, used, is_validation, is_lone, held_out, config)


def _lone_controls(
    obs: pd.DataFrame, is_control: np.ndarray, is_validation: np.ndarray, config: TrainConfig
) -> np.ndarray:
    """Return the mask of controls that have no other control in their stratum and side of the split."""
    strata = obs[list(dict.fromkeys((*config.context_keys, *config.match_by)))].astype(str).assign(side=is_validation)
    among = strata[is_control]
    lone = np.zeros(len(obs), dtype=bool)
    lone[is_control] = among.groupby(list(among.columns))["side"].transform("size").to_numpy() == 1
    if lone.any():
        logger.info("%d controls have no other control alike; they are matched to treated cells only", lone.sum())
    return lone


def held_out_cells(
    obs: pd.DataFrame, names: np.ndarray, library: dict[str, Perturbation], config: TrainConfig
) -> np.ndarray:
    """Return which cells training holds out, bool (n,); whole groups of ``split_by`` go together.

    Where perturbations or conditions are split, vehicle and named positive and negative controls stay in training: a screen
    rests on them.
    """
    key = config.split_by or config.perturbation_key
    resting = {row.name for row in library.values() if row.role != "drug"}
    if key == CONDITION and CONDITION not in obs:
        columns = [complete_column(obs, each, "context_keys") for each in config.context_keys]
        groups = np.array([" | ".join(values) for values in zip(*columns, map(str, names))])
        staying = set(groups[np.isin(names, list(resting))])
    else:
        groups = complete_column(obs, key, "split_by")
        staying = resting if key == config.perturbation_key else set()
    choices = np.array(sorted(set(groups) - staying))
    n = int(round(config.validation_share * len(choices)))
    if config.validation_share > 0 and (len(choices) < 3 or n == 0):
        logger.warning(
            "%s has %d groups, validation_share is %g: none is held out", key, len(choices), config.validation_share
        )
        n = 0
    if n and n >= len(choices):
        msg = f"validation_share={config.validation_share} would hold out all {len(choices)} groups of {key}"
        raise ConfigError(msg)
    rng = np.random.default_rng([config.seed, 7])
    chosen = rng.choice(choices, size=n, replace=False) if n else np.array([], dtype=choices.dtype)
    return np.isin(groups, chosen)
