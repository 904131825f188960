"""What a change of gene names did: one outcome a gene, counted, tabulated and written."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import pandas as pd

from c2s.artefacts import atomic_path

What = Literal["unchanged", "renamed", "merged", "dropped"]


class GeneOutcome(NamedTuple):
    """What became of one gene.

    ``why`` opens with a reason that can be counted; details follow a colon. ``candidates`` is empty unless the table
    leaves the gene open: several new names, or one that another gene claims, too.
    """

    old: str
    new: str  # empty where the gene is dropped
    what: What
    why: str
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class GeneReport:
    """The outcomes of all genes, in the column order of the cells they came from.

    Parameters
    ----------
    outcomes : tuple of GeneOutcome
        One for each gene, dropped ones included.
    """

    outcomes: tuple[GeneOutcome, ...]

    @cached_property
    def renamed(self) -> dict[str, str]:
        """Old name → new name of the genes that have a new name to themselves."""
        return {each.old: each.new for each in self.outcomes if each.what == "renamed"}

    @cached_property
    def merged(self) -> dict[str, tuple[str, ...]]:
        """New name → the several old names whose counts it adds up."""
        found: dict[str, list[str]] = {}
        for each in self.outcomes:
            if each.what == "merged":
                found.setdefault(each.new, []).append(each.old)
        return {new: tuple(old) for new, old in found.items()}

    @cached_property
    def dropped(self) -> dict[str, str]:
        """Old name → why the gene is gone."""
        return {each.old: each.why for each in self.outcomes if each.what == "dropped"}

    @cached_property
    def ambiguous(self) -> dict[str, tuple[str, ...]]:
        """Old name → the names that were possible, whether the gene was dropped or kept as it was."""
        return {each.old: each.candidates for each in self.outcomes if each.candidates}

    @cached_property
    def unchanged(self) -> int:
        """The number of genes that keep their name and their counts."""
        return sum(each.what == "unchanged" for each in self.outcomes)

    def summary(self) -> str:
        """Return one sentence with the count of every outcome, and one on what remains."""
        parts = [self._counted("unchanged")]
        if self.renamed:
            parts.append(f"{len(self.renamed):,} renamed")
        if self.merged:
            parts.append(f"{sum(map(len, self.merged.values())):,} merged into {len(self.merged):,}")
        if self.dropped:
            parts.append(self._counted("dropped"))
        remaining = len({each.new for each in self.outcomes if each.new})
        return f"{len(self.outcomes):,} genes: {', '.join(parts)}. {remaining:,} genes remain."

    def to_frame(self) -> pd.DataFrame:
        """Return one row a gene, in column order: ``old``, ``new`` (empty if dropped), ``what``, ``why``."""
        return pd.DataFrame([each[:4] for each in self.outcomes], columns=["old", "new", "what", "why"], dtype=str)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`to_frame` as CSV, atomically."""
        with atomic_path(path) as temporary:
            self.to_frame().to_csv(temporary, index=False)

    def _counted(self, what: What) -> str:
        """Return how many genes had this outcome, and for which reasons."""
        reasons = Counter(each.why.partition(":")[0] for each in self.outcomes if each.what == what)
        listed = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common())
        return f"{reasons.total():,} {what}" + (f" ({listed})" if listed else "")
