"""The plans of a search on disk: a folder with cells, their plans and what each search tried."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from c2s.artefacts import atomic_path, hash_of, read_record, whole_record, write_json
from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.routing import mean_depth
from c2s.engines.layer_routing.searching import SearchResult
from c2s.errors import ArtefactError
from c2s.sentences.corpus import CellSentences, read_sentences
from c2s.training.plan_verdicts import Verdict

KIND, VERSION = "c2s plans of cells", 1
_RECORD, _TABLE, _CELLS = "plans.json", "plans.csv", "cells"


@dataclass(frozen=True, eq=False)
class SearchedPlans:
    """Cells with the plan of each.

    Attributes
    ----------
    sentences : CellSentences
        The cells that were searched.
    table : DataFrame
        A line a cell, indexed like them: ``label``; ``plan``, to be learned; ``candidate``, the best one found, with its ``difference``
        from the model as it is on fresh cells, ``p`` and how many were ``tested``; ``reward`` of the best plan tried and ``full`` of the
        model as it is, on the cell itself; ``simulations`` and ``executions``, plans tried and layers they run.
    labels_key : str
    base : str
        Fingerprint of the model.
    config : dict
        Of the search.
    seen : tuple of str
        Hashes of the cells whose labels had a part in the plans: those searched, and those that plans were tested on.
    """

    sentences: CellSentences
    table: pd.DataFrame
    labels_key: str
    base: str
    config: dict[str, Any]
    seen: tuple[str, ...] = ()

    @property
    def plans(self) -> list[LayerPlan]:
        """Return the plan of each cell."""
        return [LayerPlan.parse(plan) for plan in self.table["plan"]]

    @property
    def labels(self) -> list[str]:
        """Return the right label of each cell."""
        return self.table["label"].tolist()

    def summary(self) -> str:
        """Return how many plans held, and how deep they are, in a line."""
        plans, changed = self.plans, int((self.table["plan"] != self.table["candidate"]).sum())
        own = sum(bool(plan.edits()) for plan in plans)
        return (
            f"{len(plans):,} cells, {own:,} with a plan of their own and {changed:,} whose best did not hold on fresh cells; "
            f"{mean_depth(plans):.2f} of {len(plans[0])} layers on average"
        )

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write ``cells/``, ``plans.csv`` and, last, ``plans.json`` into a folder that exists."""
        place = Path(folder)
        if not (place / _CELLS).is_dir():
            self.sentences.write(place / _CELLS)
        with atomic_path(place / _TABLE) as temporary:
            self.table.to_csv(temporary, index_label="cell")
        record = {
            "format": KIND, "version": VERSION, "base": self.base, "labels_key": self.labels_key, "config": self.config, "seen": list(self.seen),
            "plans": self.table.to_dict(orient="list"),
        }  # fmt: skip
        write_json(place / _RECORD, record)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Self:
        """Return what :meth:`write` wrote.

        Raises
        ------
        ArtefactError
            There is none, or it is damaged.
        """
        path = Path(folder) / _RECORD
        record = read_record(path, kind=KIND, version=VERSION)
        sentences = read_sentences(path.parent / _CELLS)
        with whole_record(path):
            table = pd.DataFrame(record["plans"])
            if len(table) != len(sentences) or table.empty:
                msg = f"{path} holds {len(table)} plans of {len(sentences)} cells; search again"
                raise ArtefactError(msg)
            table.index = sentences.obs.index
            seen = tuple(map(str, record["seen"]))
            found = cls(sentences, table, record["labels_key"], record["base"], record["config"], seen)
            depths = {len(plan) for plan in found.plans}
        if len(depths) > 1:
            msg = f"{path} holds plans of {', '.join(map(str, sorted(depths)))} layers; search again"
            raise ArtefactError(msg)
        return found


def cell_hashes(sentences: CellSentences) -> list[str]:
    """Return 16 hex digits of each cell's genes in order; of a cell without genes, its name and not what others share with it."""
    names = sentences.obs.index.astype(str)
    return [
        hash_of(sentences.row(i)) if len(sentences.row(i)) else f"no genes: {names[i]}" for i in range(len(sentences))
    ]


def plan_table(
    cells: pd.Index, labels: Sequence[str] | np.ndarray, found: Sequence[SearchResult], verdicts: Sequence[Verdict]
) -> pd.DataFrame:
    """Return the table of :class:`SearchedPlans`."""
    table = pd.DataFrame([asdict(verdict) for verdict in verdicts], index=cells)
    table.insert(0, "label", np.asarray(labels, dtype=object))
    return table.assign(
        reward=[each.reward for each in found], full=[each.tried[0][1] for each in found],
        simulations=[each.simulations for each in found], executions=[each.executions for each in found],
    )  # fmt: skip
