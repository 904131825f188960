"""The face of everything that foretells perturbed cells: control cells and perturbations in, perturbed cells out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import anndata as ad
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from c2s.baselines.response_table import Context, TrainingCells, contexts_of
from c2s.cells.genes import listed
from c2s.cells.library import Perturbation, check_library
from c2s.cells.reading import complete_column, expression, refuse_repeated_cells
from c2s.errors import ConfigError, DataError, ModelError
from c2s.metrics.conditions import logarithms

if TYPE_CHECKING:
    from anndata import AnnData

Block = NDArray[np.float32]
CONTROL_CELL = "control_cell"  # column of predicted cells
_BLOCK = 1 << 24  # values predicted at once


class ResponseBaseline(ABC):
    """Control cells and perturbations in, perturbed cells out; a subclass says how.

    A context, or a perturbation in a context, that training did not have is no error: what was seen of the perturbation in
    other contexts answers, then what training perturbations have in common.

    Attributes
    ----------
    name : str
        As it stands in a table.
    reads : {"names", "parts", "targets"}
        What of a perturbation is read: its name alone, which needs no library; what it is a combination of, too, and a
        name is a single perturbation where no library is given; its target genes, for which there must be a library.
    """

    name: ClassVar[str]
    reads: ClassVar[Literal["names", "parts", "targets"]] = "names"

    def fit(
        self,
        cells: AnnData,
        *,
        perturbation_key: str,
        control: str,
        context_keys: Sequence[str] = (),
        library: Sequence[Perturbation] | None = None,
        seed: int = 0,
    ) -> Self:
        """Learn from control and perturbed cells and return the baseline itself.

        Parameters
        ----------
        cells : AnnData, log1p CP10k in ``X``
        perturbation_key : str
            Column of ``obs`` with the name of what was given.
        control : str
            Its value in control cells.
        context_keys : sequence of str
            Columns whose values make a context; a change is measured against the controls of the same context.
        library : sequence of Perturbation, optional
            Describes the training perturbations; others in it are of no consequence.
        seed : int
            Of all that is drawn at random.

        Raises
        ------
        DataError
            No logarithms, NaN, duplicated genes, a column that is missing or has gaps, no control, no condition with two
            cells and two controls, or a training perturbation that the library lacks.
        ConfigError
            No library where target genes are read.
        """
        matrix, genes = _log1p(cells, "training")
        names = complete_column(cells.obs, perturbation_key, "perturbation_key")
        contexts = contexts_of(cells.obs, context_keys)
        described = self._described(sorted(set(names) - {control}), library)
        training = TrainingCells.of(matrix, genes, names, contexts, control, described)
        self._control, self._perturbation_key, self._context_keys = control, perturbation_key, tuple(context_keys)
        self._learn(training, seed)
        self._genes = genes
        return self

    def predict(self, controls: AnnData, perturbations: Sequence[Perturbation], *, seed: int = 0) -> AnnData:
        """Return a predicted cell for each control cell and perturbation, cell by cell and then by perturbation.

        Parameters
        ----------
        controls : AnnData, log1p CP10k in ``X``, genes of training in their order
            Control cells of any context, with the columns that ``fit`` was told of.
        perturbations : sequence of Perturbation, each once, the control not among them
        seed : int
            Of all that is drawn at random.

        Returns
        -------
        AnnData, n_controls * n_perturbations cells
            ``X`` csr float32, log1p CP10k, not negative. ``obs`` is that of the control cell, with the name of the perturbation
            in ``perturbation_key`` and that of the cell in ``control_cell``; a cell's name is ``{cell}|{perturbation}``.

        Raises
        ------
        ModelError
            Called before ``fit``.
        DataError
            No logarithms, NaN, other genes than those of training, no perturbation or one twice, the control among them, a
            column that is missing or has gaps, cells that are no controls, or cell names that repeat.
        """
        self._require_fitted()
        wanted = check_library(perturbations, source="perturbations")
        if any(each.name == self._control for each in wanted):
            msg = f"perturbations hold the control {self._control!r}, whose cells are what is predicted from; leave it out"
            raise DataError(msg)
        matrix, genes = _log1p(controls, "control")
        self._require_genes(genes)
        refuse_repeated_cells(controls.obs_names)
        given = complete_column(controls.obs, self._perturbation_key, "perturbation_key of fit")
        if other := sorted(set(given) - {self._control}):
            msg = f"{int((given != self._control).sum()):,} of {len(given):,} cells are no controls {self._control!r} but "
            msg += f"{listed(other)}; pass control cells only"
            raise DataError(msg)
        found = self._respond(matrix, contexts_of(controls.obs, self._context_keys), wanted, seed)
        names = [each.name for each in wanted]
        obs = controls.obs.iloc[np.repeat(np.arange(controls.n_obs), len(names))].copy()
        obs[CONTROL_CELL] = obs.index.astype(str)
        obs[self._perturbation_key] = np.tile(np.array(names, dtype=object), controls.n_obs)
        obs.index = obs[CONTROL_CELL] + "|" + obs[self._perturbation_key]
        obs.index.name = controls.obs.index.name
        refuse_repeated_cells(obs.index)
        return ad.AnnData(found, obs=obs, var=controls.var.copy())

    @abstractmethod
    def _learn(self, training: TrainingCells, seed: int) -> None: ...

    @abstractmethod
    def _respond(
        self, matrix: sp.csr_matrix, contexts: list[Context], perturbations: list[Perturbation], seed: int
    ) -> sp.csr_matrix:
        """Return predicted cells in the order of :meth:`predict`, csr float32, not negative."""

    def _require_fitted(self) -> None:
        if not hasattr(self, "_genes"):
            msg = f"{type(self).__name__} has learned nothing yet; call fit first"
            raise ModelError(msg)

    def _require_genes(self, genes: list[str]) -> None:
        if genes == self._genes:
            return
        if missing := sorted(set(self._genes) - set(genes)):
            msg = f"control cells lack {len(missing):,} of the {len(self._genes):,} genes of training: {listed(missing, 5)}"
        elif more := sorted(set(genes) - set(self._genes)):
            msg = f"control cells have {len(more):,} genes that training had not: {listed(more, 5)}"
        else:
            msg = "control cells have the genes of training in another order"
        msg += ". Pass controls[:, training.var_names]"
        raise DataError(msg)

    def _described(self, names: list[str], library: Sequence[Perturbation] | None) -> dict[str, Perturbation]:
        """Return what is known of each training perturbation, by its name."""
        if self.reads == "names" or (library is None and self.reads == "parts"):
            return {name: Perturbation(name) for name in names}
        if library is None:
            msg = f"{self.name} reads the target genes of perturbations; pass library="
            raise ConfigError(msg)
        known = {each.name: each for each in check_library(library)}
        if missing := [name for name in names if name not in known]:
            msg = f"the library lacks {len(missing)} of {len(names)} training perturbations: {listed(missing)}. Add a row for each"
            raise DataError(msg)
        return {name: known[name] for name in names}


def in_blocks(
    matrix: sp.csr_matrix, n_perturbations: int, respond: Callable[[Block, slice], NDArray[np.floating]]
) -> sp.csr_matrix:
    """Return predicted cells, made of some control cells at a time; values below 0 become 0.

    Parameters
    ----------
    matrix : csr_matrix, shape (n, n_genes)
        Control cells.
    n_perturbations : int
    respond : callable
        From a block of dense cells (b, n_genes) and its rows to predicted cells (b, n_perturbations, n_genes).

    Returns
    -------
    csr_matrix, shape (n * n_perturbations, n_genes), float32
    """
    n, n_genes = matrix.shape
    size = max(1, _BLOCK // (n_perturbations * n_genes))
    found = []
    for start in range(0, n, size):
        rows = slice(start, min(n, start + size))
        values = respond(matrix[rows].toarray(), rows).reshape(-1, n_genes)
        found.append(sp.csr_matrix(np.maximum(values, 0).astype(np.float32)))
    return sp.vstack(found, format="csr")


def _log1p(adata: AnnData, side: str) -> tuple[sp.csr_matrix, list[str]]:
    matrix, genes = expression(adata)
    return logarithms(matrix, side), genes
