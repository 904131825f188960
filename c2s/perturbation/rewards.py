"""Rewards of a perturbed cell that a model wrote: like the real cells of its condition, by distribution; moved the right way; nothing else moved.

The state of the training cells that rewards are measured against is prepared once (:class:`Conditions`); a reward turns an answer's tokens into a
cell by the model's own decoder and compares it with real cells that came the same road.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from c2s.errors import DataError
from c2s.metrics.differential import gene_tests
from c2s.metrics.road import as_written
from c2s.perturbation.energy import energy_rewards, kendall_taus, squared_errors

if TYPE_CHECKING:
    from c2s.engines.rl.rewards import Reward
    from c2s.models.cell_lm import CellLM
    from c2s.sentences.corpus import CellSentences

Array = NDArray[np.float64]
MOVED_SHARE = 0.05  # of the conditions in which a gene must respond to belong to the programme; at least one
LEAST_CHANGE = (
    0.25  # of a gene's standard deviation over controls: ranks are relative, so others move a little wherever one moves
)
LENIENT = 0.1  # share of real cells that a verdict may call wrong


@dataclass(frozen=True)
class Conditions:
    """The real cells of each condition, as the model would write them, and what they say of genes.

    Attributes
    ----------
    keys : tuple of tuple of str
        Context values, further values on which controls were matched, then the perturbation.
    cells : tuple of ndarray, shapes (n_i, n_genes), float32, log1p CP10k
        Real perturbed cells of each condition, encoded, cut and decoded.
    controls : tuple of ndarray, shapes (c_i, n_genes)
    control_rows : tuple of ndarray of int
        Where a condition's controls are among the sentences.
    signs : ndarray, shape (n_conditions, n_genes), int8
        Direction of the genes that respond in a condition (false discovery rate below 0.05 and a mean change of at least a quarter of
        ``scale``), 0 for the others.
    programme, still : ndarray of int
        Genes that respond in at least a twentieth of the conditions, and genes that respond in none.
    scale : ndarray, shape (n_genes,), float64
        Standard deviation of a gene over control cells, at least the lower quartile of all.
    """

    keys: tuple[tuple[str, ...], ...]
    cells: tuple[NDArray[np.float32], ...]
    controls: tuple[NDArray[np.float32], ...]
    control_rows: tuple[NDArray[np.int64], ...]
    signs: NDArray[np.int8]
    programme: NDArray[np.int64]
    still: NDArray[np.int64]
    scale: Array

    @classmethod
    def of(
        cls, model: CellLM, sentences: CellSentences, names: Sequence[str] | NDArray[Any], *, by: Sequence[str], control: str, n_answer: int | None,
        validation: NDArray[np.bool_] | None = None, programme: Sequence[str] = (), max_cells: int = 256, seed: int = 0,
    ) -> Conditions:  # fmt: skip
        """Return the conditions of cells.

        Parameters
        ----------
        sentences : CellSentences
            Cells, whole, controls among them.
        names : sequence of str
            Perturbation of each.
        by : sequence of str
            Columns of ``obs`` that make a context.
        control : str
            The perturbation of control cells.
        n_answer : int or None
            Genes of a sentence the model writes; None where it writes all.
        validation : ndarray of bool, optional
            Cells whose conditions say nothing of which genes respond, and of their scale.
        programme : sequence of str
            Genes that are rewarded; those that respond in training where left out.
        max_cells : int
            Most cells kept of a condition, drawn by ``seed``.

        Raises
        ------
        DataError
            No condition has 2 cells and 2 controls, none responds, or a gene of the programme is not known.
        """
        rng = np.random.default_rng([seed, 31])
        keys = list(zip(*(sentences.obs[key].astype(str) for key in by), map(str, names), strict=True))
        rows = {key: np.asarray(found) for key, found in pd.Series(range(len(keys))).groupby(pd.Series(keys)).groups.items()}  # fmt: skip
        kept, cells, controls, signs = [], [], [], []
        decoded: dict[tuple[str, ...], NDArray[np.float32]] = {}

        def read(key: tuple[str, ...]) -> NDArray[np.float32]:
            if key not in decoded:
                found = rows.get(key, np.empty(0, dtype=np.int64))
                if len(found) > max_cells:
                    found = np.sort(rng.choice(found, max_cells, replace=False))
                decoded[key] = read_cells(model, sentences[found], n_answer)
            return decoded[key]

        for key in sorted(rows):
            if key[-1] == control:
                continue
            treated, before = read(key), read((*key[:-1], control))
            if len(treated) < 2 or len(before) < 2:
                continue
            kept.append(key)
            cells.append(treated)
            controls.append(before)
        if not kept:
            msg = f"no condition has 2 perturbed cells and 2 controls ({control!r}) of its {' and '.join(by) or 'own'}; nothing can be rewarded"
            raise DataError(msg)
        spread = np.concatenate([decoded[key] for key in sorted({(*key[:-1], control) for key in kept})]).std(
            axis=0, dtype=np.float64
        )
        floor = float(np.quantile(spread[spread > 0], 0.25)) if (spread > 0).any() else 1.0
        scale = np.maximum(spread, floor)
        for treated, before in zip(cells, controls):
            tests = gene_tests(sp.csr_matrix(treated), sp.csr_matrix(before))
            responds = tests.significant & (np.abs(tests.change) >= LEAST_CHANGE * scale)
            signs.append(np.where(responds, np.sign(tests.change), 0).astype(np.int8))
        out = {keys[row] for row in np.flatnonzero(validation)} if validation is not None else set()
        learnt = [place for place, key in enumerate(kept) if key not in out]
        if not learnt:
            msg = f"all {len(kept)} conditions are held out; at least one has to be trained on"
            raise DataError(msg)
        moved = np.count_nonzero(np.stack(signs)[learnt], axis=0)
        chosen = np.flatnonzero(moved >= max(1, round(MOVED_SHARE * len(learnt))))
        if len(programme):
            index = {symbol: i for i, symbol in enumerate(model.vocabulary.symbols)}
            if unknown := [gene for gene in programme if gene not in index]:
                msg = f"{len(unknown)} genes of the programme are not among the model's: {', '.join(unknown[:5])}"
                raise DataError(msg)
            chosen = np.array(sorted(index[gene] for gene in programme))
        if not len(chosen):
            msg = "no gene responds in any training condition, so that there is nothing to reward; give programme="
            raise DataError(msg)
        still = np.setdiff1d(np.flatnonzero(moved == 0), chosen)
        return cls(
            tuple(kept), tuple(cells), tuple(controls), tuple(rows[*key[:-1], control] for key in kept), np.stack(signs), chosen, still,
            scale,
        )  # fmt: skip

    @cached_property
    def places(self) -> dict[tuple[str, ...], int]:
        """Number of each condition, by its key."""
        return {key: i for i, key in enumerate(self.keys)}


def read_cells(model: CellLM, sentences: CellSentences, n_answer: int | None) -> NDArray[np.float32]:
    """Return sentences, cut to what a model writes and decoded as if it had written them, shape (n, n_genes), log1p CP10k."""
    genes = np.arange(len(model.vocabulary))
    return np.asarray(model.decoder.values(as_written(sentences, n_answer), genes), dtype=np.float32)


class ResponseRewards:
    """The rewards of one set of conditions, as the engine calls them.

    Every reward reads the columns ``condition`` (number in :class:`Conditions`), ``control`` (row of the control shown) and ``paired`` (a real
    cell of the condition) of an answer's prompt.

    Parameters
    ----------
    conditions : Conditions
    read : callable
        Token ids of answers and the rows of their controls → cells, (n, n_genes), log1p CP10k.
    real_cells : int
        Real cells a group is compared with, the same for all of its samples; drawn by prompt.
    changed : int
        Where answers are changes: control cells of the condition that every answer of a group is applied to, so that the group is held
        against real cells as a population is. 1 where an answer is a cell.
    """

    def __init__(
        self, conditions: Conditions, read: Callable[[Sequence[Sequence[int]], Sequence[int]], NDArray[np.float32]], *, real_cells: int = 64, changed: int = 1,
    ) -> None:  # fmt: skip
        self.conditions, self.real_cells, self.changed = conditions, real_cells, changed
        self._read, self._last = read, (None, np.empty((0, 0), dtype=np.float32))  # type: Any, Any
        self._bundles: tuple[Any, dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]]] = (None, {})

    def energy(self) -> Reward:
        """Return the default: the credit of each sample in the energy distance of its group to real cells, over the programme's genes."""

        def energy_score(prompts: Any, completion_ids: Any, condition: Any, control: Any, **columns: Any) -> list[float]:  # fmt: skip
            return self._credits(prompts, completion_ids, condition, control, self.conditions.programme)

        return energy_score

    def still_genes(self, weight: float) -> Reward:
        """Return a penalty: ``weight`` times the same credit over the genes that no perturbation moves; 0 where real cells are alike in them."""

        def still_genes(prompts: Any, completion_ids: Any, condition: Any, control: Any, **columns: Any) -> list[float]:  # fmt: skip
            found = self._credits(prompts, completion_ids, condition, control, self.conditions.still, penalty=True)
            return [weight * value for value in found]

        return still_genes

    def direction(self) -> Reward:
        """Return a verdict: 1 where an answer has moved along its condition's responding genes at least as far as the least tenth of real cells.

        A condition without responding genes is right where the answer lies no farther from its controls than nine tenths of real cells, over the
        programme.
        """
        least = [float(np.quantile(self._along(cells, number), LENIENT)) for number, cells in enumerate(self.conditions.cells)]  # fmt: skip

        def direction(completion_ids: Any, condition: Any, control: Any, **columns: Any) -> list[float]:
            cells = self._cells(completion_ids, control)
            return [float(self._along(cell[None], int(n))[0] >= least[int(n)]) for cell, n in zip(cells, condition)]

        return direction

    def to_one_cell(self, kind: str) -> Reward:
        """Return a reward of likeness to the one real cell ``paired`` with the prompt, ``squared_error`` or ``kendall``, over the programme."""
        compare: Mapping[str, Callable[[Any, Any], Array]] = {"squared_error": squared_errors, "kendall": kendall_taus}

        def reward(completion_ids: Any, condition: Any, control: Any, paired: Any, **columns: Any) -> list[float]:
            real = np.stack([self.conditions.cells[int(n)][int(p) % len(self.conditions.cells[int(n)])] for n, p in zip(condition, paired)])  # fmt: skip
            return [float(v) for v in compare[kind](self._scaled(self._cells(completion_ids, control)), self._scaled(real))]  # fmt: skip

        reward.__name__ = kind
        return reward

    def _credits(
        self, prompts: Any, completion_ids: Any, condition: Any, control: Any, genes: NDArray[np.int64], *, penalty: bool = False
    ) -> list[float]:  # fmt: skip
        """Return each sample's credit in the energy distance of its group to real cells, over some genes in standard deviations.

        A penalty is 0 where the real cells it is drawn against are alike in those genes, of which nothing can be read.
        """
        found, scale = np.zeros(len(completion_ids)), self.conditions.scale[genes]
        asked = (
            tuple(map(str, prompts)),
            tuple(map(tuple, completion_ids)),
            tuple(map(int, condition)),
            tuple(map(int, control)),
        )
        if self._bundles[0] != asked:
            self._bundles = (asked, {})
        for rows in _groups(prompts):
            first = int(rows[0])
            if first not in self._bundles[1]:
                self._bundles[1][first] = self._group(completion_ids, control, rows, int(condition[first]))
            cells, real = self._bundles[1][first]
            if penalty and not np.ptp(real[:, genes], axis=0).any():
                continue
            found[rows] = energy_rewards(cells[..., genes] / scale, real[:, genes] / scale)
        return [float(value) for value in found]

    def _group(
        self, completion_ids: Any, control: Any, rows: NDArray[np.int64], number: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the cells of a group, (n, G), or those of its changes applied to the same controls, (n, k, G), and real ones, (m, G)."""
        real = self.conditions.cells[number]
        rng = np.random.default_rng([number, int(control[rows[0]])])
        if len(real) > self.real_cells:
            real = real[rng.choice(len(real), self.real_cells, replace=False)]
        if self.changed == 1:
            return self._cells(completion_ids, control)[rows], real
        known = self.conditions.control_rows[number]
        drawn = rng.choice(known, min(self.changed, len(known)), replace=False)
        ids = [completion_ids[row] for row in rows for _ in drawn]
        cells = self._read(ids, np.tile(drawn, len(rows)).tolist())
        return cells.reshape(len(rows), len(drawn), -1), real

    def _cells(self, completion_ids: Any, control: Any) -> NDArray[np.float32]:
        """Return the answers' cells; all rewards of a batch read the same ones, which are decoded once."""
        asked = (tuple(map(tuple, completion_ids)), tuple(map(int, control)))
        if self._last[0] != asked:
            self._last = (asked, self._read(completion_ids, control))
        return self._last[1]

    def _scaled(self, cells: NDArray[np.float32]) -> Array:
        chosen = self.conditions.programme
        return cells[:, chosen].astype(np.float64) / self.conditions.scale[chosen]

    def _along(self, cells: NDArray[np.float32], number: int) -> Array:
        """Return how far cells have moved from their controls' mean along the responding genes, in standard deviations."""
        found = self.conditions
        z = (cells - found.controls[number].mean(axis=0)) / found.scale
        signs = found.signs[number]
        if signs.any():
            return np.asarray((z * signs).sum(axis=1) / np.count_nonzero(signs))
        return -np.sqrt(np.mean(z[:, found.programme] ** 2, axis=1))


def _groups(prompts: Sequence[Any]) -> list[NDArray[np.int64]]:
    """Return the rows of each prompt."""
    codes = pd.factorize(np.asarray([str(prompt) for prompt in prompts], dtype=object))[0]
    return [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
